//! Encoders of the BERT family (Devlin et al. 2018) and RoBERTa (Liu et al. 2019), which differ in names and in where
//! positions start.

use regard::position::LearnedPositions;
use serde::Deserialize;

use super::Outline;
use super::encoder_block::{EncoderBlock, EncoderBlockNames};
use super::fields::{FEED_FORWARD_DIMS, Fields, HEADS, LAYERS, MODEL_DIMS, POSITIONS, VOCABULARIES};
use super::tensors::{check_layer_count, first_of, layer_norm, linear, prefix};
use crate::error::LensError;
use crate::files::TensorSource;
use crate::transformer::{Activation, Embedding, Head, HeadTransform, Positions, Transformer};

const BLOCK: EncoderBlockNames = EncoderBlockNames {
    attention: [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
    ],
    attention_norm: "attention.output.LayerNorm",
    feed_forward: ["intermediate.dense", "output.dense"],
    feed_forward_norm: "output.LayerNorm",
};

/// Sizes and choices of a BERT model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BertConfig {
    model_dim: usize,
    num_layers: usize,
    num_heads: usize,
    feed_forward_dim: usize,
    vocabulary_size: usize,
    num_positions: usize,
    num_token_types: usize,
    layer_norm_eps: f64,
    activation: Activation,
    is_tied: bool,
    /// RoBERTa, and the id of its padding token.
    roberta_padding: Option<u32>,
}

/// The fields as Hugging Face names them; defaults are those of its `BertConfig`.
#[derive(Deserialize)]
struct ConfigFile {
    hidden_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    intermediate_size: u64,
    vocab_size: u64,
    max_position_embeddings: u64,
    #[serde(default = "default_type_vocab_size")]
    type_vocab_size: u64,
    #[serde(default = "default_layer_norm_eps")]
    layer_norm_eps: f64,
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
    pad_token_id: Option<u64>,
    #[serde(default)]
    is_decoder: bool,
    tie_word_embeddings: Option<bool>,
}

fn default_type_vocab_size() -> u64 {
    2
}

fn default_layer_norm_eps() -> f64 {
    1e-12
}

impl BertConfig {
    pub(super) fn parse(fields: Fields<'_>, json: &[u8], is_roberta: bool) -> Result<Self, LensError> {
        let file: ConfigFile = fields.parse(json)?;
        let positions = file.position_embedding_type.as_deref().unwrap_or("absolute");
        if positions != "absolute" {
            return Err(fields.refuse("position_embedding_type", "\"absolute\"", format!("{positions:?}")));
        }
        if file.is_decoder {
            return Err(fields.refuse("is_decoder", "false (an encoder)", "true"));
        }
        let padding = fields.size("pad_token_id", file.pad_token_id.unwrap_or(1), 0..=1 << 20)?;
        let config = Self {
            activation: fields.activation("hidden_act", file.hidden_act.as_deref().unwrap_or("gelu"))?,
            layer_norm_eps: fields.eps("layer_norm_eps", file.layer_norm_eps)?,
            model_dim: fields.size("hidden_size", file.hidden_size, MODEL_DIMS)?,
            num_layers: fields.size("num_hidden_layers", file.num_hidden_layers, LAYERS)?,
            num_heads: fields.size("num_attention_heads", file.num_attention_heads, HEADS)?,
            feed_forward_dim: fields.size("intermediate_size", file.intermediate_size, FEED_FORWARD_DIMS)?,
            vocabulary_size: fields.size("vocab_size", file.vocab_size, VOCABULARIES)?,
            num_positions: fields.size("max_position_embeddings", file.max_position_embeddings, POSITIONS)?,
            num_token_types: fields.size("type_vocab_size", file.type_vocab_size, 1..=1024)?,
            is_tied: file.tie_word_embeddings.unwrap_or(true),
            // Within 2^20.
            roberta_padding: is_roberta.then_some(padding as u32),
        };
        fields.divisible(("hidden_size", config.model_dim), ("num_attention_heads", config.num_heads))?;
        if config.outline().max_tokens == 0 {
            let expected = format!("more than pad_token_id + 1 ({})", padding + 1);
            return Err(fields.refuse("max_position_embeddings", expected, config.num_positions));
        }
        Ok(config)
    }

    pub(super) fn outline(&self) -> Outline {
        Outline {
            num_layers: self.num_layers,
            num_heads: self.num_heads,
            vocabulary_size: self.vocabulary_size,
            max_tokens: Positions::num_tokens(self.num_positions, self.roberta_padding),
        }
    }

    /// Reads the tensors of a `BertModel` or `RobertaModel`, named with or without the prefix `bert.` or `roberta.`
    /// (models with a task's head on top have it), and the head of a masked language model if there is one.
    pub(super) fn load(&self, source: &mut dyn TensorSource) -> Result<Transformer, LensError> {
        let family = if self.roberta_padding.is_some() { "roberta." } else { "bert." };
        let prefix = prefix(source, family, "embeddings.word_embeddings.weight");
        check_layer_count(
            source,
            &format!("{prefix}encoder.layer."),
            "encoder.layer",
            ("num_hidden_layers", self.num_layers),
        )?;
        let dim = self.model_dim;
        let table = |name: &str| format!("{prefix}embeddings.{name}_embeddings.weight");
        let words = source.read(&table("word"), &[self.vocabulary_size, dim])?;
        let positions = source.read(&table("position"), &[self.num_positions, dim])?;
        let mut token_type = source.read(&table("token_type"), &[self.num_token_types, dim])?;
        token_type.truncate(dim);
        let norm = layer_norm(source, &format!("{prefix}embeddings.LayerNorm"), dim, self.layer_norm_eps)?;
        let positions = Positions {
            table: LearnedPositions::new(positions, self.num_positions, dim)?,
            padding: self.roberta_padding,
        };
        Ok(Transformer {
            embedding: Embedding::new(
                words,
                [self.vocabulary_size, dim],
                Some(positions),
                Some(token_type),
                Some(norm),
            )?,
            blocks: (0..self.num_layers)
                .map(|layer| self.block().load(source, &format!("{prefix}encoder.layer.{layer}"), &BLOCK))
                .collect::<Result<_, _>>()?,
            final_norm: None,
            rotary: None,
            causal: false,
            head: self.head(source)?,
        })
    }

    fn block(&self) -> EncoderBlock {
        EncoderBlock {
            num_heads: self.num_heads,
            model_dim: self.model_dim,
            feed_forward_dim: self.feed_forward_dim,
            activation: self.activation,
            layer_norm_eps: self.layer_norm_eps,
        }
    }

    /// The head of `BertForMaskedLM` or `RobertaForMaskedLM`, if the file has one.
    fn head(&self, source: &mut dyn TensorSource) -> Result<Option<Head>, LensError> {
        let names = if self.roberta_padding.is_some() { &ROBERTA_HEAD } else { &BERT_HEAD };
        if !source.has(&format!("{}.weight", names.dense)) {
            return Ok(None);
        }
        let (dim, vocabulary_size) = (self.model_dim, self.vocabulary_size);
        let decoder = if self.is_tied {
            None
        } else {
            Some(linear(source, names.decoder, [dim, vocabulary_size], false)?)
        };
        let bias = first_of(source, &names.biases).unwrap_or(names.biases[0]);
        Ok(Some(Head {
            transform: Some(HeadTransform {
                dense: linear(source, names.dense, [dim, dim], true)?,
                // RoBERTa's head has its own, whatever the layers use.
                activation: if self.roberta_padding.is_some() { Activation::Gelu } else { self.activation },
                norm: layer_norm(source, names.norm, dim, self.layer_norm_eps)?,
            }),
            decoder,
            bias: Some(source.read(bias, &[vocabulary_size])?),
        }))
    }
}

struct HeadNames {
    dense: &'static str,
    norm: &'static str,
    decoder: &'static str,
    /// One parameter under two names; files have either or both.
    biases: [&'static str; 2],
}

const BERT_HEAD: HeadNames = HeadNames {
    dense: "cls.predictions.transform.dense",
    norm: "cls.predictions.transform.LayerNorm",
    decoder: "cls.predictions.decoder",
    biases: ["cls.predictions.bias", "cls.predictions.decoder.bias"],
};

const ROBERTA_HEAD: HeadNames = HeadNames {
    dense: "lm_head.dense",
    norm: "lm_head.layer_norm",
    decoder: "lm_head.decoder",
    biases: ["lm_head.bias", "lm_head.decoder.bias"],
};

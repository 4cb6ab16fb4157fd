//! DistilBERT (Sanh et al. 2019): BERT with fewer layers, no token types and names of its own.

use regard::position::LearnedPositions;
use serde::Deserialize;

use super::Outline;
use super::encoder_block::{EncoderBlock, EncoderBlockNames};
use super::fields::{FEED_FORWARD_DIMS, Fields, HEADS, LAYERS, MODEL_DIMS, POSITIONS, VOCABULARIES};
use super::tensors::{check_layer_count, layer_norm, linear, prefix};
use crate::error::LensError;
use crate::files::TensorSource;
use crate::transformer::{Activation, Embedding, Head, HeadTransform, Positions, Transformer};

/// The model's code has it as a constant.
const LAYER_NORM_EPS: f64 = 1e-12;

const BLOCK: EncoderBlockNames = EncoderBlockNames {
    attention: ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"],
    attention_norm: "sa_layer_norm",
    feed_forward: ["ffn.lin1", "ffn.lin2"],
    feed_forward_norm: "output_layer_norm",
};

/// Sizes and choices of a DistilBERT model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DistilBertConfig {
    model_dim: usize,
    num_layers: usize,
    num_heads: usize,
    feed_forward_dim: usize,
    vocabulary_size: usize,
    num_positions: usize,
    activation: Activation,
    is_tied: bool,
}

/// The fields as Hugging Face names them; defaults are those of its `DistilBertConfig`.
#[derive(Deserialize)]
struct ConfigFile {
    dim: u64,
    n_layers: u64,
    n_heads: u64,
    hidden_dim: u64,
    vocab_size: u64,
    max_position_embeddings: u64,
    activation: Option<String>,
    tie_word_embeddings: Option<bool>,
}

impl DistilBertConfig {
    pub(super) fn parse(fields: Fields<'_>, json: &[u8]) -> Result<Self, LensError> {
        let file: ConfigFile = fields.parse(json)?;
        let config = Self {
            activation: fields.activation("activation", file.activation.as_deref().unwrap_or("gelu"))?,
            model_dim: fields.size("dim", file.dim, MODEL_DIMS)?,
            num_layers: fields.size("n_layers", file.n_layers, LAYERS)?,
            num_heads: fields.size("n_heads", file.n_heads, HEADS)?,
            feed_forward_dim: fields.size("hidden_dim", file.hidden_dim, FEED_FORWARD_DIMS)?,
            vocabulary_size: fields.size("vocab_size", file.vocab_size, VOCABULARIES)?,
            num_positions: fields.size("max_position_embeddings", file.max_position_embeddings, POSITIONS)?,
            is_tied: file.tie_word_embeddings.unwrap_or(true),
        };
        fields.divisible(("dim", config.model_dim), ("n_heads", config.num_heads))?;
        Ok(config)
    }

    pub(super) fn outline(&self) -> Outline {
        Outline {
            num_layers: self.num_layers,
            num_heads: self.num_heads,
            vocabulary_size: self.vocabulary_size,
            max_tokens: self.num_positions,
        }
    }

    /// Reads the tensors of a `DistilBertModel`, named with or without the prefix `distilbert.`, and the head of a
    /// masked language model if there is one.
    pub(super) fn load(&self, source: &mut dyn TensorSource) -> Result<Transformer, LensError> {
        let prefix = prefix(source, "distilbert.", "embeddings.word_embeddings.weight");
        let layers = format!("{prefix}transformer.layer.");
        check_layer_count(source, &layers, "transformer.layer", ("n_layers", self.num_layers))?;
        let dim = self.model_dim;
        let table = |name: &str| format!("{prefix}embeddings.{name}_embeddings.weight");
        let words = source.read(&table("word"), &[self.vocabulary_size, dim])?;
        let positions = source.read(&table("position"), &[self.num_positions, dim])?;
        let norm = layer_norm(source, &format!("{prefix}embeddings.LayerNorm"), dim, LAYER_NORM_EPS)?;
        let positions =
            Positions { table: LearnedPositions::new(positions, self.num_positions, dim)?, padding: None };
        let size = [self.vocabulary_size, dim];
        Ok(Transformer {
            embedding: Embedding::new(words, size, Some(positions), None, Some(norm))?,
            blocks: (0..self.num_layers)
                .map(|layer| self.block().load(source, &format!("{layers}{layer}"), &BLOCK))
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
            layer_norm_eps: LAYER_NORM_EPS,
        }
    }

    /// The head of `DistilBertForMaskedLM`, if the file has one.
    fn head(&self, source: &mut dyn TensorSource) -> Result<Option<Head>, LensError> {
        if !source.has("vocab_transform.weight") {
            return Ok(None);
        }
        let (dim, vocabulary_size) = (self.model_dim, self.vocabulary_size);
        let projector = "vocab_projector";
        let decoder =
            if self.is_tied { None } else { Some(linear(source, projector, [dim, vocabulary_size], false)?) };
        Ok(Some(Head {
            transform: Some(HeadTransform {
                dense: linear(source, "vocab_transform", [dim, dim], true)?,
                activation: self.activation,
                norm: layer_norm(source, "vocab_layer_norm", dim, LAYER_NORM_EPS)?,
            }),
            decoder,
            bias: Some(source.read("vocab_projector.bias", &[vocabulary_size])?),
        }))
    }
}

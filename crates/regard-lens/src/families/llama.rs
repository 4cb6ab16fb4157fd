//! Decoders of the Llama layout (Touvron et al. 2023): norms by root mean square before each part, rotary positions,
//! a gated feed-forward network, and groups of query heads that share a key head.

use regard::layer::MultiHeadAttention;
use serde::Deserialize;

use super::Outline;
use super::fields::{FEED_FORWARD_DIMS, Fields, HEADS, LAYERS, MODEL_DIMS, VOCABULARIES};
use super::rope::{Rope, RopeFile};
use super::tensors::{check_layer_count, linear, prefix, root_mean_square_norm};
use crate::error::LensError;
use crate::files::TensorSource;
use crate::transformer::{Activation, Block, Embedding, FeedForward, Head, Norm, NormOrder, Transformer};

/// Sizes and choices of a Llama model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LlamaConfig {
    pub(super) model_dim: usize,
    pub(super) num_layers: usize,
    pub(super) num_heads: usize,
    pub(super) num_kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) feed_forward_dim: usize,
    pub(super) vocabulary_size: usize,
    pub(super) max_tokens: usize,
    pub(super) norm_eps: f64,
    pub(super) activation: Activation,
    pub(super) rope: Rope,
    pub(super) attention_bias: bool,
    pub(super) feed_forward_bias: bool,
    /// Whether the table of word vectors predicts words, too.
    pub(super) is_tied: bool,
    pub(super) names: &'static Names,
}

/// What a file calls its tensors.
#[derive(Debug, PartialEq)]
pub(super) struct Names {
    /// Before all names but the decoder's, in files that have it.
    pub(super) prefix: &'static str,
    pub(super) words: &'static str,
    pub(super) layers: &'static str,
    /// The configuration's field.
    pub(super) num_layers: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) output: &'static str,
    pub(super) feed_forward_norm: &'static str,
    pub(super) gate: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) final_norm: &'static str,
    pub(super) decoder: &'static str,
}

static NAMES: Names = Names {
    prefix: "model.",
    words: "embed_tokens",
    layers: "layers",
    num_layers: "num_hidden_layers",
    attention_norm: "input_layernorm",
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    output: "self_attn.o_proj",
    feed_forward_norm: "post_attention_layernorm",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
    final_norm: "norm",
    decoder: "lm_head",
};

/// The fields as Hugging Face names them; defaults are those of its `LlamaConfig`.
#[derive(Deserialize)]
struct ConfigFile {
    hidden_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    intermediate_size: u64,
    vocab_size: u64,
    max_position_embeddings: Option<u64>,
    rms_norm_eps: Option<f64>,
    hidden_act: Option<String>,
    rope_theta: Option<f64>,
    rope_parameters: Option<RopeFile>,
    rope_scaling: Option<RopeFile>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
}

impl LlamaConfig {
    pub(super) fn parse(fields: Fields<'_>, json: &[u8]) -> Result<Self, LensError> {
        let file: ConfigFile = fields.parse(json)?;
        let max_positions = fields.size(
            "max_position_embeddings",
            file.max_position_embeddings.unwrap_or(2048),
            1..=1 << 24,
        )?;
        let rope = file.rope_parameters.or(file.rope_scaling).unwrap_or_default();
        let (rope, max_tokens) = rope.check(fields, file.rope_theta, max_positions)?;
        let model_dim = fields.size("hidden_size", file.hidden_size, MODEL_DIMS)?;
        let num_heads = fields.size("num_attention_heads", file.num_attention_heads, HEADS)?;
        let num_kv_heads = file.num_key_value_heads.unwrap_or(file.num_attention_heads);
        let head_dim = match file.head_dim {
            Some(head_dim) => fields.size("head_dim", head_dim, 1..=4096)?,
            None => {
                fields.divisible(("hidden_size", model_dim), ("num_attention_heads", num_heads))?;
                model_dim / num_heads
            }
        };
        let config = Self {
            model_dim,
            num_layers: fields.size("num_hidden_layers", file.num_hidden_layers, LAYERS)?,
            num_heads,
            num_kv_heads: fields.size("num_key_value_heads", num_kv_heads, HEADS)?,
            head_dim,
            feed_forward_dim: fields.size("intermediate_size", file.intermediate_size, FEED_FORWARD_DIMS)?,
            vocabulary_size: fields.size("vocab_size", file.vocab_size, VOCABULARIES)?,
            max_tokens,
            norm_eps: fields.eps("rms_norm_eps", file.rms_norm_eps.unwrap_or(1e-6))?,
            activation: fields.activation("hidden_act", file.hidden_act.as_deref().unwrap_or("silu"))?,
            rope,
            attention_bias: file.attention_bias,
            feed_forward_bias: file.mlp_bias,
            is_tied: file.tie_word_embeddings,
            names: &NAMES,
        };
        fields.divisible(("num_attention_heads", num_heads), ("num_key_value_heads", config.num_kv_heads))?;
        Ok(config)
    }

    pub(super) fn outline(&self) -> Outline {
        Outline {
            num_layers: self.num_layers,
            num_heads: self.num_heads,
            vocabulary_size: self.vocabulary_size,
            max_tokens: self.max_tokens,
        }
    }

    /// Reads the tensors of a `LlamaModel`, named with or without the prefix `model.`, and the decoder of a language
    /// model if there is one.
    pub(super) fn load(&self, source: &mut dyn TensorSource) -> Result<Transformer, LensError> {
        let names = self.names;
        let prefix = prefix(source, names.prefix, &format!("{}.weight", names.words));
        let layers = format!("{prefix}{}.", names.layers);
        check_layer_count(source, &layers, names.layers, (names.num_layers, self.num_layers))?;
        let size = [self.vocabulary_size, self.model_dim];
        let words = source.read(&format!("{prefix}{}.weight", names.words), &size)?;
        Ok(Transformer {
            embedding: Embedding::new(words, size, None, None, None)?,
            blocks: (0..self.num_layers)
                .map(|layer| self.block(source, &format!("{layers}{layer}.")))
                .collect::<Result<_, _>>()?,
            final_norm: Some(self.norm(source, &format!("{prefix}{}", names.final_norm))?),
            rotary: Some(self.rope.rotary(self.head_dim)?),
            causal: true,
            head: self.head(source)?,
        })
    }

    fn block(&self, source: &mut dyn TensorSource, prefix: &str) -> Result<Block, LensError> {
        let (names, dim, inner) = (self.names, self.model_dim, self.feed_forward_dim);
        let (query_len, kv_len) = (self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim);
        let mut part = |name, size, bias| linear(source, &format!("{prefix}{name}"), size, bias);
        let query = part(names.query, [dim, query_len], self.attention_bias)?;
        let key = part(names.key, [dim, kv_len], self.attention_bias)?;
        let value = part(names.value, [dim, kv_len], self.attention_bias)?;
        let output = part(names.output, [query_len, dim], self.attention_bias)?;
        let feed_forward = FeedForward {
            gate: Some(part(names.gate, [dim, inner], self.feed_forward_bias)?),
            up: part(names.up, [dim, inner], self.feed_forward_bias)?,
            activation: self.activation,
            down: part(names.down, [inner, dim], self.feed_forward_bias)?,
        };
        let heads = [self.num_heads, self.num_kv_heads];
        Ok(Block {
            attention: MultiHeadAttention::new(query, key, value, output, heads)?,
            softmax_scale: None,
            attention_norm: self.norm(source, &format!("{prefix}{}", names.attention_norm))?,
            feed_forward,
            feed_forward_norm: self.norm(source, &format!("{prefix}{}", names.feed_forward_norm))?,
            order: NormOrder::Before,
        })
    }

    fn norm(&self, source: &mut dyn TensorSource, name: &str) -> Result<Norm, LensError> {
        root_mean_square_norm(source, name, self.model_dim, self.norm_eps)
    }

    fn head(&self, source: &mut dyn TensorSource) -> Result<Option<Head>, LensError> {
        let decoder = if self.is_tied {
            None
        } else if source.has(&format!("{}.weight", self.names.decoder)) {
            let size = [self.model_dim, self.vocabulary_size];
            Some(linear(source, self.names.decoder, size, false)?)
        } else {
            return Ok(None);
        };
        Ok(Some(Head { transform: None, decoder, bias: None }))
    }
}

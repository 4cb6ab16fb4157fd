//! Decoders of the GPT-2 layout (Radford et al. 2019): trained positions, a norm before each part, and matrices
//! stored as `[in_features, out_features]`.

use regard::layer::{Linear, MultiHeadAttention};
use regard::position::LearnedPositions;
use serde::Deserialize;

use super::Outline;
use super::fields::{FEED_FORWARD_DIMS, Fields, HEADS, LAYERS, MODEL_DIMS, POSITIONS, VOCABULARIES};
use super::tensors::{check_layer_count, layer_norm, linear, prefix};
use crate::error::LensError;
use crate::files::TensorSource;
use crate::transformer::{
    Activation, Block, Embedding, FeedForward, Head, NormOrder, Positions, Transformer,
};

/// Sizes and choices of a GPT-2 model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gpt2Config {
    model_dim: usize,
    num_layers: usize,
    num_heads: usize,
    feed_forward_dim: usize,
    vocabulary_size: usize,
    num_positions: usize,
    layer_norm_eps: f64,
    activation: Activation,
    /// Scores are divided by √head_dim.
    scale_by_head_dim: bool,
    /// Scores are divided by the layer's number, from 1.
    scale_by_layer: bool,
    is_tied: bool,
}

/// The fields as Hugging Face names them; defaults are those of its `GPT2Config`.
#[derive(Deserialize)]
struct ConfigFile {
    n_embd: u64,
    n_layer: u64,
    n_head: u64,
    n_inner: Option<u64>,
    vocab_size: u64,
    n_positions: u64,
    layer_norm_epsilon: Option<f64>,
    activation_function: Option<String>,
    scale_attn_weights: Option<bool>,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    tie_word_embeddings: Option<bool>,
    #[serde(default)]
    add_cross_attention: bool,
}

impl Gpt2Config {
    pub(super) fn parse(fields: Fields<'_>, json: &[u8]) -> Result<Self, LensError> {
        let file: ConfigFile = fields.parse(json)?;
        if file.add_cross_attention {
            return Err(fields.refuse("add_cross_attention", "false (one text alone)", "true"));
        }
        let model_dim = fields.size("n_embd", file.n_embd, MODEL_DIMS)?;
        let inner = file.n_inner.unwrap_or(4 * file.n_embd.min(1 << 20));
        let activation = file.activation_function.as_deref().unwrap_or("gelu_new");
        let config = Self {
            model_dim,
            num_layers: fields.size("n_layer", file.n_layer, LAYERS)?,
            num_heads: fields.size("n_head", file.n_head, HEADS)?,
            feed_forward_dim: fields.size("n_inner", inner, FEED_FORWARD_DIMS)?,
            vocabulary_size: fields.size("vocab_size", file.vocab_size, VOCABULARIES)?,
            num_positions: fields.size("n_positions", file.n_positions, POSITIONS)?,
            layer_norm_eps: fields.eps("layer_norm_epsilon", file.layer_norm_epsilon.unwrap_or(1e-5))?,
            activation: fields.activation("activation_function", activation)?,
            scale_by_head_dim: file.scale_attn_weights.unwrap_or(true),
            scale_by_layer: file.scale_attn_by_inverse_layer_idx,
            is_tied: file.tie_word_embeddings.unwrap_or(true),
        };
        fields.divisible(("n_embd", model_dim), ("n_head", config.num_heads))?;
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

    /// Reads the tensors of a `GPT2Model`, named with or without the prefix `transformer.`, and the decoder of a
    /// language model.
    pub(super) fn load(&self, source: &mut dyn TensorSource) -> Result<Transformer, LensError> {
        let prefix = prefix(source, "transformer.", "wte.weight");
        let layers = format!("{prefix}h.");
        check_layer_count(source, &layers, "h", ("n_layer", self.num_layers))?;
        let dim = self.model_dim;
        let size = [self.vocabulary_size, dim];
        let words = source.read(&format!("{prefix}wte.weight"), &size)?;
        let positions = source.read(&format!("{prefix}wpe.weight"), &[self.num_positions, dim])?;
        let positions =
            Positions { table: LearnedPositions::new(positions, self.num_positions, dim)?, padding: None };
        let decoder = if self.is_tied {
            None
        } else {
            Some(linear(source, "lm_head", [dim, self.vocabulary_size], false)?)
        };
        Ok(Transformer {
            embedding: Embedding::new(words, size, Some(positions), None, None)?,
            blocks: (0..self.num_layers)
                .map(|layer| self.block(source, layer, &format!("{layers}{layer}")))
                .collect::<Result<_, _>>()?,
            final_norm: Some(layer_norm(source, &format!("{prefix}ln_f"), dim, self.layer_norm_eps)?),
            rotary: None,
            causal: true,
            head: Some(Head { transform: None, decoder, bias: None }),
        })
    }

    fn block(&self, source: &mut dyn TensorSource, layer: usize, prefix: &str) -> Result<Block, LensError> {
        let (dim, inner, eps) = (self.model_dim, self.feed_forward_dim, self.layer_norm_eps);
        let [query, key, value] = columns(source, &format!("{prefix}.attn.c_attn"), [dim, dim])?;
        let [output] = columns(source, &format!("{prefix}.attn.c_proj"), [dim, dim])?;
        let [up] = columns(source, &format!("{prefix}.mlp.c_fc"), [dim, inner])?;
        let [down] = columns(source, &format!("{prefix}.mlp.c_proj"), [inner, dim])?;
        let head_dim = dim / self.num_heads;
        let by_head_dim = if self.scale_by_head_dim { (head_dim as f64).sqrt() } else { 1.0 };
        let by_layer = if self.scale_by_layer { (layer + 1) as f64 } else { 1.0 };
        let scale = (1.0 / (by_head_dim * by_layer)) as f32;
        let usual = self.scale_by_head_dim && !self.scale_by_layer;
        Ok(Block {
            attention: MultiHeadAttention::new(query, key, value, output, [self.num_heads; 2])?,
            softmax_scale: (!usual).then_some(scale),
            attention_norm: layer_norm(source, &format!("{prefix}.ln_1"), dim, eps)?,
            feed_forward: FeedForward { gate: None, up, activation: self.activation, down },
            feed_forward_norm: layer_norm(source, &format!("{prefix}.ln_2"), dim, eps)?,
            order: NormOrder::Before,
        })
    }
}

/// `N` linear layers side by side in one matrix: `{name}.weight` `[in_features, N · out_features]`, which is turned
/// over, and `{name}.bias` `[N · out_features]`.
fn columns<const N: usize>(
    source: &mut dyn TensorSource,
    name: &str,
    [in_features, out_features]: [usize; 2],
) -> Result<[Linear; N], LensError> {
    let width = N * out_features;
    let stored = source.read(&format!("{name}.weight"), &[in_features, width])?;
    let bias = source.read(&format!("{name}.bias"), &[width])?;
    let mut linears = Vec::with_capacity(N);
    for (part, bias) in bias.chunks_exact(out_features).enumerate() {
        let mut weight = Vec::new();
        let len = in_features * out_features;
        weight
            .try_reserve_exact(len)
            .map_err(|_| LensError::AllocationFailed { bytes: len.saturating_mul(size_of::<f32>()) })?;
        for column in part * out_features..(part + 1) * out_features {
            weight.extend(stored.iter().skip(column).step_by(width));
        }
        linears.push(Linear::new(weight, Some(bias.to_vec()), in_features, out_features)?);
    }
    Ok(linears.try_into().expect("as many biases as columns were asked for"))
}

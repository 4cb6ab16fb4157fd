//! The decoder of Touvron et al. 2023, its head's matrix the embedding's.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Int, Tensor};
use regard::position::{RotaryPairs, RotaryPositions};

use super::{Architecture, EPSILON, Pass, ROTARY_BASE, SelfAttention};
use crate::error::TrainError;

/// Embedding, layers and the last normalisation.
#[derive(Module, Debug)]
pub struct Llama {
    /// `[vocabulary, dim]`.
    pub words: Embedding,
    /// One after the other.
    pub layers: Vec<LlamaLayer>,
    /// Before the scores.
    pub norm: RmsNorm,
}

/// A layer: attention, then a feed-forward part, each of its normalised input and added to it.
#[derive(Module, Debug)]
pub struct LlamaLayer {
    /// Before attention.
    pub attention_norm: RmsNorm,
    /// Attention.
    pub attention: SelfAttention,
    /// Before the feed-forward part.
    pub norm: RmsNorm,
    /// `[dim, inner_dim]`, through SiLU.
    pub gate: Linear,
    /// `[dim, inner_dim]`, times the gate.
    pub up: Linear,
    /// `[inner_dim, dim]`.
    pub down: Linear,
}

impl Llama {
    pub(super) fn new(architecture: &Architecture, device: &Device) -> Self {
        let Architecture { dim, inner_dim, vocabulary, .. } = *architecture;
        let norm = || RmsNormConfig::new(dim).with_epsilon(EPSILON).init(device);
        let linear = |input, output| LinearConfig::new(input, output).with_bias(false).init(device);
        let layer = |_| LlamaLayer {
            attention_norm: norm(),
            attention: SelfAttention::new(architecture, device),
            norm: norm(),
            gate: linear(dim, inner_dim),
            up: linear(dim, inner_dim),
            down: linear(inner_dim, dim),
        };
        Self {
            words: EmbeddingConfig::new(vocabulary, dim).init(device),
            layers: (0..architecture.layers).map(layer).collect(),
            norm: norm(),
        }
    }

    pub(super) fn hidden(
        &self,
        architecture: &Architecture,
        tokens: Tensor<2, Int>,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor<3>, TrainError> {
        let head_dim = architecture.head_dim();
        let rotary = RotaryPositions::new(head_dim, head_dim, ROTARY_BASE, RotaryPairs::HalfSplit)
            .map_err(|error| TrainError::Attention(error.to_string()))?;
        let mut hidden = self.words.forward(tokens);
        for (number, layer) in self.layers.iter().enumerate() {
            let normed = layer.attention_norm.forward(hidden.clone());
            let attended = layer.attention.forward(normed, (architecture, number), Some(&rotary), pass)?;
            hidden = hidden + attended;
            let normed = layer.norm.forward(hidden.clone());
            let inner = silu(layer.gate.forward(normed.clone())) * layer.up.forward(normed);
            hidden = hidden + layer.down.forward(inner);
        }
        Ok(self.norm.forward(hidden))
    }

    pub(super) fn scores(&self, hidden: Tensor<2>) -> Tensor<2> {
        hidden.matmul(self.words.weight.val().transpose())
    }
}

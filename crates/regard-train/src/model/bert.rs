//! The encoder of Devlin et al. 2019 with its masked-language-model head.

use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Int, Tensor};

use super::{Architecture, EPSILON, Pass, SelfAttention, integers};
use crate::error::TrainError;

/// Embeddings, layers and head; the head's matrix is the embedding's.
#[derive(Module, Debug)]
pub struct Bert {
    /// `[vocabulary, dim]`.
    pub words: Embedding,
    /// `[positions, dim]`.
    pub positions: Embedding,
    /// Of the sum of both.
    pub norm: LayerNorm,
    /// One after the other.
    pub layers: Vec<BertLayer>,
    /// Before the scores.
    pub head: Linear,
    /// After `head`.
    pub head_norm: LayerNorm,
    /// `[vocabulary]`, added to the scores.
    pub head_bias: Param<Tensor<1>>,
}

/// A layer: attention, then a feed-forward part, each added to its input and normalised after.
#[derive(Module, Debug)]
pub struct BertLayer {
    /// Attention.
    pub attention: SelfAttention,
    /// After attention.
    pub attention_norm: LayerNorm,
    /// `[dim, inner_dim]`.
    pub inner: Linear,
    /// `[inner_dim, dim]`.
    pub outer: Linear,
    /// After the feed-forward part.
    pub norm: LayerNorm,
}

impl Bert {
    pub(super) fn new(architecture: &Architecture, device: &Device) -> Self {
        let Architecture { dim, inner_dim, vocabulary, positions, .. } = *architecture;
        let norm = || LayerNormConfig::new(dim).with_epsilon(EPSILON).init(device);
        let layer = |_| BertLayer {
            attention: SelfAttention::new(architecture, device),
            attention_norm: norm(),
            inner: LinearConfig::new(dim, inner_dim).init(device),
            outer: LinearConfig::new(inner_dim, dim).init(device),
            norm: norm(),
        };
        Self {
            words: EmbeddingConfig::new(vocabulary, dim).init(device),
            positions: EmbeddingConfig::new(positions, dim).init(device),
            norm: norm(),
            layers: (0..architecture.layers).map(layer).collect(),
            head: LinearConfig::new(dim, dim).init(device),
            head_norm: norm(),
            head_bias: Param::from_tensor(Tensor::zeros([vocabulary], device)),
        }
    }

    pub(super) fn hidden(
        &self,
        architecture: &Architecture,
        tokens: Tensor<2, Int>,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor<3>, TrainError> {
        let [_, seq_len] = tokens.dims();
        let positions = integers(0..seq_len as u32, [1, seq_len], &tokens.device());
        let sum = self.words.forward(tokens) + self.positions.forward(positions);
        let mut hidden = self.norm.forward(sum);
        for (number, layer) in self.layers.iter().enumerate() {
            let attended = layer.attention.forward(hidden.clone(), (architecture, number), None, pass)?;
            hidden = layer.attention_norm.forward(hidden + attended);
            let inner = gelu(layer.inner.forward(hidden.clone()));
            hidden = layer.norm.forward(hidden + layer.outer.forward(inner));
        }
        Ok(hidden)
    }

    pub(super) fn scores(&self, hidden: Tensor<2>) -> Tensor<2> {
        let hidden = self.head_norm.forward(gelu(self.head.forward(hidden)));
        hidden.matmul(self.words.weight.val().transpose()) + self.head_bias.val().unsqueeze()
    }
}

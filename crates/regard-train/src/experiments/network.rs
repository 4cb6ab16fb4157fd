//! Small networks that differ in one thing: how a position learns of the others.

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::gru::{Gru, GruConfig};
use burn::nn::{
    Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, Lstm, LstmConfig,
};
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Tensor, TensorData};
use regard::position::{SinusoidalPositions, alibi_slopes};
use regard::{AttentionConfig, Mask, QueryPosition};
use regard_burn::{MultiHeadAttention, MultiHeadAttentionConfig};

use super::recurrence;
use crate::error::TrainError;
use crate::model::{initial, integers};
use crate::objective::Batch;

/// How a position learns of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mixer {
    /// Attention; `causal`: of what is before.
    Attention { heads: usize, causal: bool },
    /// Hochreiter and Schmidhuber 1997 with forget gates, whose biases start at 1 (Jozefowicz et al. 2015).
    Lstm,
    /// Cho et al. 2014.
    Gru,
}

/// How attention is told where tokens stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Positions {
    None,
    Sinusoidal,
    Learned,
    Rotary,
    Alibi,
}

impl Positions {
    pub(super) const ALL: [Self; 5] =
        [Self::None, Self::Sinusoidal, Self::Learned, Self::Rotary, Self::Alibi];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sinusoidal => "sinusoidal",
            Self::Learned => "learned",
            Self::Rotary => "rotary",
            Self::Alibi => "ALiBi",
        }
    }
}

/// The sizes of a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sizes {
    pub(super) vocabulary: usize,
    pub(super) classes: usize,
    pub(super) dim: usize,
    /// Numbers a position inside a recurrent layer; attention has `dim`.
    pub(super) state: usize,
    pub(super) layers: usize,
    pub(super) max_len: usize,
    /// Whether a feed-forward part of 4 · dim follows each mixer.
    pub(super) feed_forward: bool,
    pub(super) mixer: Mixer,
    pub(super) positions: Positions,
    /// Other than 1/√head_dim.
    pub(super) softmax_scale: Option<f32>,
}

/// Embeddings, layers with norms before, and a readout.
#[derive(Module, Debug)]
pub(super) struct Network {
    words: Embedding,
    positions: Option<Embedding>,
    layers: Vec<Layer>,
    norm: LayerNorm,
    readout: Linear,
}

#[derive(Module, Debug)]
struct Layer {
    norm: LayerNorm,
    mix: Mix,
    feed_forward: Option<FeedForward>,
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a network holds two")]
enum Mix {
    Attention(MultiHeadAttention),
    Lstm(Recurrent<Lstm>),
    Gru(Recurrent<Gru>),
}

/// A recurrent layer and the way back to `dim`.
#[derive(Module, Debug)]
struct Recurrent<M: Module> {
    cell: M,
    output: Linear,
}

#[derive(Module, Debug)]
struct FeedForward {
    norm: LayerNorm,
    inner: Linear,
    outer: Linear,
}

impl Network {
    /// A network whose parameters are a pure function of the seed.
    pub(super) fn new(sizes: &Sizes, seed: u64, device: &Device) -> Result<Self, TrainError> {
        let dim = sizes.dim;
        let norm = || LayerNormConfig::new(dim).init(device);
        let layer = || -> Result<Layer, TrainError> {
            let back = || LinearConfig::new(sizes.state, dim).init(device);
            let mix = match sizes.mixer {
                Mixer::Attention { heads, .. } => {
                    let rotary = (sizes.positions == Positions::Rotary).then_some(10_000.0);
                    let config = MultiHeadAttentionConfig::new(dim, heads).with_rotary_base(rotary);
                    Mix::Attention(config.init(device).map_err(failed)?)
                }
                Mixer::Lstm => {
                    let cell = LstmConfig::new(dim, sizes.state, true).init(device);
                    Mix::Lstm(Recurrent { cell, output: back() })
                }
                Mixer::Gru => {
                    let cell = GruConfig::new(dim, sizes.state, true).init(device);
                    Mix::Gru(Recurrent { cell, output: back() })
                }
            };
            let feed_forward = sizes.feed_forward.then(|| FeedForward {
                norm: norm(),
                inner: LinearConfig::new(dim, 4 * dim).init(device),
                outer: LinearConfig::new(4 * dim, dim).init(device),
            });
            Ok(Layer { norm: norm(), mix, feed_forward })
        };
        let network = Self {
            words: EmbeddingConfig::new(sizes.vocabulary, dim).init(device),
            positions: (sizes.positions == Positions::Learned)
                .then(|| EmbeddingConfig::new(sizes.max_len, dim).init(device)),
            layers: (0..sizes.layers).map(|_| layer()).collect::<Result<_, _>>()?,
            norm: norm(),
            readout: LinearConfig::new(dim, sizes.classes).init(device),
        };
        let mut network = initial::draw(network, seed, device);
        for layer in &mut network.layers {
            if let Mix::Lstm(recurrent) = &mut layer.mix
                && let Some(gate) = &mut recurrent.cell.forget_gate
                && let Some(bias) = gate.input_transform.bias.take()
            {
                let mut ones = Filled { number: 1.0, device };
                gate.input_transform.bias = Some(ones.map_float(bias));
            }
        }
        Ok(network)
    }

    /// Parameters beside embeddings and readout.
    pub(super) fn inner_parameters(&self) -> usize {
        self.layers.num_params() + self.norm.num_params()
    }

    /// Biases of the first layer's forget gate.
    #[cfg(test)]
    pub(super) fn forget_biases(&self) -> Vec<f32> {
        let Mix::Lstm(recurrent) = &self.layers[0].mix else { return Vec::new() };
        let gate = recurrent.cell.forget_gate.as_ref();
        let bias = gate.and_then(|gate| gate.input_transform.bias.as_ref());
        bias.map(|bias| bias.val().into_data().try_into_vec().unwrap()).unwrap_or_default()
    }

    /// Scores of the labels of a batch, `[labels, classes]`.
    pub(super) fn scores(
        &self,
        sizes: &Sizes,
        batch: &Batch,
        device: &Device,
    ) -> Result<Tensor<2>, TrainError> {
        let hidden = self.hidden(sizes, self.embed(sizes, batch, device)?)?;
        let [batch_size, seq_len, dim] = hidden.dims();
        let at = integers(batch.labels.iter().map(|&(at, _)| at as u32), [batch.labels.len()], device);
        Ok(self.readout.forward(hidden.reshape([batch_size * seq_len, dim]).select(0, at)))
    }

    /// What the first layer reads, `[batch_size, seq_len, dim]`.
    pub(super) fn embed(
        &self,
        sizes: &Sizes,
        batch: &Batch,
        device: &Device,
    ) -> Result<Tensor<3>, TrainError> {
        let (seq_len, dim) = (batch.seq_len, sizes.dim);
        let shape = [batch.lens.len(), seq_len];
        let mut embedded = self.words.forward(integers(batch.tokens.iter().copied(), shape, device));
        if let Some(positions) = &self.positions {
            embedded = embedded + positions.forward(integers(0..seq_len as u32, [1, seq_len], device));
        }
        if sizes.positions == Positions::Sinusoidal {
            let mut table = vec![0.0; seq_len * dim];
            let sinusoidal = SinusoidalPositions::new(dim);
            for (position, row) in table.chunks_exact_mut(dim).enumerate() {
                sinusoidal.encode(position, row);
                // As large as embeddings are at first; sines would drown them.
                row.iter_mut().for_each(|number| *number *= initial::EMBEDDING as f32);
            }
            embedded = embedded + Tensor::<3>::from_data(TensorData::new(table, [1, seq_len, dim]), device);
        }
        // Else what layers add would drown the token itself (Vaswani et al. 2017, section 3.4, has √dim).
        Ok(embedded.div_scalar(initial::EMBEDDING))
    }

    /// The last layer's output, normalised, `[batch_size, seq_len, dim]`.
    pub(super) fn hidden(&self, sizes: &Sizes, embedded: Tensor<3>) -> Result<Tensor<3>, TrainError> {
        let mut hidden = embedded;
        for number in 0..self.layers.len() {
            hidden = self.layer(number, sizes, hidden)?;
        }
        Ok(self.norm.forward(hidden))
    }

    /// Queries and keys of every layer of attention, `[batch_size, heads, seq_len, head_dim]`.
    pub(super) fn queries_and_keys(
        &self,
        sizes: &Sizes,
        batch: &Batch,
        device: &Device,
    ) -> Result<Vec<[Tensor<4>; 2]>, TrainError> {
        let mut hidden = self.embed(sizes, batch, device)?;
        let mut seen = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            if let Mix::Attention(attention) = &layer.mix {
                let [query, key, _] = attention.heads(layer.norm.forward(hidden.clone())).map_err(failed)?;
                seen.push([query, key]);
            }
            hidden = self.layer(number, sizes, hidden)?;
        }
        Ok(seen)
    }

    fn layer(&self, number: usize, sizes: &Sizes, hidden: Tensor<3>) -> Result<Tensor<3>, TrainError> {
        let layer = &self.layers[number];
        let input = layer.norm.forward(hidden.clone());
        let mixed = match &layer.mix {
            Mix::Attention(attention) => {
                let slopes = alibi_slopes(attention.num_heads())
                    .map_err(|error| TrainError::Attention(error.to_string()))?;
                attention.forward(input, &sizes.attention(&slopes)).map_err(failed)?
            }
            Mix::Lstm(Recurrent { cell, output }) => output.forward(recurrence::lstm(cell, input)),
            Mix::Gru(Recurrent { cell, output }) => output.forward(recurrence::gru(cell, input)),
        };
        let hidden = hidden + mixed;
        Ok(match &layer.feed_forward {
            Some(part) => {
                let inner = gelu(part.inner.forward(part.norm.forward(hidden.clone())));
                hidden + part.outer.forward(inner)
            }
            None => hidden,
        })
    }
}

impl Sizes {
    /// How this network attends.
    pub(super) fn attention<'a>(&self, slopes: &'a [f32]) -> AttentionConfig<'a> {
        let causal = matches!(self.mixer, Mixer::Attention { causal: true, .. });
        let mask = if causal { Mask::causal(QueryPosition::TopLeft) } else { Mask::default() };
        let mut config = AttentionConfig::new().with_mask(mask);
        if self.positions == Positions::Alibi {
            config = config.with_alibi_slopes(slopes);
        }
        match self.softmax_scale {
            Some(scale) => config.with_softmax_scale(scale),
            None => config,
        }
    }

    /// The recurrent state with which a network has about as many inner parameters as `wanted`.
    pub(super) fn with_state_for(self, wanted: usize) -> Self {
        let (dim, layers) = (self.dim, self.layers);
        let gates = match self.mixer {
            Mixer::Lstm => 4,
            Mixer::Gru => 3,
            Mixer::Attention { .. } => return self,
        };
        // Gates have two matrices and two biases each; then there is the way back, and a norm for each layer and the last.
        let parameters = |state: usize| {
            let cell = gates * (dim * state + state * state + 2 * state);
            layers * (cell + state * dim + dim + 2 * dim) + 2 * dim
        };
        let state = (1..=8 * dim).min_by_key(|&state| parameters(state).abs_diff(wanted)).unwrap_or(dim);
        Self { state, ..self }
    }
}

fn failed(error: regard_burn::Error) -> TrainError {
    TrainError::Attention(error.to_string())
}

/// Puts one number everywhere.
struct Filled<'d> {
    number: f32,
    device: &'d Device,
}

impl ModuleMapper for Filled<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (shape, number, device) = (param.shape(), self.number, self.device.clone());
        param.map(|_| initial::trainable(Tensor::full(shape, number, &device)))
    }
}

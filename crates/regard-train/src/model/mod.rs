//! Transformers on burn, through [`regard_burn::attention`].

mod architecture;
mod attention;
mod bert;
pub(crate) mod initial;
mod llama;

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::error::TrainError;
use crate::objective::Batch;

pub use architecture::{Architecture, EPSILON, Family, ROTARY_BASE};
pub use attention::SelfAttention;
pub use bert::{Bert, BertLayer};
pub use llama::{Llama, LlamaLayer};

/// Who computes attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Attention {
    /// [`regard_burn::attention`].
    #[default]
    Regard,
    /// burn's own, to compare with; as for the next, lengths are equal, key heads as many as heads, and dropout is off.
    Burn,
    /// Nobody: each token's value is passed on, which shows what the rest costs.
    Nobody,
}

/// What a forward pass is given besides tokens.
#[derive(Debug, Default)]
pub struct Pass<'a> {
    /// Tokens of each example; what comes after is not attended to.
    pub lens: &'a [usize],
    /// Dropout of attention probabilities: its rate, and the seed and the step that decide which.
    pub dropout: Option<(f32, u64, u64)>,
    /// Who computes attention.
    pub attention: Attention,
    /// Receives each layer's queries and keys as they are scored, `[batch_size, heads, seq_len, head_dim]`.
    pub seen: Option<Vec<[Tensor<4>; 2]>>,
}

/// A model of either family.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a process holds one or two")]
pub enum Model {
    /// Reads both sides.
    Bert(Bert),
    /// Reads what is before.
    Llama(Llama),
}

impl Model {
    /// A model whose parameters are a pure function of the seed.
    ///
    /// # Errors
    /// [`TrainError::Option`] for sizes that make no model.
    pub fn new(architecture: &Architecture, seed: u64, device: &Device) -> Result<Self, TrainError> {
        architecture.check()?;
        let model = match architecture.family {
            Family::Bert => Self::Bert(Bert::new(architecture, device)),
            Family::Llama => Self::Llama(Llama::new(architecture, device)),
        };
        Ok(initial::draw(model, seed, device))
    }

    /// The last layer's output, `[batch_size, seq_len, dim]`, for tokens of the same shape without `dim`.
    ///
    /// # Errors
    /// [`TrainError::Attention`].
    pub fn hidden(
        &self,
        architecture: &Architecture,
        tokens: Tensor<2, Int>,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor<3>, TrainError> {
        match self {
            Self::Bert(model) => model.hidden(architecture, tokens, pass),
            Self::Llama(model) => model.hidden(architecture, tokens, pass),
        }
    }

    /// Scores of every token of the vocabulary, `[rows, vocabulary]`, from rows of the last layer's output.
    pub fn scores(&self, hidden: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Bert(model) => model.scores(hidden),
            Self::Llama(model) => model.scores(hidden),
        }
    }

    /// Scores at the labels of a batch, `[labels, vocabulary]`.
    ///
    /// # Errors
    /// [`TrainError::Attention`].
    pub fn label_scores(
        &self,
        architecture: &Architecture,
        batch: &Batch,
        pass: &mut Pass<'_>,
        device: &Device,
    ) -> Result<Tensor<2>, TrainError> {
        let shape = [batch.lens.len(), batch.seq_len];
        let hidden =
            self.hidden(architecture, integers(batch.tokens.iter().copied(), shape, device), pass)?;
        let rows = hidden.reshape([batch.lens.len() * batch.seq_len, architecture.dim]);
        let at = integers(batch.labels.iter().map(|&(at, _)| at as u32), [batch.labels.len()], device);
        Ok(self.scores(rows.select(0, at)))
    }

    /// Mean cross-entropy of a batch's labels in nats, a tensor of one number.
    ///
    /// # Errors
    /// [`TrainError::Attention`].
    pub fn loss(
        &self,
        architecture: &Architecture,
        batch: &Batch,
        pass: &mut Pass<'_>,
        device: &Device,
    ) -> Result<Tensor<1>, TrainError> {
        let scores = self.label_scores(architecture, batch, pass, device)?;
        let right = integers(batch.labels.iter().map(|&(_, token)| token), [batch.labels.len(), 1], device);
        Ok(log_softmax(scores, 1).gather(1, right).mean().neg())
    }
}

/// A tensor of integers.
pub(crate) fn integers<const D: usize>(
    numbers: impl Iterator<Item = u32>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D, Int> {
    let numbers: Vec<i64> = numbers.map(i64::from).collect();
    Tensor::from_data(TensorData::new(numbers, shape), device)
}

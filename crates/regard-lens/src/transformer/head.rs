//! Hidden states to a number for each token of the vocabulary.

use regard::Parallelism;
use regard::layer::Linear;

use super::activation::Activation;
use super::norm::Norm;
use super::{add, zeros};
use crate::error::LensError;

/// A language model's head.
#[derive(Debug)]
pub(crate) struct Head {
    /// Before the decoder, in masked language models.
    pub(crate) transform: Option<HeadTransform>,
    /// `None` where the decoder is the table of word vectors (tied weights, Press and Wolf 2017).
    pub(crate) decoder: Option<Linear>,
    /// `[vocabulary_size]`.
    pub(crate) bias: Option<Vec<f32>>,
}

/// norm(activation(dense(x))).
#[derive(Debug)]
pub(crate) struct HeadTransform {
    pub(crate) dense: Linear,
    pub(crate) activation: Activation,
    pub(crate) norm: Norm,
}

impl Head {
    /// `[rows, model_dim]` to `[rows, vocabulary_size]`; `words` is the table of word vectors.
    pub(super) fn logits(&self, words: &Linear, rows: &[f32]) -> Result<Vec<f32>, LensError> {
        let parallelism = Parallelism::default();
        let mut transformed = Vec::new();
        let mut input = rows;
        if let Some(HeadTransform { dense, activation, norm }) = &self.transform {
            transformed = zeros(rows.len())?;
            dense.forward(rows, &mut transformed, parallelism)?;
            activation.apply(&mut transformed);
            norm.apply(&mut transformed);
            input = &transformed;
        }
        let decoder = self.decoder.as_ref().unwrap_or(words);
        let vocabulary_size = decoder.out_features();
        let mut logits = zeros((rows.len() / words.in_features()).saturating_mul(vocabulary_size))?;
        decoder.forward(input, &mut logits, parallelism)?;
        if let Some(bias) = &self.bias {
            logits.chunks_exact_mut(vocabulary_size).for_each(|row| add(row, bias));
        }
        drop(transformed);
        Ok(logits)
    }
}

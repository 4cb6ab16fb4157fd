use std::ops::Range;

use crate::error::AttentionError;
use crate::kernel::{Matrix, add_product_transposed};
use crate::parallelism::Parallelism;
use crate::shape::expect;
use crate::view::checked_product;

/// y = x·Wᵀ + b, applied to every row.
///
/// The weight is kept as frameworks store it: `[out_features, in_features]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    in_features: usize,
    out_features: usize,
}

impl Linear {
    /// A projection from `in_features` to `out_features`.
    ///
    /// `weight` is `[out_features, in_features]`, row-major; `bias` is `[out_features]`.
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`] if a length does not match; [`AttentionError::SizeOverflow`].
    pub fn new(
        weight: Vec<f32>,
        bias: Option<Vec<f32>>,
        in_features: usize,
        out_features: usize,
    ) -> Result<Self, AttentionError> {
        expect(
            "linear.weight.len",
            checked_product(&[in_features, out_features], "linear.weight")?,
            weight.len(),
        )?;
        if let Some(bias) = &bias {
            expect("linear.bias.len", out_features, bias.len())?;
        }
        Ok(Self { weight, bias, in_features, out_features })
    }

    /// Size of an input row.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// Size of an output row.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// The weight, `[out_features, in_features]`, row-major.
    pub fn weight(&self) -> &[f32] {
        &self.weight
    }

    /// The bias, `[out_features]`.
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// Projects every row: input `[rows, in_features]`, output `[rows, out_features]`, both row-major.
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`] if the lengths are not the same number of whole rows.
    pub fn forward(
        &self,
        input: &[f32],
        output: &mut [f32],
        parallelism: Parallelism,
    ) -> Result<(), AttentionError> {
        self.forward_features(0..self.out_features, input, output, parallelism)
    }

    /// [`Self::forward`] for the output features `features` alone: output `[rows, features]`.
    pub(super) fn forward_features(
        &self,
        features: Range<usize>,
        input: &[f32],
        output: &mut [f32],
        parallelism: Parallelism,
    ) -> Result<(), AttentionError> {
        let rows = match self.in_features {
            0 => output.len().checked_div(features.len()).unwrap_or(0),
            in_features => input.len() / in_features,
        };
        expect("linear.input.len", rows * self.in_features, input.len())?;
        expect(
            "linear.output.len",
            checked_product(&[rows, features.len()], "linear.output")?,
            output.len(),
        )?;
        if output.is_empty() {
            return Ok(());
        }
        match &self.bias {
            None => output.fill(0.0),
            Some(bias) => {
                let bias = &bias[features.clone()];
                output.chunks_exact_mut(bias.len()).for_each(|row| row.copy_from_slice(bias));
            }
        }
        let weight = &self.weight[features.start * self.in_features..features.end * self.in_features];
        let left = Matrix { data: input, rows, columns: self.in_features };
        let right = Matrix { data: weight, rows: features.len(), columns: self.in_features };
        add_product_transposed(left, right, output, parallelism.num_workers());
        Ok(())
    }

    /// One projection that computes `parts` side by side: output rows are theirs, concatenated.
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`] if the parts read inputs of different size.
    pub(super) fn stack(parts: &[&Self]) -> Result<Self, AttentionError> {
        let in_features = parts.first().map_or(0, |part| part.in_features);
        let mut weight = Vec::with_capacity(parts.iter().map(|part| part.weight.len()).sum());
        let has_bias = parts.iter().any(|part| part.bias.is_some());
        let mut bias = has_bias.then(Vec::new);
        for part in parts {
            expect("linear.in_features", in_features, part.in_features)?;
            weight.extend_from_slice(&part.weight);
            if let Some(bias) = &mut bias {
                let end = bias.len() + part.out_features;
                bias.extend_from_slice(part.bias.as_deref().unwrap_or_default());
                bias.resize(end, 0.0);
            }
        }
        let out_features = parts.iter().map(|part| part.out_features).sum();
        Self::new(weight, bias, in_features, out_features)
    }
}

use std::ops::Range;

use rayon::prelude::*;

use crate::error::AttentionError;
use crate::kernel::{Matrix, add_product};
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

/// Where [`Linear::backward`] writes; what is `None` is not computed.
#[derive(Debug, Default)]
pub struct LinearGradients<'a> {
    /// Derivative of the loss by the input, `[rows, in_features]`.
    pub d_input: Option<&'a mut [f32]>,
    /// By the weight, `[out_features, in_features]`.
    pub d_weight: Option<&'a mut [f32]>,
    /// By the bias, `[out_features]`.
    pub d_bias: Option<&'a mut [f32]>,
}

/// Elements of a bias whose gradients one worker sums at a time.
const BIAS_BLOCK: usize = 256;

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

    /// The weight, to be trained.
    pub fn weight_mut(&mut self) -> &mut [f32] {
        &mut self.weight
    }

    /// The bias, to be trained.
    pub fn bias_mut(&mut self) -> Option<&mut [f32]> {
        self.bias.as_deref_mut()
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
        let rows = self.rows(features.len(), input.len(), ("linear.output.len", output.len()))?;
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
        let input = Matrix::new(input, [rows, self.in_features]);
        add_product(input, self.weight_rows(features).transposed(), output, parallelism.num_workers());
        Ok(())
    }

    /// The gradients of [`Self::forward`], overwriting what they are written to: with `d_output`
    /// `[rows, out_features]` the derivative of the loss by the output, and `input` that of the forward call,
    /// d_input = d_output·W, d_weight = d_outputᵀ·input, and d_bias is the sum of d_output's rows, in f64.
    ///
    /// The bits do not depend on the number of threads.
    ///
    /// ```
    /// use regard::{Parallelism, layer::{Linear, LinearGradients}};
    /// let linear = Linear::new(vec![1.0, 2.0, 3.0], Some(vec![0.5]), 3, 1)?;
    /// let (mut d_input, mut d_weight, mut d_bias) = ([0.0; 6], [0.0; 3], [0.0; 1]);
    /// let gradients = LinearGradients {
    ///     d_input: Some(&mut d_input),
    ///     d_weight: Some(&mut d_weight),
    ///     d_bias: Some(&mut d_bias),
    /// };
    /// let (input, d_output) = ([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [10.0, 1.0]);
    /// linear.backward(&input, &d_output, gradients, Parallelism::Sequential)?;
    /// assert_eq!(d_input, [10.0, 20.0, 30.0, 1.0, 2.0, 3.0]);
    /// assert_eq!((d_weight, d_bias), ([10.0, 1.0, 0.0], [11.0]));
    /// # Ok::<(), regard::AttentionError>(())
    /// ```
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`] if a length does not match; [`AttentionError::MissingOption`] if `d_bias`
    /// is asked of a projection without one. Nothing is written then.
    pub fn backward(
        &self,
        input: &[f32],
        d_output: &[f32],
        gradients: LinearGradients<'_>,
        parallelism: Parallelism,
    ) -> Result<(), AttentionError> {
        self.rows(self.out_features, input.len(), ("linear.d_output.len", d_output.len()))?;
        let LinearGradients { mut d_input, mut d_weight, mut d_bias } = gradients;
        let len = |part: &Option<&mut [f32]>, expected| part.as_ref().map_or(expected, |part| part.len());
        expect("linear.d_input.len", input.len(), len(&d_input, input.len()))?;
        expect("linear.d_weight.len", self.weight.len(), len(&d_weight, self.weight.len()))?;
        expect("linear.d_bias.len", self.out_features, len(&d_bias, self.out_features))?;
        if d_bias.is_some() && self.bias.is_none() {
            return Err(AttentionError::MissingOption { option: "bias" });
        }
        [&mut d_input, &mut d_weight, &mut d_bias].into_iter().flatten().for_each(|part| part.fill(0.0));
        let gradients = LinearGradients { d_input, d_weight, d_bias };
        self.add_gradients(0..self.out_features, (input, d_output), gradients, parallelism);
        Ok(())
    }

    /// Adds the gradients of [`Self::forward_features`]: `d_output` `[rows, features]`, `d_weight`
    /// `[features, in_features]`, `d_bias` `[features]`.
    ///
    /// # Panics
    /// If a length does not match.
    pub(super) fn add_gradients(
        &self,
        features: Range<usize>,
        (input, d_output): (&[f32], &[f32]),
        gradients: LinearGradients<'_>,
        parallelism: Parallelism,
    ) {
        let num_features = features.len();
        let Some(rows) = d_output.len().checked_div(num_features) else { return };
        let num_workers = parallelism.num_workers();
        let by_output = Matrix::new(d_output, [rows, num_features]);
        if let Some(d_input) = gradients.d_input {
            add_product(by_output, self.weight_rows(features), d_input, num_workers);
        }
        if let Some(d_weight) = gradients.d_weight {
            let input = Matrix::new(input, [rows, self.in_features]);
            add_product(by_output.transposed(), input, d_weight, num_workers);
        }
        if let Some(d_bias) = gradients.d_bias {
            sum_rows(d_output, d_bias, num_workers);
        }
    }

    /// How many rows of input and of `features` outputs there are.
    fn rows(
        &self,
        features: usize,
        input: usize,
        (axis, output): (&'static str, usize),
    ) -> Result<usize, AttentionError> {
        let rows = match self.in_features {
            0 => output.checked_div(features).unwrap_or(0),
            in_features => input / in_features,
        };
        expect("linear.input.len", rows * self.in_features, input)?;
        expect(axis, checked_product(&[rows, features], axis)?, output)?;
        Ok(rows)
    }

    fn weight_rows(&self, features: Range<usize>) -> Matrix<'_> {
        let weight = &self.weight[features.start * self.in_features..features.end * self.in_features];
        Matrix::new(weight, [features.len(), self.in_features])
    }

    /// Weight and bias of consecutive groups of output features, each of the number given.
    pub(super) fn split_mut<const N: usize>(
        &mut self,
        groups: [usize; N],
    ) -> [(&mut [f32], Option<&mut [f32]>); N] {
        let (mut weight, mut bias) = (self.weight.as_mut_slice(), self.bias.as_deref_mut());
        groups.map(|features| {
            let bias = bias.as_mut().and_then(|rest| rest.split_off_mut(..features));
            (weight.split_off_mut(..features * self.in_features).unwrap_or_default(), bias)
        })
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

/// Adds the sum of the rows of `[rows, d_bias.len()]` to `d_bias`.
///
/// Each element is summed on its own and in order, so that bits are the same however many workers share them.
fn sum_rows(rows: &[f32], d_bias: &mut [f32], num_workers: usize) {
    let num_features = d_bias.len();
    let sum_block = |(block, d_bias): (usize, &mut [f32])| {
        let mut sums = [0.0f64; BIAS_BLOCK];
        for row in rows.chunks_exact(num_features) {
            let row = &row[block * BIAS_BLOCK..];
            sums.iter_mut().zip(row).for_each(|(sum, &number)| *sum += f64::from(number));
        }
        d_bias.iter_mut().zip(sums).for_each(|(d_bias, sum)| *d_bias += sum as f32);
    };
    if num_workers > 1 {
        let blocks_each = num_features.div_ceil(BIAS_BLOCK).div_ceil(num_workers);
        d_bias.par_chunks_mut(BIAS_BLOCK).with_min_len(blocks_each).enumerate().for_each(sum_block);
    } else {
        d_bias.chunks_mut(BIAS_BLOCK).enumerate().for_each(sum_block);
    }
}

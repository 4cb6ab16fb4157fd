//! Normalisation of each row.

use rayon::prelude::*;

/// Rows that one task works on.
const ROWS: usize = 32;

/// A norm with trained weights `[model_dim]`.
#[derive(Debug)]
pub(crate) enum Norm {
    /// y = (x − mean) / √(variance + eps) · weight + bias (Ba et al. 2016, equation 3).
    Layer {
        /// `[model_dim]`.
        weight: Vec<f32>,
        /// `[model_dim]`.
        bias: Vec<f32>,
        /// Added to the variance.
        eps: f64,
    },
    /// y = x / √(mean of x² + eps) · weight (Zhang and Sennrich 2019, equation 4).
    RootMeanSquare {
        /// `[model_dim]`.
        weight: Vec<f32>,
        /// Added to the mean of the squares.
        eps: f64,
    },
}

impl Norm {
    /// Normalises every row of `[rows, model_dim]` in place, in the current rayon pool. Sums are in f64: they
    /// cost little here.
    pub(super) fn apply(&self, rows: &mut [f32]) {
        let model_dim = match self {
            Self::Layer { weight, .. } | Self::RootMeanSquare { weight, .. } => weight.len(),
        };
        rows.par_chunks_mut(ROWS * model_dim).for_each(|rows| {
            rows.chunks_exact_mut(model_dim).for_each(|row| self.apply_to_row(row));
        });
    }

    fn apply_to_row(&self, row: &mut [f32]) {
        match self {
            Self::Layer { weight, bias, eps } => {
                let mean = mean_of(row, |x| x);
                let variance = mean_of(row, |x| (x - mean).powi(2));
                let scale = 1.0 / (variance + eps).sqrt();
                for ((x, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
                    *x = ((f64::from(*x) - mean) * scale) as f32 * weight + bias;
                }
            }
            Self::RootMeanSquare { weight, eps } => {
                let scale = 1.0 / (mean_of(row, |x| x * x) + eps).sqrt();
                for (x, weight) in row.iter_mut().zip(weight) {
                    *x = (f64::from(*x) * scale) as f32 * weight;
                }
            }
        }
    }
}

fn mean_of(row: &[f32], term: impl Fn(f64) -> f64) -> f64 {
    row.iter().map(|&x| term(f64::from(x))).sum::<f64>() / row.len() as f64
}

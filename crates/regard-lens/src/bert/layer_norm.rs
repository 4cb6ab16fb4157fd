//! Layer normalisation.

use crate::error::LensError;
use crate::files::Weights;

/// y = (x − mean) / √(variance + eps) · weight + bias over each row (Ba et al. 2016, equation 3).
#[derive(Debug)]
pub(super) struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f64,
}

impl LayerNorm {
    /// `{name}.weight` and `{name}.bias`, both `[model_dim]`; old checkpoints call them gamma and beta.
    pub(super) fn load(
        weights: &mut Weights,
        name: &str,
        model_dim: usize,
        eps: f64,
    ) -> Result<Self, LensError> {
        let old = weights.has(&format!("{name}.gamma"));
        let (weight, bias) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        Ok(Self {
            weight: weights.read(&format!("{name}.{weight}"), &[model_dim])?,
            bias: weights.read(&format!("{name}.{bias}"), &[model_dim])?,
            eps,
        })
    }

    /// Normalises every row of `[rows, model_dim]` in place. Sums are in f64: they cost little here.
    pub(super) fn apply(&self, rows: &mut [f32]) {
        let model_dim = self.weight.len();
        for row in rows.chunks_exact_mut(model_dim) {
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / model_dim as f64;
            let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / model_dim as f64;
            let scale = 1.0 / (variance + self.eps).sqrt();
            for ((x, weight), bias) in row.iter_mut().zip(&self.weight).zip(&self.bias) {
                *x = ((f64::from(*x) - mean) * scale) as f32 * weight + bias;
            }
        }
    }
}

//! The feed-forward network of a block.

use regard::Parallelism;
use regard::layer::Linear;

use super::activation::Activation;
use super::zeros;
use crate::error::LensError;

/// down(activation(up(x))), or with a gate down(activation(gate(x)) · up(x)) (SwiGLU and its kin, Shazeer 2020,
/// equations 5 and 6).
#[derive(Debug)]
pub(crate) struct FeedForward {
    pub(crate) gate: Option<Linear>,
    pub(crate) up: Linear,
    pub(crate) activation: Activation,
    pub(crate) down: Linear,
}

impl FeedForward {
    /// `[rows, model_dim]` to the same size.
    pub(super) fn forward(&self, input: &[f32], parallelism: Parallelism) -> Result<Vec<f32>, LensError> {
        let rows = input.len() / self.up.in_features();
        let mut inner = zeros(rows.saturating_mul(self.up.out_features()))?;
        match &self.gate {
            None => {
                self.up.forward(input, &mut inner, parallelism)?;
                self.activation.apply(&mut inner);
            }
            Some(gate) => {
                gate.forward(input, &mut inner, parallelism)?;
                self.activation.apply(&mut inner);
                let mut up = zeros(inner.len())?;
                self.up.forward(input, &mut up, parallelism)?;
                inner.iter_mut().zip(&up).for_each(|(inner, up)| *inner *= up);
            }
        }
        let mut output = zeros(rows.saturating_mul(self.down.out_features()))?;
        self.down.forward(&inner, &mut output, parallelism)?;
        Ok(output)
    }
}

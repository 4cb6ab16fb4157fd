//! What a head does, and what a model loses without it.
//!
//! Attention shows where a head reads. It does not show why, nor whether the model uses what is read. Here is what
//! comes nearer to that:
//!
//! - [`explain`]: one row of one head, step by step from query·key to what the layer adds, in f64.
//! - [`ablate`]: the model run without a head, beside runs without other heads of the same layer.
//! - [`compare`]: one row of every head in two texts or two models.
//! - [`rollout`]: attention through all layers, multiplied.

mod ablation;
mod alignment;
mod comparison;
mod controls;
mod explain;
mod rollout;

pub use ablation::{Ablation, AblationRequest, Effect, MeasuredBy, Replacement, ablate};
pub use alignment::{AlignedUnit, Alignment, align};
pub use comparison::{Compared, Comparison, HeadDifference, compare};
pub use controls::random_controls;
pub use explain::{Explained, ExplainedKey, SeenKey, explain};
pub use rollout::{Rollout, rollout};

use crate::error::LensError;
use crate::observer::{AttentionObserver, LayerAttention};
use crate::view::Verification;

/// Only checks sampled rows of every layer.
#[derive(Default)]
struct Verifier(Verification);

impl AttentionObserver for Verifier {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        self.0.check(attention)
    }
}

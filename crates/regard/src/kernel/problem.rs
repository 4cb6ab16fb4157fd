//! What all workers of a call share: sizes, options, where data comes from and goes, and the scale.

use super::plan::Plan;
use super::rows::{RowSink, RowSource};
use crate::config::CheckedConfig;
use crate::shape::AttentionShape;

/// One forward call, as every worker sees it.
pub(super) struct Problem<'a> {
    pub(super) shape: &'a AttentionShape,
    pub(super) config: &'a CheckedConfig<'a>,
    pub(super) plan: &'a Plan,
    pub(super) query: &'a dyn RowSource,
    pub(super) key: &'a dyn RowSource,
    pub(super) value: &'a dyn RowSource,
    pub(super) sink: &'a dyn RowSink,
    pub(super) scale: ScaleParts,
}

/// A scale in two parts, such that neither product overflows before the score itself would.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ScaleParts {
    /// Multiplies queries as they are read: 0, or a power of two with the scale's sign, so exact. A scale below
    /// 1 puts its power of two here, one above 1 leaves queries alone.
    pub(super) query: f32,
    /// Multiplies scores: the rest, times log₂e unless a cap or a bias is still to come (`RowMask::apply`).
    pub(super) score: f32,
}

impl ScaleParts {
    pub(super) fn new(config: &CheckedConfig<'_>) -> Self {
        let scale = f64::from(config.scale);
        if scale == 0.0 {
            return Self { query: 0.0, score: 0.0 };
        }
        let exponent = scale.abs().log2().floor();
        // Past 2^126 the rest, times log₂e, would not fit f32: the queries take a factor of two.
        let power = if exponent > 126.0 { 2.0 } else { exponent.clamp(-149.0, 0.0).exp2() };
        let natural = config.softcap.is_some() || config.has_bias();
        let unit = if natural { 1.0 } else { std::f64::consts::LOG2_E };
        Self { query: (power as f32).copysign(config.scale), score: (scale.abs() / power * unit) as f32 }
    }
}

/// A scale in two parts for gradients, about as large as each other, such that neither a sum of score gradients
/// times inputs nor its product with the rest overflows before the gradient itself would.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct GradientScale {
    /// Multiplies score gradients: a power of two, so exact; 0 if the scale is.
    pub(super) score: f32,
    /// Multiplies sums: the rest, with the sign.
    pub(super) sum: f32,
}

impl GradientScale {
    pub(super) fn new(scale: f32) -> Self {
        if scale == 0.0 {
            return Self { score: 0.0, sum: 1.0 };
        }
        let power = (f64::from(scale.abs()).log2() / 2.0).floor().exp2();
        Self { score: power as f32, sum: (f64::from(scale) / power) as f32 }
    }
}

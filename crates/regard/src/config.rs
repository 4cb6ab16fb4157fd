//! The optional part of an attention call.

use crate::error::AttentionError;
use crate::kernel::Isa;
use crate::mask::{CheckedMask, Mask};
use crate::parallelism::Parallelism;
use crate::shape::AttentionShape;
use crate::view::TensorView;

/// Options of an attention call; the default is plain attention with scale 1/√head_dim.
///
/// scores = softmax_scale · query·key, + attention_bias, then the mask, then softmax.
///
/// ```
/// use regard::{AttentionConfig, Mask, QueryPosition};
/// let config = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::TopLeft));
/// assert!(config.softmax_scale.is_none());
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct AttentionConfig<'a> {
    /// Which keys each query may attend to.
    pub mask: Mask<'a>,
    /// Added to the scaled scores; may hold −∞, which forbids a key as the mask does. Use −∞ for that, and not
    /// `f32::MIN`, which is a number: a row of it alone is beyond what f32 scores can hold.
    /// Shape `[batch_size, num_heads, seq_len_q, seq_len_kv]`; axes of size 1 are repeated.
    pub attention_bias: Option<TensorView<'a, f32>>,
    /// Multiplies query·key; any finite number. `None` is 1/√head_dim.
    pub softmax_scale: Option<f32>,
    /// How many threads may work.
    pub parallelism: Parallelism,
    /// Forces one instruction set; `None` takes `REGARD_ISA`, else the best there is.
    pub isa: Option<Isa>,
}

impl<'a> AttentionConfig<'a> {
    /// Plain attention: no mask, no bias, scale 1/√head_dim.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the mask.
    pub fn with_mask(self, mask: Mask<'a>) -> Self {
        Self { mask, ..self }
    }

    /// Sets the additive bias.
    pub fn with_attention_bias(self, attention_bias: TensorView<'a, f32>) -> Self {
        Self { attention_bias: Some(attention_bias), ..self }
    }

    /// Sets the scale of the scores.
    pub fn with_softmax_scale(self, softmax_scale: f32) -> Self {
        Self { softmax_scale: Some(softmax_scale), ..self }
    }

    /// Sets how many threads may work.
    pub fn with_parallelism(self, parallelism: Parallelism) -> Self {
        Self { parallelism, ..self }
    }

    /// Forces one instruction set.
    pub fn with_isa(self, isa: Isa) -> Self {
        Self { isa: Some(isa), ..self }
    }

    pub(crate) fn check(&self, shape: &AttentionShape) -> Result<CheckedConfig<'a>, AttentionError> {
        let scale = self.softmax_scale.unwrap_or_else(|| default_scale(shape.head_dim));
        if !scale.is_finite() {
            return Err(AttentionError::InvalidNumber { what: "softmax_scale", found: scale });
        }
        let axes = [
            "attention_bias.batch_size",
            "attention_bias.num_heads",
            "attention_bias.seq_len_q",
            "attention_bias.seq_len_kv",
        ];
        let bias = self.attention_bias.map(|bias| bias.broadcast_to(shape.scores(), axes)).transpose()?;
        Ok(CheckedConfig { mask: CheckedMask::new(&self.mask, shape)?, bias, scale })
    }
}

pub(crate) fn default_scale(head_dim: usize) -> f32 {
    (1.0 / (head_dim as f64).sqrt()) as f32
}

/// Options checked against a shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckedConfig<'a> {
    pub(crate) mask: CheckedMask<'a>,
    pub(crate) bias: Option<TensorView<'a, f32>>,
    pub(crate) scale: f32,
}

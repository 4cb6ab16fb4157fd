//! Rotary positions as a `config.json` describes them.

use regard::position::{Llama3Scaling, RotaryPairs, RotaryPositions, RotaryScaling, YarnScaling};
use serde::Deserialize;

use super::fields::Fields;
use crate::error::LensError;
use crate::transformer::Rotary;

/// `rope_parameters`, or in older files `rope_scaling`.
#[derive(Deserialize, Default)]
pub(super) struct RopeFile {
    rope_type: Option<String>,
    /// The oldest name of `rope_type`.
    #[serde(rename = "type")]
    old_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    original_max_position_embeddings: Option<u64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    truncate: Option<bool>,
    attention_factor: Option<f64>,
    partial_rotary_factor: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
}

/// How a model's queries and keys are turned.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rope {
    pub(super) base: f64,
    pub(super) pairs: RotaryPairs,
    /// Dynamic NTK scaling has the length 0 here: it is known when a text is.
    pub(super) scaling: RotaryScaling,
}

/// Hugging Face's default base.
const BASE: f64 = 10_000.0;

impl RopeFile {
    /// The rotation and the longest text; `theta` is the base where the file has it outside of these fields.
    pub(super) fn check(
        &self,
        fields: Fields<'_>,
        theta: Option<f64>,
        max_positions: usize,
    ) -> Result<(Rope, usize), LensError> {
        let name = self.rope_type.as_deref().or(self.old_type.as_deref()).unwrap_or("default");
        if self.partial_rotary_factor.is_some_and(|factor| factor != 1.0) {
            let found = self.partial_rotary_factor.unwrap_or_default();
            return Err(fields.refuse("rope_parameters.partial_rotary_factor", "1", found));
        }
        if self.mscale.or(self.mscale_all_dim).is_some() {
            return Err(fields.refuse("rope_parameters.mscale", "none", "a number"));
        }
        let original = match self.original_max_position_embeddings {
            Some(original) => {
                fields.size("rope_parameters.original_max_position_embeddings", original, 1..=1 << 24)?
            }
            None => max_positions,
        };
        let factor =
            || self.factor.ok_or_else(|| fields.refuse("rope_parameters.factor", "a number", "none"));
        let mut max_tokens = max_positions;
        let scaling = match name {
            "default" => RotaryScaling::None,
            "linear" => RotaryScaling::Linear { factor: factor()? },
            "dynamic" => {
                let factor = factor()?;
                // Frequencies stretch with the text, so positions end where the factor promises.
                max_tokens =
                    ((max_positions as f64 * factor.max(1.0)) as usize).clamp(max_positions, 1 << 24);
                RotaryScaling::DynamicNtk { factor, original_max_positions: max_positions, seq_len: 0 }
            }
            "yarn" => {
                let plain = YarnScaling::new(factor()?, original);
                RotaryScaling::Yarn(YarnScaling {
                    beta_fast: self.beta_fast.unwrap_or(plain.beta_fast),
                    beta_slow: self.beta_slow.unwrap_or(plain.beta_slow),
                    truncate: self.truncate.unwrap_or(plain.truncate),
                    attention_factor: self.attention_factor,
                    ..plain
                })
            }
            "llama3" => {
                let plain = Llama3Scaling::new(factor()?, original);
                RotaryScaling::Llama3(Llama3Scaling {
                    low_frequency_factor: self.low_freq_factor.unwrap_or(plain.low_frequency_factor),
                    high_frequency_factor: self.high_freq_factor.unwrap_or(plain.high_frequency_factor),
                    ..plain
                })
            }
            other => {
                let expected = "\"default\", \"linear\", \"dynamic\", \"yarn\" or \"llama3\"";
                return Err(fields.refuse("rope_parameters.rope_type", expected, format!("{other:?}")));
            }
        };
        let base = self.rope_theta.or(theta).unwrap_or(BASE);
        Ok((Rope { base, pairs: RotaryPairs::HalfSplit, scaling }, max_tokens))
    }
}

impl Rope {
    /// The rotations for heads of a size.
    pub(super) fn rotary(&self, head_dim: usize) -> Result<Rotary, LensError> {
        let plain = RotaryPositions::new(head_dim, head_dim, self.base as f32, self.pairs)?;
        Ok(Rotary {
            dynamic: match self.scaling {
                RotaryScaling::DynamicNtk { factor, original_max_positions, .. } => {
                    Some((factor, original_max_positions))
                }
                _ => None,
            },
            positions: plain.with_scaling(self.scaling)?,
        })
    }
}

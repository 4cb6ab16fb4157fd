//! Rotary positions of a whole model.

use std::borrow::Cow;

use regard::position::{RotaryPositions, RotaryScaling};

use crate::error::LensError;

/// Rotations whose frequencies may depend on how long the text is.
#[derive(Debug)]
pub(crate) struct Rotary {
    pub(crate) positions: RotaryPositions,
    /// Dynamic NTK scaling: the factor, and the positions that the model was trained on.
    pub(crate) dynamic: Option<(f64, usize)>,
}

impl Rotary {
    /// The rotations for a text of so many tokens.
    pub(super) fn for_len(&self, seq_len: usize) -> Result<Cow<'_, RotaryPositions>, LensError> {
        let Some((factor, original_max_positions)) = self.dynamic else {
            return Ok(Cow::Borrowed(&self.positions));
        };
        let scaling = RotaryScaling::DynamicNtk { factor, original_max_positions, seq_len };
        Ok(Cow::Owned(self.positions.clone().with_scaling(scaling)?))
    }
}

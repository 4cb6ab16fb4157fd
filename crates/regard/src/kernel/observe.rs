//! What may look at the probabilities of a forward call while they pass by.
//!
//! The observer is a type: a call without one is compiled as if there were no such thing.

use pulp::Simd;

use super::online_softmax::RowState;
use super::plan::{Merge, Piece};
use super::problem::Problem;
use super::row_mask::RowMask;

/// An observer of a whole call.
pub(super) trait Observe: Sync {
    /// What one worker keeps.
    type Watch<'w>: Watch
    where
        Self: 'w;

    /// One worker's part of it, for one phase.
    fn watch(&self) -> Self::Watch<'_>;

    /// Puts together rows whose keys were split.
    fn merge(&self, problem: &Problem<'_>, job: &Merge);
}

/// What one worker sees: piece by piece, in a piece block by block of keys, in a block strip by strip of rows.
pub(super) trait Watch {
    /// A piece begins, with these rows.
    fn begin(&mut self, problem: &Problem<'_>, masks: &[RowMask]);

    /// The scores of a strip, in units of log₂, before they become exponentials in the same place.
    fn scores<S: Simd>(&mut self, simd: S, strip: &StripColumns<'_>, scores: &[f32]);

    /// The exponentials of the strip's scores, measured from the maxima in `states`, not yet dropped.
    fn probs<S: Simd>(&mut self, simd: S, strip: &StripColumns<'_>, probs: &[f32], states: &[RowState]);

    /// All keys of the piece have been seen.
    fn finish(&mut self, problem: &Problem<'_>, piece: &Piece, masks: &[RowMask]);
}

/// Some rows against some columns of one block of keys. Row r of the numbers starts at `r·BLOCK_KV`.
pub(super) struct StripColumns<'a> {
    pub(super) masks: &'a [RowMask],
    /// The strip's first row, counted in the piece.
    pub(super) first_row: usize,
    /// The key of column 0.
    pub(super) first_key: usize,
    /// Columns that are valid, whole vectors.
    pub(super) columns: (usize, usize),
}

/// Nobody looks.
pub(super) struct Unobserved;

impl Observe for Unobserved {
    type Watch<'w> = Self;

    fn watch(&self) -> Self {
        Self
    }

    fn merge(&self, _: &Problem<'_>, _: &Merge) {}
}

impl Watch for Unobserved {
    #[inline(always)]
    fn begin(&mut self, _: &Problem<'_>, _: &[RowMask]) {}

    #[inline(always)]
    fn scores<S: Simd>(&mut self, _: S, _: &StripColumns<'_>, _: &[f32]) {}

    #[inline(always)]
    fn probs<S: Simd>(&mut self, _: S, _: &StripColumns<'_>, _: &[f32], _: &[RowState]) {}

    #[inline(always)]
    fn finish(&mut self, _: &Problem<'_>, _: &Piece, _: &[RowMask]) {}
}

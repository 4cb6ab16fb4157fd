//! The softmax of a row whose scores arrive block by block (Milakov and Gimelshein 2018; FlashAttention).
//!
//! A row keeps the largest score so far m, the sum ℓ of 2^(s − m), and the output accumulated with the same
//! factors. A block with a larger score rescales what is there by 2^(m_old − m_new). Scores carry log₂e.

use pulp::Simd;

use super::exp::exp2_nonpositive;
use super::plan::{BLOCK_KV, MAX_TILE_ROWS};
use super::tile::{load, store};

/// Running maximum and sum of one attention row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RowState {
    /// The largest score so far, times log₂e; −∞ if none is larger.
    pub(super) max: f32,
    /// Σ 2^(score − max) so far.
    pub(super) sum: f32,
}

impl RowState {
    pub(super) const EMPTY: Self = Self { max: f32::NEG_INFINITY, sum: 0.0 };

    /// What scores are measured from: the maximum, or 0 while nothing has a weight (never −∞ − −∞).
    pub(super) fn base(self) -> f32 {
        if self.max == f32::NEG_INFINITY { 0.0 } else { self.max }
    }

    /// The natural log of Σ e^score, for a row with at least one allowed key.
    pub(super) fn log_sum_exp(self) -> f32 {
        if self.sum == 0.0 {
            return f32::NAN; // every allowed score is −∞
        }
        (f64::from(self.max) * std::f64::consts::LN_2 + f64::from(self.sum).ln()) as f32
    }
}

/// Turns the scores of up to `MAX_TILE_ROWS` rows in columns `from..to` into exponentials, in place, and brings
/// `states` up to date. Returns what each row's earlier output must be multiplied with.
///
/// Row r starts at `r·BLOCK_KV`; `from` and `to` are multiples of two vectors, so that the order of the
/// additions depends on the columns alone.
#[inline(always)]
pub(super) fn absorb_block<S: Simd>(
    simd: S,
    scores: &mut [f32],
    (from, to): (usize, usize),
    states: &mut [RowState],
) -> [f32; MAX_TILE_ROWS] {
    let lanes = S::F32_LANES;
    assert!(from.is_multiple_of(2 * lanes) && to.is_multiple_of(2 * lanes) && to <= BLOCK_KV);
    assert!(states.len() <= MAX_TILE_ROWS && scores.len() >= states.len() * BLOCK_KV);
    let mut rescale = [f32::NEG_INFINITY; MAX_TILE_ROWS];
    let mut block_sums = [0.0f32; MAX_TILE_ROWS];
    for (r, state) in states.iter_mut().enumerate() {
        let row = scores[r * BLOCK_KV..(r + 1) * BLOCK_KV].as_mut_ptr();
        let mut max = [simd.splat_f32s(f32::NEG_INFINITY); 2];
        for column in (from..to).step_by(2 * lanes) {
            // SAFETY: column + 2·lanes ≤ to ≤ BLOCK_KV, the length of the row.
            let scores = unsafe { [load(simd, row.add(column)), load(simd, row.add(column + lanes))] };
            max = [simd.max_f32s(max[0], scores[0]), simd.max_f32s(max[1], scores[1])];
        }
        let block_max = simd.reduce_max_f32s(simd.max_f32s(max[0], max[1]));
        let old_max = state.max;
        // A NaN score may or may not win here; its exponential is NaN either way.
        if block_max > old_max || block_max.is_nan() {
            state.max = block_max;
        }
        rescale[r] = old_max - state.base();
        let base = simd.splat_f32s(state.base());
        let mut sums = [simd.splat_f32s(0.0); 2];
        for column in (from..to).step_by(2 * lanes) {
            for (half, sum) in sums.iter_mut().enumerate() {
                // SAFETY: column + half·lanes + lanes ≤ to ≤ BLOCK_KV, the length of the row.
                unsafe {
                    let at = row.add(column + half * lanes);
                    let prob = exp2_nonpositive(simd, simd.sub_f32s(load(simd, at), base));
                    store(simd, at, prob);
                    *sum = simd.add_f32s(*sum, prob);
                }
            }
        }
        block_sums[r] = simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1]));
    }
    for at in (0..MAX_TILE_ROWS).step_by(lanes) {
        // SAFETY: `lanes` divides MAX_TILE_ROWS (checked in plan.rs), so at + lanes stays inside.
        unsafe {
            let at = rescale.as_mut_ptr().add(at);
            store(simd, at, exp2_nonpositive(simd, load(simd, at)));
        }
    }
    for ((state, rescale), block_sum) in states.iter_mut().zip(rescale).zip(block_sums) {
        state.sum = state.sum * rescale + block_sum;
    }
    rescale
}

/// The parts of one row, computed over different keys, as one: weights 2^(m − max) of each part, and the
/// state of the whole. Added in the order given.
#[inline(always)]
pub(super) fn merge<S: Simd>(simd: S, parts: &[RowState], weights: &mut [f32]) -> RowState {
    let mut whole = RowState::EMPTY;
    for part in parts {
        if part.max > whole.max || part.max.is_nan() {
            whole.max = part.max;
        }
    }
    for (part, weight) in parts.iter().zip(weights) {
        let power = exp2_nonpositive(simd, simd.splat_f32s(part.max - whole.base()));
        *weight = simd.reduce_max_f32s(power);
        whole.sum += *weight * part.sum;
    }
    whole
}

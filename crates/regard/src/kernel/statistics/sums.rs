//! Sums over the columns of one row of a block.

use std::ops::Range;

use pulp::Simd;

use super::super::exp::LOWEST;
use super::super::plan::BLOCK_KV;
use super::super::tile::{load, store};

/// What a row's whole block adds up to: w = 2^x, x = score − base.
pub(super) struct BlockSums {
    /// Σ w.
    pub(super) sum: f32,
    /// Σ w·x.
    pub(super) energy: f32,
    /// Σ w·|column − origin|.
    pub(super) distance: f32,
    /// The largest score.
    pub(super) max: f32,
}

const COLUMNS: [f32; BLOCK_KV] = {
    let mut columns = [0.0; BLOCK_KV];
    let mut column = 0;
    while column < BLOCK_KV {
        columns[column] = column as f32;
        column += 1;
    }
    columns
};

/// Sums over columns `from..to`, whole pairs of vectors, of one row; distances from column `origin`.
#[inline(always)]
pub(super) fn block_sums<S: Simd>(
    simd: S,
    (scores, probs): (&[f32], &[f32]),
    (from, to): (usize, usize),
    (base, origin): (f32, f32),
) -> BlockSums {
    let lanes = S::F32_LANES;
    assert!(scores.len() >= to && probs.len() >= to && to <= BLOCK_KV);
    assert!(from.is_multiple_of(2 * lanes) && to.is_multiple_of(2 * lanes));
    let zero = simd.splat_f32s(0.0);
    let (base, lowest) = (simd.splat_f32s(base), simd.splat_f32s(LOWEST));
    let origin = simd.splat_f32s(origin);
    let (mut sum, mut energy, mut distance) = ([zero; 2], [zero; 2], [zero; 2]);
    let mut max = [simd.splat_f32s(f32::NEG_INFINITY); 2];
    for column in (from..to).step_by(2 * lanes) {
        for half in 0..2 {
            // SAFETY: column + half·lanes + lanes ≤ to, the length of scores, probs and columns at most.
            let (score, w, place) = unsafe {
                let at = column + half * lanes;
                (
                    load(simd, scores.as_ptr().add(at)),
                    load(simd, probs.as_ptr().add(at)),
                    load(simd, COLUMNS.as_ptr().add(at)),
                )
            };
            max[half] = simd.max_f32s(max[half], score);
            // Where w is 0, x may be −∞; any finite number does.
            let x = simd.sub_f32s(score, base);
            let x = simd.select_f32s(simd.less_than_f32s(x, lowest), lowest, x);
            sum[half] = simd.add_f32s(sum[half], w);
            energy[half] = simd.mul_add_e_f32s(w, x, energy[half]);
            let away = simd.abs_f32s(simd.sub_f32s(place, origin));
            distance[half] = simd.mul_add_e_f32s(w, away, distance[half]);
        }
    }
    BlockSums {
        sum: simd.reduce_sum_f32s(simd.add_f32s(sum[0], sum[1])),
        energy: simd.reduce_sum_f32s(simd.add_f32s(energy[0], energy[1])),
        distance: simd.reduce_sum_f32s(simd.add_f32s(distance[0], distance[1])),
        max: simd.reduce_max_f32s(simd.max_f32s(max[0], max[1])),
    }
}

/// The sum of columns `between` of one row, of which `valid` are whole vectors.
#[inline(always)]
pub(super) fn sum_between<S: Simd>(
    simd: S,
    numbers: &[f32],
    valid: &Range<usize>,
    between: Range<usize>,
) -> f32 {
    let lanes = S::F32_LANES;
    assert!(numbers.len() >= valid.end && valid.end <= BLOCK_KV);
    assert!(valid.start.is_multiple_of(lanes) && valid.end.is_multiple_of(lanes));
    let zero = simd.splat_f32s(0.0);
    let (start, end) = (simd.splat_f32s(between.start as f32), simd.splat_f32s(between.end as f32));
    let mut sum = zero;
    let first = valid.start.max(between.start / lanes * lanes);
    for column in (first..valid.end.min(between.end)).step_by(lanes) {
        // SAFETY: column + lanes ≤ valid.end, the length of numbers and columns at most; all are whole vectors.
        let (number, place) =
            unsafe { (load(simd, numbers.as_ptr().add(column)), load(simd, COLUMNS.as_ptr().add(column))) };
        let number = simd.select_f32s(simd.less_than_f32s(place, start), zero, number);
        sum = simd.add_f32s(sum, simd.select_f32s(simd.less_than_f32s(place, end), number, zero));
    }
    simd.reduce_sum_f32s(sum)
}

/// The sum of the numbers in columns `valid`, whole vectors, whose key is in the set of `bit`.
#[inline(always)]
pub(super) fn member_sum<S: Simd>(
    simd: S,
    numbers: &[f32],
    members: &[u32],
    valid: &Range<usize>,
    bit: u32,
) -> f32 {
    let lanes = S::F32_LANES;
    assert!(numbers.len() >= valid.end && members.len() >= valid.end);
    assert!(valid.start.is_multiple_of(lanes) && valid.end.is_multiple_of(lanes));
    let (zero, bit) = (simd.splat_f32s(0.0), simd.splat_u32s(bit));
    let mut sum = zero;
    for column in valid.clone().step_by(lanes) {
        // SAFETY: column + lanes ≤ valid.end, the length of both at most; every bit pattern is a valid u32.
        let (number, member) = unsafe {
            let member = members.as_ptr().add(column).cast::<S::u32s>();
            (load(simd, numbers.as_ptr().add(column)), member.read_unaligned())
        };
        let inside = simd.equal_u32s(simd.and_u32s(member, bit), bit);
        sum = simd.add_f32s(sum, simd.select_f32s(inside, number, zero));
    }
    simd.reduce_sum_f32s(sum)
}

/// The first vector of columns at `from` or later, of whole vectors up to `to`, that has a number above `limit`; `to` if
/// there is none.
#[inline(always)]
pub(super) fn first_above<S: Simd>(
    simd: S,
    numbers: &[f32],
    (from, to): (usize, usize),
    limit: f32,
) -> usize {
    let lanes = S::F32_LANES;
    assert!(numbers.len() >= to && from.is_multiple_of(lanes) && to.is_multiple_of(lanes));
    let limit = simd.splat_f32s(limit);
    let mut column = from;
    while column < to {
        // SAFETY: column + lanes ≤ to, the length of the numbers at most.
        let number = unsafe { load(simd, numbers.as_ptr().add(column)) };
        if simd.first_true_m32s(simd.greater_than_f32s(number, limit)) < lanes {
            break;
        }
        column += lanes;
    }
    column
}

/// Copies columns `from..to`, whole vectors.
#[inline(always)]
pub(super) fn copy<S: Simd>(simd: S, source: &[f32], target: &mut [f32], (from, to): (usize, usize)) {
    let lanes = S::F32_LANES;
    assert!(source.len() >= to && target.len() >= to);
    assert!(from.is_multiple_of(lanes) && to.is_multiple_of(lanes));
    for column in (from..to).step_by(lanes) {
        // SAFETY: column + lanes ≤ to, the length of both at most.
        unsafe { store(simd, target.as_mut_ptr().add(column), load(simd, source.as_ptr().add(column))) };
    }
}

//! Sums over the columns of one row of a block.

use std::ops::Range;

use pulp::Simd;

use super::super::exp::LOWEST;
use super::super::plan::BLOCK_KV;
use super::super::tile::load;

/// What a row's whole block adds up to: w = 2^x, x = score − base.
pub(super) struct BlockSums {
    /// Σ w.
    pub(super) sum: f32,
    /// Σ w·x.
    pub(super) energy: f32,
    /// Σ w·column.
    pub(super) moment: f32,
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

/// Sums over columns `from..to`, whole pairs of vectors, of one row.
#[inline(always)]
pub(super) fn block_sums<S: Simd>(
    simd: S,
    (scores, probs): (&[f32], &[f32]),
    (from, to): (usize, usize),
    base: f32,
) -> BlockSums {
    let lanes = S::F32_LANES;
    assert!(scores.len() >= to && probs.len() >= to && to <= BLOCK_KV);
    assert!(from.is_multiple_of(2 * lanes) && to.is_multiple_of(2 * lanes));
    let zero = simd.splat_f32s(0.0);
    let (base, lowest) = (simd.splat_f32s(base), simd.splat_f32s(LOWEST));
    let (mut sum, mut energy, mut moment) = ([zero; 2], [zero; 2], [zero; 2]);
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
            moment[half] = simd.mul_add_e_f32s(w, place, moment[half]);
        }
    }
    BlockSums {
        sum: simd.reduce_sum_f32s(simd.add_f32s(sum[0], sum[1])),
        energy: simd.reduce_sum_f32s(simd.add_f32s(energy[0], energy[1])),
        moment: simd.reduce_sum_f32s(simd.add_f32s(moment[0], moment[1])),
        max: simd.reduce_max_f32s(simd.max_f32s(max[0], max[1])),
    }
}

/// Numbers that are summed side by side, so that it vectorises.
const SIDE_BY_SIDE: usize = 16;

#[inline(always)]
pub(super) fn sum(numbers: &[f32]) -> f32 {
    let mut sums = [0.0f32; SIDE_BY_SIDE];
    let mut chunks = numbers.chunks_exact(SIDE_BY_SIDE);
    for chunk in &mut chunks {
        for (sum, number) in sums.iter_mut().zip(chunk) {
            *sum += number;
        }
    }
    let mut total = 0.0;
    for number in chunks.remainder() {
        total += number;
    }
    total + tree_sum(sums)
}

/// The sum of the numbers whose key is in the set of `bit`.
#[inline(always)]
pub(super) fn masked_sum(numbers: &[f32], members: &[u32], bit: u32) -> f32 {
    let mut sums = [0.0f32; SIDE_BY_SIDE];
    let (mut numbers, mut members) = (numbers.chunks_exact(SIDE_BY_SIDE), members.chunks_exact(SIDE_BY_SIDE));
    for (numbers, members) in (&mut numbers).zip(&mut members) {
        for ((sum, number), member) in sums.iter_mut().zip(numbers).zip(members) {
            *sum += if member & bit != 0 { *number } else { 0.0 };
        }
    }
    let mut total = 0.0;
    for (number, member) in numbers.remainder().iter().zip(members.remainder()) {
        total += if member & bit != 0 { *number } else { 0.0 };
    }
    total + tree_sum(sums)
}

#[inline(always)]
fn tree_sum(mut sums: [f32; SIDE_BY_SIDE]) -> f32 {
    let mut half = SIDE_BY_SIDE / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

/// Σ w·|column − own| of a block that has the own column inside.
#[inline(always)]
pub(super) fn moment_beyond(probs: &[f32], columns: &Range<usize>, own: usize) -> f64 {
    let own = own as f32;
    let mut sums = [0.0f32; SIDE_BY_SIDE];
    for column in columns.clone() {
        sums[column % SIDE_BY_SIDE] += probs[column] * (column as f32 - own).abs();
    }
    f64::from(tree_sum(sums))
}

//! The two register-tiled matrix products of attention, `MR` rows × 2 vectors at a time.
//!
//! Both add in one fixed order: over `head_dim` for scores, over keys for values. So the bits of a row do not
//! depend on which rows share its tile.

use pulp::Simd;

use super::rows::Rows;

/// Reads one vector.
///
/// # Safety
/// `source` is valid for reading one vector of f32; it need not be aligned.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(_: S, source: *const f32) -> S::f32s {
    // SAFETY: the caller's promise; every bit pattern is a valid f32.
    unsafe { source.cast::<S::f32s>().read_unaligned() }
}

/// Writes one vector.
///
/// # Safety
/// `target` is valid for writing one vector of f32; it need not be aligned.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(_: S, target: *mut f32, vector: S::f32s) {
    // SAFETY: the caller's promise.
    unsafe { target.cast::<S::f32s>().write_unaligned(vector) }
}

/// Adjacent elements of one query in a strip: one cache line, so that all rows of a tile are read at constant
/// distances from one pointer, and a query is packed by copying.
pub(super) const CHUNK: usize = 16;

/// Scores of `MR` query rows against one panel of keys: `scores[r][j] = factor · Σ_c q[r][c]·k[c][j]`.
///
/// `q` is `[chunk][MR][CHUNK]`, `k` is `[head_dim][2 vectors]`; row r of the scores starts at `r·STRIDE`.
#[inline(always)]
pub(super) fn score_tile<S: Simd, const MR: usize, const STRIDE: usize>(
    simd: S,
    (q, head_dim): (&[f32], usize),
    k: &[f32],
    factor: f32,
    scores: &mut [f32],
) {
    let (lanes, width) = (S::F32_LANES, 2 * S::F32_LANES);
    assert!(q.len() >= head_dim.next_multiple_of(CHUNK) * MR);
    assert!(k.len() >= head_dim * width && scores.len() >= (MR - 1) * STRIDE + width);
    let mut sums = [[simd.splat_f32s(0.0); 2]; MR];
    let (mut q, mut k) = (q.as_ptr(), k.as_ptr());
    let mut rest = head_dim;
    while rest > 0 {
        let steps = rest.min(CHUNK);
        for c in 0..steps {
            // SAFETY: `q` has MR·CHUNK elements for every chunk begun and `k` at least `head_dim · width`
            // (asserted); element c < CHUNK of row r < MR of a chunk is r·CHUNK + c, and `k` has gone on by
            // `width` for each of the fewer than `head_dim` elements before.
            unsafe {
                let keys = [load(simd, k), load(simd, k.add(lanes))];
                for (r, sums) in sums.iter_mut().enumerate() {
                    let query = simd.splat_f32s(*q.add(r * CHUNK + c));
                    sums[0] = simd.mul_add_e_f32s(query, keys[0], sums[0]);
                    sums[1] = simd.mul_add_e_f32s(query, keys[1], sums[1]);
                }
                k = k.add(width);
            }
        }
        // SAFETY: the end of the strip at most.
        q = unsafe { q.add(MR * CHUNK) };
        rest -= steps;
    }
    let factor = simd.splat_f32s(factor);
    let scores = scores.as_mut_ptr();
    for (r, sums) in sums.into_iter().enumerate() {
        // SAFETY: row r ≤ MR − 1 writes `width` elements from r·STRIDE, inside `scores` (asserted).
        unsafe {
            store(simd, scores.add(r * STRIDE), simd.mul_f32s(sums[0], factor));
            store(simd, scores.add(r * STRIDE + lanes), simd.mul_f32s(sums[1], factor));
        }
    }
}

/// Adds weighted values to `MR` output rows: `o[r] = rescale[r]·o[r] + Σ_j probs[r][j]·v[j]` for
/// `num_keys` keys and `columns` columns, a multiple of the vector length.
///
/// Probability (r, j) is element `r·ROW + j·STEP`: `ROW` 1 reads them transposed. Row r of the output starts at
/// `r·columns`.
#[inline(always)]
pub(super) fn value_tile<S: Simd, const MR: usize, const ROW: usize, const STEP: usize>(
    simd: S,
    probs: &[f32],
    (values, num_keys): (Rows<'_>, usize),
    rescale: &[f32],
    (output, columns): (&mut [f32], usize),
) {
    let lanes = S::F32_LANES;
    if num_keys == 0 || columns == 0 {
        return;
    }
    assert!(columns.is_multiple_of(lanes) && output.len() >= MR * columns && rescale.len() >= MR);
    assert!(probs.len() > (MR - 1) * ROW + (num_keys - 1) * STEP);
    assert!(values.data.len() >= (num_keys - 1) * values.stride + columns);
    let mut column = 0;
    while column + 2 * lanes <= columns {
        // SAFETY: the assertions above bound every row; columns column .. column + 2·lanes are within them.
        unsafe {
            value_columns::<S, MR, 2, ROW, STEP>(
                simd,
                probs,
                (values, num_keys),
                rescale,
                (&mut *output, columns, column),
            );
        }
        column += 2 * lanes;
    }
    if column < columns {
        // SAFETY: as above, for column .. column + lanes = columns.
        unsafe {
            value_columns::<S, MR, 1, ROW, STEP>(
                simd,
                probs,
                (values, num_keys),
                rescale,
                (&mut *output, columns, column),
            );
        }
    }
}

/// `value_tile` for `NV` vectors of columns from `column` on.
///
/// # Safety
/// The assertions of `value_tile` hold, and `column + NV · lanes ≤ columns`.
#[inline(always)]
unsafe fn value_columns<S: Simd, const MR: usize, const NV: usize, const ROW: usize, const STEP: usize>(
    simd: S,
    probs: &[f32],
    (values, num_keys): (Rows<'_>, usize),
    rescale: &[f32],
    (output, columns, column): (&mut [f32], usize, usize),
) {
    let lanes = S::F32_LANES;
    let output = output.as_mut_ptr();
    let mut sums = [[simd.splat_f32s(0.0); NV]; MR];
    for (r, sums) in sums.iter_mut().enumerate() {
        for (n, sum) in sums.iter_mut().enumerate() {
            // SAFETY: row r < MR and column + n·lanes + lanes ≤ columns are inside MR·columns elements.
            let old = unsafe { load(simd, output.add(r * columns + column + n * lanes)) };
            *sum = simd.mul_f32s(old, simd.splat_f32s(rescale[r]));
        }
    }
    let mut v = values.data.as_ptr().wrapping_add(column);
    let mut p = probs.as_ptr();
    for _ in 0..num_keys {
        let mut value = [simd.splat_f32s(0.0); NV];
        for (n, value) in value.iter_mut().enumerate() {
            // SAFETY: key j < num_keys reads columns column + n·lanes .. + lanes of row j, which has at least
            // `columns` elements.
            *value = unsafe { load(simd, v.add(n * lanes)) };
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: element r·ROW + j·STEP of the probabilities, r < MR, j < num_keys.
            let prob = simd.splat_f32s(unsafe { *p.add(r * ROW) });
            for (sum, value) in sums.iter_mut().zip(value) {
                *sum = simd.mul_add_e_f32s(prob, value, *sum);
            }
        }
        // The last step may leave the slice; the pointers are then not read again.
        v = v.wrapping_add(values.stride);
        p = p.wrapping_add(STEP);
    }
    for (r, sums) in sums.into_iter().enumerate() {
        for (n, sum) in sums.into_iter().enumerate() {
            // SAFETY: as for the load above.
            unsafe { store(simd, output.add(r * columns + column + n * lanes), sum) };
        }
    }
}

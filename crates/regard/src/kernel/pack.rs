//! Keys in panels, values in padded rows, queries in strips: the orders in which the register tiles read them.

use pulp::Simd;

use super::rows::RowSource;
use super::tile::{load, store};

/// Keys that are transposed together.
pub(super) const PACK_ROWS: usize = 4;

/// Adjacent elements of one query in a strip.
const CHUNK: usize = super::tile::CHUNK;

/// Packs keys `first..first + count` of one head into panels of `width` keys, 2 or a multiple of `PACK_ROWS`:
/// `[panel][head_dim][width]`.
///
/// Places beyond `count` in the last panel are set to 0. `wide` has room for `PACK_ROWS` keys.
#[inline(always)]
pub(super) fn pack_keys(
    key: &dyn RowSource,
    head: (usize, usize),
    (first, count): (usize, usize),
    (width, wide): (usize, &mut [f32]),
    panels: &mut [f32],
) {
    let head_dim = wide.len() / PACK_ROWS;
    let group = PACK_ROWS.min(width);
    for (p, panel) in panels.chunks_exact_mut(width * head_dim).take(count.div_ceil(width)).enumerate() {
        for j in (0..width).step_by(group) {
            let (index, target) = (p * width + j, &mut panel[j..]);
            let whole = index + group <= count;
            match if whole { key.f32_run(head, first + index, group) } else { None } {
                Some((rows, stride)) => transpose((rows, stride), (group, head_dim), (target, width)),
                None => {
                    for (r, row) in wide.chunks_exact_mut(head_dim).enumerate() {
                        match index + r < count {
                            true => key.widen_row(head.0, head.1, first + index + r, row),
                            false => row.fill(0.0),
                        }
                    }
                    transpose((wide, head_dim), (group, head_dim), (target, width));
                }
            }
        }
    }
}

/// `target[c·width + r] = rows[r·stride + c]` for `count` rows of `len` elements.
#[inline(always)]
fn transpose(
    (rows, stride): (&[f32], usize),
    (count, len): (usize, usize),
    (target, width): (&mut [f32], usize),
) {
    assert!(rows.len() >= (count - 1) * stride + len && width >= count);
    assert!(target.len() >= (len - 1) * width + count);
    let mut column = 0;
    #[cfg(target_arch = "x86_64")]
    while count == PACK_ROWS && column + PACK_ROWS <= len {
        // SAFETY: row r < 4 = count is read at column .. column + 4 ≤ len, inside `rows`; row column + c of the target
        // is written in its first four places, inside `target` (both asserted). SSE is part of x86-64.
        unsafe {
            use std::arch::x86_64::*;
            let row = |r: usize| _mm_loadu_ps(rows.as_ptr().add(r * stride + column));
            let (mut a, mut b, mut c, mut d) = (row(0), row(1), row(2), row(3));
            _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
            for (c, numbers) in [a, b, c, d].into_iter().enumerate() {
                _mm_storeu_ps(target.as_mut_ptr().add((column + c) * width), numbers);
            }
        }
        column += PACK_ROWS;
    }
    for column in column..len {
        for (r, place) in target[column * width..][..count].iter_mut().enumerate() {
            *place = rows[r * stride + column];
        }
    }
}

/// Widens rows `first..first + count` of one head into rows of `padded` elements, the rest 0.
#[inline(always)]
pub(super) fn pack_rows(
    source: &dyn RowSource,
    (batch, kv_head): (usize, usize),
    (first, count): (usize, usize),
    (dim, padded): (usize, usize),
    rows: &mut [f32],
) {
    if padded == 0 {
        return;
    }
    for (index, row) in rows.chunks_mut(padded).take(count).enumerate() {
        source.widen_row(batch, kv_head, first + index, &mut row[..dim]);
        row[dim..].fill(0.0);
    }
}

/// A row in f32: in place, or widened into `wide`.
pub(super) fn wide_row<'a>(
    source: &'a dyn RowSource,
    [batch, head, row]: [usize; 3],
    wide: &'a mut [f32],
) -> &'a [f32] {
    match source.f32_row(batch, head, row) {
        Some(row) => row,
        None => {
            source.widen_row(batch, head, row, wide);
            wide
        }
    }
}

/// Elements of a strip of `tile_rows` queries.
pub(super) fn strip_len(head_dim: usize, tile_rows: usize) -> usize {
    head_dim.next_multiple_of(CHUNK) * tile_rows
}

/// Writes one query row, times `factor`, at place `r` of a strip `[chunk][tile rows][CHUNK]`.
#[inline(always)]
pub(super) fn pack_query_row<S: Simd>(
    simd: S,
    (row, factor): (&[f32], f32),
    (r, tile_rows): (usize, usize),
    strip: &mut [f32],
) {
    const { assert!(CHUNK.is_multiple_of(S::F32_LANES)) };
    let factors = simd.splat_f32s(factor);
    let (chunks, rest) = row.as_chunks::<CHUNK>();
    for (chunk, numbers) in chunks.iter().enumerate() {
        let places = &mut strip[(chunk * tile_rows + r) * CHUNK..][..CHUNK];
        for at in (0..CHUNK).step_by(S::F32_LANES) {
            // SAFETY: a vector's length divides CHUNK (asserted), so at + lanes ≤ CHUNK, the length of both.
            unsafe {
                let number = simd.mul_f32s(load(simd, numbers.as_ptr().add(at)), factors);
                store(simd, places.as_mut_ptr().add(at), number);
            }
        }
    }
    if !rest.is_empty() {
        let places = &mut strip[(chunks.len() * tile_rows + r) * CHUNK..][..rest.len()];
        for (place, number) in places.iter_mut().zip(rest) {
            *place = number * factor;
        }
    }
}

/// Sets place `r` of a strip to 0, as if its query were.
pub(super) fn clear_query_row((r, tile_rows): (usize, usize), strip: &mut [f32]) {
    for chunk in strip.chunks_exact_mut(tile_rows * CHUNK) {
        chunk[r * CHUNK..][..CHUNK].fill(0.0);
    }
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use super::*;
    use crate::view::{Layout, TensorView};

    #[test]
    fn pack_keys__any_dim_count_and_width__is_the_transposed_panel() {
        for head_dim in [1, 2, 3, 4, 5, 8, 11] {
            for count in 0..10 {
                for width in [2, 4, 8] {
                    let data: Vec<f32> = (0..12 * head_dim).map(|i| i as f32 + 1.0).collect();
                    let key = TensorView::new(&data, [1, 1, 12, head_dim], Layout::BatchHeadSeqDim).unwrap();
                    let (mut wide, mut panels) = (vec![0.0; 4 * head_dim], vec![-1.0; 16 * head_dim]);
                    pack_keys(&key, (0, 0), (2, count), (width, &mut wide), &mut panels);
                    for (at, &found) in panels.iter().enumerate() {
                        let (panel, c, j) = (at / (width * head_dim), at / width % head_dim, at % width);
                        let index = panel * width + j;
                        let expected = if index < count {
                            data[(2 + index) * head_dim + c]
                        } else if panel * width < count {
                            0.0
                        } else {
                            -1.0
                        };
                        assert_eq!(found, expected, "dim {head_dim}, {count} keys, width {width}, at {at}");
                    }
                }
            }
        }
    }
}

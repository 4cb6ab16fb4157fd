//! Keys in panels, values and queries in padded rows: the orders in which the register tiles read them.

use super::rows::RowSource;

/// Packs keys `first..first + count` of one head into panels of `width` keys: `[panel][head_dim][width]`.
///
/// Places beyond `count` in the last panel are set to 0.
#[inline(always)]
pub(super) fn pack_keys(
    key: &dyn RowSource,
    (batch, kv_head): (usize, usize),
    (first, count): (usize, usize),
    (width, row): (usize, &mut [f32]),
    panels: &mut [f32],
) {
    let head_dim = row.len();
    for (p, panel) in panels.chunks_mut(width * head_dim).take(count.div_ceil(width)).enumerate() {
        for j in 0..width {
            let index = p * width + j;
            if index >= count {
                panel[j..].iter_mut().step_by(width).for_each(|place| *place = 0.0);
                continue;
            }
            let source = match key.f32_row(batch, kv_head, first + index) {
                Some(source) => source,
                None => {
                    key.widen_row(batch, kv_head, first + index, row);
                    &*row
                }
            };
            for (place, &number) in panel[j..].iter_mut().step_by(width).zip(source) {
                *place = number;
            }
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

/// Transposes one query row, times `factor`, into place `r` of a strip `[head_dim][tile rows]`.
#[inline(always)]
pub(super) fn pack_query_row(row: &[f32], factor: f32, (r, tile_rows): (usize, usize), strip: &mut [f32]) {
    for (place, &number) in strip[r..].iter_mut().step_by(tile_rows).zip(row) {
        *place = number * factor;
    }
}

//! One worker's view of a call: sums up what passes by, row by row.

use std::ops::Range;

use pulp::Simd;

use super::super::observe::{StripColumns, Watch};
use super::super::online_softmax::RowState;
use super::super::plan::{BLOCK_KV, Piece};
use super::super::problem::Problem;
use super::super::row_mask::RowMask;
use super::layout::{
    DISTANCE, ENERGY, INDUCTION, MAX, RowLayout, SAME_TOKEN, SUM, distance_bin, distance_bin_end,
};
use super::rows::{Room, RowObserver};
use super::sums::{block_sums, masked_sum, moment_beyond, sum};
use super::thumbnail::{cell_end, cell_of};

/// One worker's room, until it is given back.
pub(super) struct RowWatch<'w> {
    pub(super) observer: &'w RowObserver<'w>,
    pub(super) room: Room,
}

/// Where a row is in the keys that hold its token.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursors {
    /// The next copy that may be attended to.
    same: usize,
    /// The next copy whose following key may be.
    before: usize,
}

/// A block's columns, as a row sees them.
struct Columns {
    /// The key of column 0.
    first_key: usize,
    valid: Range<usize>,
    /// The row's own position, as a column.
    own: i64,
}

impl Columns {
    /// Whether the row's own column, moved by `distance`, is valid, and which it is.
    fn at(&self, distance: i64) -> Option<usize> {
        let column = usize::try_from(self.own.saturating_add(distance)).ok()?;
        self.valid.contains(&column).then_some(column)
    }

    /// The signed distance of a column from the row's own.
    fn delta(&self, column: usize) -> i64 {
        (column as i64).saturating_sub(self.own)
    }
}

impl Watch for RowWatch<'_> {
    #[inline(always)]
    fn begin(&mut self, problem: &Problem<'_>, masks: &[RowMask]) {
        let layout = self.observer.layout;
        for row in self.room.sums.chunks_exact_mut(layout.len()).take(masks.len()) {
            layout.clear(row);
        }
        let Some(tokens) = &self.observer.tokens else { return };
        for (cursors, mask) in self.room.cursors.iter_mut().zip(masks) {
            let key_len = problem.config.mask.key_len(mask.batch);
            let copies = tokens.copies(mask.batch, own_position(mask), key_len);
            let first = mask.keys.start as u32;
            cursors.same = copies.partition_point(|&copy| copy < first);
            cursors.before = copies.partition_point(|&copy| copy + 1 < first);
        }
    }

    #[inline(always)]
    fn scores(&mut self, strip: &StripColumns<'_>, scores: &[f32]) {
        let (from, to) = strip.columns;
        let rows = self.room.scores.chunks_exact_mut(BLOCK_KV).zip(scores.chunks_exact(BLOCK_KV));
        for (kept, scores) in rows.take(strip.masks.len()) {
            kept[from..to].copy_from_slice(&scores[from..to]);
        }
    }

    #[inline(always)]
    fn probs<S: Simd>(&mut self, simd: S, strip: &StripColumns<'_>, probs: &[f32], states: &[RowState]) {
        let layout = self.observer.layout;
        let (from, to) = strip.columns;
        let cells = self.observer.strip_cells(strip);
        let sets = self.observer.strip_sets(strip);
        let first = strip.first_row * layout.len();
        let rows = self.room.sums[first..].chunks_exact_mut(layout.len()).zip(strip.masks);
        for (r, ((row, mask), state)) in rows.zip(states).enumerate() {
            let scores = &self.room.scores[r * BLOCK_KV..(r + 1) * BLOCK_KV];
            let probs = &probs[r * BLOCK_KV..(r + 1) * BLOCK_KV];
            let block = block_sums(simd, (scores, probs), (from, to), state.base());
            if f64::from(state.max) != row[MAX] {
                layout.rebase(row, f64::from(state.max));
            }
            let columns = Columns {
                first_key: strip.first_key,
                valid: from..to,
                own: own_position(mask).saturating_sub(strip.first_key as i64),
            };
            if f64::from(block.max) > layout.threshold(row) {
                keep_tops(layout, row, &columns, scores);
            }
            if block.sum == 0.0 {
                continue;
            }
            let mass = f64::from(block.sum);
            row[SUM] += mass;
            row[ENERGY] += f64::from(block.energy);
            row[DISTANCE] += distance(&columns, (mass, f64::from(block.moment)), probs);
            if layout.num_bins > 0 {
                add_bins(layout, &mut row[layout.bins()..], &columns, (block.sum, probs));
            }
            if let Some(cells) = cells {
                add_cells(&mut row[layout.cells()..], &columns, cells, (block.sum, probs));
            }
            if let Some((mut any, members)) = sets {
                while any != 0 {
                    let set = any.trailing_zeros();
                    any &= any - 1;
                    row[layout.sets() + set as usize] +=
                        f64::from(masked_sum(&probs[from..to], &members[from..to], 1 << set));
                }
            }
            self.observer.add_offsets(&mut row[layout.offsets()..], &columns, probs);
            if self.observer.tokens.is_some() {
                let cursors = &mut self.room.cursors[strip.first_row + r];
                self.observer.add_tokens(row, mask, &columns, (cursors, probs));
            }
        }
    }

    #[inline(always)]
    fn finish(&mut self, problem: &Problem<'_>, piece: &Piece, masks: &[RowMask]) {
        match piece.partial {
            Some(index) => self.observer.keep_part(index, &self.room.sums, masks.len()),
            None => self.observer.finish_rows(problem, masks, (&self.room.sums, &mut self.room.cells)),
        }
    }
}

impl Drop for RowWatch<'_> {
    fn drop(&mut self) {
        self.observer.give_back(std::mem::take(&mut self.room));
    }
}

/// Where a row stands among the keys; far outside of them it does not matter where.
fn own_position(mask: &RowMask) -> i64 {
    let limit = 1i128 << 62;
    mask.position().clamp(-limit, limit) as i64
}

/// Looks for scores above the threshold; there are few such blocks.
fn keep_tops(layout: RowLayout, row: &mut [f64], columns: &Columns, scores: &[f32]) {
    let mut threshold = layout.threshold(row);
    for column in columns.valid.clone() {
        let score = f64::from(scores[column]);
        if score > threshold {
            layout.insert(row, score, (columns.first_key + column) as f64);
            threshold = layout.threshold(row);
        }
    }
}

/// Σ w·|p − j| of a block with mass Σ w and moment Σ w·column.
#[inline(always)]
fn distance(columns: &Columns, (mass, moment): (f64, f64), probs: &[f32]) -> f64 {
    let own = columns.own as f64;
    if columns.own >= columns.valid.end as i64 {
        return own * mass - moment;
    }
    if columns.own <= columns.valid.start as i64 {
        return moment - own * mass;
    }
    moment_beyond(probs, &columns.valid, columns.own as usize)
}

#[inline(always)]
fn add_bins(layout: RowLayout, bins: &mut [f64], columns: &Columns, (mass, probs): (f32, &[f32])) {
    let Range { mut start, end } = columns.valid.clone();
    let mut bin = distance_bin(columns.delta(start), layout.num_bins);
    if bin == distance_bin(columns.delta(end - 1), layout.num_bins) {
        bins[bin] += f64::from(mass);
        return;
    }
    while start < end {
        let delta = columns.delta(start);
        bin = distance_bin(delta, layout.num_bins);
        let len = distance_bin_end(delta, layout.num_bins).saturating_sub(delta);
        let stop = usize::try_from(len).map_or(end, |len| start.saturating_add(len).min(end));
        bins[bin] += f64::from(sum(&probs[start..stop]));
        start = stop;
    }
}

#[inline(always)]
fn add_cells(
    sums: &mut [f64],
    columns: &Columns,
    ([first, last], sizes): ([usize; 2], (usize, usize)),
    (mass, probs): (f32, &[f32]),
) {
    if first == last {
        sums[first] += f64::from(mass);
        return;
    }
    let mut start = columns.valid.start;
    for cell in first..=last {
        let stop = match cell == last {
            true => columns.valid.end,
            false => cell_end(cell, sizes) - columns.first_key,
        };
        sums[cell] += f64::from(sum(&probs[start..stop]));
        start = stop;
    }
}

impl RowObserver<'_> {
    /// The column blocks of the thumbnail that a strip's first and last valid keys are in.
    #[inline(always)]
    fn strip_cells(&self, strip: &StripColumns<'_>) -> Option<([usize; 2], (usize, usize))> {
        let num_cells = self.layout.num_cells;
        if num_cells == 0 {
            return None;
        }
        let key_len = self.mask.key_len(strip.masks[0].batch);
        let sizes = (num_cells, key_len);
        let last = (strip.first_key + strip.columns.1).min(key_len) - 1;
        Some(([strip.first_key + strip.columns.0, last].map(|key| cell_of(key, sizes)), sizes))
    }

    /// The sets that keys of the block are in, and which key is in which; nothing if none is in any.
    #[inline(always)]
    fn strip_sets(&self, strip: &StripColumns<'_>) -> Option<(u32, &[u32])> {
        let sets = self.sets.as_ref()?;
        let (any, members) = sets.block(strip.masks[0].batch, strip.first_key / BLOCK_KV);
        (any != 0).then_some((any, members))
    }

    #[inline(always)]
    fn add_offsets(&self, sums: &mut [f64], columns: &Columns, probs: &[f32]) {
        let Some((least, most)) = self.offset_range else { return };
        let (start, end) = (columns.valid.start as i64, columns.valid.end as i64);
        if columns.own.saturating_add(most) < start || columns.own.saturating_add(least) >= end {
            return;
        }
        for (sum, &offset) in sums.iter_mut().zip(self.request.offsets) {
            if let Some(column) = columns.at(offset) {
                *sum += f64::from(probs[column]);
            }
        }
    }

    #[inline(always)]
    fn add_tokens(
        &self,
        row: &mut [f64],
        mask: &RowMask,
        columns: &Columns,
        (cursors, probs): (&mut Cursors, &[f32]),
    ) {
        let Some(tokens) = &self.tokens else { return };
        let own = columns.own.saturating_add(columns.first_key as i64);
        let copies = tokens.copies(mask.batch, own, self.mask.key_len(mask.batch));
        let mut sum = 0.0;
        while let Some(column) = next_column(copies, cursors.same, 0, columns) {
            if column as i64 != columns.own {
                sum += probs[column];
            }
            cursors.same += 1;
        }
        row[SAME_TOKEN] += f64::from(sum);
        let mut sum = 0.0;
        while let Some(column) = next_column(copies, cursors.before, 1, columns) {
            // After an earlier copy, and so at the own position at most.
            if column as i64 <= columns.own {
                sum += probs[column];
            }
            cursors.before += 1;
        }
        row[INDUCTION] += f64::from(sum);
    }
}

/// The column of the `next` copy, `after` keys later, if it is before the block's end.
#[inline(always)]
fn next_column(copies: &[u32], next: usize, after: usize, columns: &Columns) -> Option<usize> {
    let key = *copies.get(next)? as usize + after;
    (key < columns.first_key + columns.valid.end).then(|| key - columns.first_key)
}

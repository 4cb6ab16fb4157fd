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
use super::sums::{block_sums, copy, first_above, member_sum, sum_between};
use super::thumbnail::{cell_end, cell_of};
use super::tokens::TokenPositions;

/// One worker's room, until it is given back.
pub(super) struct RowWatch<'w> {
    pub(super) observer: &'w RowObserver<'w>,
    pub(super) room: Room,
}

/// What is known of a row before it meets keys.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RowPlace {
    /// Where the row stands among the keys; far outside of them it does not matter where.
    position: i64,
    /// Among the keys of all tokens: the next copy of the row's token that may be attended to, the next whose following
    /// key may be, and the end.
    next_copy: usize,
    next_before: usize,
    end: usize,
}

impl RowPlace {
    fn new(mask: &RowMask, tokens: Option<&TokenPositions>, key_len: usize) -> Self {
        let limit = 1i128 << 62;
        let position = mask.position().clamp(-limit, limit) as i64;
        let Some(tokens) = tokens.filter(|_| !mask.keys.is_empty()) else {
            return Self { position, ..Self::default() };
        };
        let copies = tokens.copies(mask.batch, position, key_len);
        let first = mask.keys.start as u32;
        let from = |is_before: &dyn Fn(u32) -> bool| {
            copies.start + tokens.order[copies.clone()].partition_point(|&copy| is_before(copy))
        };
        Self {
            position,
            next_copy: from(&|copy| copy < first),
            next_before: from(&|copy| copy + 1 < first),
            end: copies.end,
        }
    }
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
    /// The column at this distance from the row's own, if it is valid.
    fn at(&self, distance: i64) -> Option<usize> {
        let column = usize::try_from(self.own.saturating_add(distance)).ok()?;
        self.valid.contains(&column).then_some(column)
    }

    /// The signed distance of a column from the row's own.
    fn delta(&self, column: usize) -> i64 {
        column as i64 - self.own
    }
}

impl Watch for RowWatch<'_> {
    #[inline(always)]
    fn begin(&mut self, problem: &Problem<'_>, masks: &[RowMask]) {
        let layout = self.observer.layout;
        for row in self.room.sums.chunks_exact_mut(layout.len()).take(masks.len()) {
            layout.clear(row);
        }
        for (place, mask) in self.room.places.iter_mut().zip(masks) {
            let key_len = problem.config.mask.key_len(mask.batch);
            *place = RowPlace::new(mask, self.observer.tokens.as_ref(), key_len);
        }
    }

    #[inline(always)]
    fn scores<S: Simd>(&mut self, simd: S, strip: &StripColumns<'_>, scores: &[f32]) {
        let rows = self.room.scores.chunks_exact_mut(BLOCK_KV).zip(scores.chunks_exact(BLOCK_KV));
        for (kept, scores) in rows.take(strip.masks.len()) {
            copy(simd, scores, kept, strip.columns);
        }
    }

    #[inline(always)]
    fn probs<S: Simd>(&mut self, simd: S, strip: &StripColumns<'_>, probs: &[f32], states: &[RowState]) {
        let layout = self.observer.layout;
        let (from, to) = strip.columns;
        let cells = self.observer.strip_cells(strip);
        let sets = self.observer.strip_sets(strip);
        let first = strip.first_row * layout.len();
        let rows = self.room.sums[first..].chunks_exact_mut(layout.len());
        let rows = rows.zip(&mut self.room.places[strip.first_row..]).zip(states);
        for (r, ((row, place), state)) in rows.take(strip.masks.len()).enumerate() {
            let scores = &self.room.scores[r * BLOCK_KV..(r + 1) * BLOCK_KV];
            let probs = &probs[r * BLOCK_KV..(r + 1) * BLOCK_KV];
            let own = place.position - strip.first_key as i64;
            // The nearest column, so that no distance is a difference of large numbers.
            let origin = own.clamp(from as i64, to as i64);
            let block = block_sums(simd, (scores, probs), (from, to), (state.base(), origin as f32));
            if f64::from(state.max) != row[MAX] {
                layout.rebase(row, f64::from(state.max));
            }
            let columns = Columns { first_key: strip.first_key, valid: from..to, own };
            if f64::from(block.max) > layout.threshold(row) {
                keep_tops(simd, layout, row, &columns, scores);
            }
            if block.sum == 0.0 {
                continue;
            }
            let mass = f64::from(block.sum);
            row[SUM] += mass;
            row[ENERGY] += f64::from(block.energy);
            row[DISTANCE] += (own - origin).abs() as f64 * mass + f64::from(block.distance);
            if layout.num_bins > 0 {
                add_bins(simd, layout, &mut row[layout.bins()..], &columns, (block.sum, probs));
            }
            if let Some(cells) = cells {
                add_cells(simd, &mut row[layout.cells()..], &columns, cells, (block.sum, probs));
            }
            if let Some((mut any, members)) = sets {
                while any != 0 {
                    let set = any.trailing_zeros();
                    any &= any - 1;
                    let sum = member_sum(simd, probs, members, &columns.valid, 1 << set);
                    row[layout.sets() + set as usize] += f64::from(sum);
                }
            }
            self.observer.add_offsets(&mut row[layout.offsets()..], &columns, probs);
            if let Some(tokens) = &self.observer.tokens {
                add_tokens(&tokens.order, row, place, &columns, probs);
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

/// Looks for scores above the threshold.
#[inline(always)]
fn keep_tops<S: Simd>(simd: S, layout: RowLayout, row: &mut [f64], columns: &Columns, scores: &[f32]) {
    let (lanes, end) = (S::F32_LANES, columns.valid.end);
    let mut threshold = layout.threshold(row);
    let mut column = first_above(simd, scores, (columns.valid.start, end), threshold as f32);
    while column < end {
        for (score, place) in scores[column..column + lanes].iter().zip(column..) {
            if f64::from(*score) > threshold {
                layout.insert(row, f64::from(*score), (columns.first_key + place) as f64);
                threshold = layout.threshold(row);
            }
        }
        column = first_above(simd, scores, (column + lanes, end), threshold as f32);
    }
}

#[inline(always)]
fn add_bins<S: Simd>(
    simd: S,
    layout: RowLayout,
    bins: &mut [f64],
    columns: &Columns,
    (mass, probs): (f32, &[f32]),
) {
    let Range { mut start, end } = columns.valid.clone();
    let bin = distance_bin(columns.delta(start), layout.num_bins);
    if bin == distance_bin(columns.delta(end - 1), layout.num_bins) {
        bins[bin] += f64::from(mass);
        return;
    }
    while start < end {
        let delta = columns.delta(start);
        let len = distance_bin_end(delta, layout.num_bins).saturating_sub(delta);
        let stop = usize::try_from(len).map_or(end, |len| start.saturating_add(len).min(end));
        let bin = distance_bin(delta, layout.num_bins);
        bins[bin] += f64::from(sum_between(simd, probs, &columns.valid, start..stop));
        start = stop;
    }
}

#[inline(always)]
fn add_cells<S: Simd>(
    simd: S,
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
    for (cell, sum) in sums.iter_mut().enumerate().take(last + 1).skip(first) {
        let stop = match cell == last {
            true => columns.valid.end,
            false => cell_end(cell, sizes) - columns.first_key,
        };
        *sum += f64::from(sum_between(simd, probs, &columns.valid, start..stop));
        start = stop;
    }
}

/// Adds the mass on copies of the row's token, and on keys after earlier ones; `order` are the keys of all tokens.
#[inline(always)]
fn add_tokens(order: &[u32], row: &mut [f64], place: &mut RowPlace, columns: &Columns, probs: &[f32]) {
    let end = columns.first_key + columns.valid.end;
    let mut sum = 0.0;
    while place.next_copy < place.end && (order[place.next_copy] as usize) < end {
        // Copies of blocks that had no mass are passed over.
        let column = (order[place.next_copy] as usize).wrapping_sub(columns.first_key);
        if let Some(prob) = probs.get(column).filter(|_| column as i64 != columns.own) {
            sum += prob;
        }
        place.next_copy += 1;
    }
    row[SAME_TOKEN] += f64::from(sum);
    let mut sum = 0.0;
    while place.next_before < place.end && (order[place.next_before] as usize + 1) < end {
        let column = (order[place.next_before] as usize + 1).wrapping_sub(columns.first_key);
        // After an earlier copy, and so at the own position at most.
        if let Some(prob) = probs.get(column).filter(|_| column as i64 <= columns.own) {
            sum += prob;
        }
        place.next_before += 1;
    }
    row[INDUCTION] += f64::from(sum);
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
}

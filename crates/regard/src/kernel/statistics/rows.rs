//! What is known of each row, from the sums of its blocks to the numbers that are handed out.

use std::f64::consts::LN_2;
use std::sync::{Mutex, PoisonError};

use super::super::observe::Observe;
use super::super::plan::{BLOCK_KV, BLOCK_Q, MAX_TILE_ROWS, Merge};
use super::super::problem::Problem;
use super::super::row_mask::{RowMask, room_for_masks, row_masks};
use super::super::run::ObservedSizes;
use super::super::scratch::{filled, filled_with, zeroed};
use super::layout::{DISTANCE, ENERGY, INDUCTION, MAX, RowLayout, SAME_TOKEN, SUM};
use super::shared::SharedRows;
use super::thumbnail::ThumbnailSums;
use super::tokens::TokenPositions;
use super::watch::{RowPlace, RowWatch};
use crate::config::CheckedConfig;
use crate::error::AttentionError;
use crate::mask::CheckedMask;
use crate::shape::AttentionShape;
use crate::statistics::{AttentionStatistics, KeySets, StatisticsRequest};

/// Memory of one worker.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// `[BLOCK_Q]` rows by `RowLayout`.
    pub(super) sums: Vec<f64>,
    /// Scores of a strip, which its exponentials replace: `[MAX_TILE_ROWS][BLOCK_KV]`.
    pub(super) scores: Vec<f32>,
    /// `[BLOCK_Q]`.
    pub(super) places: Vec<RowPlace>,
    /// One row of the thumbnail.
    pub(super) cells: Vec<f64>,
}

impl Room {
    fn new(layout: RowLayout) -> Result<Self, AttentionError> {
        Ok(Self {
            sums: filled(BLOCK_Q * layout.len(), 0.0)?,
            scores: zeroed(MAX_TILE_ROWS * BLOCK_KV)?,
            places: filled(BLOCK_Q, RowPlace::default())?,
            cells: filled(layout.num_cells, 0.0)?,
        })
    }

    fn bytes(layout: RowLayout) -> usize {
        let numbers = (BLOCK_Q * layout.len() + layout.num_cells) * size_of::<f64>();
        numbers + MAX_TILE_ROWS * BLOCK_KV * size_of::<f32>() + BLOCK_Q * size_of::<RowPlace>()
    }
}

/// Which keys are in which sets, block by block.
pub(super) struct KeySetBlocks {
    num_blocks: usize,
    /// `[batch_size, num_blocks]`: the sets that any key of the block is in.
    any: Vec<u32>,
    /// `[batch_size, num_blocks, BLOCK_KV]`.
    members: Vec<u32>,
}

impl KeySetBlocks {
    fn bytes(shape: &AttentionShape) -> usize {
        let blocks = shape.batch_size.saturating_mul(shape.seq_len_kv.div_ceil(BLOCK_KV));
        blocks.saturating_mul((BLOCK_KV + 1) * size_of::<u32>())
    }

    fn new(shape: &AttentionShape, sets: KeySets<'_>) -> Result<Self, AttentionError> {
        let num_blocks = shape.seq_len_kv.div_ceil(BLOCK_KV);
        let mut any = filled(shape.batch_size * num_blocks, 0u32)?;
        let mut members = filled(any.len() * BLOCK_KV, 0u32)?;
        if shape.seq_len_kv > 0 {
            let padded = members.chunks_exact_mut(num_blocks * BLOCK_KV);
            for (padded, members) in padded.zip(sets.members.chunks_exact(shape.seq_len_kv)) {
                padded[..members.len()].copy_from_slice(members);
            }
        }
        for (any, members) in any.iter_mut().zip(members.chunks_exact(BLOCK_KV)) {
            *any = members.iter().fold(0, |all, members| all | members);
        }
        Ok(Self { num_blocks, any, members })
    }

    /// The sets of a block, and each key's.
    pub(super) fn block(&self, batch: usize, block: usize) -> (u32, &[u32]) {
        let index = batch * self.num_blocks + block;
        (self.any[index], &self.members[index * BLOCK_KV..][..BLOCK_KV])
    }
}

/// Where a row's numbers go.
struct RowTargets<'a> {
    entropy: SharedRows<'a, f32>,
    mean_distance: SharedRows<'a, f32>,
    sink_prob: SharedRows<'a, f32>,
    top_keys: SharedRows<'a, u32>,
    top_probs: SharedRows<'a, f32>,
    /// Histogram, offsets and sets.
    lists: [SharedRows<'a, f32>; 3],
    same_token: SharedRows<'a, f32>,
    induction: SharedRows<'a, f32>,
    /// The maximum in units of log₂, and what exponentials measured from it are multiplied with.
    bases: SharedRows<'a, [f32; 2]>,
}

/// Sums up all rows of a call.
pub(super) struct RowObserver<'a> {
    pub(super) request: &'a StatisticsRequest<'a>,
    pub(super) mask: CheckedMask<'a>,
    pub(super) layout: RowLayout,
    pub(super) offset_range: Option<(i64, i64)>,
    pub(super) tokens: Option<TokenPositions>,
    pub(super) sets: Option<KeySetBlocks>,
    pub(super) thumbnail: Option<ThumbnailSums>,
    seq_len_q: usize,
    num_heads: usize,
    targets: RowTargets<'a>,
    rooms: Mutex<Vec<Room>>,
    /// Sums of rows whose keys were split, until they are merged.
    parts: Vec<Mutex<Vec<f64>>>,
}

impl<'a> RowObserver<'a> {
    /// Bytes that `new` allocates.
    pub(super) fn bytes(
        shape: &AttentionShape,
        request: &StatisticsRequest<'_>,
        sizes: &ObservedSizes,
    ) -> usize {
        let layout = RowLayout::new(request);
        let rooms = sizes.workers * (Room::bytes(layout) + size_of::<Room>());
        let part = sizes.partial_rows * layout.len() * size_of::<f64>() + size_of::<Mutex<Vec<f64>>>();
        rooms
            .saturating_add(sizes.num_partials.saturating_mul(part))
            .saturating_add(request.token_ids.map_or(0, |_| TokenPositions::bytes(shape)))
            .saturating_add(request.key_sets.map_or(0, |_| KeySetBlocks::bytes(shape)))
            .saturating_add(request.thumbnail.map_or(0, |size| ThumbnailSums::bytes(shape, size)))
    }

    pub(super) fn new(
        (shape, config): (&AttentionShape, &CheckedConfig<'a>),
        request: &'a StatisticsRequest<'a>,
        sizes: &ObservedSizes,
        (all, bases): (&'a mut AttentionStatistics, &'a mut [[f32; 2]]),
    ) -> Result<Self, AttentionError> {
        let layout = RowLayout::new(request);
        let mut rooms = filled_with(sizes.workers, Room::default)?;
        for room in &mut rooms {
            *room = Room::new(layout)?;
        }
        let mut parts = filled_with(sizes.num_partials, Mutex::default)?;
        for part in &mut parts {
            *part = Mutex::new(filled(sizes.partial_rows * layout.len(), 0.0)?);
        }
        let offsets = request.offsets;
        Ok(Self {
            request,
            mask: config.mask,
            layout,
            offset_range: offsets.iter().min().copied().zip(offsets.iter().max().copied()),
            tokens: request.token_ids.map(|ids| TokenPositions::new(shape, &config.mask, ids)).transpose()?,
            sets: request.key_sets.map(|sets| KeySetBlocks::new(shape, sets)).transpose()?,
            thumbnail: request.thumbnail.map(|size| ThumbnailSums::new(shape, size)).transpose()?,
            seq_len_q: shape.seq_len_q,
            num_heads: shape.num_heads,
            targets: RowTargets {
                entropy: SharedRows::new(&mut all.entropy, 1),
                mean_distance: SharedRows::new(&mut all.mean_distance, 1),
                sink_prob: SharedRows::new(&mut all.sink_prob, 1),
                top_keys: SharedRows::new(&mut all.top_keys, layout.top_k),
                top_probs: SharedRows::new(&mut all.top_probs, layout.top_k),
                lists: [
                    SharedRows::new(&mut all.distance_mass, layout.bins_len()),
                    SharedRows::new(&mut all.offset_mass, layout.num_offsets),
                    SharedRows::new(&mut all.key_set_mass, layout.num_sets),
                ],
                same_token: SharedRows::new(&mut all.same_token_mass, 1),
                induction: SharedRows::new(&mut all.induction_mass, 1),
                bases: SharedRows::new(bases, 1),
            },
            rooms: Mutex::new(rooms),
            parts,
        })
    }

    /// Keeps the sums of some keys of `count` rows.
    pub(super) fn keep_part(&self, index: usize, sums: &[f64], count: usize) {
        let mut part = self.parts[index].lock().unwrap_or_else(PoisonError::into_inner);
        let len = count * self.layout.len();
        part[..len].copy_from_slice(&sums[..len]);
    }

    pub(super) fn give_back(&self, room: Room) {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).push(room);
    }

    /// Writes what is known of rows that have seen all their keys; `cells` is room for one row of the thumbnail.
    pub(super) fn finish_rows(
        &self,
        problem: &Problem<'_>,
        masks: &[RowMask],
        (sums, cells): (&[f64], &mut [f64]),
    ) {
        let mut block = None;
        for (mask, sums) in masks.iter().zip(sums.chunks_exact(self.layout.len())) {
            let row = FinishedRow::new(sums, mask, problem.config);
            self.write_row(mask, sums, &row);
            let Some(thumbnail) = &self.thumbnail else { continue };
            let own = thumbnail.block(mask.batch * self.num_heads + mask.head, mask.row);
            if block != Some(own) {
                if let Some(block) = block {
                    thumbnail.add(block, cells);
                }
                cells.fill(0.0);
                block = Some(own);
            }
            if row.factor.is_nan() {
                thumbnail.set_nan(own);
                continue;
            }
            for (cell, mass) in cells.iter_mut().zip(&sums[self.layout.cells()..]) {
                *cell += mass * row.factor;
            }
        }
        if let (Some(thumbnail), Some(block)) = (&self.thumbnail, block) {
            thumbnail.add(block, cells);
        }
    }

    fn write_row(&self, mask: &RowMask, sums: &[f64], row: &FinishedRow) {
        let index = (mask.batch * self.num_heads + mask.head) * self.seq_len_q + mask.row;
        let (layout, targets) = (self.layout, &self.targets);
        // SAFETY: every row belongs to exactly one piece or one merge (`Plan::cut`), each is finished by exactly one
        // worker, and only here are rows taken.
        let numbers = |rows: &SharedRows<'_, f32>, number: f64| unsafe {
            rows.row(index).iter_mut().for_each(|place| *place = number as f32);
        };
        numbers(&targets.entropy, row.entropy);
        numbers(&targets.mean_distance, row.mean_distance);
        numbers(&targets.sink_prob, row.sink_prob);
        numbers(&targets.same_token, sums[SAME_TOKEN] * row.factor);
        numbers(&targets.induction, sums[INDUCTION] * row.factor);
        let starts = [layout.bins(), layout.offsets(), layout.sets()];
        for (rows, start) in targets.lists.iter().zip(starts) {
            // SAFETY: as above.
            let masses = unsafe { rows.row(index) };
            for (place, mass) in masses.iter_mut().zip(&sums[start..]) {
                *place = (mass * row.factor) as f32;
            }
        }
        // SAFETY: as above.
        let (keys, probs) = unsafe { (targets.top_keys.row(index), targets.top_probs.row(index)) };
        let (scores, top_keys) = sums[layout.tops()..].split_at(layout.top_k);
        for (i, (key, prob)) in keys.iter_mut().zip(probs).enumerate() {
            if row.factor.is_nan() {
                *prob = f32::NAN;
            } else if scores[i] > f64::NEG_INFINITY {
                *key = top_keys[i] as u32;
                *prob = ((scores[i] - sums[MAX]).exp2() * row.factor) as f32;
            }
        }
        // SAFETY: as above.
        let bases = unsafe { targets.bases.row(index) };
        let base = if sums[MAX] == f64::NEG_INFINITY { 0.0 } else { sums[MAX] };
        bases.iter_mut().for_each(|place| *place = [base as f32, row.factor as f32]);
    }
}

/// What all numbers of a row are made with.
struct FinishedRow {
    /// Masses times this are probabilities: 0 if no key is allowed, NaN if the softmax is.
    factor: f64,
    entropy: f64,
    sink_prob: f64,
    mean_distance: f64,
}

impl FinishedRow {
    fn new(sums: &[f64], mask: &RowMask, config: &CheckedConfig<'_>) -> Self {
        let sum = sums[SUM];
        if sum == 0.0 && !mask.allows_any(config) {
            return Self::all(0.0);
        }
        if sum == 0.0 || sum.is_nan() {
            return Self::all(f64::NAN);
        }
        let among_keys = sum.ln() - sums[ENERGY] * LN_2 / sum;
        let sink = config.sinks.map_or(f64::NEG_INFINITY, |sinks| f64::from(sinks[mask.head]));
        let log_odds = sums[MAX] * LN_2 + sum.ln() - sink; // of the keys against the sink
        let (share, sink_prob) = (1.0 / (1.0 + (-log_odds).exp()), 1.0 / (1.0 + log_odds.exp()));
        let outcome = |prob: f64| if prob > 0.0 { -prob * prob.ln() } else { 0.0 };
        let entropy = share * among_keys + outcome(share) + outcome(sink_prob);
        Self {
            factor: share / sum,
            entropy: entropy.max(0.0),
            sink_prob,
            mean_distance: sums[DISTANCE] / sum,
        }
    }

    fn all(number: f64) -> Self {
        Self { factor: number, entropy: number, sink_prob: number, mean_distance: number }
    }
}

impl Observe for RowObserver<'_> {
    type Watch<'w>
        = RowWatch<'w>
    where
        Self: 'w;

    fn watch(&self) -> RowWatch<'_> {
        let room = self.rooms.lock().unwrap_or_else(PoisonError::into_inner).pop();
        RowWatch { observer: self, room: room.expect("one room for each worker of a phase") }
    }

    fn merge(&self, problem: &Problem<'_>, job: &Merge) {
        let mut watch = self.watch();
        let Room { sums, cells, .. } = &mut watch.room;
        let len = self.layout.len();
        for index in job.first_partial..job.first_partial + job.num_parts {
            let mut part = self.parts[index].lock().unwrap_or_else(PoisonError::into_inner);
            let rows = sums.chunks_exact_mut(len).zip(part.chunks_exact_mut(len)).take(job.rows.len());
            for (row, part) in rows {
                match index == job.first_partial {
                    true => row.copy_from_slice(part),
                    false => self.layout.merge(row, part),
                }
            }
        }
        let keys = 0..problem.config.mask.key_len(job.batch);
        let options = (problem.shape, problem.config);
        let mut room = room_for_masks::<BLOCK_Q>();
        let masks = row_masks(options, (job.batch, job.kv_head), job.rows.clone(), &keys, &mut room);
        self.finish_rows(problem, masks, (sums, cells));
    }
}

//! The second phase: d_key and d_value of one block of keys after the other, and on the way each partition's share
//! of d_query.

use pulp::Simd;

use super::super::dispatch::SimdTask;
use super::super::forward::{ValuePath, is_finite, union};
use super::super::plan::{BLOCK_KV, BLOCK_Q, MAX_TILE_ROWS};
use super::super::row_mask::room_for_masks;
use super::super::rows::{RowSink, Rows};
use super::super::tile::{load, store, value_tile};
use super::super::workers::Queue;
use super::block::{Before, RowBlock, columns, score_gradients};
use super::pack::{PackedGradientHead, Wave};
use super::plan::{GradientScratch, STRIDE, partition_blocks};
use super::{GradientProblem, HeadAt, HeadRange};

const ONES: [f32; MAX_TILE_ROWS] = [1.0; MAX_TILE_ROWS];

/// One partition of the keys of one head, and its own d_query.
pub(super) struct KeyJob<'a> {
    pub(super) head: HeadAt,
    pub(super) partition: usize,
    pub(super) d_query: &'a mut [f32],
}

pub(super) struct KeyTask<'a, 's, I> {
    pub(super) problem: &'a GradientProblem<'a>,
    pub(super) wave: &'a Wave<'a>,
    pub(super) sinks: (&'a dyn RowSink, &'a dyn RowSink),
    pub(super) queue: &'a Queue<I>,
    pub(super) scratch: GradientScratch<'s>,
}

impl<'j, I: Iterator<Item = KeyJob<'j>>> SimdTask for KeyTask<'_, '_, I> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const MR: usize>(mut self, simd: S) {
        let problem = self.problem;
        while let Some(job) = self.queue.take() {
            let head = self.wave.head(problem, job.head);
            let key_len = problem.config.mask.key_len(job.head.batch);
            job.d_query.fill(0.0);
            for block in partition_blocks(key_len, job.partition) {
                let work = (Some(&mut *job.d_query), &mut self.scratch);
                key_block::<S, MR>(simd, problem, &head, (block, ValuePath::Multiply), work);
                // A query or an output gradient of a row that may not attend to some key may have put NaN into
                // that key's gradients by 0 · NaN.
                let (d_key, d_value) = (&*self.scratch.d_key, &*self.scratch.d_value);
                if !is_finite(simd, d_key) || !is_finite(simd, d_value) {
                    let work = (None, &mut self.scratch);
                    key_block::<S, MR>(simd, problem, &head, (block, ValuePath::Select), work);
                }
                self.write(&job, block, key_len);
            }
        }
    }
}

impl<I> KeyTask<'_, '_, I> {
    /// Writes the gradients of a block's keys.
    fn write(&mut self, job: &KeyJob<'_>, block: usize, key_len: usize) {
        let plan = self.problem.plan;
        for index in 0..(key_len - block * BLOCK_KV).min(BLOCK_KV) {
            let d_key = &mut self.scratch.d_key[index * plan.padded_head_dim..][..plan.head_dim];
            d_key.iter_mut().for_each(|number| *number = self.problem.scaled(*number));
            let d_value = &mut self.scratch.d_value[index * plan.padded_value_dim..][..plan.value_dim];
            // No −0: whether 0 was added to it depends on the path.
            d_value.iter_mut().for_each(|number| *number += 0.0);
            let at = [job.head.batch, job.head.kv_head, block * BLOCK_KV + index];
            // SAFETY: every key of a head is in exactly one block of one partition, and each partition is taken by
            // exactly one worker (the queue).
            unsafe {
                self.sinks.0.write_row(at, d_key, 0.0);
                self.sinks.1.write_row(at, d_value, 0.0);
            }
        }
    }
}

/// Sums d_key (still without a part of the scale) and d_value of one block of keys over all query rows in order; adds to
/// d_query, where it is given.
#[inline(always)]
fn key_block<S: Simd, const MR: usize>(
    simd: S,
    problem: &GradientProblem<'_>,
    head: &PackedGradientHead<'_>,
    (block, path): (usize, ValuePath),
    (mut d_query, scratch): (Option<&mut [f32]>, &mut GradientScratch<'_>),
) {
    let plan = problem.plan;
    scratch.d_key.fill(0.0);
    scratch.d_value.fill(0.0);
    let mut masks = room_for_masks();
    for HeadRange { member, first } in problem.row_blocks() {
        let Some(rows) = RowBlock::new(problem, head, (member, first), block, &mut masks) else { continue };
        score_gradients::<S, MR>(simd, problem, head, (&rows, Before::Cap), scratch);
        let queries = head.query_rows(problem, member, first);
        let d_outputs = head.d_output_rows(problem, member, first);
        match path {
            ValuePath::Multiply => {
                multiply_keys::<S, MR>(simd, problem, &rows, (queries, d_outputs), scratch);
                if let Some(d_query) = &mut d_query {
                    let row = member * plan.padded_rows + first;
                    let d_query = &mut d_query[row * plan.padded_head_dim..];
                    multiply_queries::<S, MR>(simd, problem, head, &rows, (scratch, d_query));
                }
            }
            ValuePath::Select => select_keys(simd, problem, &rows, (queries, d_outputs), scratch),
        }
    }
}

/// d_value += Pᵀ·d_output and d_key += d_scoreᵀ·query, a strip of `MR` keys at a time.
#[inline(always)]
fn multiply_keys<S: Simd, const MR: usize>(
    simd: S,
    problem: &GradientProblem<'_>,
    rows: &RowBlock<'_>,
    (queries, d_outputs): (Rows<'_>, Rows<'_>),
    scratch: &mut GradientScratch<'_>,
) {
    let plan = problem.plan;
    let (width, first) = (2 * S::F32_LANES, rows.block * BLOCK_KV);
    let (dim, value_dim) = (plan.padded_head_dim, plan.padded_value_dim);
    for key in columns::<MR>(&rows.keys, first, width).step_by(MR) {
        // Both ends of a row's keys grow with the row, so those that meet the strip are adjacent.
        let from = rows.masks().partition_point(|mask| mask.keys.end <= first + key);
        let to = rows.masks().partition_point(|mask| mask.keys.start < first + key + MR);
        if from >= to {
            continue;
        }
        let (at, num_rows) = (from * STRIDE + key, to - from);
        let d_value = (&mut scratch.d_value[key * value_dim..][..MR * value_dim], value_dim);
        let factors = (d_outputs.skip(from), num_rows);
        value_tile::<S, MR, 1, STRIDE>(simd, &scratch.probs[at..], factors, &ONES, d_value);
        let d_key = (&mut scratch.d_key[key * dim..][..MR * dim], dim);
        let factors = (queries.skip(from), num_rows);
        value_tile::<S, MR, 1, STRIDE>(simd, &scratch.d_scores[at..], factors, &ONES, d_key);
    }
}

/// d_query += d_score·key, a strip of `MR` rows at a time; `d_query` starts with the block's first row.
#[inline(always)]
fn multiply_queries<S: Simd, const MR: usize>(
    simd: S,
    problem: &GradientProblem<'_>,
    head: &PackedGradientHead<'_>,
    rows: &RowBlock<'_>,
    (scratch, d_query): (&GradientScratch<'_>, &mut [f32]),
) {
    let dim = problem.plan.padded_head_dim;
    for (index, masks) in rows.masks().chunks(MR).enumerate() {
        let keys = union(masks);
        if keys.is_empty() {
            continue;
        }
        let d_scores = &scratch.d_scores[index * MR * STRIDE + keys.start - rows.block * BLOCK_KV..];
        let d_query = (&mut d_query[index * MR * dim..][..MR * dim], dim);
        let key_rows = (head.keys.skip(keys.start), keys.len());
        value_tile::<S, MR, STRIDE, 1>(simd, d_scores, key_rows, &ONES, d_query);
    }
}

/// [`multiply_keys`] over pairs that may attend, in the same order and with the same arithmetic.
#[inline(always)]
fn select_keys<S: Simd>(
    simd: S,
    problem: &GradientProblem<'_>,
    rows: &RowBlock<'_>,
    (queries, d_outputs): (Rows<'_>, Rows<'_>),
    scratch: &mut GradientScratch<'_>,
) {
    let (dim, value_dim) = (problem.plan.padded_head_dim, problem.plan.padded_value_dim);
    let first = rows.block * BLOCK_KV;
    for key in rows.keys.clone() {
        let column = key - first;
        for (r, mask) in rows.masks().iter().enumerate().filter(|(_, mask)| mask.allows(problem.config, key))
        {
            debug_assert_eq!(mask.row, rows.first + r);
            let at = r * STRIDE + column;
            if value_dim > 0 {
                let d_value = &mut scratch.d_value[column * value_dim..][..value_dim];
                add_row(simd, scratch.probs[at], d_outputs.row(r, value_dim), d_value);
            }
            let d_key = &mut scratch.d_key[column * dim..][..dim];
            add_row(simd, scratch.d_scores[at], queries.row(r, dim), d_key);
        }
    }
}

/// d_query of a row block of one partition over pairs that may attend, in the order of [`multiply_queries`].
#[inline(always)]
pub(super) fn select_queries<S: Simd, const MR: usize>(
    simd: S,
    problem: &GradientProblem<'_>,
    head: &PackedGradientHead<'_>,
    (rows, partition): (HeadRange, usize),
    (scratch, d_query): (&mut GradientScratch<'_>, &mut [f32]),
) {
    let dim = problem.plan.padded_head_dim;
    let mut masks = room_for_masks();
    for block in partition_blocks(problem.config.mask.key_len(head.at.batch), partition) {
        let at = (rows.member, rows.first);
        let Some(rows) = RowBlock::new(problem, head, at, block, &mut masks) else { continue };
        score_gradients::<S, MR>(simd, problem, head, (&rows, Before::Cap), scratch);
        for (r, mask) in rows.masks().iter().enumerate() {
            for key in mask.keys.clone().filter(|&key| mask.allows(problem.config, key)) {
                let d_score = scratch.d_scores[r * STRIDE + key - block * BLOCK_KV];
                add_row(simd, d_score, head.keys.row(key, dim), &mut d_query[r * dim..][..dim]);
            }
        }
    }
    debug_assert!(rows.first.is_multiple_of(BLOCK_Q));
}

/// `sum += factor · row`, whole vectors, as `tile::value_tile` does it.
#[inline(always)]
fn add_row<S: Simd>(simd: S, factor: f32, row: &[f32], sum: &mut [f32]) {
    let lanes = S::F32_LANES;
    assert!(row.len() == sum.len() && row.len().is_multiple_of(lanes));
    let factor = simd.splat_f32s(factor);
    for column in (0..row.len()).step_by(lanes) {
        // SAFETY: column + lanes ≤ the length of both (asserted).
        unsafe {
            let at = sum.as_mut_ptr().add(column);
            let row = load(simd, row.as_ptr().add(column));
            store(simd, at, simd.mul_add_e_f32s(factor, row, load(simd, at)));
        }
    }
}

//! The second pass: what each key receives, Σ_i a_ij, from each row's known maximum and sum.
//!
//! A job is a range of keys of one key head. It takes all query rows past them in order, strip by strip, so what it
//! writes is its own and every addition order is a function of the row's index.

use std::ops::Range;

use pulp::Simd;

use super::super::dispatch::{SimdTask, run};
use super::super::exp::exp2_nonpositive;
use super::super::forward::union;
use super::super::pack::{PACK_ROWS, clear_query_row, pack_keys, pack_query_row, strip_len, wide_row};
use super::super::plan::{BLOCK_Q, MAX_TILE_ROWS};
use super::super::problem::ScaleParts;
use super::super::row_mask::{room_for_masks, row_masks};
use super::super::run::ForwardCall;
use super::super::scratch::zeroed;
use super::super::tile::{load, score_tile, store};
use super::super::workers::{Queue, TileShape, WORTH_A_THREAD, work};
use super::shared::SharedRows;
use crate::error::AttentionError;

/// Keys of one job; jobs start at multiples of it.
const JOB_KEYS: usize = 512;

/// A checked call, with room to run it.
pub(super) struct ReceivedCall<'a> {
    forward: &'a ForwardCall<'a>,
    worker_len: usize,
    scratch: Vec<f32>,
}

/// Elements of each part of a worker's scratch.
#[derive(Clone, Copy)]
struct PartLens {
    panels: usize,
    wide: usize,
    strip: usize,
    scores: usize,
}

impl PartLens {
    fn new(head_dim: usize, tile_rows: usize) -> Self {
        Self {
            panels: JOB_KEYS * head_dim,
            wide: PACK_ROWS * head_dim,
            strip: strip_len(head_dim, tile_rows),
            scores: MAX_TILE_ROWS * JOB_KEYS,
        }
    }

    fn sum(self) -> usize {
        self.panels + self.wide + self.strip + self.scores
    }
}

impl<'a> ReceivedCall<'a> {
    /// Workers, and elements of scratch for each.
    fn sizes(forward: &ForwardCall<'_>) -> Result<(usize, usize), AttentionError> {
        let shape = &forward.shape;
        let overflow = AttentionError::SizeOverflow { what: "scratch" };
        if shape.head_dim.saturating_add(MAX_TILE_ROWS).checked_mul(8 * JOB_KEYS).is_none() {
            return Err(overflow);
        }
        let (_, tile_rows) = run(forward.isa, TileShape);
        let num_jobs = num_jobs(forward);
        let work = [shape.num_rows(), shape.seq_len_kv, shape.head_dim];
        let work = work.into_iter().try_fold(1usize, |product, size| product.checked_mul(size));
        let workers = if work.is_some_and(|work| work < WORTH_A_THREAD) { 1 } else { forward.num_workers };
        let len = PartLens::new(shape.head_dim, tile_rows).sum();
        let workers = workers.clamp(1, num_jobs.max(1));
        workers.checked_mul(len).ok_or(overflow)?;
        Ok((workers, len))
    }

    pub(super) fn bytes(forward: &ForwardCall<'_>) -> Result<usize, AttentionError> {
        let (workers, len) = Self::sizes(forward)?;
        Ok((workers * len).saturating_mul(size_of::<f32>()))
    }

    pub(super) fn new(forward: &'a ForwardCall<'a>) -> Result<Self, AttentionError> {
        let (workers, worker_len) = Self::sizes(forward)?;
        Ok(Self { forward, worker_len, scratch: zeroed(workers * worker_len)? })
    }

    /// Writes `[batch_size, num_heads, seq_len_kv]`; `bases` are each row's maximum in units of log₂, and what
    /// exponentials measured from it are multiplied with.
    pub(super) fn run(&mut self, bases: &[[f32; 2]], received: &mut [f32]) {
        let forward = self.forward;
        let received = SharedRows::new(received, forward.shape.seq_len_kv);
        let queue = Queue::new(0..num_jobs(forward));
        let scale = ScaleParts::new(&forward.config);
        work(&mut self.scratch, self.worker_len, |scratch| {
            let pass = Pass { forward, bases, received: &received, scale };
            run(forward.isa, ReceivedTask { pass: &pass, queue: &queue, scratch });
        });
    }
}

fn jobs_per_head(forward: &ForwardCall<'_>) -> usize {
    forward.shape.seq_len_kv.div_ceil(JOB_KEYS)
}

fn num_jobs(forward: &ForwardCall<'_>) -> usize {
    forward.shape.batch_size * forward.shape.num_kv_heads * jobs_per_head(forward)
}

/// What all workers share.
struct Pass<'a> {
    forward: &'a ForwardCall<'a>,
    bases: &'a [[f32; 2]],
    received: &'a SharedRows<'a, f32>,
    scale: ScaleParts,
}

struct ReceivedTask<'a, 's, I> {
    pass: &'a Pass<'a>,
    queue: &'a Queue<I>,
    scratch: &'s mut [f32],
}

impl<I: Iterator<Item = usize>> SimdTask for ReceivedTask<'_, '_, I> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const MR: usize>(self, simd: S) {
        let forward = self.pass.forward;
        let shape = &forward.shape;
        let lens = PartLens::new(shape.head_dim, MR);
        let (panels, scratch) = self.scratch.split_at_mut(lens.panels);
        let (wide, scratch) = scratch.split_at_mut(lens.wide);
        let (strip, scores) = scratch.split_at_mut(lens.strip);
        while let Some(job) = self.queue.take() {
            let (head, first) = (job / jobs_per_head(forward), job % jobs_per_head(forward) * JOB_KEYS);
            let (batch, kv_head) = (head / shape.num_kv_heads, head % shape.num_kv_heads);
            let end = forward.config.mask.key_len(batch).min(first + JOB_KEYS);
            let keys = first.min(end)..end;
            if keys.is_empty() {
                continue; // padding receives nothing
            }
            let packed = (2 * S::F32_LANES, &mut *wide);
            pack_keys(forward.key, (batch, kv_head), (first, keys.len()), packed, panels);
            for member in 0..shape.group_size() {
                let head = Head { batch, kv_head, member, keys: keys.clone() };
                let parts = Parts { panels, wide, strip, scores };
                let sums = received_of_head::<S, MR>(simd, self.pass, &head, parts);
                let index = batch * shape.num_heads + kv_head * shape.group_size() + member;
                // SAFETY: each range of keys of each head is in exactly one job, taken by exactly one worker.
                let target = unsafe { self.pass.received.part(index, first, keys.len()) };
                for (place, sum) in target.iter_mut().zip(sums) {
                    *place = sum as f32;
                }
            }
        }
    }
}

/// A query head, and the keys of a job.
struct Head {
    batch: usize,
    kv_head: usize,
    /// Query head within the group.
    member: usize,
    keys: Range<usize>,
}

/// What one head of a job works with.
struct Parts<'a> {
    panels: &'a [f32],
    wide: &'a mut [f32],
    strip: &'a mut [f32],
    /// `[rows][JOB_KEYS]`.
    scores: &'a mut [f32],
}

/// What keys of a job receive from one head: strips are summed in f32 over 96 rows, these in f64.
#[inline(always)]
fn received_of_head<S: Simd, const MR: usize>(
    simd: S,
    pass: &Pass<'_>,
    head: &Head,
    mut parts: Parts<'_>,
) -> [f64; JOB_KEYS] {
    let seq_len_q = pass.forward.shape.seq_len_q;
    let mut totals = [0.0f64; JOB_KEYS];
    let mut sums = [0.0f32; JOB_KEYS];
    for first in (0..seq_len_q).step_by(BLOCK_Q) {
        let rows = first..(first + BLOCK_Q).min(seq_len_q);
        let mask = &pass.forward.config.mask;
        // Both ends of a row's keys grow with the row.
        let (start, end) =
            (mask.key_range(head.batch, first).start, mask.key_range(head.batch, rows.end - 1).end);
        if start >= head.keys.end || end <= head.keys.start {
            continue;
        }
        sums.fill(0.0);
        for first in rows.clone().step_by(MR) {
            let rows = first..(first + MR).min(rows.end);
            add_strip::<S, MR>(simd, pass, (head, rows), &mut parts, &mut sums);
        }
        for (total, sum) in totals.iter_mut().zip(&sums) {
            *total += f64::from(*sum);
        }
    }
    totals
}

/// Adds what `MR` rows give to the keys.
#[inline(always)]
fn add_strip<S: Simd, const MR: usize>(
    simd: S,
    pass: &Pass<'_>,
    (head, rows): (&Head, Range<usize>),
    parts: &mut Parts<'_>,
    sums: &mut [f32; JOB_KEYS],
) {
    let (shape, config) = (&pass.forward.shape, &pass.forward.config);
    let (mut room, before) = (room_for_masks::<MAX_TILE_ROWS>(), head.member * shape.seq_len_q);
    let in_group = before + rows.start..before + rows.end;
    let masks = row_masks((shape, config), (head.batch, head.kv_head), in_group, &head.keys, &mut room);
    let keys = union(masks);
    if keys.is_empty() {
        return;
    }
    let head_dim = shape.head_dim;
    for (r, mask) in masks.iter().enumerate() {
        let at = [mask.batch, mask.head, mask.row];
        let row = wide_row(pass.forward.query, at, &mut parts.wide[..head_dim]);
        pack_query_row(simd, (row, pass.scale.query), (r, MR), parts.strip);
    }
    for r in masks.len()..MR {
        clear_query_row((r, MR), parts.strip);
    }
    let (width, first) = (2 * S::F32_LANES, head.keys.start);
    let (from, to) = ((keys.start - first) / width * width, (keys.end - first).next_multiple_of(width));
    for column in (from..to).step_by(width) {
        let panel = &parts.panels[column * head_dim..][..width * head_dim];
        let (query, scores) = ((&*parts.strip, head_dim), &mut parts.scores[column..]);
        score_tile::<S, MR, JOB_KEYS>(simd, query, panel, pass.scale.score, scores);
    }
    let index = (head.batch * shape.num_heads + masks[0].head) * shape.seq_len_q;
    for (mask, scores) in masks.iter().zip(parts.scores.chunks_exact_mut(JOB_KEYS)) {
        let scores = &mut scores[from..to];
        if !(config.is_plain() && mask.covers(&(first + from..first + to))) {
            mask.apply(simd, config, first + from, scores);
        }
        let [base, factor] = pass.bases[index + mask.row];
        if factor.is_finite() {
            add_probs(simd, scores, (base, factor), &mut sums[from..to]);
        } else {
            // NaN, but only where the row may attend.
            scores.fill(f32::NAN);
            mask.clear(config, first + from, scores);
            for (sum, prob) in sums[from..to].iter_mut().zip(scores) {
                *sum += *prob;
            }
        }
    }
}

/// `sums += factor · 2^(scores − base)`.
#[inline(always)]
fn add_probs<S: Simd>(simd: S, scores: &[f32], (base, factor): (f32, f32), sums: &mut [f32]) {
    let lanes = S::F32_LANES;
    assert!(scores.len() == sums.len() && scores.len().is_multiple_of(lanes));
    let (base, factor, zero) = (simd.splat_f32s(base), simd.splat_f32s(factor), simd.splat_f32s(0.0));
    for column in (0..scores.len()).step_by(lanes) {
        // SAFETY: column + lanes ≤ the length of both, a multiple of `lanes` (asserted).
        unsafe {
            let x = simd.sub_f32s(load(simd, scores.as_ptr().add(column)), base);
            // Where the maximum was found by row dots, rounding may leave a score above it.
            let x = simd.select_f32s(simd.greater_than_f32s(x, zero), zero, x);
            let at = sums.as_mut_ptr().add(column);
            store(simd, at, simd.mul_add_e_f32s(exp2_nonpositive(simd, x), factor, load(simd, at)));
        }
    }
}

//! Probabilities of chosen rows and keys, recomputed from the saved log-sum-exp: p = e^(score − lse); whole rows are
//! then divided by their sum, which takes out what rounding the log-sum-exp to f32 put in.

use std::f32::consts::LOG2_E;
use std::ops::Range;

use pulp::Simd;

use super::decode::{dot_scores, rows_of};
use super::dispatch::{SimdTask, run};
use super::exp::exp2_nonpositive;
use super::fetch::Ahead;
use super::finish::share_beside_sink;
use super::forward::union;
use super::isa::Isa;
use super::plan::{BLOCK_KV, MAX_DOT_ROWS};
use super::problem::ScaleParts;
use super::row_mask::{room_for_masks, row_masks};
use super::rows::RowSource;
use super::scratch::zeroed;
use super::tile::{load, store};
use super::workers::{Queue, TileShape, WORTH_A_THREAD, work};
use crate::attention::HeadBlock;
use crate::config::CheckedConfig;
use crate::error::AttentionError;
use crate::shape::AttentionShape;
use crate::view::checked_product;

/// A checked request for some probabilities of one head.
pub(crate) struct ProbsCall<'a> {
    pub(crate) shape: AttentionShape,
    pub(crate) config: CheckedConfig<'a>,
    pub(crate) query: &'a dyn RowSource,
    pub(crate) key: &'a dyn RowSource,
    pub(crate) at: &'a HeadBlock,
    /// One element for each of the rows.
    pub(crate) log_sum_exp: &'a [f32],
    pub(crate) isa: Isa,
    pub(crate) num_workers: usize,
}

impl ProbsCall<'_> {
    /// Writes `[rows, keys]`.
    pub(crate) fn run(&self, probs: &mut [f32]) -> Result<(), AttentionError> {
        let HeadBlock { rows, keys, .. } = self.at;
        let (lanes, _) = run(self.isa, TileShape);
        let head_dim = self.shape.head_dim;
        checked_product(&[head_dim.saturating_add(lanes), MAX_DOT_ROWS + BLOCK_KV, 8], "scratch")?;
        let padded = head_dim.next_multiple_of(lanes);
        let worker_len = MAX_DOT_ROWS * padded + BLOCK_KV * padded + MAX_DOT_ROWS * BLOCK_KV;
        let multiply_adds = rows.len().saturating_mul(keys.len()).saturating_mul(head_dim);
        let workers = self.num_workers.min(multiply_adds / WORTH_A_THREAD).max(1);
        // Several jobs a worker, so that masked rows and late threads even out; groups of rows stay whole.
        let job_rows = rows.len().div_ceil(workers * 4).next_multiple_of(MAX_DOT_ROWS);
        checked_product(&[worker_len, workers, size_of::<f32>()], "scratch")?;
        let mut scratch = zeroed(worker_len * workers)?;
        let queue = Queue::new(probs.chunks_mut(job_rows.saturating_mul(keys.len())).enumerate());
        work(&mut scratch, worker_len, |scratch| {
            while let Some((job, probs)) = queue.take() {
                let start = rows.start + job * job_rows;
                let rows = start..rows.end.min(start + job_rows);
                run(self.isa, ProbsTask { call: self, rows, probs, scratch: &mut *scratch });
            }
        });
        Ok(())
    }
}

/// Some of the call's rows, with scratch of its own.
struct ProbsTask<'a> {
    call: &'a ProbsCall<'a>,
    rows: Range<usize>,
    probs: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl SimdTask for ProbsTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const MR: usize>(self, simd: S) {
        let Self { call, rows: all_rows, probs: all_probs, scratch } = self;
        let HeadBlock { batch, head, rows: called, keys: all_keys } = call.at;
        let log_sum_exp = &call.log_sum_exp[all_rows.start - called.start..all_rows.end - called.start];
        let head_dim = call.shape.head_dim;
        let padded = head_dim.next_multiple_of(S::F32_LANES);
        let (queries, scratch) = scratch.split_at_mut(MAX_DOT_ROWS * padded);
        let (key_tile, scores) = scratch.split_at_mut(BLOCK_KV * padded);
        let scale = ScaleParts::new(&call.config);
        let kv_head = head / call.shape.group_size();
        let first_row = head % call.shape.group_size() * call.shape.seq_len_q;
        all_probs.fill(0.0);
        for start in all_rows.clone().step_by(MAX_DOT_ROWS) {
            let mut room = room_for_masks::<MAX_DOT_ROWS>();
            let rows = first_row + start..first_row + all_rows.end.min(start + MAX_DOT_ROWS);
            let options = (&call.shape, &call.config);
            let masks = row_masks(options, (*batch, kv_head), rows, all_keys, &mut room);
            for (mask, query) in masks.iter().zip(queries.chunks_exact_mut(padded)) {
                call.query.widen_row(*batch, *head, mask.row, &mut query[..head_dim]);
                query.iter_mut().for_each(|number| *number *= scale.query);
            }
            let keys = union(masks);
            for first in keys.clone().step_by(BLOCK_KV) {
                let count = (keys.end - first).min(BLOCK_KV);
                let dims = (head_dim, padded);
                let rows = rows_of(call.key, (*batch, kv_head), (first, count), dims, key_tile);
                dot_scores(simd, queries, (rows, count, Ahead::NOTHING), padded, scores, masks.len());
                for (mask, scores) in masks.iter().zip(scores.chunks_exact_mut(BLOCK_KV)) {
                    scores[..count].iter_mut().for_each(|score| *score *= scale.score);
                    mask.apply(simd, &call.config, first, &mut scores[..count]);
                    let at = mask.row - all_rows.start;
                    exponentials(simd, scores, log_sum_exp[at]);
                    mask.clear(&call.config, first, &mut scores[..count]);
                    let probs = &mut all_probs[at * all_keys.len() + first - all_keys.start..][..count];
                    probs.copy_from_slice(&scores[..count]);
                }
            }
        }
        let share = |lse: f32| call.config.sinks.map_or(1.0, |sinks| share_beside_sink(lse, sinks[*head]));
        for (probs, &lse) in all_probs.chunks_exact_mut(all_keys.len()).zip(log_sum_exp) {
            let mut factor = f64::from(share(lse));
            if *all_keys == (0..call.shape.seq_len_kv) {
                factor /= probs.iter().map(|&prob| f64::from(prob)).sum::<f64>();
            }
            // A row without allowed keys stays 0, and NaN stays where it arose.
            if factor.is_finite() {
                probs.iter_mut().for_each(|prob| *prob = (f64::from(*prob) * factor) as f32);
            }
        }
    }
}

/// 2^(score − lse·log₂e) in place; rounding may leave a score above its log-sum-exp, which gives 1.
#[inline(always)]
fn exponentials<S: Simd>(simd: S, scores: &mut [f32], log_sum_exp: f32) {
    let lanes = S::F32_LANES;
    assert!(scores.len().is_multiple_of(lanes));
    let lse = simd.splat_f32s(log_sum_exp * LOG2_E);
    let zero = simd.splat_f32s(0.0);
    for column in (0..scores.len()).step_by(lanes) {
        // SAFETY: column + lanes ≤ scores.len(), a multiple of `lanes` (asserted).
        unsafe {
            let at = scores.as_mut_ptr().add(column);
            let x = simd.sub_f32s(load(simd, at), lse);
            let x = simd.select_f32s(simd.greater_than_f32s(x, zero), zero, x);
            store(simd, at, exp2_nonpositive(simd, x));
        }
    }
}

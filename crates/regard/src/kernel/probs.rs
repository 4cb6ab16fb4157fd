//! Probabilities of chosen rows, recomputed from the saved log-sum-exp: p = e^(score − lse), then divided by
//! their sum, which takes out what rounding the log-sum-exp to f32 put in.

use std::f32::consts::LOG2_E;
use std::ops::Range;

use pulp::Simd;

use super::decode::{dot_scores, rows_of};
use super::dispatch::{SimdTask, run};
use super::exp::exp2_nonpositive;
use super::forward::union;
use super::isa::Isa;
use super::plan::{BLOCK_KV, MAX_DOT_ROWS, MAX_TILE_ROWS};
use super::problem::ScaleParts;
use super::row_mask::RowMask;
use super::rows::RowSource;
use super::scratch::zeroed;
use super::tile::{load, store};
use crate::config::CheckedConfig;
use crate::error::AttentionError;
use crate::shape::AttentionShape;
use crate::view::checked_product;

/// A checked request for the probabilities of some rows of one head.
pub(crate) struct ProbsCall<'a> {
    pub(crate) shape: AttentionShape,
    pub(crate) config: CheckedConfig<'a>,
    pub(crate) query: &'a dyn RowSource,
    pub(crate) key: &'a dyn RowSource,
    pub(crate) batch: usize,
    pub(crate) head: usize,
    pub(crate) rows: Range<usize>,
    /// One element for each of `rows`.
    pub(crate) log_sum_exp: &'a [f32],
    pub(crate) isa: Isa,
}

impl ProbsCall<'_> {
    /// Writes `[rows, seq_len_kv]`.
    pub(crate) fn run(&self, probs: &mut [f32]) -> Result<(), AttentionError> {
        run(self.isa, ProbsTask { call: self, probs })
    }
}

struct ProbsTask<'a> {
    call: &'a ProbsCall<'a>,
    probs: &'a mut [f32],
}

impl SimdTask for ProbsTask<'_> {
    type Output = Result<(), AttentionError>;

    #[inline(always)]
    fn run<S: Simd, const MR: usize>(self, simd: S) -> Self::Output {
        let call = self.call;
        let (head_dim, seq_len_kv) = (call.shape.head_dim, call.shape.seq_len_kv);
        checked_product(&[head_dim.saturating_add(MAX_TILE_ROWS), BLOCK_KV, 8], "scratch")?;
        let padded = head_dim.next_multiple_of(S::F32_LANES);
        let mut queries = zeroed(MAX_DOT_ROWS * padded)?;
        let mut key_tile = zeroed(BLOCK_KV * padded)?;
        let mut scores = zeroed(MAX_DOT_ROWS * BLOCK_KV)?;
        let scale = ScaleParts::new(&call.config);
        let kv_head = call.head / call.shape.group_size();
        let first_row = call.head % call.shape.group_size() * call.shape.seq_len_q;
        let all_keys = 0..seq_len_kv;
        self.probs.fill(0.0);
        for start in call.rows.clone().step_by(MAX_DOT_ROWS) {
            let mut masks: [RowMask; MAX_DOT_ROWS] = std::array::from_fn(|_| RowMask::default());
            let masks = &mut masks[..MAX_DOT_ROWS.min(call.rows.end - start)];
            for ((r, mask), query) in masks.iter_mut().enumerate().zip(queries.chunks_exact_mut(padded)) {
                let row = first_row + start + r;
                *mask = RowMask::new((&call.shape, &call.config), (call.batch, kv_head), row, &all_keys);
                call.query.widen_row(call.batch, call.head, mask.row, &mut query[..head_dim]);
                query.iter_mut().for_each(|number| *number *= scale.query);
            }
            let keys = union(masks);
            for first in keys.clone().step_by(BLOCK_KV) {
                let count = (keys.end - first).min(BLOCK_KV);
                let dims = (head_dim, padded);
                let rows = rows_of(call.key, (call.batch, kv_head), (first, count), dims, &mut key_tile);
                dot_scores(simd, &queries, (rows, count), padded, &mut scores, masks.len());
                for (mask, scores) in masks.iter().zip(scores.chunks_exact_mut(BLOCK_KV)) {
                    scores[..count].iter_mut().for_each(|score| *score *= scale.score);
                    mask.apply(&call.config, first, &mut scores[..count]);
                    let at = mask.row - call.rows.start;
                    exponentials(simd, scores, call.log_sum_exp[at]);
                    let probs = &mut self.probs[at * seq_len_kv + first..][..count];
                    for (j, (prob, &exponential)) in probs.iter_mut().zip(&*scores).enumerate() {
                        *prob = if mask.allows(&call.config, first + j) { exponential } else { 0.0 };
                    }
                }
            }
        }
        for probs in self.probs.chunks_exact_mut(seq_len_kv.max(1)) {
            let sum: f64 = probs.iter().map(|&prob| f64::from(prob)).sum();
            if sum > 0.0 {
                probs.iter_mut().for_each(|prob| *prob = (f64::from(*prob) / sum) as f32);
            }
        }
        Ok(())
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

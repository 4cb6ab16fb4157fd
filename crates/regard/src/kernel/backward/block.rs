//! Probabilities and score gradients of up to 96 query rows against one block of keys: what every later phase is
//! made of.

use std::ops::Range;

use pulp::Simd;

use super::super::exp::exp2_nonpositive;
use super::super::forward::{is_finite, union};
use super::super::pack::strip_len;
use super::super::plan::{BLOCK_KV, BLOCK_Q};
use super::super::row_mask::{Masks, RowMask, row_masks};
use super::super::tanh::{cap_scores, cap_slopes};
use super::super::tile::{load, score_tile, store};
use super::GradientProblem;
use super::pack::PackedGradientHead;
use super::plan::{GradientScratch, STRIDE};

/// Up to 96 rows of one query head that have keys in common with a key block.
pub(super) struct RowBlock<'m> {
    masks: &'m [RowMask],
    /// Query head within the group.
    pub(super) member: usize,
    /// The first row.
    pub(super) first: usize,
    /// Keys that any of the rows may attend to, by its range.
    pub(super) keys: Range<usize>,
    /// The key block.
    pub(super) block: usize,
}

impl<'m> RowBlock<'m> {
    /// `None` if no row of the block may attend to a key of the key block.
    pub(super) fn new(
        problem: &GradientProblem<'_>,
        head: &PackedGradientHead<'_>,
        (member, first): (usize, usize),
        block: usize,
        masks: &'m mut Masks,
    ) -> Option<Self> {
        let (batch, mask) = (head.at.batch, &problem.config.mask);
        let block_keys = block * BLOCK_KV..((block + 1) * BLOCK_KV).min(mask.key_len(batch));
        let len = (problem.plan.rows - first).min(BLOCK_Q);
        // Both ends of a row's keys grow with the row.
        let (start, end) = (mask.key_range(batch, first).start, mask.key_range(batch, first + len - 1).end);
        if start >= block_keys.end || end <= block_keys.start {
            return None;
        }
        let (options, row) = ((problem.shape, problem.config), member * problem.plan.rows + first);
        let masks = row_masks(options, (batch, head.at.kv_head), row..row + len, &block_keys, masks);
        let keys = union(masks);
        (!keys.is_empty()).then_some(Self { masks, member, first, keys, block })
    }

    pub(super) fn masks(&self) -> &'m [RowMask] {
        self.masks
    }
}

/// What the score gradients are for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Before {
    /// Gradients of the products of query and key, times a part of the scale (`GradientScale`).
    Cap,
    /// Gradients of what biases are added to.
    Bias,
}

/// Fills `scratch.probs` with what d_value is summed with (dropout included) and `scratch.d_scores` with score
/// gradients, 0 wherever a row may not attend. Columns count from the block's first key; they are valid for
/// whole strips of keys around the block's `keys`.
#[inline(always)]
pub(super) fn score_gradients<S: Simd, const MR: usize>(
    simd: S,
    problem: &GradientProblem<'_>,
    head: &PackedGradientHead<'_>,
    (rows, before): (&RowBlock<'_>, Before),
    scratch: &mut GradientScratch<'_>,
) {
    let plan = problem.plan;
    let width = 2 * S::F32_LANES;
    let first = rows.block * BLOCK_KV;
    let columns = columns::<MR>(&rows.keys, first, width);
    let (queries, d_outputs) = head.strips(plan, rows.member, rows.first);
    for (index, masks) in rows.masks().chunks(MR).enumerate() {
        let keys = union(masks);
        let (from, to) = match keys.is_empty() {
            true => (columns.start, columns.start),
            false => ((keys.start - first) / width * width, (keys.end - first).next_multiple_of(width)),
        };
        let query = &queries[index * strip_len(plan.head_dim, MR)..];
        let d_output = &d_outputs[index * strip_len(plan.value_dim, MR)..];
        let probs = &mut scratch.probs[index * MR * STRIDE..][..MR * STRIDE];
        let d_scores = &mut scratch.d_scores[index * MR * STRIDE..][..MR * STRIDE];
        for column in (from..to).step_by(width) {
            let panel = |panels: &'_ [f32], dim: usize| {
                let start = (first + column) * dim;
                start..(start + width * dim).min(panels.len())
            };
            let keys = &head.key_panels[panel(head.key_panels, plan.head_dim)];
            let values = &head.value_panels[panel(head.value_panels, plan.value_dim)];
            let factor = problem.scale.score;
            score_tile::<S, MR, STRIDE>(simd, (query, plan.head_dim), keys, factor, &mut probs[column..]);
            let d_output = (d_output, plan.value_dim);
            score_tile::<S, MR, STRIDE>(simd, d_output, values, 1.0, &mut d_scores[column..]);
        }
        for (r, mask) in masks.iter().enumerate() {
            let probs = &mut probs[r * STRIDE..][..STRIDE];
            let d_scores = &mut d_scores[r * STRIDE..][..STRIDE];
            for numbers in [&mut *probs, &mut *d_scores] {
                numbers[columns.start..from].fill(0.0);
                numbers[to..columns.end].fill(0.0);
            }
            if from == to {
                continue;
            }
            let slopes = match plan.softcap {
                true => &mut scratch.slopes[(index * MR + r) * STRIDE + from..][..to - from],
                false => &mut [],
            };
            let terms = head.terms(plan, rows.member, mask.row);
            let row = (&mut probs[from..to], &mut d_scores[from..to], slopes);
            row_gradients(simd, problem, (mask, first + from), (terms, before), row);
        }
    }
}

/// Columns of whole vectors and whole strips of `MR` keys around `keys`.
#[inline(always)]
pub(super) fn columns<const MR: usize>(keys: &Range<usize>, first: usize, width: usize) -> Range<usize> {
    let from = (keys.start - first) / width * width / MR * MR;
    from..(keys.end - first).next_multiple_of(width).next_multiple_of(MR)
}

/// One row: scores become probabilities, products of output gradient and value become score gradients,
/// d_score = p·(m·d_output·v − delta), m what dropout multiplies with.
#[inline(always)]
fn row_gradients<S: Simd>(
    simd: S,
    problem: &GradientProblem<'_>,
    (mask, first): (&RowMask, usize),
    ((delta, base), before): ((f32, f32), Before),
    (probs, d_scores, slopes): (&mut [f32], &mut [f32], &mut [f32]),
) {
    let config = problem.config;
    if let Some(cap) = config.softcap {
        cap_slopes(simd, cap, probs, slopes);
        cap_scores(simd, cap, probs);
    }
    if !(config.is_plain() && mask.covers(&(first..first + probs.len()))) {
        mask.apply_to_capped(config, first, probs);
    }
    let dropout = config.dropout.is_some();
    if dropout {
        mask.drop(first, d_scores);
    }
    let lanes = S::F32_LANES;
    assert!(probs.len() == d_scores.len() && probs.len().is_multiple_of(lanes));
    let (delta, base, zero) = (simd.splat_f32s(delta), simd.splat_f32s(base), simd.splat_f32s(0.0));
    let factor = if before == Before::Cap { problem.gradient_scale.score } else { 1.0 };
    let factor = simd.splat_f32s(factor);
    for column in (0..probs.len()).step_by(lanes) {
        // SAFETY: column + lanes ≤ the length of both rows, a multiple of `lanes` (asserted).
        unsafe {
            let (prob, d_score) = (probs.as_mut_ptr().add(column), d_scores.as_mut_ptr().add(column));
            let x = simd.sub_f32s(load(simd, prob), base);
            // Rounding may leave a score above its log-sum-exp; NaN passes.
            let p = exp2_nonpositive(simd, simd.select_f32s(simd.greater_than_f32s(x, zero), zero, x));
            store(simd, prob, p);
            let gradient = simd.mul_f32s(p, simd.sub_f32s(load(simd, d_score), delta));
            store(simd, d_score, simd.mul_f32s(gradient, factor));
        }
    }
    if dropout {
        mask.drop(first, probs);
    }
    if before == Before::Cap {
        for (d_score, slope) in d_scores.iter_mut().zip(&*slopes) {
            *d_score *= slope;
        }
    }
    // 0 · NaN where the row may not attend.
    if !is_finite(simd, d_scores) {
        mask.clear(config, first, probs);
        mask.clear(config, first, d_scores);
    }
}

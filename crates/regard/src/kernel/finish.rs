//! What a finished row becomes: an output, or a part of one that is merged later.

use pulp::Simd;

use super::online_softmax::{RowState, merge};
use super::plan::{MAX_KEY_SPLITS, Merge};
use super::problem::Problem;
use super::row_mask::RowMask;
use super::scratch::WorkerScratch;
use super::tile::{load, store};

/// Writes the rows of a piece that saw all its keys, or keeps them as a partial result:
/// `[rows][columns]` outputs, then each row's maximum, then each row's sum.
#[inline(always)]
pub(super) fn write_rows<S: Simd>(
    simd: S,
    problem: &Problem<'_>,
    masks: &[RowMask],
    states: &[RowState],
    (scratch, partial): (&mut WorkerScratch<'_>, Option<&mut [f32]>),
) {
    let columns = problem.plan.padded_value_dim;
    if let Some(partial) = partial {
        let rows = problem.plan.partial_rows();
        partial[..masks.len() * columns].copy_from_slice(&scratch.output[..masks.len() * columns]);
        for (r, state) in states.iter().enumerate() {
            partial[rows * columns + r] = state.max;
            partial[rows * columns + rows + r] = state.sum;
        }
        return;
    }
    for (r, (mask, &state)) in masks.iter().zip(states).enumerate() {
        write_row(simd, problem, mask, state, &mut scratch.output[r * columns..][..columns]);
    }
}

/// Divides by the sum and writes: a row that may attend to nothing is 0 and −∞, decided by the mask. `output` is
/// whole vectors.
#[inline(always)]
fn write_row<S: Simd>(simd: S, problem: &Problem<'_>, mask: &RowMask, state: RowState, output: &mut [f32]) {
    let mut log_sum_exp = f32::NEG_INFINITY;
    if state.sum == 0.0 && !mask.allows_any(problem.config) {
        output.fill(0.0);
    } else {
        let mut share = 1.0;
        if problem.config.sinks.is_some() || problem.sink.wants_log_sum_exp() {
            log_sum_exp = state.log_sum_exp();
        }
        if let Some(sinks) = problem.config.sinks {
            share = share_beside_sink(log_sum_exp, sinks[mask.head]);
        }
        scale(simd, output, (1.0 / state.sum, share));
    }
    let output = &output[..problem.shape.value_head_dim];
    // SAFETY: every row belongs to exactly one piece or one merge (`Plan::cut`), and each is taken by exactly
    // one worker (the queues of `run.rs`).
    unsafe { problem.sink.write_row([mask.batch, mask.head, mask.row], output, log_sum_exp) };
}

/// Multiplies whole vectors with two factors, one after the other; −0 becomes 0: whether 0 was added to it depends on
/// the tile.
#[inline(always)]
fn scale<S: Simd>(simd: S, numbers: &mut [f32], (first, second): (f32, f32)) {
    let lanes = S::F32_LANES;
    assert!(numbers.len().is_multiple_of(lanes));
    let (first, second, zero) = (simd.splat_f32s(first), simd.splat_f32s(second), simd.splat_f32s(0.0));
    for at in (0..numbers.len()).step_by(lanes) {
        // SAFETY: at + lanes ≤ the length, a multiple of `lanes` (asserted).
        unsafe {
            let at = numbers.as_mut_ptr().add(at);
            let scaled = simd.mul_f32s(simd.mul_f32s(load(simd, at), first), second);
            store(simd, at, simd.add_f32s(scaled, zero));
        }
    }
}

/// What a sink leaves to the keys of a row: e^lse / (e^lse + e^sink).
pub(crate) fn share_beside_sink(log_sum_exp: f32, sink: f32) -> f32 {
    (1.0 / (1.0 + (f64::from(sink) - f64::from(log_sum_exp)).exp())) as f32
}

/// Merges the partial results of rows whose keys were split, in the order of the keys, and writes them.
#[inline(always)]
pub(super) fn merge_partials<S: Simd>(
    simd: S,
    problem: &Problem<'_>,
    (job, partials): (&Merge, &[f32]),
    output: &mut [f32],
) {
    let (rows, columns) = (problem.plan.partial_rows(), problem.plan.padded_value_dim);
    let part_len = problem.plan.partial_len();
    let parts = &partials[job.first_partial * part_len..][..job.num_parts * part_len];
    let all_keys = 0..problem.config.mask.key_len(job.batch);
    let output = &mut output[..columns];
    for (r, row) in job.rows.clone().enumerate() {
        let mut states = [RowState::EMPTY; MAX_KEY_SPLITS];
        let mut weights = [0.0; MAX_KEY_SPLITS];
        for (state, part) in states.iter_mut().zip(parts.chunks_exact(part_len)) {
            *state = RowState { max: part[rows * columns + r], sum: part[rows * columns + rows + r] };
        }
        let whole = merge(simd, &states[..job.num_parts], &mut weights);
        output.fill(0.0);
        for (&weight, part) in weights.iter().zip(parts.chunks_exact(part_len)) {
            for (out, number) in output.iter_mut().zip(&part[r * columns..]) {
                *out += weight * number;
            }
        }
        let options = (problem.shape, problem.config);
        let mask = RowMask::new(options, (job.batch, job.kv_head), row, &all_keys);
        write_row(simd, problem, &mask, whole, output);
    }
}

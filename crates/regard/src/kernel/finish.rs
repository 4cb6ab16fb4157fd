//! What a finished row becomes: an output, or a part of one that is merged later.

use pulp::Simd;

use super::online_softmax::{RowState, merge};
use super::plan::{MAX_KEY_SPLITS, Merge};
use super::problem::Problem;
use super::row_mask::RowMask;
use super::scratch::WorkerScratch;

/// Writes the rows of a piece that saw all its keys, or keeps them as a partial result:
/// `[rows][columns]` outputs, then each row's maximum, then each row's sum.
pub(super) fn write_rows(
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
        let output = &mut scratch.output[r * columns..][..problem.shape.value_head_dim];
        write_row(problem, mask, state, output);
    }
}

/// Divides by the sum and writes: a row that may attend to nothing is 0 and −∞, decided by the mask.
fn write_row(problem: &Problem<'_>, mask: &RowMask, state: RowState, output: &mut [f32]) {
    let log_sum_exp = if state.sum == 0.0 && !mask.allows_any(problem.config) {
        output.fill(0.0);
        f32::NEG_INFINITY
    } else {
        let log_sum_exp = state.log_sum_exp();
        let sinks = problem.config.sinks;
        let share = sinks.map_or(1.0, |sinks| share_beside_sink(log_sum_exp, sinks[mask.head]));
        for out in output.iter_mut() {
            *out = *out / state.sum * share + 0.0; // no −0: whether 0 was added to it depends on the tile
        }
        log_sum_exp
    };
    // SAFETY: every row belongs to exactly one piece or one merge (`Plan::cut`), and each is taken by exactly
    // one worker (the queues of `run.rs`).
    unsafe { problem.sink.write_row([mask.batch, mask.head, mask.row], output, log_sum_exp) };
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
    let output = &mut output[..problem.shape.value_head_dim];
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
        write_row(problem, &mask, whole, output);
    }
}

//! Gradients of the sinks: d_sink = −Σ p_sink·(d_output·output) over the rows of its head, in order.

use super::super::rows::RowSource;
use super::GradientProblem;

/// Adds to `[num_heads]` gradients, with scratch for two rows. One pass over the rows, cheap beside everything else.
pub(super) fn add_gradients(problem: &GradientProblem<'_>, d_sinks: &mut [f32], scratch: &mut [f32]) {
    let Some(sinks) = problem.config.sinks else { return };
    let shape = problem.shape;
    let (output, d_output) = scratch[..2 * shape.value_head_dim].split_at_mut(shape.value_head_dim);
    for (head, (d_sink, &sink)) in d_sinks.iter_mut().zip(sinks).enumerate() {
        let mut sum = 0.0f64;
        for (batch, row) in (0..shape.batch_size).flat_map(|b| (0..shape.seq_len_q).map(move |i| (b, i))) {
            let (log_sum_exp, _) = problem.row_numbers(batch, head, row);
            if log_sum_exp == f32::NEG_INFINITY {
                continue; // no allowed key: no gradient, whatever its numbers
            }
            let read = |source: &dyn RowSource, wide: &mut [f32]| source.widen_row(batch, head, row, wide);
            read(problem.output, output);
            read(problem.d_output, d_output);
            let dot: f64 = output.iter().zip(&*d_output).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let share = 1.0 / (1.0 + (f64::from(log_sum_exp) - f64::from(sink)).exp());
            sum -= share * dot;
        }
        *d_sink += sum as f32;
    }
}

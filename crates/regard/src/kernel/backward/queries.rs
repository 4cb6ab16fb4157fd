//! The third phase: d_query is the sum of what the partitions of the keys gave, in their order, times the scale;
//! and the gradients of keys that are padding are 0.

use pulp::Simd;

use super::super::dispatch::SimdTask;
use super::super::forward::is_finite;
use super::super::plan::BLOCK_Q;
use super::super::rows::RowSink;
use super::super::workers::Queue;
use super::keys::select_queries;
use super::pack::Wave;
use super::plan::{GradientScratch, num_partitions};
use super::{GradientProblem, HeadAt, HeadRange};

pub(super) struct QueryTask<'a, 's, I> {
    pub(super) problem: &'a GradientProblem<'a>,
    pub(super) wave: &'a Wave<'a>,
    /// Every head's partitions.
    pub(super) parts: &'a [f32],
    pub(super) sink: &'a dyn RowSink,
    pub(super) queue: &'a Queue<I>,
    pub(super) scratch: GradientScratch<'s>,
}

impl<I: Iterator<Item = (HeadAt, HeadRange)>> SimdTask for QueryTask<'_, '_, I> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const MR: usize>(mut self, simd: S) {
        let (problem, plan) = (self.problem, self.problem.plan);
        let part_len = plan.lens().d_query_part;
        while let Some((at, rows)) = self.queue.take() {
            let partitions = num_partitions(problem.config.mask.key_len(at.batch));
            let num_rows = (plan.rows - rows.first).min(BLOCK_Q);
            let len = num_rows * plan.padded_head_dim;
            let start = (rows.member * plan.padded_rows + rows.first) * plan.padded_head_dim;
            let parts = &self.parts[at.index * plan.partitions * part_len..];
            let total = std::mem::take(&mut self.scratch.d_query);
            total[..len].fill(0.0);
            for part in parts.chunks_exact(part_len).take(partitions) {
                add(&part[start..start + len], &mut total[..len]);
            }
            // As in the second phase: 0 · NaN from a key that some row may not attend to.
            if !is_finite(simd, &total[..len]) {
                let head = self.wave.head(problem, at);
                total[..len].fill(0.0);
                for partition in 0..partitions {
                    // Large enough: a block of keys has more rows than a block of queries.
                    let part = std::mem::take(&mut self.scratch.d_key);
                    part[..len].fill(0.0);
                    let work = (&mut self.scratch, &mut part[..len]);
                    select_queries::<S, MR>(simd, problem, &head, (rows, partition), work);
                    add(&part[..len], &mut total[..len]);
                    self.scratch.d_key = part;
                }
            }
            let head = at.kv_head * plan.group_size + rows.member;
            for (r, row) in total[..len].chunks_exact_mut(plan.padded_head_dim).enumerate() {
                let row = &mut row[..plan.head_dim];
                row.iter_mut().for_each(|number| *number = problem.scaled(*number));
                // SAFETY: every row belongs to exactly one job, which exactly one worker takes (the queue).
                unsafe { self.sink.write_row([at.batch, head, rows.first + r], row, 0.0) };
            }
            self.scratch.d_query = total;
        }
    }
}

fn add(part: &[f32], total: &mut [f32]) {
    for (total, number) in total.iter_mut().zip(part) {
        *total += number;
    }
}

//! The backward pass: gradients recomputed from the saved log-sum-exp, in memory that grows with the sequence.
//!
//! With p_ij = e^(score_ij − log_sum_exp_i) and delta_i = d_output_i·output_i (Dao 2023, algorithm 2):
//! d_value_j = Σ_i p_ij·d_output_i, d_score_ij = p_ij·(d_output_i·value_j − delta_i),
//! d_query_i = scale·Σ_j d_score_ij·key_j, d_key_j = scale·Σ_i d_score_ij·query_i.
//!
//! A wave is as many key heads as fit a fixed amount of packed memory, at least one. Its phases: pack (`pack.rs`);
//! for each partition of the keys, block by block, d_key, d_value and a d_query of its own (`keys.rs`); the sum
//! of these (`queries.rs`); and, if asked for, gradients of biases (`bias.rs`). What a job writes is its own, so
//! who takes which changes no bit. Where there are many short heads, each worker takes whole heads through all phases,
//! as waves of its own.

mod bias;
mod block;
mod keys;
mod pack;
mod plan;
mod queries;
mod sinks;

pub(crate) use bias::BiasGradients;

use std::ops::Range;

use self::keys::{KeyJob, KeyTask};
use self::pack::{PackTask, Pieces, Wave};
use self::plan::{GradientPlan, GradientScratch, InPlace, num_partitions};
use self::queries::QueryTask;
use super::dispatch::run;
use super::isa::Isa;
use super::plan::BLOCK_Q;
use super::problem::{GradientScale, ScaleParts};
use super::rows::{RowNumbers, RowSink, RowSource};
use super::scratch::Workspace;
use super::workers::{Queue, TileShape, WORTH_A_THREAD, work};
use crate::config::CheckedConfig;
use crate::error::AttentionError;
use crate::shape::AttentionShape;

/// A checked backward call.
pub(crate) struct BackwardCall<'a> {
    pub(crate) shape: AttentionShape,
    pub(crate) config: CheckedConfig<'a>,
    pub(crate) query: &'a dyn RowSource,
    pub(crate) key: &'a dyn RowSource,
    pub(crate) value: &'a dyn RowSource,
    pub(crate) output: &'a dyn RowSource,
    pub(crate) d_output: &'a dyn RowSource,
    pub(crate) log_sum_exp: RowNumbers<'a>,
    pub(crate) d_log_sum_exp: Option<RowNumbers<'a>>,
    pub(crate) isa: Isa,
    pub(crate) num_workers: usize,
}

/// Where gradients go.
pub(crate) struct GradientSinks<'a, 'b> {
    pub(crate) d_query: &'a dyn RowSink,
    pub(crate) d_key: &'a dyn RowSink,
    pub(crate) d_value: &'a dyn RowSink,
    pub(crate) biases: BiasGradients<'b>,
    pub(crate) d_sinks: Option<&'b mut [f32]>,
}

/// One backward call, as every worker sees it.
struct GradientProblem<'a> {
    shape: &'a AttentionShape,
    config: &'a CheckedConfig<'a>,
    plan: &'a GradientPlan,
    query: &'a dyn RowSource,
    key: &'a dyn RowSource,
    value: &'a dyn RowSource,
    output: &'a dyn RowSource,
    d_output: &'a dyn RowSource,
    log_sum_exp: RowNumbers<'a>,
    d_log_sum_exp: Option<RowNumbers<'a>>,
    scale: ScaleParts,
    gradient_scale: GradientScale,
}

/// Who works on which heads.
#[derive(Debug, Clone, Copy)]
struct Shares {
    /// Whether each worker takes whole heads, one at a time.
    by_head: bool,
    workers: usize,
    /// Key heads worked on at once.
    heads_per_wave: usize,
}

/// A key head: which, and its place in the wave.
#[derive(Debug, Clone, Copy)]
struct HeadAt {
    batch: usize,
    kv_head: usize,
    index: usize,
}

/// Rows of one query head of a group: up to 96 from `first` on.
#[derive(Debug, Clone, Copy)]
struct HeadRange {
    member: usize,
    first: usize,
}

impl GradientProblem<'_> {
    /// The log-sum-exp of a row, and its derivative.
    fn row_numbers(&self, batch: usize, head: usize, row: usize) -> (f32, f32) {
        let head = batch * self.shape.num_heads + head;
        let derivative = self.d_log_sum_exp.map_or(0.0, |numbers| numbers.at(head, row));
        (self.log_sum_exp.at(head, row), derivative)
    }

    /// Row blocks of all query heads of a key head, in the order in which they are summed.
    fn row_blocks(&self) -> impl Iterator<Item = HeadRange> + use<> {
        let rows = self.plan.rows;
        (0..self.plan.group_size)
            .flat_map(move |member| (0..rows).step_by(BLOCK_Q).map(move |first| HeadRange { member, first }))
    }

    /// A sum times what its score gradients still lack of the scale; never −0.
    fn scaled(&self, sum: f32) -> f32 {
        sum * self.gradient_scale.sum + 0.0
    }
}

impl BackwardCall<'_> {
    fn plan(&self) -> Result<GradientPlan, AttentionError> {
        let in_place = InPlace {
            queries: self.query.is_f32_in_place(),
            keys: self.key.is_f32_in_place(),
            d_outputs: self.d_output.is_f32_in_place() && self.config.sinks.is_none(),
        };
        let longest = self.config.mask.longest_key_len(self.shape.batch_size);
        let tiles = run(self.isa, TileShape);
        GradientPlan::new(&self.shape, tiles, longest, in_place, self.config.softcap.is_some())
    }

    /// Key heads of all sequences.
    fn num_heads(&self) -> usize {
        self.shape.batch_size * self.shape.num_kv_heads
    }

    /// How the heads are shared out.
    fn shares(&self, plan: &GradientPlan) -> Shares {
        let num_heads = self.num_heads();
        let rows = plan.group_size * plan.rows;
        let is_worth_threads = |heads: usize| {
            let work = [heads, rows, self.shape.seq_len_kv, plan.head_dim + plan.value_dim];
            let work = work.into_iter().try_fold(1usize, |product, size| product.checked_mul(size));
            work.is_none_or(|work| work >= WORTH_A_THREAD)
        };
        let workers = if is_worth_threads(num_heads) { self.num_workers.max(1) } else { 1 };
        // Gradients of biases are summed over heads in order.
        let biases = self.config.bias.is_some() || self.config.relative_bias.is_some();
        if !biases && plan.by_head(num_heads, workers) {
            return Shares { by_head: true, workers, heads_per_wave: 1 };
        }
        let heads_per_wave = plan.heads_per_wave(num_heads);
        let workers = if is_worth_threads(heads_per_wave) { self.num_workers } else { 1 };
        let jobs = (heads_per_wave * plan.partitions).max(1);
        Shares { by_head: false, workers: workers.clamp(1, jobs), heads_per_wave }
    }

    fn scratch_len(&self, plan: &GradientPlan) -> Result<usize, AttentionError> {
        let Shares { by_head, workers, heads_per_wave } = self.shares(plan);
        let waves = if by_head { workers } else { heads_per_wave };
        let waves = plan.lens().total(plan.partitions).and_then(|len| len.checked_mul(waves));
        let workers = plan.worker_len().checked_mul(workers);
        let total = waves.zip(workers).and_then(|(waves, workers)| waves.checked_add(workers));
        total.ok_or(AttentionError::SizeOverflow { what: "scratch" })
    }

    /// Bytes of scratch that the call needs.
    pub(crate) fn scratch_bytes(&self) -> Result<usize, AttentionError> {
        if self.num_heads() == 0 {
            return Ok(0);
        }
        Ok(self.scratch_len(&self.plan()?)?.saturating_mul(size_of::<f32>()))
    }

    /// Runs the call. Gradients of biases and sinks are added to what is there.
    pub(crate) fn run(
        &self,
        sinks: GradientSinks<'_, '_>,
        workspace: &mut Workspace,
    ) -> Result<(), AttentionError> {
        let (shape, num_heads) = (&self.shape, self.num_heads());
        if num_heads == 0 {
            return Ok(());
        }
        let plan = self.plan()?;
        let numbers = workspace.reserve(self.scratch_len(&plan)?, (0, 0))?.numbers;
        let shares = self.shares(&plan);
        let problem = GradientProblem {
            shape,
            config: &self.config,
            plan: &plan,
            query: self.query,
            key: self.key,
            value: self.value,
            output: self.output,
            d_output: self.d_output,
            log_sum_exp: self.log_sum_exp,
            d_log_sum_exp: self.d_log_sum_exp,
            scale: ScaleParts::new(&self.config),
            gradient_scale: GradientScale::new(self.config.scale),
        };
        let GradientSinks { d_query, d_key, d_value, mut biases, d_sinks } = sinks;
        if let Some(d_sinks) = d_sinks {
            let scratch = GradientScratch::new(&plan, &mut numbers[..plan.worker_len()]);
            self::sinks::add_gradients(&problem, d_sinks, scratch.rows);
        }
        let sinks = [d_query, d_key, d_value];
        if shares.by_head {
            let queue = Queue::new(0..num_heads);
            work(numbers, numbers.len() / shares.workers, |scratch| {
                let (worker, packed) = scratch.split_at_mut(plan.worker_len());
                while let Some(head) = queue.take() {
                    self.wave(&problem, head..head + 1, sinks, (&mut *worker, &mut *packed));
                }
            });
            return Ok(());
        }
        let (workers, packed) = numbers.split_at_mut(shares.workers * plan.worker_len());
        for first in (0..num_heads).step_by(shares.heads_per_wave) {
            let heads = first..(first + shares.heads_per_wave).min(num_heads);
            let wave = self.wave(&problem, heads.clone(), sinks, (&mut *workers, &mut *packed));
            biases.add_wave(&problem, (&wave, self.isa), heads, workers);
        }
        Ok(())
    }

    /// Takes some key heads through all phases but that of the biases.
    fn wave<'w>(
        &self,
        problem: &GradientProblem<'_>,
        heads: Range<usize>,
        [d_query, d_key, d_value]: [&dyn RowSink; 3],
        (workers, packed): (&mut [f32], &'w mut [f32]),
    ) -> Wave<'w> {
        let (plan, count, num_kv_heads) = (problem.plan, heads.len(), self.shape.num_kv_heads);
        let heads = heads.enumerate().map(move |(index, head)| HeadAt {
            batch: head / num_kv_heads,
            kv_head: head % num_kv_heads,
            index,
        });
        let (mut wave, rest) = Wave::cut(plan, count, packed);
        self.pack(problem, heads.clone(), &mut wave, workers);
        let parts = &mut rest[..count * plan.partitions * plan.lens().d_query_part];
        self.key_phase(problem, heads.clone(), (&wave, &mut *parts), (d_key, d_value), workers);
        self.write_padding(plan, heads.clone(), (d_key, d_value), workers);
        self.query_phase(problem, heads, (&wave, parts), d_query, workers);
        wave
    }

    fn pack(
        &self,
        problem: &GradientProblem<'_>,
        heads: impl Iterator<Item = HeadAt> + Clone + Send,
        wave: &mut Wave<'_>,
        workers: &mut [f32],
    ) {
        let plan = problem.plan;
        let queue = Queue::new(wave.pack_jobs(plan, heads));
        work(workers, plan.worker_len(), |scratch| {
            let scratch = GradientScratch::new(plan, scratch);
            run(self.isa, PackTask { problem, queue: &queue, scratch });
        });
    }

    fn key_phase(
        &self,
        problem: &GradientProblem<'_>,
        heads: impl Iterator<Item = HeadAt> + Send,
        (wave, parts): (&Wave<'_>, &mut [f32]),
        sinks: (&dyn RowSink, &dyn RowSink),
        workers: &mut [f32],
    ) {
        let plan = problem.plan;
        let mut pieces = Pieces::new(parts, plan.lens().d_query_part);
        let jobs = heads.flat_map(|head| (0..plan.partitions).map(move |partition| (head, partition)));
        let jobs = jobs.map(|(head, partition)| KeyJob { head, partition, d_query: pieces.next() });
        // A short sequence has fewer partitions than the longest.
        let queue = Queue::new(
            jobs.filter(|job| job.partition < num_partitions(self.config.mask.key_len(job.head.batch))),
        );
        work(workers, plan.worker_len(), |scratch| {
            let scratch = GradientScratch::new(plan, scratch);
            run(self.isa, KeyTask { problem, wave, sinks, queue: &queue, scratch });
        });
    }

    fn query_phase(
        &self,
        problem: &GradientProblem<'_>,
        heads: impl Iterator<Item = HeadAt> + Send,
        (wave, parts): (&Wave<'_>, &[f32]),
        sink: &dyn RowSink,
        workers: &mut [f32],
    ) {
        let plan = problem.plan;
        let jobs = heads.flat_map(|head| problem.row_blocks().map(move |rows| (head, rows)));
        let queue = Queue::new(jobs);
        work(workers, plan.worker_len(), |scratch| {
            let scratch = GradientScratch::new(plan, scratch);
            run(self.isa, QueryTask { problem, wave, parts, sink, queue: &queue, scratch });
        });
    }

    /// Zero gradients for keys beyond each sequence's length.
    fn write_padding(
        &self,
        plan: &GradientPlan,
        heads: impl Iterator<Item = HeadAt>,
        sinks: (&dyn RowSink, &dyn RowSink),
        workers: &mut [f32],
    ) {
        let scratch = GradientScratch::new(plan, &mut workers[..plan.worker_len()]);
        scratch.rows.fill(0.0);
        for head in heads {
            for key in self.config.mask.key_len(head.batch)..self.shape.seq_len_kv {
                let at = [head.batch, head.kv_head, key];
                // SAFETY: one thread is at work here, and these keys are in no partition.
                unsafe {
                    sinks.0.write_row(at, &scratch.rows[..plan.head_dim], 0.0);
                    sinks.1.write_row(at, &scratch.rows[..plan.value_dim], 0.0);
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::super::panicking::{Discard, Panicking};
    use super::*;
    use crate::config::AttentionConfig;

    #[test]
    fn backward__panic_in_a_worker__is_raised_once_and_pool_and_workspace_go_on() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let mut workspace = Workspace::new();
        // In one wave and by whole heads; fatal in the packing of keys and values, of queries and of output
        // gradients, and never.
        let fatal = [0, 700, 5_000, 12_000, 15_000, usize::MAX];
        for (heads, fatal) in [8, 16].into_iter().flat_map(|heads| fatal.map(|fatal| (heads, fatal))) {
            let (query, key) = ([1, heads, 200, 8], [1, heads, 600, 8]);
            let shape = AttentionShape::new(query, key, key).unwrap();
            let log_sum_exp = vec![(600f32).ln(); shape.num_rows()];
            let source = Panicking::new(fatal);
            let numbers = RowNumbers { numbers: &log_sum_exp, rows_per_head: 200, first: 0 };
            let call = BackwardCall {
                shape,
                config: AttentionConfig::new().check(&shape).unwrap(),
                query: &source,
                key: &source,
                value: &source,
                output: &source,
                d_output: &source,
                log_sum_exp: numbers,
                d_log_sum_exp: None,
                isa: Isa::active().unwrap(),
                num_workers: 3,
            };
            let plan = call.plan().unwrap();
            let shares = call.shares(&plan);
            assert!(shares.workers > 1 && shares.by_head == (heads == 16), "{shares:?}");
            let sinks = GradientSinks {
                d_query: &Discard,
                d_key: &Discard,
                d_value: &Discard,
                biases: BiasGradients::default(),
                d_sinks: None,
            };
            let run = AssertUnwindSafe(|| pool.install(|| call.run(sinks, &mut workspace)));
            let result = catch_unwind(run);
            assert_eq!(result.is_err(), fatal < source.reads(), "row {fatal} of {}", source.reads());
            assert!(result.is_err() || matches!(result, Ok(Ok(()))));
        }
    }
}

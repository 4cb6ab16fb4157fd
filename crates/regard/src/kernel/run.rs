//! A whole forward call: plan, then wave by wave pack the keys, run the pieces and merge split ones.
//!
//! A wave is as many key heads as fit a fixed amount of packed memory, at least one. Inside it workers take
//! jobs from a queue; every job owns what it writes, so who takes which changes no bit. Where there are many short
//! heads, a worker takes a whole head instead: it packs it and runs its pieces while it is in cache.

use pulp::Simd;

use super::decode::run_dot_piece;
use super::dispatch::{SimdTask, run};
use super::fetch::NextHead;
use super::finish::merge_partials;
use super::forward::{PackedHead, run_tiled_piece};
use super::isa::Isa;
use super::observe::{Observe, Unobserved, Watch};
use super::pack::{PACK_ROWS, pack_keys, pack_rows};
use super::plan::{BLOCK_KV, BLOCK_Q, MAX_KEY_SPLITS, MAX_TILE_ROWS, Merge, Piece, Plan};
use super::problem::{Problem, ScaleParts};
use super::row_mask::room_for_masks;
use super::rows::{RowSink, RowSource, Rows};
use super::scratch::{Reserved, WorkerScratch, Workspace};
use super::workers::{Queue, TileShape, WORTH_A_THREAD, work};
use crate::config::CheckedConfig;
use crate::error::AttentionError;
use crate::shape::AttentionShape;
use crate::view::checked_product;

/// A checked forward call.
pub(crate) struct ForwardCall<'a> {
    pub(crate) shape: AttentionShape,
    pub(crate) config: CheckedConfig<'a>,
    pub(crate) query: &'a dyn RowSource,
    pub(crate) key: &'a dyn RowSource,
    pub(crate) value: &'a dyn RowSource,
    pub(crate) isa: Isa,
    pub(crate) num_workers: usize,
}

/// What an observer has to have room for.
pub(super) struct ObservedSizes {
    pub(super) workers: usize,
    /// Partial results of a wave, and the rows of each.
    pub(super) num_partials: usize,
    pub(super) partial_rows: usize,
}

/// Sizes of the scratch of one call.
struct Sizes {
    /// Whether workers take whole heads and pack them in scratch of their own.
    by_head: bool,
    workers: usize,
    worker_len: usize,
    heads_per_wave: usize,
    max_splits: usize,
    keys_len: usize,
    values_len: usize,
    partials_len: usize,
    num_pieces: usize,
    num_merges: usize,
}

impl ForwardCall<'_> {
    /// The plan, if no size that follows from it overflows.
    fn plan(&self) -> Result<Plan, AttentionError> {
        let shape = &self.shape;
        let overflow = AttentionError::SizeOverflow { what: "scratch" };
        let dims = [shape.head_dim, shape.value_head_dim, 4 * MAX_TILE_ROWS];
        let dims = dims.into_iter().try_fold(0usize, |sum, dim| sum.checked_add(dim)).ok_or(overflow)?;
        let rows = shape.group_size().saturating_mul(shape.seq_len_q);
        checked_product(&[shape.seq_len_kv.saturating_add(8 * BLOCK_KV), dims, 8], "scratch")?;
        checked_product(&[rows.saturating_add(BLOCK_Q), dims, MAX_KEY_SPLITS, 8], "scratch")?;
        let (lanes, tile_rows) = run(self.isa, TileShape);
        Ok(Plan::new(shape, lanes, tile_rows, self.value.is_f32_in_place()))
    }

    fn sizes(&self, plan: &Plan) -> Result<Sizes, AttentionError> {
        let shape = &self.shape;
        let overflow = AttentionError::SizeOverflow { what: "scratch" };
        let longest = self.config.mask.longest_key_len(shape.batch_size);
        let max_splits = plan.key_splits(longest);
        let num_heads = shape.batch_size * shape.num_kv_heads;
        let heads_per_wave = plan.heads_per_wave(max_splits).min(num_heads);
        let row_blocks = plan.rows_per_kv_head.div_ceil(plan.block_rows());
        let work = [heads_per_wave, plan.rows_per_kv_head, longest, shape.head_dim + shape.value_head_dim];
        let work = work.into_iter().try_fold(1usize, |product, size| product.checked_mul(size));
        let num_jobs = heads_per_wave.saturating_mul(row_blocks).saturating_mul(max_splits);
        let workers = if work.is_some_and(|work| work < WORTH_A_THREAD) { 1 } else { self.num_workers };
        let workers = workers.clamp(1, num_jobs.max(1));
        if plan.by_head(num_heads, workers, max_splits) {
            return Ok(Sizes {
                by_head: true,
                workers,
                worker_len: WorkerScratch::len(plan) + plan.packed_keys_len() + plan.packed_values_len(),
                heads_per_wave: 1,
                max_splits,
                keys_len: 0,
                values_len: 0,
                partials_len: 0,
                num_pieces: 0,
                num_merges: 0,
            });
        }
        let product = |a: usize, b: usize| a.checked_mul(b).ok_or_else(|| overflow.clone());
        let num_merges = if max_splits > 1 { product(heads_per_wave, row_blocks)? } else { 0 };
        let num_partials = if max_splits > 1 { num_jobs } else { 0 };
        Ok(Sizes {
            by_head: false,
            workers,
            worker_len: WorkerScratch::len(plan),
            heads_per_wave,
            max_splits,
            keys_len: product(plan.packed_keys_len(), heads_per_wave)?,
            values_len: product(plan.packed_values_len(), heads_per_wave)?,
            partials_len: product(plan.partial_len(), num_partials)?,
            num_pieces: num_jobs,
            num_merges,
        })
    }

    /// What an observer of the call has to have room for.
    pub(super) fn observed_sizes(&self) -> Result<ObservedSizes, AttentionError> {
        let plan = self.plan()?;
        let sizes = self.sizes(&plan)?;
        let num_partials = if sizes.max_splits > 1 { sizes.num_pieces } else { 0 };
        Ok(ObservedSizes { workers: sizes.workers, num_partials, partial_rows: plan.partial_rows() })
    }

    /// Bytes of scratch that the call needs.
    pub(crate) fn scratch_bytes(&self) -> Result<usize, AttentionError> {
        if self.shape.num_rows() == 0 {
            return Ok(0);
        }
        let sizes = self.sizes(&self.plan()?)?;
        let lists = sizes.num_pieces.saturating_mul(size_of::<Piece>())
            + sizes.num_merges.saturating_mul(size_of::<Merge>());
        let numbers = sizes.total().ok_or(AttentionError::SizeOverflow { what: "scratch" })?;
        Ok(numbers.saturating_mul(size_of::<f32>()).saturating_add(lists))
    }

    /// Runs the call.
    pub(crate) fn run(&self, sink: &dyn RowSink, workspace: &mut Workspace) -> Result<(), AttentionError> {
        self.run_observed(sink, workspace, &Unobserved)
    }

    /// Runs the call while someone looks.
    pub(super) fn run_observed<O: Observe>(
        &self,
        sink: &dyn RowSink,
        workspace: &mut Workspace,
        observer: &O,
    ) -> Result<(), AttentionError> {
        let shape = &self.shape;
        let num_heads = shape.batch_size * shape.num_kv_heads;
        if num_heads == 0 || shape.seq_len_q == 0 {
            return Ok(());
        }
        let plan = self.plan()?;
        let sizes = self.sizes(&plan)?;
        let total = sizes.total().ok_or(AttentionError::SizeOverflow { what: "scratch" })?;
        let lists = (sizes.num_pieces, sizes.num_merges);
        let Reserved { numbers, pieces, merges } = workspace.reserve(total, lists)?;
        let (keys, numbers) = numbers.split_at_mut(sizes.keys_len);
        let (values, numbers) = numbers.split_at_mut(sizes.values_len);
        let (workers, partials) = numbers.split_at_mut(sizes.workers * sizes.worker_len);
        let problem = Problem {
            shape,
            config: &self.config,
            plan: &plan,
            query: self.query,
            key: self.key,
            value: self.value,
            sink,
            scale: ScaleParts::new(&self.config),
        };
        if sizes.by_head {
            let queue = Queue::new(0..num_heads);
            work(workers, sizes.worker_len, |scratch| {
                run(
                    self.isa,
                    HeadTask {
                        problem: &problem,
                        queue: &queue,
                        ahead: sizes.workers,
                        scratch,
                        watch: observer.watch(),
                    },
                );
            });
            return Ok(());
        }
        debug_assert!(sizes.max_splits <= MAX_KEY_SPLITS);
        for first in (0..num_heads).step_by(sizes.heads_per_wave) {
            let heads = first..(first + sizes.heads_per_wave).min(num_heads);
            if !plan.dots {
                let jobs = pack_jobs(&plan, (keys, values), heads.len() * plan.padded_keys / BLOCK_KV);
                let queue = Queue::new(jobs);
                work(workers, sizes.worker_len, |scratch| {
                    let scratch = WorkerScratch::new(&plan, scratch);
                    run(self.isa, PackTask { problem: &problem, first_head: first, queue: &queue, scratch });
                });
            }
            plan.cut(shape, &self.config.mask, heads, (pieces, merges));
            let mut parts = partials.chunks_exact_mut(plan.partial_len().max(1));
            let queue = Queue::new(pieces.iter().map(|piece| {
                let partial = piece.partial.and_then(|_| parts.next());
                (piece, partial)
            }));
            let packed = (&*keys, &*values);
            work(workers, sizes.worker_len, |scratch| {
                let scratch = WorkerScratch::new(&plan, scratch);
                let watch = observer.watch();
                run(self.isa, PieceTask { problem: &problem, packed, queue: &queue, scratch, watch });
            });
            if !merges.is_empty() {
                let queue = Queue::new(merges.iter());
                work(workers, sizes.worker_len, |scratch| {
                    let scratch = WorkerScratch::new(&plan, scratch);
                    run(self.isa, MergeTask { problem: &problem, partials, queue: &queue, scratch });
                });
                merges.iter().for_each(|job| observer.merge(&problem, job));
            }
        }
        Ok(())
    }
}

impl Sizes {
    fn total(&self) -> Option<usize> {
        let workers = self.workers.checked_mul(self.worker_len)?;
        let packed = self.keys_len.checked_add(self.values_len)?;
        workers.checked_add(packed)?.checked_add(self.partials_len)
    }
}

/// One block of keys of one head of the wave: which, and where its panels and values go.
struct PackJob<'a> {
    block: usize,
    keys: &'a mut [f32],
    values: &'a mut [f32],
}

fn pack_jobs<'a>(
    plan: &Plan,
    (keys, values): (&'a mut [f32], &'a mut [f32]),
    num_blocks: usize,
) -> impl Iterator<Item = PackJob<'a>> + Send + use<'a> {
    let keys_len = BLOCK_KV * plan.head_dim;
    let values_len = plan.packed_values_len() / plan.padded_keys.max(1) * BLOCK_KV;
    let mut values = (values_len > 0).then(|| values.chunks_exact_mut(values_len));
    keys.chunks_exact_mut(keys_len).take(num_blocks).enumerate().map(move |(block, keys)| {
        let values = values.as_mut().and_then(Iterator::next).unwrap_or_default();
        PackJob { block, keys, values }
    })
}

struct PackTask<'a, 's, I> {
    problem: &'a Problem<'a>,
    first_head: usize,
    queue: &'a Queue<I>,
    scratch: WorkerScratch<'s>,
}

impl<'j, I: Iterator<Item = PackJob<'j>>> SimdTask for PackTask<'_, '_, I> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const MR: usize>(self, _: S) {
        let (shape, plan) = (self.problem.shape, self.problem.plan);
        let blocks_per_head = (plan.padded_keys / BLOCK_KV).max(1);
        while let Some(job) = self.queue.take() {
            let head = self.first_head + job.block / blocks_per_head;
            let head = (head / shape.num_kv_heads, head % shape.num_kv_heads);
            let block = (job.block % blocks_per_head, job.keys, job.values);
            pack_block::<S>(self.problem, head, block, &mut *self.scratch.row);
        }
    }
}

/// Packs one block of keys, and their values if these are packed.
#[inline(always)]
fn pack_block<S: Simd>(
    problem: &Problem<'_>,
    head: (usize, usize),
    (block, panels, values): (usize, &mut [f32], &mut [f32]),
    wide: &mut [f32],
) {
    let (shape, plan) = (problem.shape, problem.plan);
    let first = block * BLOCK_KV;
    let key_len = problem.config.mask.key_len(head.0);
    let keys = (first, key_len.saturating_sub(first).min(BLOCK_KV));
    let wide = &mut wide[..PACK_ROWS * plan.head_dim];
    pack_keys(problem.key, head, keys, (2 * S::F32_LANES, wide), panels);
    if plan.pack_values {
        pack_rows(problem.value, head, keys, (shape.value_head_dim, plan.padded_value_dim), values);
    }
}

/// Whole key heads, one after the other, packed and run by the same worker.
struct HeadTask<'a, 's, I, W> {
    problem: &'a Problem<'a>,
    queue: &'a Queue<I>,
    /// How many heads further the one is that this worker is likely to take next.
    ahead: usize,
    scratch: &'s mut [f32],
    watch: W,
}

impl<I: Iterator<Item = usize>, W: Watch> SimdTask for HeadTask<'_, '_, I, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const MR: usize>(mut self, simd: S) {
        let (problem, plan) = (self.problem, self.problem.plan);
        let (scratch, packed) = self.scratch.split_at_mut(WorkerScratch::len(plan));
        let mut scratch = WorkerScratch::new(plan, scratch);
        let (keys, values) = packed.split_at_mut(plan.packed_keys_len());
        let num_kv_heads = problem.shape.num_kv_heads;
        let mut masks = room_for_masks();
        let num_steps = plan.rows_per_kv_head.div_ceil(MR);
        while let Some(head) = self.queue.take() {
            let (batch, kv_head) = (head / num_kv_heads, head % num_kv_heads);
            let key_len = problem.config.mask.key_len(batch);
            for job in pack_jobs(plan, (keys, values), key_len.div_ceil(BLOCK_KV)) {
                let block = (job.block, job.keys, job.values);
                pack_block::<S>(problem, (batch, kv_head), block, &mut *scratch.row);
            }
            let packed = packed_head(problem, (batch, kv_head), (keys, values));
            let next = head + self.ahead;
            let mut next = NextHead::new(problem, (next / num_kv_heads, next % num_kv_heads), num_steps);
            for first in (0..plan.rows_per_kv_head).step_by(plan.block_rows()) {
                let rows = first..(first + plan.block_rows()).min(plan.rows_per_kv_head);
                let piece = Piece { batch, kv_head, rows, keys: 0..key_len, packed: 0, partial: None };
                let work = (&mut scratch, &mut masks, &mut self.watch);
                run_tiled_piece::<S, W, MR>(simd, problem, (&piece, None), packed, &mut next, work);
            }
        }
    }
}

/// A head's packed keys, and its values: packed too, or in place.
fn packed_head<'a>(
    problem: &'a Problem<'_>,
    (batch, kv_head): (usize, usize),
    (keys, values): (&'a [f32], &'a [f32]),
) -> PackedHead<'a> {
    let values = if problem.plan.pack_values {
        Rows { data: values, stride: problem.plan.padded_value_dim }
    } else {
        let rows = problem.value.f32_rows(batch, kv_head);
        rows.map_or(Rows { data: &[], stride: 0 }, |(data, stride)| Rows { data, stride })
    };
    PackedHead { keys, values }
}

struct PieceTask<'a, 's, I, W> {
    problem: &'a Problem<'a>,
    packed: (&'a [f32], &'a [f32]),
    queue: &'a Queue<I>,
    scratch: WorkerScratch<'s>,
    watch: W,
}

impl<'p, I, W: Watch> SimdTask for PieceTask<'_, '_, I, W>
where
    I: Iterator<Item = (&'p Piece, Option<&'p mut [f32]>)>,
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const MR: usize>(mut self, simd: S) {
        let plan = self.problem.plan;
        let mut masks = room_for_masks();
        while let Some((piece, partial)) = self.queue.take() {
            let work = (&mut self.scratch, &mut masks, &mut self.watch);
            if plan.dots {
                run_dot_piece(simd, self.problem, (piece, partial), work);
                continue;
            }
            let keys = &self.packed.0[piece.packed * plan.packed_keys_len()..][..plan.packed_keys_len()];
            let values =
                &self.packed.1[piece.packed * plan.packed_values_len()..][..plan.packed_values_len()];
            let packed = packed_head(self.problem, (piece.batch, piece.kv_head), (keys, values));
            let mut next = NextHead::NOTHING;
            run_tiled_piece::<S, W, MR>(simd, self.problem, (piece, partial), packed, &mut next, work);
        }
    }
}

struct MergeTask<'a, 's, I> {
    problem: &'a Problem<'a>,
    partials: &'a [f32],
    queue: &'a Queue<I>,
    scratch: WorkerScratch<'s>,
}

impl<'p, I: Iterator<Item = &'p Merge>> SimdTask for MergeTask<'_, '_, I> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const MR: usize>(self, simd: S) {
        while let Some(job) = self.queue.take() {
            merge_partials(simd, self.problem, (job, self.partials), &mut *self.scratch.row);
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
    fn forward__panic_in_a_worker__is_raised_once_and_pool_and_workspace_go_on() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let mut workspace = Workspace::new();
        // Tiles in waves and by whole heads, and row dots with split keys and merges.
        for (heads, s_q, s_kv) in [(8, 200, 150), (16, 200, 150), (8, 2, 3000)] {
            // Fatal in the packing of keys and values, in the reading of queries, and never; from a thread of the
            // pool, and from one of no pool.
            let fatal = [0, 5, 700, 1500, usize::MAX];
            for (fatal, inside) in fatal.into_iter().flat_map(|fatal| [(fatal, true), (fatal, false)]) {
                let (query, key) = ([1, heads, s_q, 8], [1, heads, s_kv, 8]);
                let shape = AttentionShape::new(query, key, key).unwrap();
                let source = Panicking::new(fatal);
                let config = AttentionConfig::new().check(&shape).unwrap();
                let (query, key, value) = (&source, &source, &source);
                let isa = Isa::active().unwrap();
                let call = ForwardCall { shape, config, query, key, value, isa, num_workers: 3 };
                assert!(call.sizes(&call.plan().unwrap()).unwrap().workers > 1, "one worker proves nothing");
                let mut run = || call.run(&Discard, &mut workspace);
                let result =
                    catch_unwind(AssertUnwindSafe(|| if inside { pool.install(run) } else { run() }));
                let reads = source.reads();
                assert_eq!(result.is_err(), fatal < reads, "{inside}, s_q {s_q}, row {fatal} of {reads}");
                assert!(result.is_err() || matches!(result, Ok(Ok(()))));
            }
        }
    }
}

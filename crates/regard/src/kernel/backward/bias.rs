//! Gradients of biases, summed over the axes along which they are repeated: a pass of its own over the scores, only
//! if asked for. Each job owns the elements it adds to and goes through sequences, heads and rows in order.

use std::ops::Range;

use pulp::Simd;

use super::super::dispatch::{SimdTask, run};
use super::super::isa::Isa;
use super::super::plan::{BLOCK_KV, BLOCK_Q};
use super::super::row_mask::room_for_masks;
use super::super::workers::{Queue, work};
use super::block::{Before, RowBlock, score_gradients};
use super::pack::Wave;
use super::plan::{GradientScratch, STRIDE};
use super::{GradientProblem, HeadAt};
use crate::view::TensorViewMut;

/// Where the gradients of biases go.
#[derive(Debug, Default)]
pub(crate) struct BiasGradients<'a> {
    /// In the additive bias's own shape: axes of size 1 are summed over.
    pub(crate) d_attention_bias: Option<TensorViewMut<'a, f32>>,
    /// `[num_heads, width]`, in the shape of the relative bias's table.
    pub(crate) d_relative_bias: Option<&'a mut [f32]>,
}

/// A writable array of which different jobs add to different elements.
#[derive(Clone, Copy)]
struct SharedSums {
    data: *mut f32,
    len: usize,
}

// SAFETY: made from an exclusive borrow that outlives it (`add_wave`); every element is touched by one job
// only, and each job is taken by exactly one worker.
unsafe impl Send for SharedSums {}
// SAFETY: as above.
unsafe impl Sync for SharedSums {}

impl SharedSums {
    fn new(data: &mut [f32]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len() }
    }

    /// Adds to one element.
    ///
    /// # Safety
    /// No other thread touches it, and the borrow it was made from is still alive.
    unsafe fn add(self, index: usize, number: f32) {
        assert!(index < self.len);
        // SAFETY: inside the slice; the rest is the caller's promise.
        unsafe { *self.data.add(index) += number };
    }
}

/// Some pairs of heads that add to the same elements, with the part of their scores that one job goes through.
#[derive(Debug, Clone)]
struct BiasJob {
    /// Slice of the bias: batch and head, 0 where repeated.
    slice: [usize; 2],
    /// Key blocks, or all.
    key_blocks: Range<usize>,
    /// Row blocks, or all.
    row_blocks: Range<usize>,
}

/// What a job adds to.
#[derive(Clone, Copy)]
enum Target {
    Additive { sums: SharedSums, shape: [usize; 4], strides: [usize; 4] },
    Relative { sums: SharedSums },
}

impl Target {
    /// The slice that a query head of a sequence adds to.
    fn slice(&self, batch: usize, head: usize) -> [usize; 2] {
        match self {
            Self::Additive { shape, .. } => {
                [if shape[0] == 1 { 0 } else { batch }, if shape[1] == 1 { 0 } else { head }]
            }
            Self::Relative { .. } => [0, head],
        }
    }
}

impl BiasGradients<'_> {
    /// Whether none is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.d_attention_bias.is_none() && self.d_relative_bias.is_none()
    }

    /// The part that one sequence of a batch adds to, for a call of that sequence alone.
    pub(crate) fn sequence(&mut self, sequence: usize) -> BiasGradients<'_> {
        BiasGradients {
            d_attention_bias: self.d_attention_bias.as_mut().map(|bias| bias.sequence_mut(sequence)),
            d_relative_bias: self.d_relative_bias.as_deref_mut(),
        }
    }

    /// Sets all to 0.
    pub(crate) fn clear(&mut self) {
        if let Some(bias) = &mut self.d_attention_bias {
            let (shape, strides) = (bias.shape(), bias.strides());
            let [b, h, s, d] = shape;
            for i in 0..b * h * s * d {
                let index = [i / (h * s * d), i / (s * d) % h, i / d % s, i % d];
                let at: usize = index.into_iter().zip(strides).map(|(i, stride)| i * stride).sum();
                bias.data_mut()[at] = 0.0;
            }
        }
        if let Some(relative) = &mut self.d_relative_bias {
            relative.fill(0.0);
        }
    }

    /// Adds what key heads `heads` (counted over the batch) give.
    pub(super) fn add_wave(
        &mut self,
        problem: &GradientProblem<'_>,
        (wave, isa): (&Wave<'_>, Isa),
        heads: Range<usize>,
        workers: &mut [f32],
    ) {
        let additive = self.d_attention_bias.as_mut().map(|bias| {
            let (shape, strides) = (bias.shape(), bias.strides());
            Target::Additive { sums: SharedSums::new(bias.data_mut()), shape, strides }
        });
        let relative =
            self.d_relative_bias.as_mut().map(|sums| Target::Relative { sums: SharedSums::new(sums) });
        for target in [additive, relative].into_iter().flatten() {
            if let Target::Additive { shape, .. } = target
                && shape.contains(&0)
            {
                continue;
            }
            let queue = Queue::new(jobs(problem, &target, heads.clone()));
            let worker_len = problem.plan.worker_len();
            work(workers, worker_len, |scratch| {
                let scratch = GradientScratch::new(problem.plan, scratch);
                let heads = heads.clone();
                run(isa, BiasTask { problem, wave, target, heads, queue: &queue, scratch });
            });
        }
    }
}

/// The jobs of one wave: a slice of the bias each, cut by key blocks or by row blocks where it has that axis.
fn jobs(
    problem: &GradientProblem<'_>,
    target: &Target,
    heads: Range<usize>,
) -> impl Iterator<Item = BiasJob> + use<> {
    let (all_keys, all_rows) = (0..problem.plan.padded_keys / BLOCK_KV, 0..problem.plan.row_blocks());
    let (by_keys, by_rows) = match target {
        Target::Additive { shape, .. } => (shape[3] > 1, shape[2] > 1),
        Target::Relative { .. } => (false, false),
    };
    let mut slices: Vec<[usize; 2]> =
        pairs(problem, heads).map(|(at, member)| target.slice(at.batch, problem.head(at, member))).collect();
    slices.sort_unstable();
    slices.dedup();
    slices.into_iter().flat_map(move |slice| {
        let (keys, rows) = (all_keys.clone(), all_rows.clone());
        let cuts = if by_keys {
            keys.len()
        } else if by_rows {
            rows.len()
        } else {
            1
        };
        (0..cuts).map(move |cut| BiasJob {
            slice,
            key_blocks: if by_keys { cut..cut + 1 } else { keys.clone() },
            row_blocks: if !by_keys && by_rows { cut..cut + 1 } else { rows.clone() },
        })
    })
}

/// Every query head of the key heads `heads`, in order.
fn pairs(
    problem: &GradientProblem<'_>,
    heads: Range<usize>,
) -> impl Iterator<Item = (HeadAt, usize)> + use<> {
    let (kv_heads, group) = (problem.shape.num_kv_heads, problem.plan.group_size);
    heads.enumerate().flat_map(move |(index, head)| {
        let at = HeadAt { batch: head / kv_heads, kv_head: head % kv_heads, index };
        (0..group).map(move |member| (at, member))
    })
}

impl GradientProblem<'_> {
    fn head(&self, at: HeadAt, member: usize) -> usize {
        at.kv_head * self.plan.group_size + member
    }
}

struct BiasTask<'a, 's, I> {
    problem: &'a GradientProblem<'a>,
    wave: &'a Wave<'a>,
    target: Target,
    heads: Range<usize>,
    queue: &'a Queue<I>,
    scratch: GradientScratch<'s>,
}

impl<I: Iterator<Item = BiasJob>> SimdTask for BiasTask<'_, '_, I> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const MR: usize>(mut self, simd: S) {
        let problem = self.problem;
        let mut masks = room_for_masks();
        while let Some(job) = self.queue.take() {
            for (at, member) in pairs(problem, self.heads.clone()) {
                if self.target.slice(at.batch, problem.head(at, member)) != job.slice {
                    continue;
                }
                let head = self.wave.head(problem, at);
                for (row_block, block) in
                    job.row_blocks.clone().flat_map(|r| job.key_blocks.clone().map(move |k| (r, k)))
                {
                    let Some(rows) =
                        RowBlock::new(problem, &head, (member, row_block * BLOCK_Q), block, &mut masks)
                    else {
                        continue;
                    };
                    let scratch = &mut self.scratch;
                    score_gradients::<S, MR>(simd, problem, &head, (&rows, Before::Bias), scratch);
                    add_block(problem, &self.target, (&rows, job.slice), self.scratch.d_scores);
                }
            }
        }
    }
}

/// Adds the score gradients of one row block against one key block.
#[inline(always)]
fn add_block(
    problem: &GradientProblem<'_>,
    target: &Target,
    (rows, [batch, head]): (&RowBlock<'_>, [usize; 2]),
    d_scores: &[f32],
) {
    let first = rows.block * BLOCK_KV;
    for (r, mask) in rows.masks().iter().enumerate() {
        let d_scores = &d_scores[r * STRIDE..][..BLOCK_KV];
        let keys = mask.keys.clone();
        match *target {
            Target::Additive { sums, shape, strides } => {
                let row = if shape[2] == 1 { 0 } else { mask.row };
                let start = batch * strides[0] + head * strides[1] + row * strides[2];
                if shape[3] == 1 {
                    let sum = keys.map(|key| d_scores[key - first]).sum();
                    // SAFETY: the job owns its slice of the bias, or the rows or keys of it that it goes through
                    // (`jobs`); the borrow is alive in `add_wave`.
                    unsafe { sums.add(start, sum) };
                    continue;
                }
                for key in keys {
                    // SAFETY: as above.
                    unsafe { sums.add(start + key * strides[3], d_scores[key - first]) };
                }
            }
            Target::Relative { sums } => {
                let Some(bias) = &problem.config.relative_bias else { continue };
                // Keys beyond either end of the table share a number: they are summed before they are added.
                let column = |key: usize| bias.column(key, mask.position());
                let mut run = keys.start..keys.start;
                while run.start < keys.end {
                    run.end = (run.start + 1..keys.end)
                        .find(|&key| column(key) != column(run.start))
                        .unwrap_or(keys.end);
                    let sum = run.clone().map(|key| d_scores[key - first]).sum();
                    // SAFETY: the job owns its head's numbers; the borrow is alive in `add_wave`.
                    unsafe { sums.add(head * bias.width() + column(run.start), sum) };
                    run.start = run.end;
                }
            }
        }
    }
}

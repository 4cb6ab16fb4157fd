//! How many keys each row may attend to, and how many rows each key may be attended to from.

use pulp::Simd;

use super::super::dispatch::{SimdTask, run};
use super::super::isa::Isa;
use super::super::plan::BLOCK_KV;
use super::super::row_mask::RowMask;
use super::super::workers::Queue;
use crate::config::CheckedConfig;
use crate::shape::AttentionShape;
use crate::statistics::AttentionStatistics;

/// The counts of one head, counted over the batch; those of keys may be unwanted, and empty.
struct HeadJob<'a> {
    head: usize,
    rows: &'a mut [u32],
    keys: &'a mut [u32],
}

/// Counts for all heads.
pub(super) fn count_visible(
    (shape, config): (&AttentionShape, &CheckedConfig<'_>),
    (isa, num_workers): (Isa, usize),
    statistics: &mut AttentionStatistics,
) {
    let mut rows = statistics.visible_keys.chunks_mut(shape.seq_len_q.max(1));
    let mut keys = statistics.visible_queries.chunks_mut(shape.seq_len_kv.max(1));
    let jobs = (0..shape.batch_size * shape.num_heads).map(|head| HeadJob {
        head,
        rows: rows.next().unwrap_or_default(),
        keys: keys.next().unwrap_or_default(),
    });
    let queue = Queue::new(jobs);
    let count = || run(isa, CountTask { shape, config, queue: &queue });
    match only_ranges(config) {
        false if num_workers > 1 => rayon::scope(|scope| {
            for _ in 0..num_workers {
                scope.spawn(|_| count());
            }
        }),
        _ => count(),
    }
}

struct CountTask<'a, I> {
    shape: &'a AttentionShape,
    config: &'a CheckedConfig<'a>,
    queue: &'a Queue<I>,
}

impl<'j, I: Iterator<Item = HeadJob<'j>>> SimdTask for CountTask<'_, I> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const MR: usize>(self, _: S) {
        while let Some(job) = self.queue.take() {
            let (batch, head) = (job.head / self.shape.num_heads, job.head % self.shape.num_heads);
            let group = self.shape.group_size();
            let all = 0..self.config.mask.key_len(batch);
            for (row, count) in job.rows.iter_mut().enumerate() {
                let in_group = head % group * self.shape.seq_len_q + row;
                let options = (self.shape, self.config);
                let mask = RowMask::new(options, (batch, head / group), in_group, &all);
                *count = match only_ranges(self.config) {
                    true => count_range(&mask, job.keys),
                    false => count_allowed(self.config, &mask, job.keys),
                };
            }
            if only_ranges(self.config) {
                // So far each key holds how many ranges start there, less those that have ended.
                let mut open = 0u32;
                for key in job.keys {
                    open = open.wrapping_add(*key);
                    *key = open;
                }
            }
        }
    }
}

/// Whether a row may attend to every key of its range.
fn only_ranges(config: &CheckedConfig<'_>) -> bool {
    !config.has_bias() && config.mask.keep.is_none()
}

/// Counts the keys of a row's range, and notes where it starts and ends.
fn count_range(mask: &RowMask, keys: &mut [u32]) -> u32 {
    if !mask.keys.is_empty() && !keys.is_empty() {
        keys[mask.keys.start] = keys[mask.keys.start].wrapping_add(1);
        if let Some(after) = keys.get_mut(mask.keys.end) {
            *after = after.wrapping_sub(1);
        }
    }
    mask.keys.len() as u32
}

/// Counts the keys of a row one by one, and the row for each of them.
#[inline(always)]
fn count_allowed(config: &CheckedConfig<'_>, mask: &RowMask, keys: &mut [u32]) -> u32 {
    let mut total = 0;
    let mut first = mask.keys.start;
    while first < mask.keys.end {
        let count = (mask.keys.end - first).min(BLOCK_KV);
        let mut visible = [1.0f32; BLOCK_KV];
        mask.clear(config, first, &mut visible[..count]);
        for visible in &visible[..count] {
            total += *visible as u32;
        }
        if let Some(keys) = keys.get_mut(first..first + count) {
            for (key, visible) in keys.iter_mut().zip(visible) {
                *key += visible as u32;
            }
        }
        first += count;
    }
    total
}

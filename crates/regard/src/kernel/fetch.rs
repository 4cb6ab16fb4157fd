//! Asking for rows before they are needed: hints, which change no result.

use std::ops::Range;

use super::problem::Problem;
use super::rows::{RowSource, Rows};
use super::scratch::LINE;

/// What is fetched of a head at most, in f32: it has to stay in the second level of cache beside the head that is
/// computed.
const MOST: usize = 1 << 16;

/// Rows that are read next, fetched one by one while others are computed with.
#[derive(Clone, Copy)]
pub(super) struct Ahead<'a> {
    rows: Rows<'a>,
    len: usize,
    count: usize,
}

impl<'a> Ahead<'a> {
    pub(super) const NOTHING: Self = Self { rows: Rows { data: &[], stride: 0 }, len: 0, count: 0 };

    /// The first `count` of `rows`, of `len` elements each.
    pub(super) fn new(rows: Rows<'a>, len: usize, count: usize) -> Self {
        Self { rows, len, count }
    }

    /// Rows `range` of a head, where they lie in place.
    pub(super) fn in_place(
        source: &'a dyn RowSource,
        head: (usize, usize),
        range: Range<usize>,
        len: usize,
    ) -> Self {
        if range.is_empty() {
            return Self::NOTHING;
        }
        let run = source.f32_run(head, range.start, range.len());
        run.map_or(Self::NOTHING, |(data, stride)| Self::new(Rows { data, stride }, len, range.len()))
    }

    /// Asks for row `j`, if there is one, to be brought to the second level of cache.
    #[inline(always)]
    pub(super) fn fetch(&self, j: usize) {
        if j >= self.count {
            return;
        }
        let row = self.rows.row(j, self.len);
        #[cfg(target_arch = "x86_64")]
        for at in (0..row.len()).step_by(LINE) {
            // SAFETY: a hint that reads nothing; SSE is part of x86-64.
            unsafe {
                use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_T1>(row.as_ptr().wrapping_add(at).cast());
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = row;
    }
}

/// The head that a worker is likely to take next, fetched while it computes the one before: where many short heads
/// are more than the cache holds, reading them would take a tenth of the time and more.
pub(super) struct NextHead<'a> {
    keys: Ahead<'a>,
    values: Ahead<'a>,
    queries: Ahead<'a>,
    /// Rows fetched so far, and at each step.
    next: usize,
    step: usize,
}

impl<'a> NextHead<'a> {
    pub(super) const NOTHING: Self =
        Self { keys: Ahead::NOTHING, values: Ahead::NOTHING, queries: Ahead::NOTHING, next: 0, step: 0 };

    /// A key head, its values and the rows of its first query head, in `num_steps` steps; nothing beyond the last
    /// sequence.
    pub(super) fn new(problem: &Problem<'a>, (batch, kv_head): (usize, usize), num_steps: usize) -> Self {
        let shape = problem.shape;
        if batch >= shape.batch_size {
            return Self::NOTHING;
        }
        let key_len = problem.config.mask.key_len(batch);
        let num_numbers =
            key_len * (shape.head_dim + shape.value_head_dim) + shape.seq_len_q * shape.head_dim;
        if num_numbers > MOST || num_steps == 0 {
            return Self::NOTHING;
        }
        let (head, query_head) = ((batch, kv_head), (batch, kv_head * shape.group_size()));
        Self {
            keys: Ahead::in_place(problem.key, head, 0..key_len, shape.head_dim),
            values: Ahead::in_place(problem.value, head, 0..key_len, shape.value_head_dim),
            queries: Ahead::in_place(problem.query, query_head, 0..shape.seq_len_q, shape.head_dim),
            next: 0,
            step: key_len.max(shape.seq_len_q).div_ceil(num_steps),
        }
    }

    /// Fetches the next few rows.
    #[inline(always)]
    pub(super) fn step(&mut self) {
        for j in self.next..self.next + self.step {
            self.keys.fetch(j);
            self.values.fetch(j);
            self.queries.fetch(j);
        }
        self.next += self.step;
    }
}

//! The first phase: keys and values in panels, queries and output gradients in strips, all in the order in which
//! the register tiles read them; and two numbers a row.

use std::f32::consts::LOG2_E;

use pulp::Simd;

use super::super::dispatch::SimdTask;
use super::super::finish::share_beside_sink;
use super::super::pack::{
    PACK_ROWS, clear_query_row, pack_keys, pack_query_row, pack_rows, strip_len, wide_row,
};
use super::super::plan::{BLOCK_KV, BLOCK_Q};
use super::super::rows::Rows;
use super::super::workers::Queue;
use super::plan::{GradientPlan, GradientScratch};
use super::{GradientProblem, HeadAt};

/// Pieces of equal length of a slice, in order; without end if they are empty.
pub(super) struct Pieces<'a> {
    rest: &'a mut [f32],
    len: usize,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(all: &'a mut [f32], len: usize) -> Self {
        Self { rest: all, len }
    }

    pub(super) fn next(&mut self) -> &'a mut [f32] {
        let (piece, rest) = std::mem::take(&mut self.rest).split_at_mut(self.len);
        self.rest = rest;
        piece
    }
}

/// The packed memory of a wave of key heads.
pub(super) struct Wave<'a> {
    key_panels: &'a mut [f32],
    value_panels: &'a mut [f32],
    key_rows: &'a mut [f32],
    query_strips: &'a mut [f32],
    d_output_strips: &'a mut [f32],
    query_rows: &'a mut [f32],
    d_output_rows: &'a mut [f32],
    row_terms: &'a mut [f32],
}

/// A key block or a row block to be packed, and where to.
pub(super) enum PackJob<'a> {
    Keys { head: HeadAt, block: usize, panels: &'a mut [f32], values: &'a mut [f32], rows: &'a mut [f32] },
    Rows { head: HeadAt, member: usize, block: usize, target: RowTarget<'a> },
}

/// Where a row block of one query head is packed.
pub(super) struct RowTarget<'a> {
    queries: &'a mut [f32],
    d_outputs: &'a mut [f32],
    query_rows: &'a mut [f32],
    d_output_rows: &'a mut [f32],
    terms: &'a mut [f32],
}

impl<'a> Wave<'a> {
    /// Cuts the memory of `heads` key heads; returns the rest.
    pub(super) fn cut(plan: &GradientPlan, heads: usize, all: &'a mut [f32]) -> (Self, &'a mut [f32]) {
        let lens = plan.lens();
        let mut rest = all;
        let mut part = |len: usize| {
            let (part, left) = std::mem::take(&mut rest).split_at_mut(len * heads);
            rest = left;
            part
        };
        let wave = Self {
            key_panels: part(lens.key_panels),
            value_panels: part(lens.value_panels),
            key_rows: part(lens.key_rows),
            query_strips: part(lens.query_strips),
            d_output_strips: part(lens.d_output_strips),
            query_rows: part(lens.query_rows),
            d_output_rows: part(lens.d_output_rows),
            row_terms: part(lens.row_terms),
        };
        (wave, rest)
    }

    /// What has to be packed for `heads`, block by block.
    pub(super) fn pack_jobs<'s>(
        &'s mut self,
        plan: &'s GradientPlan,
        heads: impl Iterator<Item = HeadAt> + Clone + 's,
    ) -> impl Iterator<Item = PackJob<'s>> + 's {
        let block_len = |dim: usize| BLOCK_KV * dim;
        let mut panels = Pieces::new(self.key_panels, block_len(plan.head_dim));
        let mut values = Pieces::new(self.value_panels, block_len(plan.value_dim));
        let rows_len = if plan.in_place.keys { 0 } else { block_len(plan.padded_head_dim) };
        let mut rows = Pieces::new(self.key_rows, rows_len);
        let blocks = plan.padded_keys / BLOCK_KV;
        let keys = heads.clone().flat_map(move |head| (0..blocks).map(move |block| (head, block)));
        let keys = keys.map(move |(head, block)| {
            let (panels, values, rows) = (panels.next(), values.next(), rows.next());
            PackJob::Keys { head, block, panels, values, rows }
        });

        let mut rest = (
            &mut *self.query_strips,
            &mut *self.d_output_strips,
            &mut *self.query_rows,
            &mut *self.d_output_rows,
            &mut *self.row_terms,
        );
        let members = heads.flat_map(move |head| (0..plan.group_size).map(move |member| (head, member)));
        let blocks = members
            .flat_map(move |(head, member)| (0..plan.row_blocks()).map(move |block| (head, member, block)));
        let rows = blocks.map(move |(head, member, block)| {
            // The last block of a head is as long as its padded rows.
            let len = (plan.padded_rows - block * BLOCK_Q).min(BLOCK_Q);
            let unless = |in_place: bool, dim: usize| if in_place { 0 } else { len * dim };
            let target = RowTarget {
                queries: take(&mut rest.0, len / plan.tile_rows * strip_len(plan.head_dim, plan.tile_rows)),
                d_outputs: take(
                    &mut rest.1,
                    len / plan.tile_rows * strip_len(plan.value_dim, plan.tile_rows),
                ),
                query_rows: take(&mut rest.2, unless(plan.in_place.queries, plan.padded_head_dim)),
                d_output_rows: take(&mut rest.3, unless(plan.in_place.d_outputs, plan.padded_value_dim)),
                terms: take(&mut rest.4, 2 * len),
            };
            PackJob::Rows { head, member, block, target }
        });
        keys.chain(rows)
    }

    /// One head's packed memory, by its place in the wave.
    pub(super) fn head<'s>(&'s self, problem: &'s GradientProblem<'_>, at: HeadAt) -> PackedGradientHead<'s> {
        let (plan, lens) = (problem.plan, problem.plan.lens());
        let part = |all: &'s [f32], len: usize| &all[at.index * len..(at.index + 1) * len];
        let keys = match problem.key.f32_rows(at.batch, at.kv_head) {
            Some((data, stride)) if plan.in_place.keys => Rows { data, stride },
            _ => Rows { data: part(self.key_rows, lens.key_rows), stride: plan.padded_head_dim },
        };
        PackedGradientHead {
            at,
            key_panels: part(self.key_panels, lens.key_panels),
            value_panels: part(self.value_panels, lens.value_panels),
            keys,
            query_strips: part(self.query_strips, lens.query_strips),
            d_output_strips: part(self.d_output_strips, lens.d_output_strips),
            query_rows: part(self.query_rows, lens.query_rows),
            d_output_rows: part(self.d_output_rows, lens.d_output_rows),
            row_terms: part(self.row_terms, lens.row_terms),
        }
    }
}

fn take<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (piece, left) = std::mem::take(rest).split_at_mut(len);
    *rest = left;
    piece
}

/// One key head, packed.
#[derive(Clone, Copy)]
pub(super) struct PackedGradientHead<'a> {
    pub(super) at: HeadAt,
    pub(super) key_panels: &'a [f32],
    pub(super) value_panels: &'a [f32],
    pub(super) keys: Rows<'a>,
    query_strips: &'a [f32],
    d_output_strips: &'a [f32],
    query_rows: &'a [f32],
    d_output_rows: &'a [f32],
    row_terms: &'a [f32],
}

impl<'a> PackedGradientHead<'a> {
    /// Strips of queries and of output gradients of a query head of the group, from a row on that starts a tile.
    pub(super) fn strips(&self, plan: &GradientPlan, member: usize, row: usize) -> (&'a [f32], &'a [f32]) {
        let (strip, tile) = ((member * plan.padded_rows + row) / plan.tile_rows, plan.tile_rows);
        let at = |dim: usize| strip * strip_len(dim, tile);
        (&self.query_strips[at(plan.head_dim)..], &self.d_output_strips[at(plan.value_dim)..])
    }

    /// Delta and base of a row.
    pub(super) fn terms(&self, plan: &GradientPlan, member: usize, row: usize) -> (f32, f32) {
        let at = 2 * (member * plan.padded_rows + row);
        (self.row_terms[at], self.row_terms[at + 1])
    }

    /// Queries of a query head of the group, from `row` on.
    pub(super) fn query_rows(&self, problem: &'a GradientProblem<'_>, member: usize, row: usize) -> Rows<'a> {
        let (plan, head) = (problem.plan, self.at.kv_head * problem.plan.group_size + member);
        match problem.query.f32_rows(self.at.batch, head) {
            Some((data, stride)) if plan.in_place.queries => Rows { data, stride }.skip(row),
            _ => Rows { data: self.query_rows, stride: plan.padded_head_dim }
                .skip(member * plan.padded_rows + row),
        }
    }

    /// Output gradients of a query head of the group, from `row` on.
    pub(super) fn d_output_rows(
        &self,
        problem: &'a GradientProblem<'_>,
        member: usize,
        row: usize,
    ) -> Rows<'a> {
        let (plan, head) = (problem.plan, self.at.kv_head * problem.plan.group_size + member);
        if plan.value_dim == 0 {
            return Rows { data: &[], stride: 0 };
        }
        match problem.d_output.f32_rows(self.at.batch, head) {
            Some((data, stride)) if plan.in_place.d_outputs => Rows { data, stride }.skip(row),
            _ => Rows { data: self.d_output_rows, stride: plan.padded_value_dim }
                .skip(member * plan.padded_rows + row),
        }
    }
}

pub(super) struct PackTask<'a, 's, I> {
    pub(super) problem: &'a GradientProblem<'a>,
    pub(super) queue: &'a Queue<I>,
    pub(super) scratch: GradientScratch<'s>,
}

impl<'j, I: Iterator<Item = PackJob<'j>>> SimdTask for PackTask<'_, '_, I> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const MR: usize>(self, simd: S) {
        let (problem, plan) = (self.problem, self.problem.plan);
        let rows = self.scratch.rows;
        while let Some(job) = self.queue.take() {
            match job {
                PackJob::Keys { head, block, panels, values, rows: key_rows } => {
                    let first = block * BLOCK_KV;
                    let key_len = problem.config.mask.key_len(head.batch);
                    let keys = (first, key_len.saturating_sub(first).min(BLOCK_KV));
                    let at = (head.batch, head.kv_head);
                    let width = plan.panel_width();
                    pack_keys(problem.key, at, keys, (width, &mut rows[..PACK_ROWS * plan.head_dim]), panels);
                    if plan.value_dim > 0 {
                        pack_keys(
                            problem.value,
                            at,
                            keys,
                            (width, &mut rows[..PACK_ROWS * plan.value_dim]),
                            values,
                        );
                    }
                    if !key_rows.is_empty() {
                        pack_rows(problem.key, at, keys, (plan.head_dim, plan.padded_head_dim), key_rows);
                    }
                }
                PackJob::Rows { head, member, block, target } => {
                    pack_row_block(simd, problem, (head, member), block * BLOCK_Q, target, rows);
                }
            }
        }
    }
}

/// Packs up to 96 rows of one query head. With w the share that a sink leaves to the keys:
/// d_output' = w·d_output, delta = d_output'·output − d_log_sum_exp, base = log_sum_exp·log₂e. What follows then
/// knows nothing of sinks.
#[inline(always)]
fn pack_row_block<S: Simd>(
    simd: S,
    problem: &GradientProblem<'_>,
    (at, member): (HeadAt, usize),
    first: usize,
    target: RowTarget<'_>,
    scratch: &mut [f32],
) {
    let plan = problem.plan;
    let tile = plan.tile_rows;
    let head = at.kv_head * plan.group_size + member;
    let (one, rest) = scratch.split_at_mut(scratch.len() / 4);
    let (other, last) = rest.split_at_mut(one.len());
    let len = target.terms.len() / 2;
    for r in 0..len {
        let (row, strip) = (first + r, r / tile);
        let (query_len, d_output_len) = (strip_len(plan.head_dim, tile), strip_len(plan.value_dim, tile));
        let queries = &mut target.queries[strip * query_len..][..query_len];
        let d_outputs = &mut target.d_outputs[strip * d_output_len..][..d_output_len];
        if row >= plan.rows {
            clear_query_row((r % tile, tile), queries);
            clear_query_row((r % tile, tile), d_outputs);
            (target.terms[2 * r], target.terms[2 * r + 1]) = (0.0, 0.0);
            continue;
        }
        let query = wide_row(problem.query, [at.batch, head, row], &mut one[..plan.head_dim]);
        pack_query_row(simd, (query, problem.scale.query), (r % tile, tile), queries);
        if !plan.in_place.queries {
            let wide = &mut target.query_rows[r * plan.padded_head_dim..][..plan.padded_head_dim];
            wide[..plan.head_dim].copy_from_slice(query);
            wide[plan.head_dim..].fill(0.0);
        }

        let (log_sum_exp, d_lse) = problem.row_numbers(at.batch, head, row);
        let mut d_output = wide_row(problem.d_output, [at.batch, head, row], &mut one[..plan.value_dim]);
        if let Some(sinks) = problem.config.sinks {
            let share = share_beside_sink(log_sum_exp, sinks[head]);
            for (shared, number) in last.iter_mut().zip(d_output) {
                *shared = number * share;
            }
            d_output = &last[..plan.value_dim];
        }
        let output = wide_row(problem.output, [at.batch, head, row], &mut other[..plan.value_dim]);
        let delta = dot(d_output, output);
        target.terms[2 * r] = (delta - f64::from(d_lse)) as f32;
        // A row without keys has probabilities 0 from any base.
        target.terms[2 * r + 1] = if log_sum_exp == f32::NEG_INFINITY { 0.0 } else { log_sum_exp * LOG2_E };
        if plan.value_dim > 0 {
            pack_query_row(simd, (d_output, 1.0), (r % tile, tile), d_outputs);
            if !plan.in_place.d_outputs {
                let wide = &mut target.d_output_rows[r * plan.padded_value_dim..][..plan.padded_value_dim];
                wide[..plan.value_dim].copy_from_slice(d_output);
                wide[plan.value_dim..].fill(0.0);
            }
        }
    }
}

/// Σ a·b in f64, as eight sums that are added at the end: one alone would wait for itself.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(a) * f64::from(b);
        }
    }
    sums.iter().sum()
}

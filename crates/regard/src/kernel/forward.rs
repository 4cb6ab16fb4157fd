//! Many query rows: register tiles over packed keys.
//!
//! A piece is a block of query rows against a range of keys. It goes through the keys block by block and,
//! inside a block, through its rows strip by strip (`MR` rows): scores of the strip (`tile::score_tile`), mask
//! and bias (`row_mask`), exponentials (`online_softmax`), weighted values (`tile::value_tile`). So a block of
//! keys and values stays in cache while all strips pass over it, and a strip's scores never leave the first
//! level.

use std::ops::Range;

use pulp::Simd;

use super::fetch::NextHead;
use super::finish::write_rows;
use super::observe::{StripColumns, Unobserved, Watch};
use super::online_softmax::{RowState, absorb_block};
use super::pack::{clear_query_row, pack_query_row, strip_len, wide_row};
use super::plan::{BLOCK_KV, BLOCK_Q, Piece};
use super::problem::Problem;
use super::row_mask::{Masks, RowMask, row_masks};
use super::rows::Rows;
use super::scratch::WorkerScratch;
use super::tile::{load, score_tile, store, value_tile};

/// One head's keys in panels, and its values.
#[derive(Clone, Copy)]
pub(super) struct PackedHead<'a> {
    /// `[panel][head_dim][2 vectors]`.
    pub(super) keys: &'a [f32],
    /// In place or padded.
    pub(super) values: Rows<'a>,
}

/// Runs one piece on the register tiles and writes its rows or its partial result; fetches what is `next` on the way.
#[inline(always)]
pub(super) fn run_tiled_piece<S: Simd, W: Watch, const MR: usize>(
    simd: S,
    problem: &Problem<'_>,
    (piece, partial): (&Piece, Option<&mut [f32]>),
    packed: PackedHead<'_>,
    next: &mut NextHead<'_>,
    (scratch, masks, watch): (&mut WorkerScratch<'_>, &mut Masks, &mut W),
) {
    let num_rows = piece.rows.len();
    let masks = masks_of(problem, piece, masks);
    pack_queries::<S, MR>(simd, problem, masks, scratch);
    watch.begin(problem, masks);

    let columns = problem.plan.padded_value_dim;
    let mut states = [RowState::EMPTY; BLOCK_Q];
    scratch.output[..num_rows.next_multiple_of(MR) * columns].fill(0.0);
    let strip_of = |index: usize| (index * MR..(index * MR + MR).min(num_rows), index);
    for block in blocks(masks) {
        for (rows, index) in (0..num_rows.div_ceil(MR)).map(strip_of) {
            let strip = Strip { masks: &masks[rows.clone()], index };
            next.step();
            let work = (&mut states[rows], &mut *scratch, &mut *watch);
            strip_block::<S, W, MR>(simd, problem, strip, (block, ValuePath::Multiply), packed, work);
        }
    }
    // A value that some row of the strip may not attend to may have put NaN into it by 0 · NaN.
    for (rows, index) in (0..num_rows.div_ceil(MR)).map(strip_of) {
        let output = &mut scratch.output[rows.start * columns..rows.end * columns];
        if is_finite(simd, output) {
            continue;
        }
        output.fill(0.0);
        states[rows.clone()].fill(RowState::EMPTY);
        let strip = Strip { masks: &masks[rows.clone()], index };
        for block in blocks(strip.masks) {
            // The same probabilities, already seen.
            let work = (&mut states[rows.clone()], &mut *scratch, &mut Unobserved);
            strip_block::<S, Unobserved, MR>(simd, problem, strip, (block, ValuePath::Select), packed, work);
        }
    }
    watch.finish(problem, piece, masks);
    write_rows(simd, problem, masks, &states[..num_rows], (scratch, partial));
}

/// The queries of a piece in strips.
#[inline(always)]
fn pack_queries<S: Simd, const MR: usize>(
    simd: S,
    problem: &Problem<'_>,
    masks: &[RowMask],
    scratch: &mut WorkerScratch<'_>,
) {
    let head_dim = problem.plan.head_dim;
    let len = strip_len(head_dim, MR);
    for (r, mask) in masks.iter().enumerate() {
        let strip = &mut scratch.query[r / MR * len..][..len];
        let at = [mask.batch, mask.head, mask.row];
        let row = wide_row(problem.query, at, &mut scratch.row[..head_dim]);
        pack_query_row(simd, (row, problem.scale.query), (r % MR, MR), strip);
    }
    for r in masks.len()..masks.len().next_multiple_of(MR) {
        clear_query_row((r % MR, MR), &mut scratch.query[r / MR * len..][..len]);
    }
}

/// How probabilities meet values.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum ValuePath {
    /// Every probability times every value of the block, 0 where a key is not allowed.
    Multiply,
    /// Only allowed keys, in the same order: what the product should have been if a value that is not
    /// allowed is NaN or infinite.
    Select,
}

/// `MR` adjacent rows of a piece, those that exist.
#[derive(Clone, Copy)]
struct Strip<'a> {
    masks: &'a [RowMask],
    index: usize,
}

/// The masks of all rows of a piece.
pub(super) fn masks_of<'m>(problem: &Problem<'_>, piece: &Piece, room: &'m mut Masks) -> &'m [RowMask] {
    let (options, head) = ((problem.shape, problem.config), (piece.batch, piece.kv_head));
    row_masks(options, head, piece.rows.clone(), &piece.keys, room)
}

/// The first and the last key that any of the rows may attend to, as a range.
pub(super) fn union(masks: &[RowMask]) -> Range<usize> {
    let used = masks.iter().map(|mask| mask.keys.clone()).filter(|keys| !keys.is_empty());
    used.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
}

/// Whether the ranges of all rows hold all of `keys`.
fn all_allow(masks: &[RowMask], keys: Range<usize>) -> bool {
    masks.iter().all(|mask| mask.covers(&keys))
}

/// The key blocks that any of the rows may attend to.
pub(super) fn blocks(masks: &[RowMask]) -> Range<usize> {
    let keys = union(masks);
    keys.start / BLOCK_KV..keys.end.div_ceil(BLOCK_KV)
}

/// Takes one strip through one block of keys.
#[inline(always)]
fn strip_block<S: Simd, W: Watch, const MR: usize>(
    simd: S,
    problem: &Problem<'_>,
    strip: Strip<'_>,
    (block, values): (usize, ValuePath),
    packed: PackedHead<'_>,
    (states, scratch, watch): (&mut [RowState], &mut WorkerScratch<'_>, &mut W),
) {
    let width = 2 * S::F32_LANES;
    let (head_dim, columns) = (problem.plan.head_dim, problem.plan.padded_value_dim);
    let first = block * BLOCK_KV;
    let keys = union(strip.masks);
    let keys = keys.start.max(first)..keys.end.min(first + BLOCK_KV);
    if keys.is_empty() {
        return;
    }
    let (from, to) = ((keys.start - first) / width * width, (keys.end - first).next_multiple_of(width));
    let query = &scratch.query[strip.index * strip_len(head_dim, MR)..];
    for column in (from..to).step_by(width) {
        let panel = &packed.keys[(first + column) * head_dim..][..width * head_dim];
        let scores = &mut scratch.scores[column..];
        score_tile::<S, MR, BLOCK_KV>(simd, (query, head_dim), panel, problem.scale.score, scores);
    }
    if !(problem.config.is_plain() && all_allow(strip.masks, first + from..first + to)) {
        for (mask, scores) in strip.masks.iter().zip(scratch.scores.chunks_mut(BLOCK_KV)) {
            mask.apply(simd, problem.config, first + from, &mut scores[from..to]);
        }
    }
    let seen = StripColumns {
        masks: strip.masks,
        first_row: strip.index * MR,
        first_key: first,
        columns: (from, to),
    };
    watch.scores(simd, &seen, scratch.scores);
    let rescale = absorb_block(simd, scratch.scores, (from, to), states);
    watch.probs(simd, &seen, scratch.scores, states);
    if problem.config.dropout.is_some() {
        for (mask, probs) in strip.masks.iter().zip(scratch.scores.chunks_mut(BLOCK_KV)) {
            mask.drop(first + from, &mut probs[from..to]);
        }
    }
    let output = &mut scratch.output[strip.index * MR * columns..];
    let probs = &scratch.scores[keys.start - first..];
    let value_rows = packed.values.skip(keys.start);
    match values {
        ValuePath::Multiply => value_tile::<S, MR, BLOCK_KV, 1>(
            simd,
            probs,
            (value_rows, keys.len()),
            &rescale,
            (&mut output[..MR * columns], columns),
        ),
        ValuePath::Select => {
            let rows = (value_rows, keys.start, keys.len());
            select_values(simd, problem, strip.masks, (probs, &rescale), rows, (output, columns));
        }
    }
}

/// Adds the values of allowed keys only, in the order of `tile::value_tile` and with its arithmetic.
#[inline(always)]
pub(super) fn select_values<S: Simd>(
    simd: S,
    problem: &Problem<'_>,
    masks: &[RowMask],
    (probs, rescale): (&[f32], &[f32]),
    (values, first, num_keys): (Rows<'_>, usize, usize),
    (output, columns): (&mut [f32], usize),
) {
    let lanes = S::F32_LANES;
    if columns == 0 {
        return;
    }
    assert!(columns.is_multiple_of(lanes));
    for (r, (mask, output)) in masks.iter().zip(output.chunks_exact_mut(columns)).enumerate() {
        for out in output.iter_mut() {
            *out *= rescale[r];
        }
        for j in (0..num_keys).filter(|j| mask.allows(problem.config, first + j)) {
            let prob = simd.splat_f32s(probs[r * BLOCK_KV + j]);
            let value = values.row(j, columns);
            for column in (0..columns).step_by(lanes) {
                // SAFETY: `value` and `output` have `columns` elements, a multiple of `lanes`.
                unsafe {
                    let at = output.as_mut_ptr().add(column);
                    let value = load(simd, value.as_ptr().add(column));
                    store(simd, at, simd.mul_add_e_f32s(prob, value, load(simd, at)));
                }
            }
        }
    }
}

/// Whether every element is finite.
#[inline(always)]
pub(super) fn is_finite<S: Simd>(_: S, numbers: &[f32]) -> bool {
    // x · 0 is 0 for finite x and NaN for the rest; 16 sums so that it vectorises.
    let mut sums = [0.0f32; 16];
    let mut chunks = numbers.chunks_exact(16);
    for chunk in &mut chunks {
        for (sum, number) in sums.iter_mut().zip(chunk) {
            *sum += number * 0.0;
        }
    }
    let rest: f32 = chunks.remainder().iter().map(|number| number * 0.0).sum();
    sums.iter().sum::<f32>() + rest == 0.0
}

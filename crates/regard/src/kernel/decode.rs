//! Few query rows: keys and values are read in place, once, by row dots.
//!
//! All rows of a key head (up to `MAX_DOT_ROWS`, group × query rows) share each key and value that is loaded.

use pulp::Simd;

use super::fetch::Ahead;
use super::finish::write_rows;
use super::forward::{ValuePath, blocks, is_finite, masks_of, select_values, union};
use super::observe::{StripColumns, Unobserved, Watch};
use super::online_softmax::{RowState, absorb_block};
use super::pack::pack_rows;
use super::plan::{BLOCK_KV, MAX_DOT_ROWS, Piece};
use super::problem::Problem;
use super::row_mask::{Masks, RowMask};
use super::rows::{RowSource, Rows};
use super::scratch::WorkerScratch;
use super::tile::{load, store};

/// Runs one piece by row dots and writes its rows or its partial result.
#[inline(always)]
pub(super) fn run_dot_piece<S: Simd, W: Watch>(
    simd: S,
    problem: &Problem<'_>,
    (piece, partial): (&Piece, Option<&mut [f32]>),
    (scratch, masks, watch): (&mut WorkerScratch<'_>, &mut Masks, &mut W),
) {
    let masks = masks_of(problem, piece, masks);
    let (head_dim, padded) = (problem.plan.head_dim, problem.plan.padded_head_dim);
    for (mask, query) in masks.iter().zip(scratch.query.chunks_exact_mut(padded)) {
        problem.query.widen_row(mask.batch, mask.head, mask.row, &mut query[..head_dim]);
        query[..head_dim].iter_mut().for_each(|number| *number *= problem.scale.query);
        query[head_dim..].fill(0.0);
    }
    let mut states = [RowState::EMPTY; MAX_DOT_ROWS];
    let states = &mut states[..masks.len()];
    watch.begin(problem, masks);
    run_blocks(simd, problem, (piece, masks), ValuePath::Multiply, (&mut *states, scratch, &mut *watch));
    let columns = problem.plan.padded_value_dim;
    // As in forward.rs: 0 · NaN from a value that some row may not attend to.
    if !is_finite(simd, &scratch.output[..masks.len() * columns]) {
        states.fill(RowState::EMPTY);
        run_blocks(
            simd,
            problem,
            (piece, masks),
            ValuePath::Select,
            (&mut *states, scratch, &mut Unobserved),
        );
    }
    watch.finish(problem, piece, masks);
    write_rows(simd, problem, masks, states, (scratch, partial));
}

#[inline(always)]
fn run_blocks<S: Simd, W: Watch>(
    simd: S,
    problem: &Problem<'_>,
    (piece, masks): (&Piece, &[RowMask]),
    path: ValuePath,
    (states, scratch, watch): (&mut [RowState], &mut WorkerScratch<'_>, &mut W),
) {
    let width = 2 * S::F32_LANES;
    let columns = problem.plan.padded_value_dim;
    scratch.output[..masks.len() * columns].fill(0.0);
    let all = union(masks);
    for block in blocks(masks) {
        let first = block * BLOCK_KV;
        let keys = all.start.max(first)..all.end.min(first + BLOCK_KV);
        let (from, to) = ((keys.start - first) / width * width, (keys.end - first).next_multiple_of(width));
        let (key_tile, value_tile) = scratch.tile.split_at_mut(BLOCK_KV * problem.plan.padded_head_dim);

        let head = (piece.batch, piece.kv_head);
        let value_dims = (problem.shape.value_head_dim, columns);
        let value_rows = rows_of(problem.value, head, (keys.start, keys.len()), value_dims, value_tile);
        let dims = (problem.plan.head_dim, problem.plan.padded_head_dim);
        let key_rows = rows_of(problem.key, head, (keys.start, keys.len()), dims, key_tile);
        let values_ahead = Ahead::new(value_rows, columns, keys.len());
        dot_scores(
            simd,
            scratch.query,
            (key_rows, keys.len(), values_ahead),
            dims.1,
            &mut scratch.scores[keys.start - first..],
            masks.len(),
        );
        for (mask, scores) in masks.iter().zip(scratch.scores.chunks_mut(BLOCK_KV)) {
            for score in &mut scores[keys.start - first..keys.end - first] {
                *score *= problem.scale.score;
            }
            mask.apply(simd, problem.config, first + from, &mut scores[from..to]);
        }
        let seen = StripColumns { masks, first_row: 0, first_key: first, columns: (from, to) };
        watch.scores(simd, &seen, scratch.scores);
        let rescale = absorb_block(simd, scratch.scores, (from, to), states);
        watch.probs(simd, &seen, scratch.scores, states);
        if problem.config.dropout.is_some() {
            for (mask, probs) in masks.iter().zip(scratch.scores.chunks_mut(BLOCK_KV)) {
                mask.drop(first + from, &mut probs[from..to]);
            }
        }

        let probs = &scratch.scores[keys.start - first..];
        let output = &mut scratch.output[..masks.len() * columns];
        match path {
            ValuePath::Multiply => {
                let next = (first + BLOCK_KV)..(first + 2 * BLOCK_KV).min(all.end);
                let ahead = Ahead::in_place(problem.key, head, next, problem.plan.head_dim);
                add_values(simd, (probs, &rescale), (value_rows, keys.len(), ahead), (output, columns));
            }
            ValuePath::Select => {
                let rows = (value_rows, keys.start, keys.len());
                select_values(simd, problem, masks, (probs, &rescale), rows, (output, columns));
            }
        }
    }
}

/// `count` rows from `first` on: in place if they are f32 and whole vectors, else widened into `tile`.
#[inline(always)]
pub(super) fn rows_of<'a>(
    source: &'a dyn RowSource,
    head: (usize, usize),
    (first, count): (usize, usize),
    (dim, padded): (usize, usize),
    tile: &'a mut [f32],
) -> Rows<'a> {
    if dim == padded
        && let Some((data, stride)) = source.f32_run(head, first, count)
    {
        return Rows { data, stride };
    }
    pack_rows(source, head, (first, count), (dim, padded), tile);
    Rows { data: tile, stride: padded }
}

/// `scores[r][j] = q[r] · k[j]`; `dim` is a multiple of the vector length. Rows that come next are fetched on the way.
#[inline(always)]
pub(super) fn dot_scores<S: Simd>(
    simd: S,
    queries: &[f32],
    (keys, num_keys, ahead): (Rows<'_>, usize, Ahead<'_>),
    dim: usize,
    scores: &mut [f32],
    num_rows: usize,
) {
    let mut r = 0;
    while r < num_rows {
        let (queries, scores) = (&queries[r * dim..], &mut scores[r * BLOCK_KV..]);
        let keys = (keys, num_keys, if r == 0 { ahead } else { Ahead::NOTHING });
        match num_rows - r {
            1 => dot_rows::<S, 1>(simd, queries, keys, dim, scores),
            2 | 3 => dot_rows::<S, 2>(simd, queries, keys, dim, scores),
            _ => dot_rows::<S, 4>(simd, queries, keys, dim, scores),
        }
        r += match num_rows - r {
            1 => 1,
            2 | 3 => 2,
            _ => 4,
        };
    }
}

#[inline(always)]
fn dot_rows<S: Simd, const R: usize>(
    simd: S,
    queries: &[f32],
    (keys, num_keys, ahead): (Rows<'_>, usize, Ahead<'_>),
    dim: usize,
    scores: &mut [f32],
) {
    let lanes = S::F32_LANES;
    assert!(
        dim.is_multiple_of(lanes)
            && queries.len() >= R * dim
            && scores.len() >= (R - 1) * BLOCK_KV + num_keys
    );
    let mut j = 0;
    while j < num_keys {
        // Several keys at a time share what is loaded of the queries; 16 sums need 32 registers. One query is as fast
        // as memory, which likes to be read in order.
        let done = match num_keys - j {
            4.. if R > 1 && (R < 4 || lanes >= 16) => {
                dot_keys::<S, R, 4>(simd, queries, (keys, j), dim, scores)
            }
            2.. if R > 1 => dot_keys::<S, R, 2>(simd, queries, (keys, j), dim, scores),
            _ => dot_keys::<S, R, 1>(simd, queries, (keys, j), dim, scores),
        };
        (j..j + done).for_each(|j| ahead.fetch(j));
        j += done;
    }
}

/// `J` keys from `first` on for `dot_rows`; returns `J`.
#[inline(always)]
fn dot_keys<S: Simd, const R: usize, const J: usize>(
    simd: S,
    queries: &[f32],
    (keys, first): (Rows<'_>, usize),
    dim: usize,
    scores: &mut [f32],
) -> usize {
    let lanes = S::F32_LANES;
    assert!(dim.is_multiple_of(lanes) && queries.len() >= R * dim);
    let data = &keys.data[first * keys.stride..];
    assert!(data.len() >= (J - 1) * keys.stride + dim);
    // Loops and no closures: those would not be compiled for the instruction set.
    let mut sums = [[simd.splat_f32s(0.0); J]; R];
    for c in (0..dim).step_by(lanes) {
        // SAFETY: c + lanes ≤ dim; key j < J starts at j·stride of `data`, query r < R at r·dim (both asserted).
        unsafe {
            let mut loaded = [simd.splat_f32s(0.0); J];
            for (j, key) in loaded.iter_mut().enumerate() {
                *key = load(simd, data.as_ptr().add(j * keys.stride + c));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let query = load(simd, queries.as_ptr().add(r * dim + c));
                for (sum, key) in sums.iter_mut().zip(loaded) {
                    *sum = simd.mul_add_e_f32s(query, key, *sum);
                }
            }
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        for (j, sum) in sums.into_iter().enumerate() {
            scores[r * BLOCK_KV + first + j] = simd.reduce_sum_f32s(sum);
        }
    }
    J
}

/// `o[r] = rescale[r]·o[r] + Σ_j probs[r][j]·v[j]`, values read row by row.
#[inline(always)]
fn add_values<S: Simd>(
    simd: S,
    (probs, rescale): (&[f32], &[f32]),
    (values, num_keys, ahead): (Rows<'_>, usize, Ahead<'_>),
    (output, columns): (&mut [f32], usize),
) {
    let lanes = S::F32_LANES;
    if columns == 0 {
        return;
    }
    assert!(columns.is_multiple_of(lanes));
    for (output, rescale) in output.chunks_exact_mut(columns).zip(rescale) {
        output.iter_mut().for_each(|out| *out *= rescale);
    }
    let mut j = 0;
    while j < num_keys {
        let done = match num_keys - j {
            ..4 => add_rows::<S, 1>(simd, probs, (values, j), (&mut *output, columns)),
            _ => add_rows::<S, 4>(simd, probs, (values, j), (&mut *output, columns)),
        };
        (j..j + done).for_each(|j| ahead.fetch(j));
        j += done;
    }
}

/// Adds `J` weighted values from `first` on to every row, one after the other, while the row is in registers;
/// returns `J`.
#[inline(always)]
fn add_rows<S: Simd, const J: usize>(
    simd: S,
    probs: &[f32],
    (values, first): (Rows<'_>, usize),
    (output, columns): (&mut [f32], usize),
) -> usize {
    let lanes = S::F32_LANES;
    assert!(columns.is_multiple_of(lanes));
    let data = &values.data[first * values.stride..];
    assert!(data.len() >= (J - 1) * values.stride + columns);
    for (r, output) in output.chunks_exact_mut(columns).enumerate() {
        let mut weights = [simd.splat_f32s(0.0); J];
        for (weight, prob) in weights.iter_mut().zip(&probs[r * BLOCK_KV + first..]) {
            *weight = simd.splat_f32s(*prob);
        }
        for column in (0..columns).step_by(lanes) {
            // SAFETY: `output` has `columns` elements, a multiple of `lanes`; value j < J starts at j·stride of
            // `data` and has as many (asserted).
            unsafe {
                let at = output.as_mut_ptr().add(column);
                let mut sum = load(simd, at);
                for (j, weight) in weights.into_iter().enumerate() {
                    let value = load(simd, data.as_ptr().add(j * values.stride + column));
                    sum = simd.mul_add_e_f32s(weight, value, sum);
                }
                store(simd, at, sum);
            }
        }
    }
    J
}

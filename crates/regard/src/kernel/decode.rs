//! Few query rows: keys and values are read in place, once, by row dots.
//!
//! All rows of a key head (up to `MAX_DOT_ROWS`, group × query rows) share each key and value that is loaded.

use pulp::Simd;

use super::finish::write_rows;
use super::forward::{ValuePath, blocks, is_finite, row_masks, select_values, union};
use super::online_softmax::{RowState, absorb_block};
use super::pack::pack_rows;
use super::plan::{BLOCK_KV, MAX_DOT_ROWS, Piece};
use super::problem::Problem;
use super::row_mask::RowMask;
use super::rows::{RowSource, Rows};
use super::scratch::WorkerScratch;
use super::tile::{load, store};

/// Runs one piece by row dots and writes its rows or its partial result.
#[inline(always)]
pub(super) fn run_dot_piece<S: Simd>(
    simd: S,
    problem: &Problem<'_>,
    (piece, partial): (&Piece, Option<&mut [f32]>),
    scratch: &mut WorkerScratch<'_>,
) {
    let masks = row_masks(problem, piece);
    let masks = &masks[..piece.rows.len()];
    let (head_dim, padded) = (problem.plan.head_dim, problem.plan.padded_head_dim);
    for (mask, query) in masks.iter().zip(scratch.query.chunks_exact_mut(padded)) {
        problem.query.widen_row(mask.batch, mask.head, mask.row, &mut query[..head_dim]);
        query[..head_dim].iter_mut().for_each(|number| *number *= problem.scale.query);
        query[head_dim..].fill(0.0);
    }
    let mut states = [RowState::EMPTY; MAX_DOT_ROWS];
    let states = &mut states[..masks.len()];
    run_blocks(simd, problem, (piece, masks), ValuePath::Multiply, (&mut *states, scratch));
    let columns = problem.plan.padded_value_dim;
    // As in forward.rs: 0 · NaN from a value that some row may not attend to.
    if !is_finite(simd, &scratch.output[..masks.len() * columns]) {
        states.fill(RowState::EMPTY);
        run_blocks(simd, problem, (piece, masks), ValuePath::Select, (&mut *states, scratch));
    }
    write_rows(simd, problem, masks, states, (scratch, partial));
}

#[inline(always)]
fn run_blocks<S: Simd>(
    simd: S,
    problem: &Problem<'_>,
    (piece, masks): (&Piece, &[RowMask]),
    path: ValuePath,
    (states, scratch): (&mut [RowState], &mut WorkerScratch<'_>),
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

        let dims = (problem.plan.head_dim, problem.plan.padded_head_dim);
        let head = (piece.batch, piece.kv_head);
        let key_rows = rows_of(problem.key, head, (keys.start, keys.len()), dims, key_tile);
        dot_scores(
            simd,
            scratch.query,
            (key_rows, keys.len()),
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
        let rescale = absorb_block(simd, scratch.scores, (from, to), states);
        if problem.config.dropout.is_some() {
            for (mask, probs) in masks.iter().zip(scratch.scores.chunks_mut(BLOCK_KV)) {
                mask.drop(first + from, &mut probs[from..to]);
            }
        }

        let dims = (problem.shape.value_head_dim, columns);
        let value_rows = rows_of(problem.value, head, (keys.start, keys.len()), dims, value_tile);
        let probs = &scratch.scores[keys.start - first..];
        let output = &mut scratch.output[..masks.len() * columns];
        match path {
            ValuePath::Multiply => {
                add_values(simd, (probs, &rescale), (value_rows, keys.len()), (output, columns));
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

/// `scores[r][j] = q[r] · k[j]`; `dim` is a multiple of the vector length.
#[inline(always)]
pub(super) fn dot_scores<S: Simd>(
    simd: S,
    queries: &[f32],
    (keys, num_keys): (Rows<'_>, usize),
    dim: usize,
    scores: &mut [f32],
    num_rows: usize,
) {
    let mut r = 0;
    while r < num_rows {
        let (queries, scores) = (&queries[r * dim..], &mut scores[r * BLOCK_KV..]);
        match num_rows - r {
            1 => dot_rows::<S, 1>(simd, queries, (keys, num_keys), dim, scores),
            2 | 3 => dot_rows::<S, 2>(simd, queries, (keys, num_keys), dim, scores),
            _ => dot_rows::<S, 4>(simd, queries, (keys, num_keys), dim, scores),
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
    (keys, num_keys): (Rows<'_>, usize),
    dim: usize,
    scores: &mut [f32],
) {
    let lanes = S::F32_LANES;
    assert!(
        dim.is_multiple_of(lanes)
            && queries.len() >= R * dim
            && scores.len() >= (R - 1) * BLOCK_KV + num_keys
    );
    for j in 0..num_keys {
        let key = keys.row(j, dim);
        let mut sums = [simd.splat_f32s(0.0); R];
        for c in (0..dim).step_by(lanes) {
            // SAFETY: c + lanes ≤ dim, the length of `key` and of each of the R queries (asserted).
            unsafe {
                let k = load(simd, key.as_ptr().add(c));
                for (r, sum) in sums.iter_mut().enumerate() {
                    let q = load(simd, queries.as_ptr().add(r * dim + c));
                    *sum = simd.mul_add_e_f32s(q, k, *sum);
                }
            }
        }
        for (r, sum) in sums.into_iter().enumerate() {
            scores[r * BLOCK_KV + j] = simd.reduce_sum_f32s(sum);
        }
    }
}

/// `o[r] = rescale[r]·o[r] + Σ_j probs[r][j]·v[j]`, values read row by row.
#[inline(always)]
fn add_values<S: Simd>(
    simd: S,
    (probs, rescale): (&[f32], &[f32]),
    (values, num_keys): (Rows<'_>, usize),
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
    for j in 0..num_keys {
        let value = values.row(j, columns);
        for (r, output) in output.chunks_exact_mut(columns).enumerate() {
            let prob = simd.splat_f32s(probs[r * BLOCK_KV + j]);
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

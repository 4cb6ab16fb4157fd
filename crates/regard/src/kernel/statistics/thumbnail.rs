//! Block sums of a head's probabilities, added up by whoever has a part of them.
//!
//! Parts arrive in any order, so they are added as whole numbers of a fixed small unit: such sums do not depend on it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::super::scratch::filled_with;
use crate::error::AttentionError;
use crate::shape::AttentionShape;

/// `[batch_size · num_heads, rows, columns]`.
pub(super) struct ThumbnailSums {
    rows: usize,
    columns: usize,
    seq_len_q: usize,
    /// In units of 1/`scale`.
    cells: Vec<AtomicU64>,
    /// Blocks of rows of which one is NaN.
    nan: Vec<AtomicBool>,
    scale: f64,
}

impl ThumbnailSums {
    pub(super) fn bytes(shape: &AttentionShape, [rows, columns]: [usize; 2]) -> usize {
        shape.batch_size.saturating_mul(shape.num_heads).saturating_mul(rows * (8 * columns + 1))
    }

    pub(super) fn new(shape: &AttentionShape, [rows, columns]: [usize; 2]) -> Result<Self, AttentionError> {
        let heads = shape.batch_size * shape.num_heads;
        // A cell is a sum of at most seq_len_q probabilities: two bits stay free.
        let bits = 62 - (usize::BITS - shape.seq_len_q.leading_zeros());
        Ok(Self {
            rows,
            columns,
            seq_len_q: shape.seq_len_q,
            cells: filled_with(heads * rows * columns, AtomicU64::default)?,
            nan: filled_with(heads * rows, AtomicBool::default)?,
            scale: f64::from(bits).exp2(),
        })
    }

    /// The block of rows that a query row of a head (counted over the batch) is in.
    pub(super) fn block(&self, head: usize, row: usize) -> usize {
        head * self.rows + (row as u128 * self.rows as u128 / self.seq_len_q as u128) as usize
    }

    /// Adds sums over some rows of a block.
    pub(super) fn add(&self, block: usize, sums: &[f64]) {
        for (cell, &sum) in self.cells[block * self.columns..].iter().zip(sums) {
            cell.fetch_add((sum * self.scale).round() as u64, Relaxed);
        }
    }

    pub(super) fn set_nan(&self, block: usize) {
        self.nan[block].store(true, Relaxed);
    }

    /// Writes `[batch_size · num_heads, rows, columns]`.
    pub(super) fn write(&self, thumbnail: &mut [f32]) {
        let rows = thumbnail.chunks_exact_mut(self.columns).zip(self.cells.chunks_exact(self.columns));
        for ((target, cells), nan) in rows.zip(&self.nan) {
            for (target, cell) in target.iter_mut().zip(cells) {
                let sum = (cell.load(Relaxed) as f64 / self.scale) as f32;
                *target = if nan.load(Relaxed) { f32::NAN } else { sum };
            }
        }
    }
}

/// The column block of key `key` of a sequence of `key_len` keys.
pub(super) fn cell_of(key: usize, (num_cells, key_len): (usize, usize)) -> usize {
    (key as u64 * num_cells as u64 / key_len as u64) as usize
}

/// The first key of the next column block.
pub(super) fn cell_end(cell: usize, (num_cells, key_len): (usize, usize)) -> usize {
    ((cell as u64 + 1) * key_len as u64).div_ceil(num_cells as u64) as usize
}

use std::iter::repeat_n;

use super::{add_rows, collect, expect_embeddings};
use crate::error::AttentionError;
use crate::shape::expect;
use crate::view::checked_product;

/// One trained vector for each position, up to a fixed number of positions.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnedPositions {
    table: Vec<f32>,
    num_positions: usize,
    model_dim: usize,
}

impl LearnedPositions {
    /// Positions from a table `[num_positions, model_dim]`, row-major.
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`] if the length does not match; [`AttentionError::SizeOverflow`].
    pub fn new(table: Vec<f32>, num_positions: usize, model_dim: usize) -> Result<Self, AttentionError> {
        expect("positions.len", checked_product(&[num_positions, model_dim], "positions")?, table.len())?;
        Ok(Self { table, num_positions, model_dim })
    }

    /// How many positions there are.
    pub fn num_positions(&self) -> usize {
        self.num_positions
    }

    /// The table, `[num_positions, model_dim]`, row-major.
    pub fn table(&self) -> &[f32] {
        &self.table
    }

    /// The table, to be trained: `[num_positions, model_dim]`, row-major.
    pub fn table_mut(&mut self) -> &mut [f32] {
        &mut self.table
    }

    /// Adds positions `first`, `first + 1`, … to `[batch_size, seq_len, model_dim]`; `size` is the first two.
    ///
    /// # Errors
    /// [`AttentionError::OutOfBounds`] if a position is beyond the table;
    /// [`AttentionError::ShapeMismatch`] if the length does not match.
    pub fn add_to(
        &self,
        embeddings: &mut [f32],
        [batch_size, seq_len]: [usize; 2],
        first: usize,
    ) -> Result<(), AttentionError> {
        self.expect_positions(first, seq_len)?;
        add_rows(embeddings, [batch_size, seq_len, self.model_dim], |i, row| {
            row.copy_from_slice(&self.table[(first + i) * self.model_dim..][..self.model_dim]);
        })
    }

    /// Adds the gradient of the table to `d_table`, `[num_positions, model_dim]`: each position's row receives
    /// the sum, over the batch, of the gradients of the embeddings that [`Self::add_to`] added it to.
    ///
    /// `d_embeddings` is `[batch_size, seq_len, model_dim]`. The sum is taken in f64, in the order of the
    /// sequences, and rounded once. The gradient of the embeddings themselves is `d_embeddings`.
    ///
    /// # Errors
    /// As [`Self::add_to`]; [`AttentionError::ShapeMismatch`] if `d_table` has another length than the table;
    /// [`AttentionError::AllocationFailed`].
    pub fn add_gradient(
        &self,
        d_embeddings: &[f32],
        [batch_size, seq_len]: [usize; 2],
        first: usize,
        d_table: &mut [f32],
    ) -> Result<(), AttentionError> {
        self.expect_positions(first, seq_len)?;
        expect_embeddings(d_embeddings, [batch_size, seq_len, self.model_dim])?;
        expect("d_table.len", self.table.len(), d_table.len())?;
        if d_embeddings.is_empty() {
            return Ok(());
        }
        let mut sums = collect(self.model_dim, repeat_n(0.0f64, self.model_dim))?;
        for index in 0..seq_len {
            sums.fill(0.0);
            for sequence in d_embeddings.chunks_exact(seq_len * self.model_dim) {
                let row = &sequence[index * self.model_dim..][..self.model_dim];
                sums.iter_mut().zip(row).for_each(|(sum, &number)| *sum += f64::from(number));
            }
            let target = &mut d_table[(first + index) * self.model_dim..][..self.model_dim];
            for (target, sum) in target.iter_mut().zip(&sums) {
                *target = (f64::from(*target) + sum) as f32;
            }
        }
        Ok(())
    }

    /// Refuses positions beyond the table.
    fn expect_positions(&self, first: usize, seq_len: usize) -> Result<(), AttentionError> {
        let needed = first.saturating_add(seq_len);
        if needed > self.num_positions {
            return Err(AttentionError::OutOfBounds { what: "positions", needed, found: self.num_positions });
        }
        Ok(())
    }
}

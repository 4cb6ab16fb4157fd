use super::add_rows;
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
        let needed = first.saturating_add(seq_len);
        if needed > self.num_positions {
            return Err(AttentionError::OutOfBounds { what: "positions", needed, found: self.num_positions });
        }
        add_rows(embeddings, [batch_size, seq_len, self.model_dim], |i, row| {
            row.copy_from_slice(&self.table[(first + i) * self.model_dim..][..self.model_dim]);
        })
    }
}

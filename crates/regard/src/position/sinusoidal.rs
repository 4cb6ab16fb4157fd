use super::add_rows;
use crate::error::AttentionError;

/// Fixed positions of sines and cosines (Vaswani et al. 2017, §3.5): element 2i of position p is
/// sin(p / 10000^(2i/model_dim)), element 2i + 1 the cosine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinusoidalPositions {
    model_dim: usize,
}

impl SinusoidalPositions {
    /// Positions for rows of `model_dim` elements.
    pub fn new(model_dim: usize) -> Self {
        Self { model_dim }
    }

    /// Writes the encoding of `position` into `row`, `[model_dim]`.
    ///
    /// # Panics
    /// If `row` has another length.
    pub fn encode(&self, position: usize, row: &mut [f32]) {
        assert_eq!(row.len(), self.model_dim, "a row has model_dim elements");
        for (c, place) in row.iter_mut().enumerate() {
            let exponent = (c / 2 * 2) as f64 / self.model_dim as f64;
            let angle = position as f64 / 10_000f64.powf(exponent);
            *place = if c % 2 == 0 { angle.sin() } else { angle.cos() } as f32;
        }
    }

    /// Adds positions `first`, `first + 1`, … to `[batch_size, seq_len, model_dim]`; `size` is the first two.
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`] if the length does not match.
    pub fn add_to(
        &self,
        embeddings: &mut [f32],
        [batch_size, seq_len]: [usize; 2],
        first: usize,
    ) -> Result<(), AttentionError> {
        add_rows(embeddings, [batch_size, seq_len, self.model_dim], |i, row| {
            self.encode(first.saturating_add(i), row)
        })
    }
}

//! Positions: attention alone cannot tell them apart, so they are added to its input or turned into its
//! queries and keys.

mod learned;
mod rotary;
mod sinusoidal;

pub use learned::LearnedPositions;
pub use rotary::{RotaryPairs, RotaryPositions, Rotation};
pub use sinusoidal::SinusoidalPositions;

use crate::error::AttentionError;
use crate::shape::expect;
use crate::view::checked_product;

/// Adds `row_of(position)` to each row of `[batch_size, seq_len, model_dim]`, positions starting at `first`.
fn add_rows(
    embeddings: &mut [f32],
    [batch_size, seq_len, model_dim]: [usize; 3],
    mut row_of: impl FnMut(usize, &mut [f32]),
) -> Result<(), AttentionError> {
    let expected = checked_product(&[batch_size, seq_len, model_dim], "embeddings")?;
    expect("embeddings.len", expected, embeddings.len())?;
    if embeddings.is_empty() {
        return Ok(());
    }
    let mut row = vec![0.0; model_dim];
    for index in 0..seq_len {
        row_of(index, &mut row);
        for sequence in embeddings.chunks_exact_mut(seq_len * model_dim) {
            let target = &mut sequence[index * model_dim..][..model_dim];
            target.iter_mut().zip(&row).for_each(|(target, number)| *target += number);
        }
    }
    Ok(())
}

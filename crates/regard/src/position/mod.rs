//! Positions: attention alone cannot tell them apart, so they are added to its input, turned into its queries
//! and keys, or added to its scores by distance.

mod alibi;
mod learned;
mod relative_bias;
mod rotary;
mod rotary_scaling;
mod sinusoidal;

pub use alibi::alibi_slopes;
pub use learned::LearnedPositions;
pub use relative_bias::RelativePositionBuckets;
pub use rotary::{RotaryPairs, RotaryPositions, Rotation};
pub use rotary_scaling::{Llama3Scaling, RotaryScaling, YarnScaling};
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
    expect_embeddings(embeddings, [batch_size, seq_len, model_dim])?;
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

/// Refuses embeddings that are not `[batch_size, seq_len, model_dim]`.
fn expect_embeddings(embeddings: &[f32], shape: [usize; 3]) -> Result<(), AttentionError> {
    expect("embeddings.len", checked_product(&shape, "embeddings")?, embeddings.len())
}

/// Collects `len` items; a length that does not fit in memory is an error.
fn collect<T>(len: usize, items: impl Iterator<Item = T>) -> Result<Vec<T>, AttentionError> {
    let mut all = Vec::new();
    let bytes = len.saturating_mul(size_of::<T>());
    all.try_reserve_exact(len).map_err(|_| AttentionError::AllocationFailed { bytes })?;
    all.extend(items.take(len));
    Ok(all)
}

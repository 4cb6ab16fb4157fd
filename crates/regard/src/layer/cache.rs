//! What both caches share: new rows checked, memory that may fail, and the lengths as a mask.

use std::ops::Range;

use crate::config::AttentionConfig;
use crate::element::Element;
use crate::error::AttentionError;
use crate::shape::expect;
use crate::view::{TensorView, checked_product};

/// Sizes of one position of a cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowSizes {
    pub(super) num_kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) value_head_dim: usize,
}

impl RowSizes {
    pub(super) fn new(
        num_kv_heads: usize,
        [head_dim, value_head_dim]: [usize; 2],
    ) -> Result<Self, AttentionError> {
        let sizes = Self { num_kv_heads, head_dim, value_head_dim };
        if head_dim == 0 { Err(AttentionError::ZeroHeadDim) } else { Ok(sizes) }
    }

    /// Zeroed memory for keys and for values of `[blocks, num_kv_heads, block_len]` rows.
    pub(super) fn allocate<T: Element>(
        &self,
        blocks: usize,
        block_len: usize,
    ) -> Result<[Vec<T>; 2], AttentionError> {
        let buffer = |dim: usize| {
            let sizes = [blocks, self.num_kv_heads, block_len, dim];
            // Sizes of 0 count as 1, so that views without elements fit the address space too.
            let [blocks, heads, block_len, dim] = sizes.map(|size| size.max(1));
            checked_product(&[blocks, heads, block_len, dim, size_of::<T>()], "cache")?;
            filled(sizes.into_iter().product(), T::default())
        };
        Ok([buffer(self.head_dim)?, buffer(self.value_head_dim)?])
    }

    /// The number of new positions, if keys and values are of this cache's sizes, for `batch_size` sequences.
    pub(super) fn check<T: Copy>(
        &self,
        batch_size: usize,
        key: &TensorView<'_, T>,
        value: &TensorView<'_, T>,
    ) -> Result<usize, AttentionError> {
        let (key, value) = (key.shape(), value.shape());
        expect("key.batch_size", batch_size, key[0])?;
        expect("key.num_kv_heads", self.num_kv_heads, key[1])?;
        expect("key.head_dim", self.head_dim, key[3])?;
        expect("value.batch_size", batch_size, value[0])?;
        expect("value.num_kv_heads", self.num_kv_heads, value[1])?;
        expect("value.seq_len_kv", key[2], value[2])?;
        expect("value.value_head_dim", self.value_head_dim, value[3])?;
        Ok(key[2])
    }
}

/// `len` copies of `element`, or an error where memory is short.
pub(super) fn filled<E: Clone>(len: usize, element: E) -> Result<Vec<E>, AttentionError> {
    let mut elements = Vec::new();
    let failed = |_| AttentionError::AllocationFailed { bytes: len.saturating_mul(size_of::<E>()) };
    elements.try_reserve_exact(len).map_err(failed)?;
    elements.resize(len, element);
    Ok(elements)
}

/// One sequence as a range, if there is such a one.
pub(super) fn only(sequence: usize, batch_size: usize) -> Result<Range<usize>, AttentionError> {
    let needed = sequence.saturating_add(1);
    if sequence < batch_size {
        Ok(sequence..needed)
    } else {
        Err(AttentionError::OutOfBounds { what: "sequence", needed, found: batch_size })
    }
}

/// The caller's options, with the lengths of a cache in the mask.
pub(super) fn with_lengths<'a>(
    config: &AttentionConfig<'a>,
    lengths: &'a [usize],
) -> Result<AttentionConfig<'a>, AttentionError> {
    if config.mask.key_lengths.is_some() {
        let (what, with) = ("mask.key_lengths", "the lengths of a cache");
        return Err(AttentionError::ConflictingOption { what, with });
    }
    Ok(config.with_mask(config.mask.with_key_lengths(lengths)))
}

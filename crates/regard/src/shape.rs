//! Every size of an attention call, checked once.

use crate::error::AttentionError;
use crate::view::checked_product;

/// The sizes of one attention call, consistent and free of overflow.
///
/// | tensor | shape |
/// |---|---|
/// | query | `[batch_size, num_heads, seq_len_q, head_dim]` |
/// | key | `[batch_size, num_kv_heads, seq_len_kv, head_dim]` |
/// | value | `[batch_size, num_kv_heads, seq_len_kv, value_head_dim]` |
/// | output | `[batch_size, num_heads, seq_len_q, value_head_dim]` |
/// | log_sum_exp | `[batch_size, num_heads, seq_len_q]` |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct AttentionShape {
    /// Independent sequences.
    pub batch_size: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Query rows of each sequence.
    pub seq_len_q: usize,
    /// Key and value rows of each sequence, padding included.
    pub seq_len_kv: usize,
    /// Elements of a query and of a key.
    pub head_dim: usize,
    /// Elements of a value and of an output row.
    pub value_head_dim: usize,
}

impl AttentionShape {
    /// The shape that query, key and value shapes (batch, head, sequence, dimension) agree on.
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`] naming the axis, [`AttentionError::HeadGroups`],
    /// [`AttentionError::ZeroHeadDim`] or [`AttentionError::SizeOverflow`].
    pub fn new(query: [usize; 4], key: [usize; 4], value: [usize; 4]) -> Result<Self, AttentionError> {
        let [batch_size, num_heads, seq_len_q, head_dim] = query;
        let [_, num_kv_heads, seq_len_kv, _] = key;
        expect("key.batch_size", batch_size, key[0])?;
        expect("value.batch_size", batch_size, value[0])?;
        expect("value.num_kv_heads", num_kv_heads, value[1])?;
        expect("value.seq_len_kv", seq_len_kv, value[2])?;
        expect("key.head_dim", head_dim, key[3])?;
        if head_dim == 0 {
            return Err(AttentionError::ZeroHeadDim);
        }
        let divides = if num_kv_heads == 0 { num_heads == 0 } else { num_heads.is_multiple_of(num_kv_heads) };
        if !divides {
            return Err(AttentionError::HeadGroups { num_heads, num_kv_heads });
        }
        let value_head_dim = value[3];
        let shape =
            Self { batch_size, num_heads, num_kv_heads, seq_len_q, seq_len_kv, head_dim, value_head_dim };
        checked_product(&[batch_size.max(1), num_heads.max(1), seq_len_q, head_dim, 8], "query")?;
        checked_product(
            &[batch_size.max(1), num_heads.max(1), seq_len_q, value_head_dim.max(1), 8],
            "output",
        )?;
        checked_product(&[batch_size.max(1), num_heads.max(1), seq_len_kv, head_dim, 8], "key")?;
        checked_product(
            &[batch_size.max(1), num_heads.max(1), seq_len_kv, value_head_dim.max(1), 8],
            "value",
        )?;
        Ok(shape)
    }

    /// Query heads that share one key and value head.
    pub fn group_size(&self) -> usize {
        self.num_heads.checked_div(self.num_kv_heads).unwrap_or(0)
    }

    /// Shape of the output: `[batch_size, num_heads, seq_len_q, value_head_dim]`.
    pub fn output(&self) -> [usize; 4] {
        [self.batch_size, self.num_heads, self.seq_len_q, self.value_head_dim]
    }

    /// Number of attention rows, which is the length of `log_sum_exp`.
    pub fn num_rows(&self) -> usize {
        self.batch_size * self.num_heads * self.seq_len_q
    }

    /// Shape of the scores: `[batch_size, num_heads, seq_len_q, seq_len_kv]`. Never allocated.
    pub(crate) fn scores(&self) -> [usize; 4] {
        [self.batch_size, self.num_heads, self.seq_len_q, self.seq_len_kv]
    }
}

pub(crate) fn expect(axis: &'static str, expected: usize, found: usize) -> Result<(), AttentionError> {
    if expected == found { Ok(()) } else { Err(AttentionError::ShapeMismatch { axis, expected, found }) }
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use super::*;

    #[test]
    fn attention_shape__derived_shapes__name_the_right_axes() {
        let shape = AttentionShape::new([2, 6, 5, 8], [2, 3, 7, 8], [2, 3, 7, 4]).unwrap();
        assert_eq!(shape.output(), [2, 6, 5, 4]);
        assert_eq!(shape.scores(), [2, 6, 5, 7]);
        assert_eq!((shape.group_size(), shape.num_rows()), (2, 60));
    }
}

use std::iter::repeat_n;

use super::collect;
use crate::error::AttentionError;
use crate::shape::expect;
use crate::view::checked_product;

/// Buckets of relative positions (Raffel et al. 2020, §2.1): T5 learns one number for each bucket and head, and
/// adds it to the scores.
///
/// Near distances have a bucket each; farther ones share buckets that widen logarithmically up to
/// `max_distance`, beyond which all share the last. The logarithm is taken in f32, as in T5's own code and in
/// Hugging Face's `T5Attention`, so that distances on the edge of two buckets fall on the same side.
///
/// ```
/// use regard::{AttentionConfig, RelativeBias, position::RelativePositionBuckets};
/// let (num_heads, embedding) = (2, [0.5; 32 * 2]); // `relative_attention_bias.weight`, [num_buckets, num_heads]
/// let buckets = RelativePositionBuckets::bidirectional(32, 128)?;
/// let table = buckets.table(&embedding, num_heads)?;
/// let bias = RelativeBias::new(&table, buckets.left(), buckets.right());
/// let config = AttentionConfig::new().with_relative_bias(bias).with_softmax_scale(1.0); // T5 does not scale
/// # Ok::<(), regard::AttentionError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RelativePositionBuckets {
    num_buckets: usize,
    bidirectional: bool,
    /// Distances from 0 that have a bucket each, in one direction.
    max_exact: usize,
    /// ln(max_distance / max_exact).
    log_span: f32,
}

impl RelativePositionBuckets {
    /// Buckets of an encoder, which looks both ways: half of them for keys after the query.
    ///
    /// # Errors
    /// [`AttentionError::InvalidSize`] if `num_buckets` is odd or less than 4, or if `max_distance` is at most
    /// `num_buckets / 4`, the number of distances in one direction with a bucket each.
    pub fn bidirectional(num_buckets: usize, max_distance: usize) -> Result<Self, AttentionError> {
        if num_buckets < 4 || !num_buckets.is_multiple_of(2) {
            let expected = "an even number from 4";
            return Err(AttentionError::InvalidSize { what: "num_buckets", expected, found: num_buckets });
        }
        Self::new(num_buckets, max_distance, true)
    }

    /// Buckets of a decoder, which looks back; keys after the query count as at distance 0.
    ///
    /// # Errors
    /// [`AttentionError::InvalidSize`] if `num_buckets` is less than 2, or if `max_distance` is at most
    /// `num_buckets / 2`, the number of distances with a bucket each.
    pub fn causal(num_buckets: usize, max_distance: usize) -> Result<Self, AttentionError> {
        if num_buckets < 2 {
            let expected = "at least 2";
            return Err(AttentionError::InvalidSize { what: "num_buckets", expected, found: num_buckets });
        }
        Self::new(num_buckets, max_distance, false)
    }

    fn new(num_buckets: usize, max_distance: usize, bidirectional: bool) -> Result<Self, AttentionError> {
        let max_exact = if bidirectional { num_buckets / 4 } else { num_buckets / 2 };
        let log_span = (max_distance as f64 / max_exact as f64).ln() as f32;
        // Not "max_distance <= max_exact": of two huge sizes the quotient may be 1 all the same.
        if log_span > 0.0 {
            return Ok(Self { num_buckets, bidirectional, max_exact, log_span });
        }
        let expected = "more than the distances with a bucket each";
        Err(AttentionError::InvalidSize { what: "max_distance", expected, found: max_distance })
    }

    /// How many buckets there are.
    pub fn num_buckets(&self) -> usize {
        self.num_buckets
    }

    /// The bucket of a relative position, key − query: below [`Self::num_buckets`].
    pub fn bucket(&self, relative_position: i64) -> usize {
        let distance = relative_position.unsigned_abs();
        match (self.bidirectional, relative_position > 0) {
            (true, true) => self.num_buckets / 2 + self.bucket_of_distance(distance),
            (false, true) => 0,
            (_, false) => self.bucket_of_distance(distance),
        }
    }

    /// Buckets of one direction.
    fn buckets_per_direction(&self) -> usize {
        if self.bidirectional { self.num_buckets / 2 } else { self.num_buckets }
    }

    /// The bucket of a distance, among those of one direction; it never falls as the distance grows.
    fn bucket_of_distance(&self, distance: u64) -> usize {
        if distance < self.max_exact as u64 {
            return distance as usize;
        }
        let buckets = self.buckets_per_direction();
        // Through f64, the logarithm is the nearest f32 on every platform.
        let log = f64::from(distance as f32 / self.max_exact as f32).ln() as f32;
        let beyond = (log / self.log_span * (buckets - self.max_exact) as f32) as usize;
        self.max_exact.saturating_add(beyond).min(buckets - 1)
    }

    /// How far before the query the buckets distinguish distances: all farther ones share the bucket of this one.
    pub fn left(&self) -> usize {
        let farthest = i64::MIN.unsigned_abs();
        let last = self.bucket_of_distance(farthest);
        let (mut low, mut high) = (0, farthest); // the first distance in the last bucket is in low..=high
        while low < high {
            let middle = low + (high - low) / 2;
            if self.bucket_of_distance(middle) < last { low = middle + 1 } else { high = middle }
        }
        usize::try_from(low).unwrap_or(usize::MAX)
    }

    /// How far after the query the buckets distinguish distances; 0 if they look back only.
    pub fn right(&self) -> usize {
        if self.bidirectional { self.left() } else { 0 }
    }

    /// The bias of each head at each distance, for [`RelativeBias`](crate::RelativeBias).
    ///
    /// `embedding` is `[num_buckets, num_heads]`, as T5's checkpoints hold it. The result is
    /// `[num_heads, left + 1 + right]`; the distance key − query = x has column left + x, and beyond either end
    /// the end's number is exact.
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`] if the length does not match; [`AttentionError::SizeOverflow`];
    /// [`AttentionError::AllocationFailed`].
    pub fn table(&self, embedding: &[f32], num_heads: usize) -> Result<Vec<f32>, AttentionError> {
        let embedding_len = checked_product(&[self.num_buckets, num_heads], "embedding")?;
        expect("embedding.len", embedding_len, embedding.len())?;
        let (left, width) = self.left_and_width()?;
        let len = checked_product(&[num_heads, width], "relative_bias.table")?;
        let mut table = collect(len, repeat_n(0.0, len))?;
        if num_heads > 0 {
            for column in 0..width {
                let bucket = self.bucket_of_column(column, left);
                for (head, row) in table.chunks_exact_mut(width).enumerate() {
                    row[column] = embedding[bucket * num_heads + head];
                }
            }
        }
        Ok(table)
    }

    /// The gradient of the embedding, `[num_buckets, num_heads]`, from that of the table,
    /// `[num_heads, left + 1 + right]`: each bucket's is the sum over its distances, in f64, in their order.
    ///
    /// # Errors
    /// As [`Self::table`].
    pub fn embedding_gradient(&self, d_table: &[f32], num_heads: usize) -> Result<Vec<f32>, AttentionError> {
        let (left, width) = self.left_and_width()?;
        expect("d_table.len", checked_product(&[num_heads, width], "relative_bias.table")?, d_table.len())?;
        let len = checked_product(&[self.num_buckets, num_heads], "embedding")?;
        let mut sums = collect(len, repeat_n(0.0f64, len))?;
        if num_heads > 0 {
            for column in 0..width {
                let bucket = self.bucket_of_column(column, left);
                for (head, row) in d_table.chunks_exact(width).enumerate() {
                    sums[bucket * num_heads + head] += f64::from(row[column]);
                }
            }
        }
        collect(len, sums.into_iter().map(|sum| sum as f32))
    }

    fn left_and_width(&self) -> Result<(usize, usize), AttentionError> {
        let (left, right) = (self.left(), self.right());
        let width = left.checked_add(right).and_then(|sum| sum.checked_add(1));
        Ok((left, width.ok_or(AttentionError::SizeOverflow { what: "relative_bias.table" })?))
    }

    fn bucket_of_column(&self, column: usize, left: usize) -> usize {
        self.bucket((column as i128 - left as i128) as i64)
    }
}

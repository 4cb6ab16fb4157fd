use std::ops::Range;

use super::cache::{RowSizes, filled, only, with_lengths};
use crate::attention::{AttentionOutput, attention_with};
use crate::config::AttentionConfig;
use crate::element::Element;
use crate::error::AttentionError;
use crate::kernel::Workspace;
use crate::view::TensorView;

/// Keys and values of all positions so far, for generation step by step: a step appends what is new and attends
/// to everything, without a copy of the cache.
///
/// Memory is `[batch_size, num_kv_heads, capacity, dim]`, for keys and for values, taken once: the rows of a head
/// are adjacent, as a step reads them. Sequences may be of different lengths.
///
/// ```
/// use regard::layer::KvCache;
/// use regard::{
///     AttentionConfig, AttentionOutput, Layout, Mask, QueryPosition, TensorView, TensorViewMut, Workspace,
/// };
///
/// let shape = [1, 2, 1, 4]; // one sequence, two heads, one new position, head_dim 4
/// let layout = Layout::BatchHeadSeqDim;
/// let mut cache = KvCache::new(1, 2, 16, [4, 4])?; // room for 16 positions
/// let mut workspace = Workspace::new();
/// let config = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::BottomRight));
/// let mut output = [0.0; 8];
/// for step in 0..3 {
///     let (row, value) = ([0.5; 8], [step as f32; 8]);
///     cache.append(TensorView::new(&row, shape, layout)?, TensorView::new(&value, shape, layout)?)?;
///     let target =
///         AttentionOutput { output: TensorViewMut::new(&mut output, shape, layout)?, log_sum_exp: None };
///     cache.attend(TensorView::new(&row, shape, layout)?, target, &config, &mut workspace)?;
/// }
/// assert_eq!(cache.lengths(), [3]);
/// assert_eq!(output, [1.0; 8]); // equal keys: the mean of 0, 1 and 2
/// # Ok::<(), regard::AttentionError>(())
/// ```
#[derive(Debug)]
pub struct KvCache<T> {
    key: Vec<T>,
    value: Vec<T>,
    lengths: Vec<usize>,
    capacity: usize,
    sizes: RowSizes,
}

impl<T: Element> KvCache<T> {
    /// An empty cache with room for `capacity` positions of each of `batch_size` sequences; the dimensions are
    /// `[head_dim, value_head_dim]`.
    ///
    /// # Errors
    /// [`AttentionError::ZeroHeadDim`], [`AttentionError::SizeOverflow`] or [`AttentionError::AllocationFailed`].
    pub fn new(
        batch_size: usize,
        num_kv_heads: usize,
        capacity: usize,
        head_dims: [usize; 2],
    ) -> Result<Self, AttentionError> {
        let sizes = RowSizes::new(num_kv_heads, head_dims)?;
        let [key, value] = sizes.allocate(batch_size, capacity)?;
        Ok(Self { key, value, lengths: filled(batch_size, 0)?, capacity, sizes })
    }

    /// Positions that each sequence has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Positions of each sequence so far, `[batch_size]`.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Appends the same number of positions to every sequence: key `[batch_size, num_kv_heads, new, head_dim]`,
    /// value `[batch_size, num_kv_heads, new, value_head_dim]`, of any strides.
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`], or [`AttentionError::CacheFull`] if any sequence lacks the room; then
    /// nothing is written.
    pub fn append(&mut self, key: TensorView<'_, T>, value: TensorView<'_, T>) -> Result<(), AttentionError> {
        self.append_rows(0..self.lengths.len(), &key, &value)
    }

    /// Appends positions to one sequence: key `[1, num_kv_heads, new, head_dim]`, value
    /// `[1, num_kv_heads, new, value_head_dim]`, of any strides.
    ///
    /// # Errors
    /// As for [`Self::append`], and [`AttentionError::OutOfBounds`] if there is no such sequence.
    pub fn append_to(
        &mut self,
        sequence: usize,
        key: TensorView<'_, T>,
        value: TensorView<'_, T>,
    ) -> Result<(), AttentionError> {
        self.append_rows(only(sequence, self.lengths.len())?, &key, &value)
    }

    fn append_rows(
        &mut self,
        sequences: Range<usize>,
        key: &TensorView<'_, T>,
        value: &TensorView<'_, T>,
    ) -> Result<(), AttentionError> {
        let new = self.sizes.check(sequences.len(), key, value)?;
        let longest = self.longest(sequences.clone());
        let available = self.capacity - longest;
        if new > available && !sequences.is_empty() {
            return Err(AttentionError::CacheFull { what: "rows", needed: new, available });
        }
        for (source, target) in [(key, &mut self.key), (value, &mut self.value)] {
            let [_, num_heads, _, dim] = source.shape();
            if new * dim == 0 {
                continue;
            }
            for (batch, sequence) in sequences.clone().enumerate() {
                for head in 0..num_heads {
                    let first = (sequence * num_heads + head) * self.capacity + self.lengths[sequence];
                    let rows = target[first * dim..][..new * dim].chunks_exact_mut(dim);
                    rows.enumerate().for_each(|(row, place)| source.copy_row([batch, head, row], place));
                }
            }
        }
        self.lengths[sequences].iter_mut().for_each(|length| *length += new);
        Ok(())
    }

    /// Forgets all but the first `length` positions of a sequence; a shorter one stays as it is.
    ///
    /// # Errors
    /// [`AttentionError::OutOfBounds`] if there is no such sequence.
    pub fn truncate(&mut self, sequence: usize, length: usize) -> Result<(), AttentionError> {
        let sequence = only(sequence, self.lengths.len())?.start;
        self.lengths[sequence] = self.lengths[sequence].min(length);
        Ok(())
    }

    /// Forgets all positions of a sequence.
    ///
    /// # Errors
    /// As for [`Self::truncate`].
    pub fn reset(&mut self, sequence: usize) -> Result<(), AttentionError> {
        self.truncate(sequence, 0)
    }

    /// Forgets all positions of every sequence.
    pub fn reset_all(&mut self) {
        self.lengths.fill(0);
    }

    /// Keys in place, `[batch_size, num_kv_heads, longest length, head_dim]`; what lies past a sequence's own
    /// length is left over or zero.
    pub fn key(&self) -> TensorView<'_, T> {
        self.view(&self.key, 0..self.lengths.len(), self.sizes.head_dim)
    }

    /// Values in place, `[batch_size, num_kv_heads, longest length, value_head_dim]`; what lies past a sequence's
    /// own length is left over or zero.
    pub fn value(&self) -> TensorView<'_, T> {
        self.view(&self.value, 0..self.lengths.len(), self.sizes.value_head_dim)
    }

    fn view<'a>(&self, data: &'a [T], sequences: Range<usize>, dim: usize) -> TensorView<'a, T> {
        let row_block = self.capacity * dim;
        let strides = [self.sizes.num_kv_heads * row_block, row_block, dim, 1];
        let data = data.get(sequences.start * strides[0]..).unwrap_or_default();
        let shape = [sequences.len(), self.sizes.num_kv_heads, self.longest(sequences), dim];
        TensorView::with_strides(data, shape, strides).expect("a cache holds its own rows")
    }

    fn longest(&self, sequences: Range<usize>) -> usize {
        self.lengths[sequences].iter().copied().max().unwrap_or(0)
    }

    /// Attention of queries `[batch_size, num_heads, seq_len_q, head_dim]` over the cache, as by
    /// [`attention_with`] with the cache's lengths as `mask.key_lengths`; queries of a mask at
    /// [`BottomRight`](crate::QueryPosition::BottomRight) are each sequence's last positions.
    ///
    /// Keep mask and bias have `seq_len_kv` of the longest sequence.
    ///
    /// # Errors
    /// [`AttentionError::ConflictingOption`] if the mask already has lengths; else as for [`attention_with`].
    pub fn attend<Q: Element>(
        &self,
        query: TensorView<'_, Q>,
        target: AttentionOutput<'_, Q>,
        config: &AttentionConfig<'_>,
        workspace: &mut Workspace,
    ) -> Result<(), AttentionError> {
        self.attend_rows(0..self.lengths.len(), query, target, config, workspace)
    }

    /// [`Self::attend`] for one sequence alone, queries `[1, num_heads, seq_len_q, head_dim]`: a new prompt beside
    /// sequences that are further on.
    ///
    /// # Errors
    /// As for [`Self::attend`], and [`AttentionError::OutOfBounds`] if there is no such sequence.
    pub fn attend_in<Q: Element>(
        &self,
        sequence: usize,
        query: TensorView<'_, Q>,
        target: AttentionOutput<'_, Q>,
        config: &AttentionConfig<'_>,
        workspace: &mut Workspace,
    ) -> Result<(), AttentionError> {
        self.attend_rows(only(sequence, self.lengths.len())?, query, target, config, workspace)
    }

    fn attend_rows<Q: Element>(
        &self,
        sequences: Range<usize>,
        query: TensorView<'_, Q>,
        target: AttentionOutput<'_, Q>,
        config: &AttentionConfig<'_>,
        workspace: &mut Workspace,
    ) -> Result<(), AttentionError> {
        let key = self.view(&self.key, sequences.clone(), self.sizes.head_dim);
        let value = self.view(&self.value, sequences.clone(), self.sizes.value_head_dim);
        let config = with_lengths(config, &self.lengths[sequences])?;
        attention_with(query, key, value, target, &config, workspace)
    }
}

use super::cache::with_lengths;
use crate::attention::{AttentionOutput, attention_over};
use crate::config::AttentionConfig;
use crate::element::Element;
use crate::error::AttentionError;
use crate::kernel::{PagedRows, Workspace};
use crate::shape::expect;
use crate::view::{TensorView, checked_product};

/// Keys and values in pages that somebody else keeps, with the block table that says which page is whose
/// (Kwon et al. 2023).
///
/// Row r of a sequence is row `r % page_len` of page `block_table[sequence][r / page_len]`. Sequences may share
/// pages, such as those of a common prompt.
///
/// ```
/// use regard::layer::PagedView;
/// use regard::{AttentionConfig, AttentionOutput, Layout, TensorView, TensorViewMut, Workspace};
///
/// // Three pages of two rows, one head, head_dim 1; the sequence reads page 2, then the start of page 0.
/// let pages = PagedView {
///     key_pages: &[0.0; 6],
///     value_pages: &[3.0, f32::NAN, f32::NAN, f32::NAN, 1.0, 2.0],
///     page_shape: [3, 1, 2],
///     head_dims: [1, 1],
///     block_table: &[2, 0],
///     lengths: &[3],
/// };
/// let layout = Layout::BatchHeadSeqDim;
/// let mut output = [0.0f32];
/// let target =
///     AttentionOutput { output: TensorViewMut::new(&mut output, [1; 4], layout)?, log_sum_exp: None };
/// let query = TensorView::new(&[1.0f32], [1; 4], layout)?;
/// pages.attend(query, target, &AttentionConfig::new(), &mut Workspace::new())?;
/// assert_eq!(output, [2.0]); // equal keys: the mean of 1, 2 and 3
/// # Ok::<(), regard::AttentionError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PagedView<'a, T> {
    /// `[num_pages, num_kv_heads, page_len, head_dim]`.
    pub key_pages: &'a [T],
    /// `[num_pages, num_kv_heads, page_len, value_head_dim]`.
    pub value_pages: &'a [T],
    /// `[num_pages, num_kv_heads, page_len]`; `page_len` at least 1.
    pub page_shape: [usize; 3],
    /// `[head_dim, value_head_dim]`.
    pub head_dims: [usize; 2],
    /// Pages of each sequence in order, `[batch_size, pages_per_sequence]`; entries past its length are not read.
    pub block_table: &'a [usize],
    /// Positions of each sequence, `[batch_size]`.
    pub lengths: &'a [usize],
}

impl<T: Element> PagedView<'_, T> {
    /// Attention of queries `[batch_size, num_heads, seq_len_q, head_dim]` over the pages, as by
    /// [`attention_with`](crate::attention_with) over the same rows in one tensor with these lengths as
    /// `mask.key_lengths`, and with the same bits.
    ///
    /// Keep mask and bias have `seq_len_kv` of the longest sequence.
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`], [`AttentionError::NotDivisible`] or [`AttentionError::SizeOverflow`] if the
    /// sizes do not fit each other; [`AttentionError::OutOfBounds`] if a length needs more entries than the block
    /// table has or an entry names no page; [`AttentionError::ConflictingOption`] if the mask already has lengths;
    /// else as for [`attention_with`](crate::attention_with).
    pub fn attend<Q: Element>(
        &self,
        query: TensorView<'_, Q>,
        target: AttentionOutput<'_, Q>,
        config: &AttentionConfig<'_>,
        workspace: &mut Workspace,
    ) -> Result<(), AttentionError> {
        let pages_per_sequence = self.check()?;
        let [_, num_kv_heads, page_len] = self.page_shape;
        let [head_dim, value_head_dim] = self.head_dims;
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        let shape = |dim| [self.lengths.len(), num_kv_heads, longest, dim];
        let rows = |pages, dim| {
            let block_table = self.block_table;
            PagedRows { pages, block_table, pages_per_sequence, num_kv_heads, page_len, dim }
        };
        let (key, value) = (rows(self.key_pages, head_dim), rows(self.value_pages, value_head_dim));
        let config = with_lengths(config, self.lengths)?;
        let shapes = [shape(head_dim), shape(value_head_dim)];
        attention_over(query, shapes, (&key, &value), target, &config, workspace)
    }

    /// Entries that the block table has for each sequence, if every row that a length counts is there.
    fn check(&self) -> Result<usize, AttentionError> {
        let [num_pages, num_kv_heads, page_len] = self.page_shape;
        if page_len == 0 {
            let (axis, expected) = ("page_len (at least)", 1);
            return Err(AttentionError::ShapeMismatch { axis, expected, found: 0 });
        }
        let buffers = [("key_pages.len", self.key_pages), ("value_pages.len", self.value_pages)];
        for ((axis, pages), dim) in buffers.into_iter().zip(self.head_dims) {
            expect(axis, checked_product(&[num_pages, num_kv_heads, page_len, dim], axis)?, pages.len())?;
        }
        let (size, divisor) = (self.block_table.len(), self.lengths.len());
        if !size.is_multiple_of(divisor) {
            let what = "block_table.len by batch_size";
            return Err(AttentionError::NotDivisible { what, size, divisor });
        }
        let pages_per_sequence = size.checked_div(divisor).unwrap_or(0);
        for (sequence, length) in self.lengths.iter().enumerate() {
            let needed = length.div_ceil(page_len);
            if needed > pages_per_sequence {
                let (what, found) = ("block_table", pages_per_sequence);
                return Err(AttentionError::OutOfBounds { what, needed, found });
            }
            let used = &self.block_table[sequence * pages_per_sequence..][..needed];
            if let Some(page) = used.iter().find(|&&page| page >= num_pages) {
                let (what, needed) = ("block_table entry", page.saturating_add(1));
                return Err(AttentionError::OutOfBounds { what, needed, found: num_pages });
            }
        }
        Ok(pages_per_sequence)
    }
}

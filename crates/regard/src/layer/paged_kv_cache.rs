use std::ops::Range;

use super::cache::{RowSizes, filled, only};
use super::paged_view::PagedView;
use crate::attention::AttentionOutput;
use crate::config::AttentionConfig;
use crate::element::Element;
use crate::error::AttentionError;
use crate::kernel::Workspace;
use crate::view::{TensorView, checked_product};

/// A cache of keys and values whose sequences share one stock of pages, so that none has to reserve room for the
/// longest (Kwon et al. 2023).
///
/// A page holds `page_len` positions of one sequence, `[num_kv_heads, page_len, dim]`; it is taken when a sequence
/// grows into it and given back when the sequence is reset. Memory is taken once. Results have the bits that
/// [`KvCache`](super::KvCache) gives.
///
/// ```
/// use regard::layer::PagedKvCache;
/// use regard::{Layout, TensorView};
///
/// let mut cache = PagedKvCache::new(2, 1, [4, 16], [8, 8])?; // two sequences share 4 pages of 16 positions
/// let rows = vec![0.5f32; 20 * 8];
/// let rows = TensorView::new(&rows, [1, 1, 20, 8], Layout::BatchHeadSeqDim)?;
/// cache.append_to(1, rows, rows)?;
/// assert_eq!((cache.lengths(), cache.free_pages()), (&[0, 20][..], 2));
/// cache.reset(1)?;
/// assert_eq!(cache.free_pages(), 4);
/// # Ok::<(), regard::AttentionError>(())
/// ```
#[derive(Debug)]
pub struct PagedKvCache<T> {
    key: Vec<T>,
    value: Vec<T>,
    /// `[batch_size, num_pages]`: a sequence may take every page.
    block_table: Vec<usize>,
    lengths: Vec<usize>,
    /// A stack.
    free: Vec<usize>,
    num_pages: usize,
    page_len: usize,
    sizes: RowSizes,
}

impl<T: Element> PagedKvCache<T> {
    /// An empty cache of `batch_size` sequences; `[num_pages, page_len]` is the stock, and the dimensions are
    /// `[head_dim, value_head_dim]`.
    ///
    /// # Errors
    /// [`AttentionError::ZeroHeadDim`], [`AttentionError::ShapeMismatch`] if `page_len` is 0,
    /// [`AttentionError::SizeOverflow`] or [`AttentionError::AllocationFailed`].
    pub fn new(
        batch_size: usize,
        num_kv_heads: usize,
        [num_pages, page_len]: [usize; 2],
        head_dims: [usize; 2],
    ) -> Result<Self, AttentionError> {
        if page_len == 0 {
            let (axis, expected) = ("page_len (at least)", 1);
            return Err(AttentionError::ShapeMismatch { axis, expected, found: 0 });
        }
        let sizes = RowSizes::new(num_kv_heads, head_dims)?;
        let entries = checked_product(&[batch_size, num_pages, size_of::<usize>()], "block_table")?;
        let [key, value] = sizes.allocate(num_pages, page_len)?;
        let block_table = filled(entries / size_of::<usize>(), 0)?;
        let (mut free, lengths) = (filled(num_pages, 0)?, filled(batch_size, 0)?);
        free.iter_mut().rev().enumerate().for_each(|(page, place)| *place = page);
        Ok(Self { key, value, block_table, lengths, free, num_pages, page_len, sizes })
    }

    /// Positions of one page.
    pub fn page_len(&self) -> usize {
        self.page_len
    }

    /// Pages that no sequence holds.
    pub fn free_pages(&self) -> usize {
        self.free.len()
    }

    /// Positions of each sequence so far, `[batch_size]`.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// The pages of a sequence in order: its row r is row `r % page_len` of page `block_table[r / page_len]`.
    ///
    /// # Errors
    /// [`AttentionError::OutOfBounds`] if there is no such sequence.
    pub fn block_table(&self, sequence: usize) -> Result<&[usize], AttentionError> {
        let sequence = only(sequence, self.lengths.len())?.start;
        let num_pages = self.lengths[sequence].div_ceil(self.page_len);
        Ok(&self.block_table[sequence * self.num_pages..][..num_pages])
    }

    /// Appends the same number of positions to every sequence: key `[batch_size, num_kv_heads, new, head_dim]`,
    /// value `[batch_size, num_kv_heads, new, value_head_dim]`, of any strides.
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`], or [`AttentionError::CacheFull`] if there are too few free pages for all
    /// of them; then nothing is written.
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
        let pages = |length: usize| length.div_ceil(self.page_len);
        let needed = (self.lengths[sequences.clone()].iter())
            .map(|&length| pages(length + new) - pages(length))
            .fold(0, usize::saturating_add);
        let available = self.free.len();
        if needed > available {
            return Err(AttentionError::CacheFull { what: "pages", needed, available });
        }
        for (batch, sequence) in sequences.enumerate() {
            let length = self.lengths[sequence];
            let table = &mut self.block_table[sequence * self.num_pages..][..self.num_pages];
            let taken = length.div_ceil(self.page_len)..(length + new).div_ceil(self.page_len);
            for (entry, page) in table[taken].iter_mut().zip(std::iter::from_fn(|| self.free.pop())) {
                *entry = page;
            }
            for (source, target) in [(key, &mut self.key), (value, &mut self.value)] {
                let [_, num_heads, _, dim] = source.shape();
                // Heads outside: without any, no row is looked at, however many there are.
                for head in 0..if dim == 0 { 0 } else { num_heads } {
                    for row in 0..new {
                        let at = length + row;
                        let block = table[at / self.page_len] * num_heads + head;
                        let place = &mut target[(block * self.page_len + at % self.page_len) * dim..][..dim];
                        source.copy_row([batch, head, row], place);
                    }
                }
            }
            self.lengths[sequence] += new;
        }
        Ok(())
    }

    /// Forgets all but the first `length` positions of a sequence and gives back the pages that this empties; a
    /// shorter one stays as it is.
    ///
    /// # Errors
    /// [`AttentionError::OutOfBounds`] if there is no such sequence.
    pub fn truncate(&mut self, sequence: usize, length: usize) -> Result<(), AttentionError> {
        let sequence = only(sequence, self.lengths.len())?.start;
        self.keep_first(sequence, length);
        Ok(())
    }

    /// Forgets all positions of a sequence and gives back its pages.
    ///
    /// # Errors
    /// As for [`Self::truncate`].
    pub fn reset(&mut self, sequence: usize) -> Result<(), AttentionError> {
        self.truncate(sequence, 0)
    }

    /// Forgets all positions of every sequence.
    pub fn reset_all(&mut self) {
        (0..self.lengths.len()).for_each(|sequence| self.keep_first(sequence, 0));
    }

    fn keep_first(&mut self, sequence: usize, length: usize) {
        let old = self.lengths[sequence];
        let length = length.min(old);
        let table = &self.block_table[sequence * self.num_pages..][..self.num_pages];
        let given_back = &table[length.div_ceil(self.page_len)..old.div_ceil(self.page_len)];
        self.free.extend(given_back.iter().rev());
        self.lengths[sequence] = length;
    }

    /// Pages, block table and lengths, borrowed.
    pub fn view(&self) -> PagedView<'_, T> {
        self.view_of(0..self.lengths.len())
    }

    fn view_of(&self, sequences: Range<usize>) -> PagedView<'_, T> {
        PagedView {
            key_pages: &self.key,
            value_pages: &self.value,
            page_shape: [self.num_pages, self.sizes.num_kv_heads, self.page_len],
            head_dims: [self.sizes.head_dim, self.sizes.value_head_dim],
            block_table: &self.block_table[sequences.start * self.num_pages..sequences.end * self.num_pages],
            lengths: &self.lengths[sequences],
        }
    }

    /// Attention of queries `[batch_size, num_heads, seq_len_q, head_dim]` over the cache, as by
    /// [`attention_with`](crate::attention_with) with the cache's lengths as `mask.key_lengths`; queries of a mask
    /// at [`BottomRight`](crate::QueryPosition::BottomRight) are each sequence's last positions.
    ///
    /// Keep mask and bias have `seq_len_kv` of the longest sequence.
    ///
    /// # Errors
    /// [`AttentionError::ConflictingOption`] if the mask already has lengths; else as for
    /// [`attention_with`](crate::attention_with).
    pub fn attend<Q: Element>(
        &self,
        query: TensorView<'_, Q>,
        target: AttentionOutput<'_, Q>,
        config: &AttentionConfig<'_>,
        workspace: &mut Workspace,
    ) -> Result<(), AttentionError> {
        self.view().attend(query, target, config, workspace)
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
        let one = only(sequence, self.lengths.len())?;
        self.view_of(one).attend(query, target, config, workspace)
    }
}

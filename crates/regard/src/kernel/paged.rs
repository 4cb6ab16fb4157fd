//! Rows that lie in pages, found by a block table.

use super::rows::RowSource;
use crate::element::Element;

/// Keys or values in pages `[num_pages, num_kv_heads, page_len, dim]`: row r of a sequence is row
/// r % page_len of the page that its entry r / page_len names.
pub(crate) struct PagedRows<'a, T> {
    pub(crate) pages: &'a [T],
    /// `[batch_size, pages_per_sequence]`.
    pub(crate) block_table: &'a [usize],
    pub(crate) pages_per_sequence: usize,
    pub(crate) num_kv_heads: usize,
    pub(crate) page_len: usize,
    pub(crate) dim: usize,
}

impl<T> PagedRows<'_, T> {
    fn row(&self, batch: usize, head: usize, row: usize) -> &[T] {
        let page = self.block_table[batch * self.pages_per_sequence + row / self.page_len];
        let start = ((page * self.num_kv_heads + head) * self.page_len + row % self.page_len) * self.dim;
        &self.pages[start..][..self.dim]
    }
}

impl<T: Element> RowSource for PagedRows<'_, T> {
    fn widen_row(&self, batch: usize, head: usize, row: usize, wide: &mut [f32]) {
        T::widen(self.row(batch, head, row), wide);
    }

    fn f32_row(&self, batch: usize, head: usize, row: usize) -> Option<&[f32]> {
        T::as_f32_slice(self.row(batch, head, row))
    }

    fn f32_rows(&self, _: usize, _: usize) -> Option<(&[f32], usize)> {
        None
    }

    fn f32_run(&self, (batch, head): (usize, usize), first: usize, count: usize) -> Option<(&[f32], usize)> {
        if first % self.page_len + count > self.page_len {
            return None;
        }
        let page = self.block_table[batch * self.pages_per_sequence + first / self.page_len];
        let start = ((page * self.num_kv_heads + head) * self.page_len + first % self.page_len) * self.dim;
        T::as_f32_slice(&self.pages[start..][..count * self.dim]).map(|rows| (rows, self.dim))
    }

    fn is_f32_in_place(&self) -> bool {
        false
    }
}

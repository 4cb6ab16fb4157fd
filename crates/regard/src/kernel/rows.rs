//! Rows in and out of a tensor of any storage type, so that the kernels are compiled once, for f32.

use std::marker::PhantomData;

use crate::element::Element;
use crate::view::{TensorView, TensorViewMut};

/// Adjacent f32 rows: row j starts at `data[j · stride]`.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
}

impl<'a> Rows<'a> {
    /// The rows from `first` on, of which there is at least one.
    pub(super) fn skip(self, first: usize) -> Self {
        Self { data: &self.data[first * self.stride..], stride: self.stride }
    }

    /// The first `len` elements of row `row`.
    pub(super) fn row(self, row: usize, len: usize) -> &'a [f32] {
        &self.data[row * self.stride..][..len]
    }
}

/// A tensor of any storage type, read row by row.
pub(crate) trait RowSource: Sync {
    /// Widens one row into `wide`, which has the row's length.
    fn widen_row(&self, batch: usize, head: usize, row: usize, wide: &mut [f32]);

    /// One row in place, if it is f32 and its elements are adjacent.
    fn f32_row(&self, batch: usize, head: usize, row: usize) -> Option<&[f32]>;

    /// All rows of a head from its first element to its last and the stride between them, if they are f32
    /// and the elements of a row are adjacent.
    fn f32_rows(&self, batch: usize, head: usize) -> Option<(&[f32], usize)>;

    /// `count` rows of a head from row `first` on and the stride between them, if they lie in place as for
    /// `f32_rows`.
    fn f32_run(&self, (batch, head): (usize, usize), first: usize, _count: usize) -> Option<(&[f32], usize)> {
        let (rows, stride) = self.f32_rows(batch, head)?;
        Some((rows.get(first * stride..).unwrap_or_default(), stride))
    }

    /// Whether `f32_rows` finds something.
    fn is_f32_in_place(&self) -> bool;
}

impl<T: Element> RowSource for TensorView<'_, T> {
    fn widen_row(&self, batch: usize, head: usize, row: usize, wide: &mut [f32]) {
        if let Some(narrow) = self.contiguous_row(batch, head, row) {
            return T::widen(narrow, wide);
        }
        let (start, stride) = (self.offset([batch, head, row, 0]), self.strides()[3]);
        for (c, wide) in wide.iter_mut().enumerate() {
            *wide = self.data()[start + c * stride].to_f32();
        }
    }

    fn f32_row(&self, batch: usize, head: usize, row: usize) -> Option<&[f32]> {
        self.contiguous_row(batch, head, row).and_then(T::as_f32_slice)
    }

    fn f32_rows(&self, batch: usize, head: usize) -> Option<(&[f32], usize)> {
        if !self.is_f32_in_place() {
            return None;
        }
        if self.shape().contains(&0) {
            return T::as_f32_slice(&[]).map(|rows| (rows, 0));
        }
        T::as_f32_slice(self.head_slice(batch, head)).map(|rows| (rows, self.strides()[2]))
    }

    fn is_f32_in_place(&self) -> bool {
        T::as_f32_slice(&[]).is_some() && (self.strides()[3] == 1 || self.shape()[3] <= 1)
    }
}

/// Where finished rows go: the output in its storage type, and the log-sum-exp if it is wanted.
pub(crate) trait RowSink: Sync {
    /// Rounds `output` to the storage type and writes it and `log_sum_exp` at `[batch, head, row]`.
    ///
    /// # Safety
    /// No other thread writes the same row at the same time.
    unsafe fn write_row(&self, at: [usize; 3], output: &[f32], log_sum_exp: f32);

    /// Whether the log-sum-exp is written at all.
    fn wants_log_sum_exp(&self) -> bool;
}

/// A borrowed output that several threads write distinct rows of.
pub(crate) struct SharedOutput<'a, T> {
    output: *mut T,
    shape: [usize; 4],
    strides: [usize; 4],
    log_sum_exp: Option<*mut f32>,
    borrow: PhantomData<(&'a mut [T], &'a mut [f32])>,
}

impl<'a, T: Element> SharedOutput<'a, T> {
    /// Takes over a view and, if given, a log-sum-exp slice of one element a row.
    ///
    /// # Panics
    /// If the log-sum-exp slice has another length (callers check and report that first).
    pub(crate) fn new(output: &'a mut TensorViewMut<'_, T>, log_sum_exp: Option<&'a mut [f32]>) -> Self {
        let (shape, strides) = (output.shape(), output.strides());
        let log_sum_exp = log_sum_exp.map(|lse| {
            assert_eq!(lse.len(), shape[0] * shape[1] * shape[2], "log_sum_exp: one element a row");
            lse.as_mut_ptr()
        });
        Self { output: output.data_mut().as_mut_ptr(), shape, strides, log_sum_exp, borrow: PhantomData }
    }
}

// SAFETY: the pointers come from exclusive borrows that this type holds on to for 'a. The only access is
// `write_row`, whose callers promise that no row is written twice at once, and distinct rows are distinct
// elements (a `TensorViewMut` has no two positions at one element). T is Send.
unsafe impl<T: Element> Sync for SharedOutput<'_, T> {}

impl<T: Element> RowSink for SharedOutput<'_, T> {
    unsafe fn write_row(&self, [batch, head, row]: [usize; 3], output: &[f32], log_sum_exp: f32) {
        let [batch_size, num_heads, seq_len, dim] = self.shape;
        assert!(batch < batch_size && head < num_heads && row < seq_len && output.len() == dim);
        if !output.is_empty() {
            let start = batch * self.strides[0] + head * self.strides[1] + row * self.strides[2];
            if self.strides[3] == 1 {
                // SAFETY: the row's elements are adjacent, inside the slice (as below), and no one else reads or
                // writes this row (the caller's promise).
                let target = unsafe { std::slice::from_raw_parts_mut(self.output.add(start), dim) };
                T::narrow(output, target);
            } else {
                for (c, &number) in output.iter().enumerate() {
                    // SAFETY: the indices are inside the shape (asserted), and a view that has elements reaches no
                    // further than its slice; no one else writes this row (the caller's promise).
                    unsafe { *self.output.add(start + c * self.strides[3]) = T::from_f32(number) };
                }
            }
        }
        if let Some(target) = self.log_sum_exp {
            // SAFETY: one element a row (asserted in `new`), the row index is inside, and no one else
            // writes it (the caller's promise).
            unsafe { *target.add((batch * num_heads + head) * seq_len + row) = log_sum_exp };
        }
    }

    fn wants_log_sum_exp(&self) -> bool {
        self.log_sum_exp.is_some()
    }
}

/// Rows of a larger output, from `first` on.
pub(crate) struct ShiftedRows<'a> {
    pub(crate) sink: &'a dyn RowSink,
    pub(crate) first: usize,
}

impl RowSink for ShiftedRows<'_> {
    unsafe fn write_row(&self, [batch, head, row]: [usize; 3], output: &[f32], log_sum_exp: f32) {
        // SAFETY: distinct rows stay distinct; the rest is the caller's promise.
        unsafe { self.sink.write_row([batch, head, self.first + row], output, log_sum_exp) };
    }

    fn wants_log_sum_exp(&self) -> bool {
        self.sink.wants_log_sum_exp()
    }
}

/// One number a row: `[batch · num_heads, rows of a head]`, of whose rows those from `first` on are meant.
#[derive(Clone, Copy)]
pub(crate) struct RowNumbers<'a> {
    pub(crate) numbers: &'a [f32],
    pub(crate) rows_per_head: usize,
    pub(crate) first: usize,
}

impl RowNumbers<'_> {
    /// The number of row `row` of a head, counted over the batch.
    pub(crate) fn at(&self, head: usize, row: usize) -> f32 {
        self.numbers[head * self.rows_per_head + self.first + row]
    }
}

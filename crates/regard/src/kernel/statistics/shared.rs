//! Rows of one array that several threads write, each its own.

use std::marker::PhantomData;

/// A borrowed array of `width` elements a row.
pub(super) struct SharedRows<'a, T> {
    start: *mut T,
    len: usize,
    width: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer comes from an exclusive borrow that this type holds on to for 'a. The only access is `row`, whose
// callers promise that no two hold the same row, and distinct rows are distinct elements. T is Send.
unsafe impl<T: Send> Sync for SharedRows<'_, T> {}

impl<'a, T> SharedRows<'a, T> {
    pub(super) fn new(rows: &'a mut [T], width: usize) -> Self {
        Self { start: rows.as_mut_ptr(), len: rows.len(), width, borrow: PhantomData }
    }

    /// Row `index`, or nothing of an array without elements.
    ///
    /// # Safety
    /// Nobody else has the same row at the same time.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn row(&self, index: usize) -> &mut [T] {
        // SAFETY: the whole row, by the caller's promise.
        unsafe { self.part(index, 0, self.width) }
    }

    /// Elements `first..first + len` of row `index`, or nothing of an array without elements.
    ///
    /// # Safety
    /// Nobody else has any of the same elements at the same time.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn part(&self, index: usize, first: usize, len: usize) -> &mut [T] {
        if self.len == 0 {
            return &mut [];
        }
        assert!(first + len <= self.width && (index + 1) * self.width <= self.len);
        // SAFETY: inside the array (asserted), which is borrowed for 'a; nobody else has these elements (the
        // caller's promise).
        unsafe { std::slice::from_raw_parts_mut(self.start.add(index * self.width + first), len) }
    }
}

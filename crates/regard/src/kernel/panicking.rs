//! A tensor that panics when a chosen row is read, and an output that keeps nothing: for tests of worker panics.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::rows::{RowSink, RowSource};

/// Rows of ones; the `fatal`-th row that is read panics.
pub(super) struct Panicking {
    reads: AtomicUsize,
    fatal: usize,
}

impl Panicking {
    pub(super) fn new(fatal: usize) -> Self {
        Self { reads: AtomicUsize::new(0), fatal }
    }

    /// Rows that were read.
    pub(super) fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

impl RowSource for Panicking {
    fn widen_row(&self, _: usize, _: usize, _: usize, wide: &mut [f32]) {
        assert_ne!(self.reads.fetch_add(1, Ordering::Relaxed), self.fatal, "injected");
        wide.fill(1.0);
    }
    fn f32_row(&self, _: usize, _: usize, _: usize) -> Option<&[f32]> {
        None
    }
    fn f32_rows(&self, _: usize, _: usize) -> Option<(&[f32], usize)> {
        None
    }
    fn is_f32_in_place(&self) -> bool {
        false
    }
}

/// Takes rows whose numbers are finite.
pub(super) struct Discard;

impl RowSink for Discard {
    unsafe fn write_row(&self, _: [usize; 3], output: &[f32], _: f32) {
        assert!(output.iter().all(|x| x.is_finite()));
    }
    fn wants_log_sum_exp(&self) -> bool {
        true
    }
}

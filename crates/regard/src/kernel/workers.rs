//! How several threads share a phase of a call: each with scratch of its own, all with one queue of jobs.

use std::sync::{Mutex, PoisonError};

use pulp::Simd;
use rayon::prelude::*;

use super::dispatch::SimdTask;

/// Multiply-adds below which other threads are not woken.
pub(super) const WORTH_A_THREAD: usize = 1 << 19;

/// Jobs that workers take one at a time.
pub(crate) struct Queue<I>(Mutex<I>);

impl<I: Iterator> Queue<I> {
    pub(crate) fn new(jobs: I) -> Self {
        Self(Mutex::new(jobs))
    }

    pub(crate) fn take(&self) -> Option<I::Item> {
        // A worker that panicked elsewhere leaves the iterator as it was; rayon re-raises the panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

/// Runs `worker` once for each `worker_len` elements of scratch, at once if there are several.
pub(super) fn work(scratch: &mut [f32], worker_len: usize, worker: impl Fn(&mut [f32]) + Send + Sync) {
    if scratch.len() <= worker_len {
        worker(scratch);
    } else if rayon::current_thread_index().is_some() {
        scratch.par_chunks_exact_mut(worker_len).for_each(worker);
    } else {
        // The caller is not one of the pool's threads: it begins at once, while they wake up.
        let (own, others) = scratch.split_at_mut(worker_len);
        let worker = &worker;
        rayon::in_place_scope(|scope| {
            for scratch in others.chunks_exact_mut(worker_len) {
                scope.spawn(move |_| worker(scratch));
            }
            worker(own);
        });
    }
}

/// Vector length and tile rows of an instruction set.
pub(super) struct TileShape;

impl SimdTask for TileShape {
    type Output = (usize, usize);
    #[inline(always)]
    fn run<S: Simd, const MR: usize>(self, _: S) -> (usize, usize) {
        (S::F32_LANES, MR)
    }
}

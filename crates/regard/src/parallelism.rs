//! How many threads a call may use.

use std::num::NonZeroUsize;

/// How many pieces of a call may run at once, in the current rayon pool.
///
/// The result does not depend on it: bits are the same for any number of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parallelism {
    /// As many as the current rayon pool has threads.
    #[default]
    Pool,
    /// On the calling thread alone.
    Sequential,
    /// At most this many at once, and no more than the current rayon pool has threads.
    Threads(NonZeroUsize),
}

impl Parallelism {
    /// The number of workers this stands for here and now.
    pub fn num_workers(self) -> usize {
        match self {
            Self::Pool => rayon::current_num_threads(),
            Self::Sequential => 1,
            Self::Threads(threads) => threads.get().min(rayon::current_num_threads()),
        }
    }
}

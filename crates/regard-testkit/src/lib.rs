//! What the tests of this workspace share: tolerances, poisoned buffers, golden files.
//!
//! Everything works on plain slices and knows nothing of `regard`, so that it cannot share its mistakes.

mod accuracy;
mod files;
mod poison;

pub use accuracy::{Accuracy, assert_close};
pub use files::{Golden, golden_path, model_dir, skip};
pub use poison::PoisonedBuffer;

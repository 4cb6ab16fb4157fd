//! What every format of weights can do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::LensError;

/// Where the bytes of a weight file are.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    File(PathBuf),
    Memory(Arc<[u8]>),
}

/// Weights whose headers have been checked and whose tensors are read on demand.
pub(crate) trait TensorSource: Send {
    /// Whether there is a tensor of this name.
    fn has(&self, tensor: &str) -> bool;

    /// Every tensor's name.
    fn names(&self) -> Vec<&str>;

    /// The file that lists the tensors, for errors.
    fn path(&self) -> &Path;

    /// The weight files, in the order in which their hashes are taken.
    fn files(&self) -> Vec<Origin>;

    /// The storage types of the tensors read so far, as in `"F32"` or `"F32, F16"`.
    fn dtype(&self) -> String;

    /// A tensor's numbers, row-major, widened to f32.
    ///
    /// # Errors
    /// [`LensError`] if there is no such tensor, if its shape or storage type is another, or if it cannot be read.
    fn read(&mut self, tensor: &str, shape: &[usize]) -> Result<Vec<f32>, LensError>;

    /// Refuses tensors that were not read, in formats whose files hold nothing else.
    fn expect_all_used(&self) -> Result<(), LensError> {
        Ok(())
    }
}

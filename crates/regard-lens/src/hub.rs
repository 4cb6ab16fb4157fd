//! Where a model lies: a directory, or an id on the Hugging Face Hub.

use std::path::PathBuf;

use crate::error::LensError;

/// The directory of a model: `dir_or_id` itself if it is one, else the Hub's `org/name` or `org/name@revision`,
/// downloaded if it is not cached (feature `hub`).
///
/// # Errors
/// [`LensError::ModelNotFound`] if it is neither.
pub fn resolve_model(dir_or_id: &str) -> Result<PathBuf, LensError> {
    let path = PathBuf::from(dir_or_id);
    if path.is_dir() { Ok(path) } else { Err(LensError::ModelNotFound { model: dir_or_id.to_owned() }) }
}

//! Where a model lies: a directory, or an id on the Hugging Face Hub.

#[cfg(feature = "hub")]
mod client;
mod model_id;

use std::path::{Path, PathBuf};

#[cfg(feature = "hub")]
pub use client::Hub;
use model_id::ModelId;

use crate::error::LensError;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// The directory of a model: `dir_or_id` itself if it exists, else the Hub's model of that id (`org/name` or
/// `org/name@revision`), downloaded if it is not in the cache.
///
/// Downloads need the cargo feature `hub` and follow the environment: see `Hub::from_env` there.
///
/// # Errors
/// [`LensError::ModelNotFound`] if it neither exists nor has the form of an id; [`LensError::Hub`].
pub fn resolve_model(dir_or_id: &str) -> Result<PathBuf, LensError> {
    let path = Path::new(dir_or_id);
    if path.exists() {
        return Ok(path.to_owned());
    }
    let id = ModelId::parse(dir_or_id)?;
    download(&id)
}

#[cfg(feature = "hub")]
fn download(id: &ModelId) -> Result<PathBuf, LensError> {
    Hub::from_env()?.fetch_model(id)
}

#[cfg(not(feature = "hub"))]
fn download(id: &ModelId) -> Result<PathBuf, LensError> {
    let problem = crate::error::HubProblem::NotBuilt;
    Err(LensError::Hub { id: id.to_string(), endpoint: DEFAULT_ENDPOINT.to_owned(), problem })
}

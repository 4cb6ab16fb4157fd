//! Which model is looked into.

use std::path::PathBuf;

use regard_lens::{Model, resolve_model};

use crate::failure::Failure;

/// A model that has been found, not yet read.
pub(crate) enum Found {
    At(PathBuf),
    #[cfg(feature = "builtin")]
    BuiltIn,
}

/// The model that the user names; without a name the one that is part of the program.
pub(crate) fn find(name: Option<&str>) -> Result<Found, Failure> {
    match name {
        Some(name) => Ok(Found::At(resolve_model(name)?)),
        None => builtin(),
    }
}

/// Finds and reads it.
pub(crate) fn load(name: Option<&str>) -> Result<Model, Failure> {
    find(name)?.load()
}

impl Found {
    pub(crate) fn load(&self) -> Result<Model, Failure> {
        match self {
            Self::At(path) => Ok(Model::load(path)?),
            #[cfg(feature = "builtin")]
            Self::BuiltIn => Ok(Model::builtin()?),
        }
    }

    /// The same architecture before training.
    pub(crate) fn untrained(&self, seed: u64) -> Result<Model, Failure> {
        match self {
            Self::At(path) => Ok(Model::untrained(path, seed)?),
            #[cfg(feature = "builtin")]
            Self::BuiltIn => Ok(Model::untrained_builtin(seed)?),
        }
    }
}

#[cfg(feature = "builtin")]
fn builtin() -> Result<Found, Failure> {
    Ok(Found::BuiltIn)
}

#[cfg(not(feature = "builtin"))]
fn builtin() -> Result<Found, Failure> {
    Err(Failure::usage(
        "no model: this build has none of its own (cargo feature builtin); get one with scripts/fetch-minilm and say \
         --model models/all-MiniLM-L6-v2, or --model org/name for one from the Hugging Face Hub",
    ))
}

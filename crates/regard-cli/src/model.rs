//! Which model is looked into.

use regard_lens::{Model, resolve_model};

use crate::failure::Failure;

/// The model that the user names; without a name the one that is part of the program.
pub(crate) fn load(name: Option<&str>) -> Result<Model, Failure> {
    match name {
        Some(name) => Ok(Model::load(&resolve_model(name)?)?),
        None => builtin(),
    }
}

#[cfg(feature = "builtin")]
fn builtin() -> Result<Model, Failure> {
    Ok(Model::builtin()?)
}

#[cfg(not(feature = "builtin"))]
fn builtin() -> Result<Model, Failure> {
    Err(Failure::usage(
        "no model: this build has none of its own (cargo feature builtin); get one with scripts/fetch-minilm and say \
         --model models/all-MiniLM-L6-v2, or --model org/name for one from the Hugging Face Hub",
    ))
}

//! The small model that is part of the program.

use crate::error::LensError;
use crate::model::Model;
use crate::open::{Opened, open_memory};

/// What it is called.
const NAME: &str = "built-in small model";
const CONFIG: &[u8] = include_bytes!("../builtin/config.json");
const TOKENIZER: &[u8] = include_bytes!("../builtin/tokenizer.json");
const WEIGHTS: &[u8] = include_bytes!("../builtin/model.safetensors");

impl Model {
    /// The small model that is part of the program: an encoder that fills masks, trained by `regard-train` so that a head
    /// links pronouns to nouns ([`Self::pronoun_head`]). It reads lower-case English; `docs/model-card.md` says what
    /// it is worth.
    ///
    /// # Errors
    /// [`LensError::AllocationFailed`].
    pub fn builtin() -> Result<Self, LensError> {
        Self::build_builtin(opened()?)
    }

    pub(crate) fn build_builtin(opened: Opened) -> Result<Self, LensError> {
        let mut model = Self::build(opened)?;
        model.info.built_in = true;
        Ok(model)
    }
}

/// Its files, opened.
pub(crate) fn opened() -> Result<Opened, LensError> {
    open_memory(NAME, CONFIG, TOKENIZER, WEIGHTS.into())
}

//! The small model that is part of the program.

use crate::error::LensError;
use crate::model::Model;

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
        let mut model = Self::from_memory(NAME, CONFIG, TOKENIZER, WEIGHTS.into())?;
        model.info.built_in = true;
        Ok(model)
    }
}

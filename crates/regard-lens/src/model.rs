//! A loaded model.

use std::path::Path;

use crate::error::LensError;
use crate::observer::AttentionObserver;
use crate::token::TokenizedText;

/// What is known about a model without running it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The name of its directory, or its Hub id.
    pub name: String,
    /// SHA-256 of the weight file in hexadecimal; of the shards' concatenated hashes if there are several.
    pub sha256: String,
    /// Number of attention layers.
    pub layers: usize,
    /// Query heads of each layer.
    pub heads: usize,
    /// Whether a token sees only the tokens before it.
    pub causal: bool,
    /// Storage type of the weights in the file, as in `"F32"`.
    pub dtype: String,
    /// The longest text it takes, in tokens, special ones included.
    pub max_tokens: usize,
}

/// A Transformer to look into. Today: encoders of the BERT family.
#[derive(Debug)]
pub struct Model {
    info: ModelInfo,
}

/// The last layer's output, `[seq_len, model_dim]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct HiddenStates {
    /// Number of tokens.
    pub seq_len: usize,
    /// Numbers per token.
    pub model_dim: usize,
    /// `seq_len · model_dim` numbers.
    pub data: Vec<f32>,
}

impl Model {
    /// Reads a Hugging Face directory: `config.json`, `tokenizer.json` and `model.safetensors`, or its shards.
    ///
    /// # Errors
    /// [`LensError`] naming the file, what was expected and what was found.
    pub fn load(dir: &Path) -> Result<Self, LensError> {
        unimplemented!("{}", dir.display())
    }

    /// What is known about the model.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Splits a text into the model's tokens. Nothing is cut off and nothing is padded.
    ///
    /// # Errors
    /// [`LensError::EmptyText`] or [`LensError::TextTooLong`].
    pub fn tokenize(&self, text: &str) -> Result<TokenizedText, LensError> {
        unimplemented!("{text}")
    }

    /// Runs the model over the tokens; the observer sees each layer's attention.
    ///
    /// # Errors
    /// What the observer returns; [`LensError`] if a token is not of this model.
    pub fn run(
        &self,
        tokens: &TokenizedText,
        observer: &mut dyn AttentionObserver,
    ) -> Result<HiddenStates, LensError> {
        let _ = (tokens, observer);
        unimplemented!("arrives with the layers of regard")
    }
}

//! A loaded model.

use std::path::Path;
use std::thread;

use crate::bert::{BertConfig, BertEncoder};
use crate::error::LensError;
use crate::files::{ModelFolder, Weights, sha256};
use crate::observer::AttentionObserver;
use crate::token::TokenizedText;
use crate::tokenizer::TextTokenizer;

const CONFIG_FILE: &str = "config.json";
const TOKENIZER_FILE: &str = "tokenizer.json";
/// Real configurations have a few kilobytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// The largest vocabularies (some 260,000 pieces) take 35 MB.
const MAX_TOKENIZER_BYTES: u64 = 128 << 20;

/// What is known about a model without running it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The name of its directory, or the Hub's id if it lies in the Hub's cache.
    pub name: String,
    /// SHA-256 of the weight file in hexadecimal; of the shards' hashes in a row, in order of their names, if
    /// there are several.
    pub sha256: String,
    /// Number of attention layers.
    pub layers: usize,
    /// Query heads of each layer.
    pub heads: usize,
    /// Whether a token sees only the tokens before it.
    pub causal: bool,
    /// Storage type of the weights in the file, as in `"F32"`; types are separated by commas if there are several.
    pub dtype: String,
    /// The longest text that the model takes, in tokens, special ones included.
    pub max_tokens: usize,
}

/// A Transformer to look into. Today: encoders of the BERT family.
#[derive(Debug)]
pub struct Model {
    info: ModelInfo,
    tokenizer: TextTokenizer,
    encoder: BertEncoder,
    vocabulary_size: usize,
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
    /// Reads a Hugging Face directory: `config.json`, `tokenizer.json` and `model.safetensors`, or the shards that
    /// `model.safetensors.index.json` names.
    ///
    /// The files are not trusted: whatever they hold, the result is a model or an error. Every size, offset and
    /// name is checked before memory is allocated for it, and formats that can run code (pickle) are refused.
    /// Symbolic links are followed within the directory; the only place outside it is the `blobs` directory of
    /// a Hugging Face cache (`<repository>/snapshots/<revision>` beside `<repository>/blobs`), whose snapshots
    /// consist of such links.
    ///
    /// # Errors
    /// [`LensError`] naming the file, what was expected and what was found.
    pub fn load(dir: &Path) -> Result<Self, LensError> {
        let folder = ModelFolder::open(dir)?;
        let config = folder.require(CONFIG_FILE, MAX_CONFIG_BYTES)?;
        let config = BertConfig::parse(&dir.join(CONFIG_FILE), &config)?;
        let mut weights = Weights::open(&folder)?;
        let tokenizer = folder.require(TOKENIZER_FILE, MAX_TOKENIZER_BYTES)?;
        let weight_files = weights.files();
        // Three independent pieces of work of similar length.
        let (tokenizer, hash, encoder) = thread::scope(|scope| {
            let path = dir.join(TOKENIZER_FILE);
            let config = &config;
            let tokenizer = scope.spawn(move || {
                TextTokenizer::parse(&path, &tokenizer, config.vocabulary_size, config.num_positions)
            });
            let hash = scope.spawn(move || sha256(&weight_files));
            let encoder = BertEncoder::load(&mut weights, config);
            (join(tokenizer), join(hash), encoder)
        });
        let encoder = encoder?;
        let info = ModelInfo {
            name: folder.name().to_owned(),
            sha256: hash?,
            layers: config.num_layers,
            heads: config.num_heads,
            causal: false,
            dtype: weights.dtype(),
            max_tokens: config.num_positions,
        };
        Ok(Self { info, tokenizer: tokenizer?, encoder, vocabulary_size: config.vocabulary_size })
    }

    /// What is known about the model.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Splits a text into the model's tokens. Nothing is cut off and nothing is padded.
    ///
    /// # Errors
    /// [`LensError::EmptyText`] if only special tokens remain, [`LensError::TextTooLong`], or
    /// [`LensError::Tokenizer`].
    pub fn tokenize(&self, text: &str) -> Result<TokenizedText, LensError> {
        self.tokenizer.tokenize(text)
    }

    /// Runs the model over the tokens; the observer sees each layer's attention.
    ///
    /// # Errors
    /// What the observer returns; [`LensError::EmptyText`], [`LensError::TextTooLong`] or
    /// [`LensError::TokenWithoutEmbedding`] if the tokens are not ones that this model makes.
    pub fn run(
        &self,
        tokens: &TokenizedText,
        observer: &mut dyn AttentionObserver,
    ) -> Result<HiddenStates, LensError> {
        let seq_len = tokens.tokens.len();
        if seq_len == 0 {
            return Err(LensError::EmptyText);
        }
        let limit = self.info.max_tokens;
        if seq_len > limit {
            return Err(LensError::TextTooLong { found: seq_len, limit });
        }
        let limit = self.vocabulary_size;
        if let Some(token) = tokens.tokens.iter().find(|token| token.id as usize >= limit) {
            return Err(LensError::TokenWithoutEmbedding { token: token.text.clone(), id: token.id, limit });
        }
        let ids: Vec<u32> = tokens.tokens.iter().map(|token| token.id).collect();
        let data = self.encoder.run(&ids, observer)?;
        Ok(HiddenStates { seq_len, model_dim: self.encoder.model_dim(), data })
    }
}

/// The thread's result; a panic of ours in it goes on here.
fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

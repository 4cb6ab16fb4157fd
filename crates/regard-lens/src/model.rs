//! A loaded model.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use crate::error::LensError;
use crate::files::sha256;
use crate::intervene::Interventions;
use crate::observer::AttentionObserver;
use crate::open::{Opened, open, open_memory};
use crate::token::TokenizedText;
use crate::tokenizer::TextTokenizer;
use crate::transformer::Transformer;
use crate::view::HeadId;

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
    /// What it can say about words.
    pub predicts: Predicts,
    /// Whether it is the small model that is part of the program ([`Model::builtin`], with the cargo feature `builtin`).
    pub built_in: bool,
}

impl ModelInfo {
    /// The bytes that the probabilities of all heads over a text of `tokens` tokens would take in f32: what nothing
    /// here needs.
    pub fn dense_bytes(&self, tokens: usize) -> u128 {
        (self.layers * self.heads * size_of::<f32>()) as u128 * (tokens as u128).pow(2)
    }
}

/// What a model says about words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Predicts {
    /// Nothing: its file has no language model's head.
    Nothing,
    /// Which token a mask in the text stands for ([`Model::fill`]).
    MaskedToken,
    /// Which token follows the text ([`Model::next_token`]).
    NextToken,
}

/// A Transformer to look into: an encoder (BERT, RoBERTa, DistilBERT) or a decoder (GPT-2, Llama).
#[derive(Debug)]
pub struct Model {
    pub(crate) info: ModelInfo,
    pub(crate) tokenizer: TextTokenizer,
    pub(crate) transformer: Transformer,
    pronoun_head: Option<HeadId>,
}

/// The last layer's output, `[seq_len, model_dim]`, row-major; in decoders after the final norm.
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
    /// `model.safetensors.index.json` names. With the cargo feature `gguf` also a GGUF file, or a directory with
    /// one and without safetensors: Llama layout in F32, F16, BF16, Q4_0, Q4_1 or Q8_0, its tokenizer from the
    /// file or from a `tokenizer.json` beside it.
    ///
    /// The files are not trusted: whatever they hold, the result is a model or an error. Every size, offset and
    /// name is checked before memory is allocated for it, and formats that can run code (pickle) are refused.
    /// Symbolic links are followed within the directory; the only place outside it is the `blobs` directory of
    /// a Hugging Face cache (`<repository>/snapshots/<revision>` beside `<repository>/blobs`), whose snapshots
    /// consist of such links.
    ///
    /// # Errors
    /// [`LensError`] naming the file, what was expected and what was found.
    pub fn load(path: &Path) -> Result<Self, LensError> {
        Self::build(open(path)?)
    }

    /// A model whose three files, as [`Self::load`] reads them from a directory, are in memory. `name` is what it is called,
    /// in [`ModelInfo`] and where an error names a directory.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_memory(
        name: &str,
        config: &[u8],
        tokenizer: &[u8],
        weights: Arc<[u8]>,
    ) -> Result<Self, LensError> {
        Self::build(open_memory(name, config, tokenizer, weights)?)
    }

    /// Reads what has been opened.
    pub(crate) fn build(mut opened: Opened) -> Result<Self, LensError> {
        let outline = opened.architecture.outline();
        let weight_files = opened.weights.files();
        // Three independent pieces of work of similar length.
        let (tokenizer, hash, transformer) = thread::scope(|scope| {
            let tokenizer = opened.tokenizer;
            let tokenizer = scope
                .spawn(move || TextTokenizer::new(tokenizer, outline.vocabulary_size, outline.max_tokens));
            let hash = scope.spawn(move || sha256(&weight_files));
            let transformer = opened.architecture.load(opened.weights.as_mut());
            let transformer = transformer.and_then(|all| opened.weights.expect_all_used().map(|()| all));
            (join(tokenizer), join(hash), transformer)
        });
        let transformer = transformer?;
        let is_there = |id: &HeadId| id.layer < outline.num_layers && id.head < outline.num_heads;
        let pronoun_head = opened.pronoun_head.filter(is_there);
        let info = ModelInfo {
            name: opened.name,
            sha256: hash?,
            layers: outline.num_layers,
            heads: outline.num_heads,
            causal: transformer.causal,
            dtype: opened.weights.dtype(),
            max_tokens: outline.max_tokens,
            predicts: match (&transformer.head, transformer.causal) {
                (None, _) => Predicts::Nothing,
                (Some(_), false) => Predicts::MaskedToken,
                (Some(_), true) => Predicts::NextToken,
            },
            built_in: false,
        };
        Ok(Self { info, tokenizer: tokenizer?, transformer, pronoun_head })
    }

    /// What is known about the model.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The head that links pronouns to what they stand for, where the model's configuration names one
    /// (`"regard": {"pronoun_head": "L2.H1"}`).
    pub fn pronoun_head(&self) -> Option<HeadId> {
        self.pronoun_head
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
        self.run_with(tokens, &Interventions::new(), observer)
    }

    /// [`Self::run`] with some heads changed. The observer sees what each head computes before it is changed.
    ///
    /// # Errors
    /// As [`Self::run`]; [`LensError::NoSuchHead`]; [`LensError::PatternLength`] if a frozen pattern is of a text
    /// of another length.
    pub fn run_with(
        &self,
        tokens: &TokenizedText,
        interventions: &Interventions,
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
        let limit = self.transformer.vocabulary_size();
        if let Some(token) = tokens.tokens.iter().find(|token| token.id as usize >= limit) {
            return Err(LensError::TokenWithoutEmbedding { token: token.text.clone(), id: token.id, limit });
        }
        interventions.check(&self.info, seq_len)?;
        let ids: Vec<u32> = tokens.tokens.iter().map(|token| token.id).collect();
        let data = self.transformer.run(&ids, interventions, observer)?;
        Ok(HiddenStates { seq_len, model_dim: self.transformer.model_dim(), data })
    }
}

/// The thread's result; a panic of ours in it goes on here.
fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

//! A text to tokens, with Hugging Face's own tokenizers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tokenizers::{Encoding, Tokenizer};

use crate::error::LensError;
use crate::token::{Token, TokenizedText};

/// `tokenizer.json`, with truncation and padding off: both would show another text than the user's.
#[derive(Debug)]
pub(crate) struct TextTokenizer {
    tokenizer: Tokenizer,
    path: PathBuf,
    vocabulary_size: usize,
    max_tokens: usize,
}

/// Where a tokenizer comes from.
#[derive(Debug)]
pub(crate) enum TokenizerSource {
    /// A `tokenizer.json`, and its bytes.
    Json(PathBuf, Vec<u8>),
    /// The metadata of a GGUF file.
    #[cfg(feature = "gguf")]
    Gguf(PathBuf, crate::gguf::Vocabulary),
}

impl TokenizerSource {
    fn path(&self) -> &Path {
        match self {
            Self::Json(path, _) => path,
            #[cfg(feature = "gguf")]
            Self::Gguf(path, _) => path,
        }
    }

    fn build(self) -> tokenizers::Result<Tokenizer> {
        match self {
            Self::Json(_, json) => Tokenizer::from_bytes(json),
            #[cfg(feature = "gguf")]
            Self::Gguf(_, vocabulary) => vocabulary.tokenizer(),
        }
    }
}

impl TextTokenizer {
    /// Builds the tokenizer; every id must have one of `vocabulary_size` embeddings.
    pub(crate) fn new(
        source: TokenizerSource,
        vocabulary_size: usize,
        max_tokens: usize,
    ) -> Result<Self, LensError> {
        let path = source.path().to_owned();
        let mut tokenizer = guard(&path, || source.build())?;
        guard(&path, || tokenizer.with_truncation(None).map(|_| ()))?;
        tokenizer.with_padding(None);
        for (token, id) in tokenizer.get_vocab(true) {
            check_embedding(&token, id, vocabulary_size)?;
        }
        let tokenizer = Self { tokenizer, path, vocabulary_size, max_tokens };
        // Some files parse and then fail on every text; better to learn that before the model runs.
        tokenizer.encode("a")?;
        Ok(tokenizer)
    }

    /// The token that stands for a masked word, and its id, if the vocabulary has one.
    pub(crate) fn mask(&self) -> Option<(&'static str, u32)> {
        ["[MASK]", "<mask>"].into_iter().find_map(|mask| Some((mask, self.tokenizer.token_to_id(mask)?)))
    }

    /// The id of a piece, if the vocabulary has it.
    pub(crate) fn id(&self, piece: &str) -> Option<u32> {
        self.tokenizer.token_to_id(piece)
    }

    /// The vocabulary's piece with this id, and the text that it stands for on its own.
    pub(crate) fn piece(&self, id: u32) -> Result<(String, String), LensError> {
        // Rows of the embedding table beyond the vocabulary are padding.
        let piece = self.tokenizer.id_to_token(id).unwrap_or_default();
        let text = guard(&self.path, || self.tokenizer.decode(&[id], false))?;
        Ok((piece, text))
    }

    fn encode(&self, text: &str) -> Result<Encoding, LensError> {
        let encoding = guard(&self.path, || self.tokenizer.encode(text, true))?;
        // A template's special tokens may have ids that the vocabulary does not list.
        for (token, &id) in encoding.get_tokens().iter().zip(encoding.get_ids()) {
            check_embedding(token, id, self.vocabulary_size)?;
        }
        Ok(encoding)
    }

    pub(crate) fn tokenize(&self, text: &str) -> Result<TokenizedText, LensError> {
        let encoding = self.encode(text)?;
        let special = encoding.get_special_tokens_mask();
        if special.iter().all(|&special| special != 0) {
            return Err(LensError::EmptyText);
        }
        if special.len() > self.max_tokens {
            return Err(LensError::TextTooLong { found: special.len(), limit: self.max_tokens });
        }
        let pieces = encoding.get_tokens().iter().zip(encoding.get_ids());
        let places = encoding.get_offsets().iter().zip(encoding.get_word_ids());
        let tokens = pieces.zip(places).zip(special).enumerate();
        let tokens = tokens.map(|(index, (((piece, &id), (&(start, end), &word)), &special))| Token {
            index,
            id,
            text: piece.clone(),
            // A byte-level tokenizer may split a character; the text can only be cut around it.
            start: text.floor_char_boundary(start),
            end: text.ceil_char_boundary(end.max(start)),
            word: word.map(|word| word as usize),
            special: special != 0,
        });
        Ok(TokenizedText { text: text.to_owned(), tokens: tokens.collect() })
    }
}

fn check_embedding(token: &str, id: u32, limit: usize) -> Result<(), LensError> {
    if (id as usize) < limit {
        return Ok(());
    }
    Err(LensError::TokenWithoutEmbedding { token: token.to_owned(), id, limit })
}

/// Runs the tokenizers' code and returns its panics as errors: it has some for inconsistent files (a template with
/// an undeclared special token, a damaged precompiled map). The panic hook still hears of them.
fn guard<T>(path: &Path, run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, LensError> {
    let problem = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the tokenizer it describes does not work".to_owned(),
    };
    Err(LensError::Tokenizer { path: path.to_owned(), problem })
}

//! Tokenizers, trained and used.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainerBuilder};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, NormalizedString, Normalizer, Tokenizer, decoders};

use crate::error::TrainError;

/// Which tokens a model reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pieces {
    /// Lower-cased words and pieces of words, as BERT's (Devlin et al. 2019): `[CLS]`, `[SEP]`, `[MASK]`.
    WordPiece,
    /// Pairs of bytes merged, as GPT-2's (Radford et al. 2019): nothing is lost; `<s>`, `</s>`.
    ByteLevel,
}

/// The special tokens of a vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    /// Fills up a batch; nothing attends to it.
    pub pad: u32,
    /// Stands first.
    pub first: u32,
    /// Stands last.
    pub last: u32,
    /// What is to be restored (`WordPiece` only; `pad` otherwise).
    pub mask: u32,
}

/// A tokenizer and what it calls its special tokens.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    tokenizer: Tokenizer,
    special: Special,
    pieces: Pieces,
}

const WORD_PIECES: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const MAX_LETTERS: usize = 150;
const BYTES: [&str; 3] = ["<pad>", "<s>", "</s>"];

fn special(names: &[&str]) -> Vec<AddedToken> {
    names.iter().map(|&name| AddedToken::from(name, true)).collect()
}

/// The trainer numbers letters within words (`##a`) as it meets them in a hash map, and breaks ties by number: with all
/// of them numbered beforehand the same texts give the same vocabulary.
fn word_pieces<'t>(
    size: usize,
    texts: impl Iterator<Item = &'t str> + Clone + Send,
    normalizer: &BertNormalizer,
) -> Result<WordPiece, TrainError> {
    let alphabet = alphabet(texts.clone(), normalizer)?;
    let inner: Vec<String> = alphabet.iter().map(|letter| format!("##{letter}")).collect();
    let numbered: Vec<&str> = WORD_PIECES.into_iter().chain(inner.iter().map(String::as_str)).collect();
    let trainer = WordPieceTrainerBuilder::new().vocab_size(size).show_progress(false);
    let trainer = trainer.special_tokens(special(&numbered)).limit_alphabet(alphabet.len());
    let mut trainer = TrainerWrapper::from(trainer.initial_alphabet(alphabet.into_iter().collect()).build());
    let mut tokenizer = Tokenizer::new(WordPiece::default());
    tokenizer.with_normalizer(Some(*normalizer));
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.train(&mut trainer, texts).map_err(failed)?;
    let vocabulary: ahash::AHashMap<String, u32> = tokenizer.get_vocab(false).into_iter().collect();
    WordPiece::builder().vocab(vocabulary).unk_token("[UNK]".into()).build().map_err(failed)
}

/// The most frequent letters, at most [`MAX_LETTERS`], in their own order.
fn alphabet<'t>(
    texts: impl Iterator<Item = &'t str>,
    normalizer: &BertNormalizer,
) -> Result<Vec<char>, TrainError> {
    let mut raw: BTreeMap<char, u64> = BTreeMap::new();
    for letter in texts.flat_map(str::chars) {
        *raw.entry(letter).or_default() += 1;
    }
    let mut letters: BTreeMap<char, u64> = BTreeMap::new();
    for (letter, often) in raw {
        let mut normalized = NormalizedString::from(letter.to_string());
        normalizer.normalize(&mut normalized).map_err(failed)?;
        for letter in normalized.get().chars().filter(|letter| !letter.is_whitespace()) {
            *letters.entry(letter).or_default() += often;
        }
    }
    let mut letters: Vec<(char, u64)> = letters.into_iter().collect();
    letters.sort_by_key(|&(letter, often)| (Reverse(often), letter));
    letters.truncate(MAX_LETTERS);
    let mut letters: Vec<char> = letters.into_iter().map(|(letter, _)| letter).collect();
    letters.sort_unstable();
    Ok(letters)
}

fn failed(error: tokenizers::Error) -> TrainError {
    TrainError::Tokenizer(error.to_string())
}

impl Vocabulary {
    /// Learns a vocabulary of `size` tokens from texts. The same texts give the same vocabulary.
    ///
    /// # Errors
    /// [`TrainError::Tokenizer`].
    pub fn train(pieces: Pieces, size: usize, texts: &[&str]) -> Result<Self, TrainError> {
        let texts = texts.iter().copied();
        let mut tokenizer = match pieces {
            Pieces::WordPiece => {
                let normalizer = BertNormalizer::new(true, true, Some(true), true);
                let model = word_pieces(size, texts, &normalizer)?;
                let mut tokenizer = Tokenizer::new(model);
                tokenizer.with_normalizer(Some(normalizer));
                tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
                tokenizer.with_decoder(Some(decoders::wordpiece::WordPiece::default()));
                tokenizer.add_special_tokens(&special(&WORD_PIECES));
                tokenizer
            }
            Pieces::ByteLevel => {
                let mut tokenizer = Tokenizer::new(BPE::default());
                tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
                tokenizer.with_decoder(Some(ByteLevel::default()));
                let trainer = BpeTrainerBuilder::new().vocab_size(size).show_progress(false);
                let alphabet = ByteLevel::alphabet().into_iter().collect();
                let trainer = trainer.special_tokens(special(&BYTES)).initial_alphabet(alphabet).build();
                let mut trainer = TrainerWrapper::from(trainer);
                tokenizer.train(&mut trainer, texts).map_err(failed)?;
                tokenizer
            }
        };
        let (template, names): (&str, &[&str]) = match pieces {
            Pieces::WordPiece => ("[CLS] $A [SEP]", &["[CLS]", "[SEP]"]),
            Pieces::ByteLevel => ("<s> $A", &["<s>"]),
        };
        let ids =
            names.iter().map(|&name| (name.to_owned(), tokenizer.token_to_id(name).unwrap_or_default()));
        let mut processor = TemplateProcessing::builder();
        processor.try_single(template).map_err(TrainError::Tokenizer)?;
        let processor = processor.special_tokens(ids.collect::<Vec<_>>()).build();
        tokenizer
            .with_post_processor(Some(processor.map_err(|error| TrainError::Tokenizer(error.to_string()))?));
        Self::new(tokenizer)
    }

    /// Reads a `tokenizer.json` that [`Vocabulary::save`] wrote.
    ///
    /// # Errors
    /// [`TrainError::Tokenizer`].
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        Self::new(Tokenizer::from_file(path).map_err(failed)?)
    }

    fn new(tokenizer: Tokenizer) -> Result<Self, TrainError> {
        let id = |name: &str| {
            let missing = || TrainError::Tokenizer(format!("expected a token {name}, found none"));
            tokenizer.token_to_id(name).ok_or_else(missing)
        };
        let (special, pieces) = match tokenizer.token_to_id("[MASK]") {
            Some(mask) => (
                Special { pad: id("[PAD]")?, first: id("[CLS]")?, last: id("[SEP]")?, mask },
                Pieces::WordPiece,
            ),
            None => {
                let pad = id("<pad>")?;
                (Special { pad, first: id("<s>")?, last: id("</s>")?, mask: pad }, Pieces::ByteLevel)
            }
        };
        Ok(Self { tokenizer, special, pieces })
    }

    /// Writes `tokenizer.json`.
    ///
    /// # Errors
    /// [`TrainError::Tokenizer`].
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        self.tokenizer.save(path, false).map_err(failed)
    }

    /// The special tokens.
    pub fn special(&self) -> Special {
        self.special
    }

    /// The kind of tokens.
    pub fn pieces(&self) -> Pieces {
        self.pieces
    }

    /// Number of tokens.
    pub fn size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// A text's tokens, without special ones.
    ///
    /// # Errors
    /// [`TrainError::Tokenizer`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TrainError> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The token that a word is, if it is one.
    pub fn token(&self, word: &str) -> Option<u32> {
        self.tokenizer.token_to_id(word)
    }

    /// The text of a token, if there is one of that number.
    pub fn text(&self, token: u32) -> Option<String> {
        self.tokenizer.id_to_token(token)
    }

    /// Every token's text.
    pub fn tokens(&self) -> HashMap<u32, String> {
        self.tokenizer.get_vocab(true).into_iter().map(|(text, id)| (id, text)).collect()
    }
}

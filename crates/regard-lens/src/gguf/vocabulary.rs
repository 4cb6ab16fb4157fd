//! A tokenizer from the metadata of a GGUF file.

use std::path::Path;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

use super::metadata::{Metadata, OtherType};
use crate::error::LensError;

/// The most tokens that are looked for in a text before it is split. Real vocabularies have some hundreds.
const MAX_ADDED_TOKENS: usize = 4096;
/// How Llama 3 splits words before merging bytes, as its `tokenizer.json` has it.
const LLAMA_3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Byte-level pairs (Sennrich et al. 2016, over bytes as in GPT-2), as llama.cpp writes them.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    tokens: Vec<String>,
    merges: Vec<(String, String)>,
    /// Tokens that are looked for in the text before it is split; whether each is a control token.
    added: Vec<(String, bool)>,
    words: Words,
    /// The token put before every text.
    start: Option<u32>,
}

/// How a text is split into words before bytes are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    Gpt2,
    /// GPT-2's, after every digit became a word.
    SmolLm,
    Llama3,
}

/// The format's numbers for kinds of tokens.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

impl Vocabulary {
    /// Takes the vocabulary out of the metadata; `path` is named in errors.
    pub(crate) fn new(path: &Path, metadata: Metadata) -> Result<Self, LensError> {
        Self::read(metadata).map_err(|problem| LensError::Tokenizer {
            path: path.to_owned(),
            problem: format!("{problem}; put the model's tokenizer.json beside it"),
        })
    }

    fn read(mut metadata: Metadata) -> Result<Self, String> {
        let other = |key: &'static str| {
            move |OtherType { expected, found }: OtherType| {
                format!("{key}: expected {expected}, found {found}")
            }
        };
        let model = metadata.text("tokenizer.ggml.model").map_err(other("tokenizer.ggml.model"))?;
        if model != Some("gpt2") {
            let found = model.unwrap_or("none");
            return Err(format!(
                "tokenizer.ggml.model: expected \"gpt2\" (byte-level pairs), found {found:?}"
            ));
        }
        let words = match metadata.text("tokenizer.ggml.pre").map_err(other("tokenizer.ggml.pre"))? {
            Some("gpt-2") => Words::Gpt2,
            Some("smollm") => Words::SmolLm,
            Some("llama-bpe") => Words::Llama3,
            found => {
                let found = found.unwrap_or("none");
                return Err(format!(
                    "tokenizer.ggml.pre: expected \"gpt-2\", \"smollm\" or \"llama-bpe\", found {found:?}"
                ));
            }
        };
        let adds_end = metadata.bool("tokenizer.ggml.add_eos_token").map_err(other("add_eos_token"))?;
        if adds_end == Some(true) {
            return Err("tokenizer.ggml.add_eos_token: expected false, found true".to_owned());
        }
        let adds_start = metadata.bool("tokenizer.ggml.add_bos_token").map_err(other("add_bos_token"))?;
        let start = metadata.integer("tokenizer.ggml.bos_token_id").map_err(other("bos_token_id"))?;
        let tokens = metadata.take_texts("tokenizer.ggml.tokens");
        let tokens = tokens.ok_or("tokenizer.ggml.tokens: expected an array of texts, found none")?;
        let merges = metadata.take_texts("tokenizer.ggml.merges");
        let merges = merges.ok_or("tokenizer.ggml.merges: expected an array of texts, found none")?;
        let kinds = metadata.take_integers("tokenizer.ggml.token_type").unwrap_or_default();
        let start = match adds_start.unwrap_or(words == Words::Llama3) {
            false => None,
            true => match start.and_then(|id| u32::try_from(id).ok()) {
                Some(id) if (id as usize) < tokens.len() => Some(id),
                _ => return Err("tokenizer.ggml.bos_token_id: expected the id of a token".to_owned()),
            },
        };
        let added: Vec<_> = tokens
            .iter()
            .zip(kinds)
            .filter(|(token, kind)| [CONTROL, USER_DEFINED].contains(kind) && !token.is_empty())
            .map(|(token, kind)| (token.clone(), kind == CONTROL))
            .collect();
        if added.len() > MAX_ADDED_TOKENS {
            let found = added.len();
            return Err(format!(
                "tokenizer.ggml.token_type: expected at most {MAX_ADDED_TOKENS} control tokens, found {found}"
            ));
        }
        let pair = |merge: &String| {
            let (first, second) = merge.split_once(' ')?;
            Some((first.to_owned(), second.to_owned()))
        };
        let merges = merges.iter().map(|merge| pair(merge).ok_or(merge)).collect::<Result<_, _>>();
        let merges =
            merges.map_err(|merge| format!("tokenizer.ggml.merges: expected two pieces, found {merge:?}"))?;
        Ok(Self { tokens, merges, added, words, start })
    }

    /// The tokenizer that the metadata describes.
    pub(crate) fn tokenizer(self) -> tokenizers::Result<Tokenizer> {
        let start = self.start.and_then(|id| Some((self.tokens.get(id as usize)?.clone(), id)));
        let count = self.tokens.len();
        let vocabulary: Vocab = self.tokens.into_iter().zip(0..).collect();
        if vocabulary.len() != count {
            return Err("tokenizer.ggml.tokens: a token twice".into());
        }
        let bpe = BPE::builder()
            .vocab_and_merges(vocabulary, self.merges)
            .ignore_merges(self.words == Words::Llama3)
            .build()?;
        let mut tokenizer = Tokenizer::new(bpe);
        let bytes = |own_words| PreTokenizerWrapper::from(ByteLevel::new(false, true, own_words));
        let steps = match self.words {
            Words::Gpt2 => vec![bytes(true)],
            Words::SmolLm => vec![Digits::new(true).into(), bytes(true)],
            Words::Llama3 => {
                let pattern = SplitPattern::Regex(LLAMA_3_WORDS.to_owned());
                let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
                vec![split.into(), bytes(false)]
            }
        };
        tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
        tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
        let (control, other): (Vec<_>, Vec<_>) = self.added.into_iter().partition(|(_, control)| *control);
        let added = |tokens: Vec<(String, bool)>| {
            tokens.into_iter().map(|(token, control)| AddedToken::from(token, control)).collect::<Vec<_>>()
        };
        tokenizer.add_special_tokens(&added(control));
        tokenizer.add_tokens(&added(other));
        if let Some((token, id)) = start {
            let template = TemplateProcessing::builder()
                .try_single(vec![token.clone(), "$A".to_owned()])?
                .special_tokens(vec![(token, id)])
                .build()?;
            tokenizer.with_post_processor(Some(template));
        }
        Ok(tokenizer)
    }
}

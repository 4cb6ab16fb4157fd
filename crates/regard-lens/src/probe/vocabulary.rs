//! Tokens that a probe puts together itself.

use crate::error::LensError;
use crate::model::Model;
use crate::token::{Token, TokenizedText};

/// What vocabularies call the token before a text, those of encoders first.
const BEGINNINGS: [&str; 7] =
    ["[CLS]", "<s>", "<bos>", "<|begin_of_text|>", "<|endoftext|>", "<|im_start|>", "<|startoftext|>"];

impl Model {
    /// The text with a token to begin with in front, if the tokenizer of a causal model adds none and the
    /// vocabulary has one: what heads have no other use for goes to the first token, and it should be no word
    /// (Xiao et al. 2023, section 3.1).
    pub(super) fn with_beginning(&self, mut text: TokenizedText) -> Result<TokenizedText, LensError> {
        let begins = text.tokens.first().is_some_and(|token| token.special);
        if !self.info().causal || begins {
            return Ok(text);
        }
        let Some(beginning) = self.beginning() else { return Ok(text) };
        text.tokens.insert(0, beginning);
        text.tokens.iter_mut().enumerate().for_each(|(index, token)| token.index = index);
        let (found, limit) = (text.tokens.len(), self.info().max_tokens);
        if found > limit { Err(LensError::TextTooLong { found, limit }) } else { Ok(text) }
    }

    /// The token before a text.
    pub(super) fn beginning(&self) -> Option<Token> {
        BEGINNINGS.iter().find_map(|name| Some(special(name, self.tokenizer.id(name)?)))
    }

    /// The text of ids, between the special tokens that the model puts around a text, if any.
    pub(super) fn text_of_ids(&self, ids: &[u32]) -> Result<TokenizedText, LensError> {
        let model = self.with_beginning(self.tokenize("a")?)?;
        let before = model.tokens.iter().take_while(|token| token.special).cloned();
        let after = model.tokens.iter().rev().take_while(|token| token.special).cloned().collect::<Vec<_>>();
        let mut text = String::new();
        let mut tokens: Vec<Token> = before.collect();
        for &id in ids {
            let (piece, spelling) = self.tokenizer.piece(id)?;
            let start = text.len();
            text.push_str(&spelling);
            tokens.push(Token {
                index: 0,
                id,
                text: piece,
                start,
                end: text.len(),
                word: None,
                special: false,
            });
        }
        tokens.extend(after.into_iter().rev());
        tokens.iter_mut().enumerate().for_each(|(index, token)| token.index = index);
        Ok(TokenizedText { text, tokens })
    }

    /// The ids of the vocabulary's ordinary words: pieces of at least three small letters of ASCII that begin a
    /// word.
    pub(super) fn ordinary_words(&self) -> Result<Vec<u32>, LensError> {
        let mut ids = Vec::new();
        for id in 0..u32::try_from(self.vocabulary_size()).unwrap_or(u32::MAX) {
            let (piece, text) = self.tokenizer.piece(id)?;
            let word = text.trim_start_matches(' ');
            let letters = word.len() >= 3 && word.bytes().all(|byte| byte.is_ascii_lowercase());
            // Byte-level and sentence-piece vocabularies mark what begins a word, WordPiece what does not.
            if letters && piece.strip_prefix(['Ġ', '▁']).unwrap_or(&piece) == word {
                ids.push(id);
            }
        }
        let marks =
            |id: &&u32| self.tokenizer.piece(**id).is_ok_and(|(piece, _)| piece.starts_with(['Ġ', '▁']));
        let begin: Vec<u32> = ids.iter().filter(marks).copied().collect();
        Ok(if begin.is_empty() { ids } else { begin })
    }
}

fn special(name: &str, id: u32) -> Token {
    Token { index: 0, id, text: name.to_owned(), start: 0, end: 0, word: None, special: true }
}

//! The text as the analysis reads it.

use crate::token::TokenizedText;

/// The tokens of a text as the analysis needs them.
#[derive(Debug)]
pub(super) struct TextTable {
    special: Vec<bool>,
    word: Vec<Option<usize>>,
    queries: usize,
    causal: bool,
}

impl TextTable {
    pub(super) fn new(text: &TokenizedText, causal: bool) -> Self {
        let special: Vec<bool> = text.tokens.iter().map(|token| token.special).collect();
        let queries = special.iter().filter(|special| !**special).count();
        Self { special, word: text.tokens.iter().map(|token| token.word).collect(), queries, causal }
    }

    /// Tokens in all.
    pub(super) fn len(&self) -> usize {
        self.special.len()
    }

    /// Tokens of the text.
    pub(super) fn queries(&self) -> usize {
        self.queries
    }

    pub(super) fn is_special(&self, token: usize) -> bool {
        self.special[token]
    }

    /// Whether two tokens are pieces of one word.
    pub(super) fn same_word(&self, a: usize, b: usize) -> bool {
        self.word[a].is_some() && self.word[a] == self.word[b]
    }

    /// Whether a query other than `key` may look at it.
    pub(super) fn sees(&self, query: usize, key: usize) -> bool {
        query != key && (!self.causal || query > key)
    }

    /// Queries of the text, `key` apart, that may look at it.
    pub(super) fn queries_seeing(&self, key: usize) -> usize {
        if self.causal {
            self.special[key + 1..].iter().filter(|special| !**special).count()
        } else {
            self.queries - usize::from(!self.special[key])
        }
    }
}

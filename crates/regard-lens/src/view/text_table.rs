//! The text as the analysis reads it.

use crate::token::TokenizedText;

/// The tokens of a text as the analysis needs them.
#[derive(Debug)]
pub(super) struct TextTable {
    special: Vec<bool>,
    /// Special tokens, and in a causal model the first token.
    aside: Vec<bool>,
    word: Vec<Option<usize>>,
    queries: usize,
    causal: bool,
}

impl TextTable {
    pub(super) fn new(text: &TokenizedText, causal: bool) -> Self {
        let special: Vec<bool> = text.tokens.iter().map(|token| token.special).collect();
        let mut aside = special.clone();
        if let Some(first) = aside.first_mut() {
            *first |= causal;
        }
        let queries = aside.iter().filter(|aside| !**aside).count();
        let word = text.tokens.iter().map(|token| token.word).collect();
        Self { special, aside, word, queries, causal }
    }

    /// Tokens in all.
    pub(super) fn len(&self) -> usize {
        self.special.len()
    }

    /// Tokens of the text that count: those not [aside](Self::is_aside).
    pub(super) fn queries(&self) -> usize {
        self.queries
    }

    pub(super) fn is_special(&self, token: usize) -> bool {
        self.special[token]
    }

    /// Whether a token stands aside: special ones, and in a causal model the first one, which takes what heads
    /// have no other use for (the attention sink; Xiao et al. 2023, section 3.1), whatever word it is.
    pub(super) fn is_aside(&self, token: usize) -> bool {
        self.aside[token]
    }

    /// The token of the text that stands aside because it is the first.
    pub(super) fn sink(&self) -> Option<usize> {
        (self.aside.first() != self.special.first()).then_some(0)
    }

    /// Whether two tokens are pieces of one word.
    pub(super) fn same_word(&self, a: usize, b: usize) -> bool {
        self.word[a].is_some() && self.word[a] == self.word[b]
    }

    /// Whether a query other than `key` may look at it.
    pub(super) fn sees(&self, query: usize, key: usize) -> bool {
        query != key && (!self.causal || query > key)
    }

    /// How many keys a query may look at: in a causal model those up to itself.
    pub(super) fn keys(&self, query: usize) -> usize {
        if self.causal { query + 1 } else { self.len() }
    }

    /// Queries that count, `key` apart, and may look at it.
    pub(super) fn queries_seeing(&self, key: usize) -> usize {
        if self.causal {
            self.aside[key + 1..].iter().filter(|aside| !**aside).count()
        } else {
            self.queries - usize::from(!self.aside[key])
        }
    }
}

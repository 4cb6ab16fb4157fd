//! A text as the model sees it.

/// One token: a piece of the vocabulary and the stretch of text it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Place in the sequence, from 0, special tokens counted.
    pub index: usize,
    /// Id in the vocabulary.
    pub id: u32,
    /// The vocabulary's piece as the tokenizer gives it, as in `"##able"`. It comes from an untrusted file:
    /// escape it before a terminal sees it.
    pub text: String,
    /// First byte of the input text that the token stands for; 0 for special tokens.
    pub start: usize,
    /// The byte after the last one; 0 for special tokens.
    pub end: usize,
    /// Which word of the text, from 0, as the tokenizer splits words; `None` for special tokens.
    pub word: Option<usize>,
    /// Added by the tokenizer around the text (`[CLS]`, `[SEP]`).
    pub special: bool,
}

/// A text and its tokens, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizedText {
    /// The input text.
    pub text: String,
    /// Its tokens, special ones included.
    pub tokens: Vec<Token>,
}

//! Texts and findings made up for tests.

use regard_lens::{Token, TokenizedText};

/// Splits at spaces, and inside a word at `|`; lower-cases the vocabulary's spelling and marks later pieces with
/// `##`, between `[CLS]` and `[SEP]`.
pub(crate) fn text(words: &str) -> TokenizedText {
    let special = |index: usize, text: &str| Token {
        index,
        id: 0,
        text: text.into(),
        start: 0,
        end: 0,
        word: None,
        special: true,
    };
    let mut plain = String::new();
    let mut tokens = vec![special(0, "[CLS]")];
    for (word, pieces) in words.split_whitespace().enumerate() {
        if word > 0 {
            plain.push(' ');
        }
        for (place, piece) in pieces.split('|').enumerate() {
            let start = plain.len();
            plain.push_str(piece);
            tokens.push(Token {
                index: tokens.len(),
                id: 1,
                text: format!("{}{}", if place > 0 { "##" } else { "" }, piece.to_lowercase()),
                start,
                end: plain.len(),
                word: Some(word),
                special: false,
            });
        }
    }
    tokens.push(special(tokens.len(), "[SEP]"));
    TokenizedText { text: plain, tokens }
}

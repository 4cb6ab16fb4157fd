//! Texts and findings made up for tests.

use regard_lens::profile::{HeadProfile, Role, Scores};
use regard_lens::view::{HeadId, HeatMap};
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

/// A picture of the tokens of `text` that the ranges name, in which each looks at the one before with 64 % and at
/// the first with 16 %.
pub(crate) fn heat_map(
    text: &TokenizedText,
    queries: std::ops::Range<usize>,
    keys: std::ops::Range<usize>,
) -> HeatMap {
    let share = |query: usize, key: usize| {
        if key + 1 == query {
            0.64
        } else if key == 1 {
            0.16
        } else {
            0.0
        }
    };
    HeatMap {
        id: HeadId { layer: 1, head: 2 },
        probs: queries.clone().flat_map(|query| keys.clone().map(move |key| share(query, key))).collect(),
        queries: queries.collect(),
        keys: keys.collect(),
        available: text.tokens.len() - 2,
    }
}

/// A head with these roles and no scores.
pub(crate) fn head_profile(layer: usize, head: usize, roles: &[Role]) -> HeadProfile {
    HeadProfile {
        id: HeadId { layer, head },
        scores: Scores::default(),
        roles: roles.to_vec(),
        kept: None,
        shuffled: None,
        top: None,
        received: vec![],
        thumbnail: None,
    }
}

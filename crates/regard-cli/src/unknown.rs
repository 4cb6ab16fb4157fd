//! Words that the built-in model does not know. Its vocabulary is small, so that this matters; large models cut many
//! words in pieces and know them all the same.

use regard_lens::{ModelInfo, TokenizedText};
use serde::Serialize;

use crate::visible::visible;

/// How vocabularies spell a word that they have no pieces for.
const UNKNOWN: &str = "[UNK]";
/// More are counted.
const MOST_NAMED: usize = 8;

/// A word that is not one token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct UnknownWord<'t> {
    pub(crate) text: &'t str,
    /// Bytes of the text.
    start: usize,
    end: usize,
    /// Tokens that it is cut into; 0 if it cannot be spelled with any.
    pieces: usize,
}

/// The words that the model has no token of its own for, if it is the built-in one.
pub(crate) fn unknown_words<'t>(model: &ModelInfo, text: &'t TokenizedText) -> Option<Vec<UnknownWord<'t>>> {
    model.built_in.then(|| of_text(text))
}

fn of_text(text: &TokenizedText) -> Vec<UnknownWord<'_>> {
    let of_words: Vec<_> = text.tokens.iter().filter(|token| token.word.is_some()).collect();
    let words = of_words.chunk_by(|one, other| one.word == other.word).filter_map(|tokens| {
        let (start, end) = (tokens[0].start, tokens[tokens.len() - 1].end);
        let pieces = if tokens.iter().any(|token| token.text == UNKNOWN) { 0 } else { tokens.len() };
        (pieces != 1).then(|| Some(UnknownWord { text: text.text.get(start..end)?, start, end, pieces }))?
    });
    words.collect()
}

/// `does not know xyzzy, and sofabed only in 2 pieces`, without the subject; `None` if it knows all.
pub(crate) fn sentence(words: &[UnknownWord<'_>]) -> Option<String> {
    if words.is_empty() {
        return None;
    }
    let named: Vec<String> = words.iter().take(MOST_NAMED).map(named).collect();
    let rest = match words.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("does not know {}{rest}", named.join(", ")))
}

fn named(word: &UnknownWord<'_>) -> String {
    let text = visible(word.text);
    match word.pieces {
        0 => format!("{text} (at all)"),
        pieces => format!("{text} (read in {pieces} pieces)"),
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn unknown_words__pieces_and_no_pieces__are_told_apart() {
        let mut text = sample::text("An una|ffa|ble \u{7}猫 sat");
        text.tokens[5].text = UNKNOWN.into();
        let words = of_text(&text);
        let found: Vec<_> = words.iter().map(|word| (word.text, word.pieces)).collect();
        assert_eq!(found, [("unaffable", 3), ("\u{7}猫", 0)]);
        let said = sentence(&words).unwrap();
        assert_eq!(said, "does not know unaffable (read in 3 pieces), \\u{7}猫 (at all)");
        assert_eq!(sentence(&of_text(&sample::text("An owl sat"))), None);
    }

    #[test]
    fn sentence__many_words__names_some_and_counts_the_others() {
        let text = sample::text(&"a|b ".repeat(10));
        assert!(sentence(&of_text(&text)).unwrap().ends_with("(read in 2 pieces) and 2 more"));
    }
}

//! Words of an annotation, and the tokens of the model.

use std::ops::Range;

use crate::error::LensError;
use crate::model::Model;
use crate::token::TokenizedText;

/// A text and where each word of an annotation stands in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WordText {
    /// The text.
    pub text: String,
    /// The bytes of each word.
    pub spans: Vec<Range<usize>>,
}

impl WordText {
    /// Words with blanks between them.
    pub(super) fn spaced<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut text = Self::default();
        for word in words {
            if !text.text.is_empty() {
                text.text.push(' ');
            }
            let start = text.text.len();
            text.text.push_str(word);
            text.spans.push(start..text.text.len());
        }
        text
    }
}

/// A text in the tokens of a model, and which of them make up each word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alignment {
    /// The text; a decoder that adds no token of its own is given one to begin with, which takes what heads have
    /// no other use for.
    pub tokens: TokenizedText,
    /// The tokens of each word: every token that is not special is of the one word in which it begins. Empty for
    /// a word that begins inside a token of the word before.
    pub pieces: Vec<Vec<usize>>,
}

impl Alignment {
    /// Lets the model's tokenizer split a text and finds the words again by the bytes that tokens stand for.
    ///
    /// # Errors
    /// As [`Model::tokenize`].
    pub fn new(model: &Model, text: &WordText) -> Result<Self, LensError> {
        let tokens = model.with_beginning(model.tokenize(&text.text)?)?;
        let pieces = pieces(&tokens, &text.spans);
        Ok(Self { tokens, pieces })
    }
}

/// The tokens that begin in each span. Spans are in order; of equal ones the first has the tokens.
fn pieces(tokens: &TokenizedText, spans: &[Range<usize>]) -> Vec<Vec<usize>> {
    let mut pieces = vec![Vec::new(); spans.len()];
    for token in tokens.tokens.iter().filter(|token| !token.special) {
        let Some(stretch) = tokens.text.get(token.start..token.end) else { continue };
        // Byte-level tokens may begin with the blank before their word.
        let start = token.start + (stretch.len() - stretch.trim_start().len());
        let word = spans.partition_point(|span| span.end <= start);
        if spans.get(word).is_some_and(|span| span.contains(&start)) {
            pieces[word].push(token.index);
        }
    }
    pieces
}

/// What a word gives to each word: the mean over the rows of its pieces of the sum over the other's pieces. `row`
/// has the probabilities of a piece, `[tokens]`; words without pieces get 0.
pub(super) fn word_row(pieces: &[Vec<usize>], rows: &[&[f32]]) -> Vec<f64> {
    let of_word = |word: &Vec<usize>| {
        let sum: f64 = rows.iter().flat_map(|row| word.iter().map(|&piece| f64::from(row[piece]))).sum();
        sum / rows.len().max(1) as f64
    };
    pieces.iter().map(of_word).collect()
}

/// The word with the most of those that `may` be it, the first of equals; `None` where none may or none has
/// anything.
pub(super) fn strongest(shares: &[f64], may: impl Fn(usize) -> bool) -> Option<usize> {
    let mut best = None;
    for (word, &share) in shares.iter().enumerate() {
        if share > best.map_or(0.0, |best: usize| shares[best]) && may(word) {
            best = Some(word);
        }
    }
    best
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;
    use crate::token::Token;

    fn tokens(text: &str, stretches: &[Range<usize>]) -> TokenizedText {
        let tokens = stretches.iter().enumerate().map(|(index, stretch)| Token {
            index,
            id: 0,
            text: String::new(),
            start: stretch.start,
            end: stretch.end,
            word: None,
            special: stretch.is_empty(),
        });
        TokenizedText { text: text.to_owned(), tokens: tokens.collect() }
    }

    #[test]
    fn pieces__split_joined_and_blank_tokens__are_of_the_word_in_which_they_begin() {
        // The words do, n't and go; the tokens [CLS], don, ', t, ␣go and a line's end.
        let text = tokens("don't go\n", &[0..0, 0..3, 3..4, 4..5, 5..8, 8..9]);
        assert_eq!(pieces(&text, &[0..2, 2..5, 6..8]), [vec![1], vec![2, 3], vec![4]]);
        // A token over two words leaves the second without one.
        let text = tokens("cannot", &[0..6, 6..6]);
        assert_eq!(pieces(&text, &[0..3, 3..6]), [vec![0], Vec::new()]);
        // Words that share a surface.
        let text = tokens("zum", &[0..1, 1..3]);
        assert_eq!(pieces(&text, &[0..3, 0..3]), [vec![0, 1], vec![]]);
    }

    #[test]
    fn word_row__pieces__are_summed_to_and_averaged_from() {
        let pieces = [vec![1], vec![2, 3], vec![4]];
        let (first, second) = ([0.1, 0.2, 0.3, 0.1, 0.3], [0.5, 0.0, 0.1, 0.1, 0.3]);
        let found = word_row(&pieces, &[&first, &second]);
        let expected = [0.1, 0.3, 0.3];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7), "{found:?}");
        assert_eq!(strongest(&[0.1, 0.3, 0.3], |_| true), Some(1), "the first of equals");
        assert_eq!(strongest(&[0.1, 0.3, 0.3], |word| word == 0), Some(0));
        assert_eq!(strongest(&[0.0, 0.0], |_| true), None, "nothing is given");
        assert_eq!(strongest(&[f64::NAN, 0.2], |_| true), Some(1));
    }
}

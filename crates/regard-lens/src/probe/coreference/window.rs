//! A book in parts that a model takes.

use std::ops::Range;

use crate::error::LensError;
use crate::model::Model;
use crate::probe::coreference_file::Book;
use crate::probe::words::{Alignment, WordText};

/// A part of a book.
pub(super) struct Window {
    /// Its words.
    pub(super) words: Range<usize>,
    /// Those of them whose pronouns are asked about here.
    pub(super) asked: Range<usize>,
}

/// Whole sentences of at most `limit` tokens: half of them what goes before, the rest asked about. Every sentence
/// is asked about once, but for one that is longer than `limit` by itself.
pub(super) fn windows(model: &Model, book: &Book, limit: usize) -> Result<Vec<Window>, LensError> {
    let sentences = sentence_ranges(book);
    let lengths = sentences.iter().map(|words| length(model, book, words)).collect::<Result<Vec<_>, _>>()?;
    // The model's own tokens: one at each end.
    let limit = limit.saturating_sub(2);
    let mut windows = Vec::new();
    let mut next = 0;
    while next < sentences.len() {
        if lengths[next] > limit {
            next += 1;
            continue;
        }
        let (mut first, mut sum) = (next, lengths[next]);
        while first > 0
            && sum - lengths[next] + lengths[first - 1] <= limit / 2
            && sum + lengths[first - 1] <= limit
        {
            first -= 1;
            sum += lengths[first];
        }
        let mut end = next + 1;
        while end < sentences.len() && sum + lengths[end] <= limit {
            sum += lengths[end];
            end += 1;
        }
        let last = sentences[end - 1].end;
        windows.push(Window { words: sentences[first].start..last, asked: sentences[next].start..last });
        next = end;
    }
    Ok(windows)
}

/// The window's text in tokens.
pub(super) fn align(model: &Model, book: &Book, window: &Window) -> Result<Alignment, LensError> {
    Alignment::new(model, &WordText::spaced(book.words[window.words.clone()].iter().map(String::as_str)))
}

fn sentence_ranges(book: &Book) -> Vec<Range<usize>> {
    let mut start = 0;
    book.sentences
        .chunk_by(|a, b| a == b)
        .map(|sentence| {
            start += sentence.len();
            start - sentence.len()..start
        })
        .collect()
}

/// Tokens of a sentence, with one to spare: it may begin otherwise inside a text. More than any model takes
/// where it is too long.
fn length(model: &Model, book: &Book, words: &Range<usize>) -> Result<usize, LensError> {
    let text = WordText::spaced(book.words[words.clone()].iter().map(String::as_str));
    match model.tokenize(&text.text) {
        Ok(tokens) => Ok(tokens.tokens.iter().filter(|token| !token.special).count() + 1),
        Err(LensError::TextTooLong { .. }) => Ok(usize::MAX / 4),
        Err(LensError::EmptyText) => Ok(1),
        Err(error) => Err(error),
    }
}

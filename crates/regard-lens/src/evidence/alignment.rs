//! Which word of one text is which of another.

use std::collections::HashMap;
use std::ops::Range;

use crate::token::TokenizedText;

/// Above this, the words between the common ends of two texts are not matched one by one.
const MAX_TABLE: usize = 1 << 24;

/// A word (or a special token) that both texts have at corresponding places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlignedUnit {
    /// Its tokens in the first text.
    pub a: Range<usize>,
    /// Its tokens in the second text.
    pub b: Range<usize>,
    /// Whether it is the same word; else one stands in the other's place.
    pub same: bool,
}

/// Two texts, word by word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alignment {
    /// Words with a counterpart, in text order.
    pub units: Vec<AlignedUnit>,
    /// Words of the first text without a counterpart, as tokens.
    pub only_a: Vec<Range<usize>>,
    /// The same of the second text.
    pub only_b: Vec<Range<usize>>,
}

impl Alignment {
    /// The unit that holds a token of the first text.
    pub fn unit_of(&self, token: usize) -> Option<&AlignedUnit> {
        self.units.iter().find(|unit| unit.a.contains(&token))
    }
}

/// Aligns two texts on their words: a longest common subsequence, and between its words those that stand in each
/// other's place where both texts have equally many. What is left has no counterpart.
pub fn align(a: &TokenizedText, b: &TokenizedText) -> Alignment {
    let (of_a, of_b) = (words(a), words(b));
    let mut numbers = HashMap::new();
    let mut numbered = |text, words: &[Range<usize>]| -> Vec<usize> {
        words
            .iter()
            .map(|word| {
                let next = numbers.len();
                *numbers.entry(spelling(text, word)).or_insert(next)
            })
            .collect()
    };
    let (ids_a, ids_b) = (numbered(a, &of_a), numbered(b, &of_b));
    let mut alignment = Alignment { units: Vec::new(), only_a: Vec::new(), only_b: Vec::new() };
    let (mut next_a, mut next_b) = (0, 0);
    let ends = [(of_a.len(), of_b.len())];
    for (at_a, at_b) in common(&ids_a, &ids_b).into_iter().chain(ends) {
        let gap_a = &of_a[next_a..at_a];
        let gap_b = &of_b[next_b..at_b];
        if gap_a.len() == gap_b.len() {
            let pairs = gap_a.iter().cloned().zip(gap_b.iter().cloned());
            alignment.units.extend(pairs.map(|(a, b)| AlignedUnit { a, b, same: false }));
        } else {
            alignment.only_a.extend_from_slice(gap_a);
            alignment.only_b.extend_from_slice(gap_b);
        }
        if let (Some(a), Some(b)) = (of_a.get(at_a), of_b.get(at_b)) {
            alignment.units.push(AlignedUnit { a: a.clone(), b: b.clone(), same: true });
        }
        (next_a, next_b) = (at_a + 1, at_b + 1);
    }
    alignment
}

/// The tokens of each word; special tokens and tokens without a word stand alone.
fn words(text: &TokenizedText) -> Vec<Range<usize>> {
    let chunks =
        text.tokens.chunk_by(|a, b| !a.special && !b.special && a.word.is_some() && a.word == b.word);
    chunks
        .scan(0, |start, chunk| {
            let word = *start..*start + chunk.len();
            *start = word.end;
            Some(word)
        })
        .collect()
}

/// The word as it stands in the text; the vocabulary's spelling of what does not stand there.
fn spelling<'t>(text: &'t TokenizedText, word: &Range<usize>) -> (bool, &'t str) {
    let (first, last) = (&text.tokens[word.start], &text.tokens[word.end - 1]);
    let stretch = text.text.get(first.start..last.end).unwrap_or_default().trim();
    if first.special || stretch.is_empty() { (first.special, &first.text) } else { (false, stretch) }
}

/// Places of a longest common subsequence, in order.
fn common(a: &[usize], b: &[usize]) -> Vec<(usize, usize)> {
    let start = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (rest_a, rest_b) = (&a[start..], &b[start..]);
    let end = rest_a.iter().rev().zip(rest_b.iter().rev()).take_while(|(a, b)| a == b).count();
    let (mid_a, mid_b) = (&rest_a[..rest_a.len() - end], &rest_b[..rest_b.len() - end]);
    let mut places: Vec<(usize, usize)> = (0..start).map(|i| (i, i)).collect();
    if mid_a.len().saturating_mul(mid_b.len()) <= MAX_TABLE {
        places.extend(subsequence(mid_a, mid_b).into_iter().map(|(i, j)| (start + i, start + j)));
    }
    places.extend((0..end).map(|i| (a.len() - end + i, b.len() - end + i)));
    places
}

fn subsequence(a: &[usize], b: &[usize]) -> Vec<(usize, usize)> {
    let columns = b.len() + 1;
    // lengths[i][j]: of the longest one of a[i..] and b[j..].
    let mut lengths = vec![0u32; (a.len() + 1) * columns];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            lengths[i * columns + j] = if a[i] == b[j] {
                lengths[(i + 1) * columns + j + 1] + 1
            } else {
                lengths[(i + 1) * columns + j].max(lengths[i * columns + j + 1])
            };
        }
    }
    let (mut i, mut j, mut places) = (0, 0, Vec::new());
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            places.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if lengths[(i + 1) * columns + j] >= lengths[i * columns + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    places
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;
    use crate::token::Token;

    /// Words at spaces, pieces at `|`, between two special tokens.
    fn text(words: &str) -> TokenizedText {
        let mut text = TokenizedText { text: String::new(), tokens: Vec::new() };
        let token = |index, piece: &str, start, end, word| Token {
            index,
            id: 0,
            text: piece.into(),
            start,
            end,
            word,
            special: word.is_none(),
        };
        text.tokens.push(token(0, "[CLS]", 0, 0, None));
        for (number, word) in words.split_whitespace().enumerate() {
            for piece in word.split('|') {
                let start = text.text.len();
                text.text.push_str(piece);
                let index = text.tokens.len();
                text.tokens.push(token(index, piece, start, text.text.len(), Some(number)));
            }
            text.text.push(' ');
        }
        text.tokens.push(token(text.tokens.len(), "[SEP]", 0, 0, None));
        text
    }

    fn pairs(a: &str, b: &str) -> (Vec<String>, Vec<String>, Vec<String>) {
        let (a, b) = (text(a), text(b));
        let alignment = align(&a, &b);
        let word = |text: &TokenizedText, word: &Range<usize>| spelling(text, word).1.to_owned();
        let units = alignment.units.iter().map(|unit| {
            format!("{}{}{}", word(&a, &unit.a), if unit.same { "=" } else { "~" }, word(&b, &unit.b))
        });
        let only = |text, words: &[Range<usize>]| words.iter().map(|w| word(text, w)).collect();
        (units.collect(), only(&a, &alignment.only_a), only(&b, &alignment.only_b))
    }

    #[test]
    fn align__minimal_pair__pairs_the_words_that_differ() {
        let (units, a, b) = pairs("it was tired", "it was so|ft");
        assert_eq!(units, ["[CLS]=[CLS]", "it=it", "was=was", "tired~soft", "[SEP]=[SEP]"]);
        assert!(a.is_empty() && b.is_empty());
    }

    #[test]
    fn align__texts_of_different_length__leave_out_what_has_no_counterpart() {
        let (units, a, b) = pairs("the cat sat there", "the small black cat sat");
        assert_eq!(units, ["[CLS]=[CLS]", "the=the", "cat=cat", "sat=sat", "[SEP]=[SEP]"]);
        assert_eq!((a, b), (vec!["there".to_owned()], vec!["small".to_owned(), "black".to_owned()]));
    }

    #[test]
    fn align__any_texts__places_every_token_once() {
        let texts = ["a b c", "b|x c a", "", "a a a a", "c b a", "x y|z|w a b", "a"];
        for (first, second) in texts.iter().flat_map(|a| texts.iter().map(move |b| (a, b))) {
            let (a, b) = (text(first), text(second));
            let alignment = align(&a, &b);
            let count = |ranges: Vec<&Range<usize>>, len| {
                let mut all: Vec<usize> = ranges.into_iter().cloned().flatten().collect();
                all.sort_unstable();
                assert_eq!(all, (0..len).collect::<Vec<_>>(), "{first:?} {second:?}");
            };
            let units = &alignment.units;
            count(units.iter().map(|u| &u.a).chain(&alignment.only_a).collect(), a.tokens.len());
            count(units.iter().map(|u| &u.b).chain(&alignment.only_b).collect(), b.tokens.len());
            assert!(units.windows(2).all(|pair| pair[0].a.end <= pair[1].a.start));
            assert!(units.windows(2).all(|pair| pair[0].b.end <= pair[1].b.start));
        }
    }
}

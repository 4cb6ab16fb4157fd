//! What every head chooses for every pronoun.

use rayon::prelude::*;

use super::pronoun::{Pronoun, pronouns};
use super::window::{Window, align, windows};
use crate::error::LensError;
use crate::model::Model;
use crate::probe::coreference_file::Book;
use crate::probe::look::{OnText, TextChecks, each_text, look};
use crate::probe::words::{Alignment, strongest, word_row};

/// A choice: the candidate, and whether the strongest word of all, candidate or not, means the same as the
/// pronoun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) candidate: Option<usize>,
    pub(super) word_is_right: bool,
}

/// What each head chooses for the pronouns of some books.
#[derive(Debug)]
pub struct CoreferencePicks {
    pub(super) heads_per_layer: usize,
    pub(super) num_heads: usize,
    /// `[pronouns]`: the book, the pronoun and what each head chooses.
    pub(super) pronouns: Vec<(usize, Pronoun, Vec<Choice>)>,
    /// Pronouns in sentences longer than a window, which are not asked about.
    pub skipped: usize,
    /// How exact the attention was, and how long the texts were.
    pub checks: TextChecks,
}

impl CoreferencePicks {
    /// Runs the model over the books, in windows of at most `limit` tokens.
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn new(model: &Model, books: &[Book], limit: usize, on_text: OnText<'_>) -> Result<Self, LensError> {
        let info = model.info();
        let limit = limit.min(info.max_tokens);
        let mut texts: Vec<(usize, Window, Vec<Pronoun>)> = Vec::new();
        let mut asked = 0;
        for (number, book) in books.iter().enumerate() {
            let all = pronouns(book);
            asked += all.len();
            for window in windows(model, book, limit)? {
                let of_window = all.iter().filter(|pronoun| window.asked.contains(&pronoun.word));
                // The sentence before may not have had room.
                let whole = of_window.filter(|pronoun| {
                    pronoun.candidates.iter().all(|mention| mention.first >= window.words.start)
                });
                let pronouns: Vec<Pronoun> = whole.cloned().collect();
                if !pronouns.is_empty() {
                    texts.push((number, window, pronouns));
                }
            }
        }
        let looked = each_text(&texts, on_text, |(number, window, pronouns), checks| {
            let alignment = align(model, &books[*number], window)?;
            look_at(model, &alignment, window.words.start, pronouns, checks)
        })?;
        let pronouns: Vec<_> = texts
            .into_iter()
            .zip(looked.found)
            .flat_map(|((number, _, pronouns), choices)| {
                pronouns.into_iter().zip(choices).map(move |(pronoun, choices)| (number, pronoun, choices))
            })
            .collect();
        Ok(Self {
            heads_per_layer: info.heads,
            num_heads: info.layers * info.heads,
            skipped: asked - pronouns.len(),
            pronouns,
            checks: looked.checks,
        })
    }
}

/// `[pronouns, heads]`.
fn look_at(
    model: &Model,
    alignment: &Alignment,
    start: usize,
    pronouns: &[Pronoun],
    checks: &mut TextChecks,
) -> Result<Vec<Vec<Choice>>, LensError> {
    let tokens = alignment.tokens.tokens.len();
    let mut choices = vec![Vec::new(); pronouns.len()];
    look(model, &alignment.tokens, checks, &mut |attention| {
        let heads: Vec<Vec<Choice>> = (0..model.info().heads)
            .into_par_iter()
            .map(|head| {
                let mut rows = Vec::new();
                let mut choose = |pronoun: &Pronoun| {
                    let pieces = &alignment.pieces[pronoun.word - start];
                    let (Some(&first), Some(&last)) = (pieces.first(), pieces.last()) else {
                        return Ok(Choice { candidate: None, word_is_right: false });
                    };
                    rows.resize((last + 1 - first) * tokens, 0.0);
                    attention.probs(head, first..last + 1, &mut rows)?;
                    let row = |&piece: &usize| &rows[(piece - first) * tokens..][..tokens];
                    let shares = word_row(&alignment.pieces, &pieces.iter().map(row).collect::<Vec<_>>());
                    Ok::<_, LensError>(choice(pronoun, &shares, start))
                };
                pronouns.iter().map(&mut choose).collect::<Result<_, LensError>>()
            })
            .collect::<Result<_, LensError>>()?;
        for head in heads {
            choices.iter_mut().zip(head).for_each(|(choices, choice)| choices.push(choice));
        }
        Ok(())
    })?;
    Ok(choices)
}

/// The choice by what the pronoun gives to each word of the window, which starts at word `start`.
fn choice(pronoun: &Pronoun, shares: &[f64], start: usize) -> Choice {
    let around = |word: usize| pronoun.around(word + start);
    let candidate = strongest(shares, |word| around(word).is_some()).and_then(around);
    let word = strongest(shares, |word| word + start != pronoun.word);
    Choice { candidate, word_is_right: word.and_then(around).is_some_and(|place| pronoun.is_right(place)) }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;
    use crate::probe::coreference_file::Mention;

    #[test]
    fn choice__attention_made_by_hand__is_the_strongest_candidate() {
        let pronoun = Pronoun {
            word: 15,
            entity: 1,
            candidates: vec![
                Mention { first: 10, last: 11, entity: 1 },
                Mention { first: 13, last: 13, entity: 2 },
            ],
            same_kind: vec![false; 2],
            same_sentence: vec![true; 2],
        };
        // Words 10 to 15; the pronoun itself and a word of no candidate have more.
        let shares = [0.0, 0.2, 0.25, 0.1, 0.0, 0.4];
        let found = choice(&pronoun, &shares, 10);
        assert_eq!(found, Choice { candidate: Some(0), word_is_right: false });
        let shares = [0.3, 0.2, 0.25, 0.1, 0.0, 0.4];
        assert_eq!(choice(&pronoun, &shares, 10), Choice { candidate: Some(0), word_is_right: true });
        assert_eq!(choice(&pronoun, &[0.0; 6], 10), Choice { candidate: None, word_is_right: false });
    }
}

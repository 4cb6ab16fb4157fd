//! Whether a head's strongest word is the word that a relation of syntax joins.
//!
//! For every word that a relation joins to another, the pick of a head is the word (special tokens and the word
//! itself left out) that gets the most of its attention: to a word the sum over its pieces, from a word the mean
//! (Clark et al. 2019, section 5). The share of picks that are the partner is the head's accuracy, once from
//! dependents to heads and once back. The head is chosen on one file and reported on another, as are its rivals:
//! the best fixed offset, and the nearest word of certain parts of speech on one side, which knows the gold
//! parts of speech and no model.

mod picks;
mod rule;
mod score;

pub use picks::SyntaxPicks;
pub use rule::{NearestRule, Side};
pub use score::{DISTANCES, HeadScore, OffsetScore, RuleScore, SyntaxRow, score_syntax};

use serde::Serialize;

use super::conllu::UdSentence;

/// From which of the two words the attention goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the dependent to its head.
    DependentToHead,
    /// From the head to its dependent.
    HeadToDependent,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::DependentToHead, Self::HeadToDependent];
}

/// The pairs of one relation in a sentence: the word that looks, and its partner.
fn pairs<'a>(
    sentence: &'a UdSentence,
    relation: &'a str,
    direction: Direction,
) -> impl Iterator<Item = [usize; 2]> + 'a {
    sentence.words.iter().enumerate().filter(move |(_, word)| word.relation == relation).filter_map(
        move |(dependent, word)| {
            let head = word.head?;
            Some(match direction {
                Direction::DependentToHead => [dependent, head],
                Direction::HeadToDependent => [head, dependent],
            })
        },
    )
}

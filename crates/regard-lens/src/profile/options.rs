//! What a caller wants to know.

use std::ops::Range;

use serde::Serialize;

use super::units::spans;
use crate::token::TokenizedText;
use crate::view::HeadId;

/// What a row, a key and a distance count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Tokens, as the model sees them.
    #[default]
    Token,
    /// Words, their pieces merged; a special token is one of its own.
    Word,
}

impl Unit {
    /// How many of them a text has.
    pub fn count(self, text: &TokenizedText) -> usize {
        spans(text, self).len()
    }
}

/// Some numbers of layers or heads, or all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Selection {
    /// All there are.
    #[default]
    All,
    /// Those in any of the ranges.
    Of(Vec<Range<usize>>),
}

impl Selection {
    /// One number alone.
    pub fn one(number: usize) -> Self {
        Self::Of(std::iter::once(number..number.saturating_add(1)).collect())
    }

    /// Whether it has this number.
    pub fn contains(&self, number: usize) -> bool {
        match self {
            Self::All => true,
            Self::Of(ranges) => ranges.iter().any(|range| range.contains(&number)),
        }
    }
}

/// Whose most probable keys are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TopKeysOf {
    /// Nobody's.
    #[default]
    None,
    /// Every row's.
    All,
    /// These rows', in this order; those that are not profiled are left out.
    Rows(Vec<usize>),
}

/// What to find out about every head; the default is its [`Scores`](super::Scores), with a shuffled control.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileOptions {
    /// What rows, keys and distances count.
    pub unit: Unit,
    /// Which layers; the others run without being looked at.
    pub layers: Selection,
    /// Which heads of each layer.
    pub heads: Selection,
    /// Which rows, counted in units; all if `None`. Received mass, thumbnails and scores are of these rows alone.
    pub rows: Option<Range<usize>>,
    /// Whether keys that stand aside are left out and the others' probabilities divided by their sum.
    pub no_sink: bool,
    /// Whether probabilities are weighted by the norm of what the key's value adds to the output.
    pub norm: bool,
    /// Whether encoders get an induction score, too: it means something only on a sequence that is repeated.
    pub induction_in_encoders: bool,
    /// How many of a row's most probable keys are kept, at most 32.
    pub top_k: usize,
    /// Whose.
    pub top_keys_of: TopKeysOf,
    /// Whether the mass that each key receives is wanted; for tokens it takes a second pass.
    pub received: bool,
    /// The largest block sum of each head's probabilities, `[rows, keys]`, each from 1 to 64.
    pub thumbnail: Option<[usize; 2]>,
    /// One head's exact probabilities between some rows and some keys, in tokens.
    pub region: Option<(HeadId, Range<usize>, Range<usize>)>,
    /// The shuffled control runs on at most so many tokens; 0 is no control.
    pub control_tokens: usize,
    /// The shuffled order follows from it.
    pub control_seed: u64,
    /// At least so many rows are checked against the f64 reference, if there are as many.
    pub verify_rows: usize,
}

impl Default for ProfileOptions {
    fn default() -> Self {
        Self {
            unit: Unit::Token,
            layers: Selection::All,
            heads: Selection::All,
            rows: None,
            no_sink: false,
            norm: false,
            induction_in_encoders: false,
            top_k: 0,
            top_keys_of: TopKeysOf::None,
            received: false,
            thumbnail: None,
            region: None,
            control_tokens: 2048,
            control_seed: 0,
            verify_rows: 64,
        }
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn selection__ranges__hold_their_numbers() {
        let some = Selection::Of(vec![2..4, 7..8]);
        let held: Vec<usize> = (0..10).filter(|&number| some.contains(number)).collect();
        assert_eq!(held, [2, 3, 7]);
        assert!(Selection::All.contains(99) && !Selection::Of(vec![]).contains(0));
    }
}

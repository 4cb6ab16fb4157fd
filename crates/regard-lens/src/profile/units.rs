//! The text as a profile counts it: tokens or words, which of them stand aside, and what each row can see.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use super::options::{ProfileOptions, Unit};
use crate::error::LensError;
use crate::token::TokenizedText;

/// The distances whose mass is kept.
pub(super) const OFFSETS: [i64; 17] = [-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8];

/// The units of a text and what is known about them without any head.
#[derive(Debug)]
pub(super) struct Units {
    /// The tokens of each unit.
    pub(super) spans: Vec<Range<usize>>,
    /// Equal for units that are spelled with the same tokens.
    pub(super) ids: Vec<u32>,
    pub(super) special: Vec<bool>,
    /// Special tokens, and in a causal model the unit with the first token.
    pub(super) aside: Vec<bool>,
    pub(super) causal: bool,
    /// Which keys may be looked at: all, or those that do not stand aside.
    pub(super) allowed: Vec<bool>,
    /// The rows to profile.
    pub(super) rows: Range<usize>,
    /// Whether the induction score means something.
    pub(super) with_induction: bool,
    /// How many keys each unit sees.
    pub(super) visible: Vec<u32>,
    /// How many of them are other copies of it.
    pub(super) copies: Vec<u32>,
    /// How many follow an earlier copy of it.
    pub(super) targets: Vec<u32>,
}

impl Units {
    pub(super) fn new(
        text: &TokenizedText,
        causal: bool,
        options: &ProfileOptions,
    ) -> Result<Self, LensError> {
        let spans = spans(text, options.unit);
        let tokens = &text.tokens;
        let ids = ids(text, &spans);
        let special: Vec<bool> = spans.iter().map(|span| tokens[span.start].special).collect();
        let mut aside = special.clone();
        if let Some(first) = aside.first_mut() {
            *first |= causal;
        }
        let allowed: Vec<bool> = aside.iter().map(|aside| !(options.no_sink && *aside)).collect();
        let len = spans.len();
        let rows = options.rows.clone().unwrap_or(0..len);
        if rows.start >= rows.end || rows.end > len {
            return Err(LensError::OutOfRange {
                what: "rows",
                expected: format!("a range within 0:{len}"),
                found: format!("{}:{}", rows.start, rows.end),
            });
        }
        let with_induction = causal || options.induction_in_encoders;
        let mut units = Self {
            spans,
            ids,
            special,
            aside,
            causal,
            allowed,
            rows,
            with_induction,
            visible: vec![],
            copies: vec![],
            targets: vec![],
        };
        units.count();
        Ok(units)
    }

    fn count(&mut self) {
        let len = self.len();
        let mut all: HashMap<u32, u32> = HashMap::new();
        for unit in (0..len).filter(|&unit| self.allowed[unit]) {
            *all.entry(self.ids[unit]).or_default() += 1;
        }
        let allowed = self.allowed.iter().filter(|allowed| **allowed).count() as u32;
        let (mut seen, mut earlier, mut followers) = (0, HashMap::new(), HashMap::new());
        for unit in 0..len {
            let own = u32::from(self.allowed[unit]);
            let id = self.ids[unit];
            // A unit that follows an earlier copy of its own token can be its own target.
            if let Some(before) = unit.checked_sub(1) {
                *followers.entry(self.ids[before]).or_insert(0u32) += own;
            }
            self.targets.push(followers.get(&id).copied().unwrap_or(0));
            let before = earlier.get(&id).copied().unwrap_or(0);
            *earlier.entry(id).or_insert(0u32) += own;
            seen += own;
            let everywhere = all.get(&id).copied().unwrap_or(0) - own;
            self.visible.push(if self.causal { seen } else { allowed });
            self.copies.push(if self.causal { before } else { everywhere });
        }
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Tokens in all.
    pub(super) fn tokens(&self) -> usize {
        self.spans.last().map_or(0, |span| span.end)
    }

    /// The tokens of the rows.
    pub(super) fn row_tokens(&self) -> Range<usize> {
        self.spans[self.rows.start].start..self.spans[self.rows.end - 1].end
    }

    /// Rows of the text: those whose means are taken.
    pub(super) fn counted_rows(&self) -> impl Iterator<Item = usize> {
        self.rows.clone().filter(|&row| self.counts(row))
    }

    pub(super) fn counts(&self, row: usize) -> bool {
        !self.aside[row] && self.visible[row] > 0
    }

    /// Whether a row may look at a key.
    pub(super) fn sees(&self, row: usize, key: usize) -> bool {
        key < self.len() && self.allowed[key] && (!self.causal || key <= row)
    }

    /// The key at a distance, if the row may look at it.
    pub(super) fn at_offset(&self, row: usize, offset: i64) -> Option<usize> {
        row.checked_add_signed(offset as isize).filter(|&key| self.sees(row, key))
    }

    /// Bins on each side of a histogram that holds every distance.
    pub(super) fn distance_bins(&self) -> usize {
        ((usize::BITS - (self.len() - 1).leading_zeros()) as usize).max(1)
    }

    /// The bin of a distance.
    pub(super) fn bin(&self, row: usize, key: usize) -> usize {
        let bins = self.distance_bins();
        match row.abs_diff(key) {
            0 => bins,
            distance => {
                let power = distance.ilog2() as usize;
                if key < row { bins - 1 - power } else { bins + 1 + power }
            }
        }
    }
}

/// Stretches of tokens: one each, or those of each word.
pub(super) fn spans(text: &TokenizedText, unit: Unit) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    let mut last_word = None;
    for (place, token) in text.tokens.iter().enumerate() {
        let word = token.word.filter(|_| unit == Unit::Word && !token.special);
        match spans.last_mut() {
            Some(span) if word.is_some() && word == last_word => span.end = place + 1,
            _ => spans.push(place..place + 1),
        }
        last_word = word;
    }
    spans
}

/// A number for each unit, equal where its tokens are.
fn ids(text: &TokenizedText, spans: &[Range<usize>]) -> Vec<u32> {
    let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
    let mut ids = Vec::with_capacity(spans.len());
    for span in spans {
        let spelling: Vec<u32> = text.tokens[span.clone()].iter().map(|token| token.id).collect();
        let next = known.len() as u32;
        ids.push(match known.entry(spelling) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => *entry.insert(next),
        });
    }
    ids
}

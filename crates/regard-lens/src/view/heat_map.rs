//! The part of one head's attention that fits a picture.

use std::ops::Range;

use super::head_id::HeadId;

/// Attention probabilities of one head between some queries and some keys of a text, for a picture.
///
/// Special tokens are left out (unless asked for), and nothing is renormalised. Where the text is longer than the
/// picture, the queries around the one of interest and the keys around its strongest key are kept, and both
/// where they fit.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// Which head.
    pub id: HeadId,
    /// Tokens of the rows, in text order without gaps (special tokens apart).
    pub queries: Vec<usize>,
    /// Tokens of the columns, likewise.
    pub keys: Vec<usize>,
    /// `[queries, keys]`, row-major.
    pub probs: Vec<f32>,
    /// How many tokens there were to choose from.
    pub available: usize,
}

impl HeatMap {
    /// The probabilities of the row-th query, `[keys]`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.probs[row * self.keys.len()..][..self.keys.len()]
    }
}

/// `side` places out of `available` that hold `must`, and `also` too where both fit, as near the middle as the
/// ends allow.
pub(super) fn window(available: usize, side: usize, must: usize, also: usize) -> Range<usize> {
    if available <= side {
        return 0..available;
    }
    let (first, last) =
        if must.abs_diff(also) < side { (must.min(also), must.max(also)) } else { (must, must) };
    let spare = side - (last - first + 1).min(side);
    let start = first.saturating_sub(spare / 2).min(available - side);
    start..start + side
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn window__any_places__holds_what_it_must_and_both_where_they_fit() {
        for available in 1..40 {
            for side in 1..12 {
                for must in 0..available {
                    for also in 0..available {
                        let window = window(available, side, must, also);
                        assert_eq!(window.len(), side.min(available));
                        assert!(window.end <= available && window.contains(&must));
                        if must.abs_diff(also) < side {
                            assert!(window.contains(&also));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn window__one_place_of_many__is_in_the_middle() {
        assert_eq!(window(100, 11, 50, 50), 45..56);
        assert_eq!(window(100, 11, 2, 2), 0..11);
        assert_eq!(window(100, 11, 99, 99), 89..100);
    }
}

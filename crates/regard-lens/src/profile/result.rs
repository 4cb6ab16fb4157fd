//! What a profile says.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use super::options::Unit;
use super::role::Role;
use crate::view::{HeadId, Verification};

/// What one head does with a text, as means over its rows. Masses are sums of probabilities, from 0 to 1; what no row
/// of the text has is 0, or `None` where it is an `Option`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct Scores {
    /// −Σ a·ln a, in nats.
    pub entropy: f32,
    /// The entropy divided by that of equal weights, ln(visible keys); over rows that see at least two.
    pub relative_entropy: f32,
    /// The largest probability.
    pub max_prob: f32,
    /// Σ a·|i − j| / Σ a, in units (Vig and Belinkov 2019).
    pub mean_distance: f32,
    /// Mass on the key at each distance, −8 to 8 (−8 to 0 in a causal model), over the rows that see such a key.
    pub offsets: BTreeMap<i64, f32>,
    /// Mass on the first token, whatever it is.
    pub first_token: f32,
    /// Mass on special tokens.
    pub special: f32,
    /// Mass on other copies of the row's own token, before or after it; over the rows that see one.
    pub duplicate: Option<f32>,
    /// Mass on the tokens that follow earlier copies of the row's own token (Olsson et al. 2022, prefix matching); over
    /// the rows that see one. `None` in encoders, unless
    /// [`induction_in_encoders`](super::ProfileOptions::induction_in_encoders).
    pub induction: Option<f32>,
    /// Mass by signed distance: in the middle that on the row itself, b places after it (from 0) that on distances
    /// 2^b … 2^(b+1) − 1, before it that on their negatives.
    pub distance: Vec<f32>,
}

impl Scores {
    /// Mass on a distance; 0 where there is none.
    pub fn offset(&self, distance: i64) -> f32 {
        self.offsets.get(&distance).copied().unwrap_or(0.0)
    }
}

/// The least distance of a bin of [`Scores::distance`], with its sign: `distance_bin_start(7, 5)` is the bin two after the
/// middle of seven, distances 2 and 3.
pub fn distance_bin_start(num_bins: usize, bin: usize) -> i64 {
    let middle = num_bins / 2;
    let power = |place: usize| 1i64 << place.min(62);
    match bin.cmp(&middle) {
        std::cmp::Ordering::Less => -power(middle - bin - 1),
        std::cmp::Ordering::Equal => 0,
        std::cmp::Ordering::Greater => power(bin - middle - 1),
    }
}

/// The most probable keys of some rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopKeys {
    /// The rows, in units.
    pub rows: Vec<usize>,
    /// Keys of each row.
    pub top_k: usize,
    /// `[rows, top_k]`: keys by falling probability, [`NO_KEY`](Self::NO_KEY) after the last.
    pub keys: Vec<u32>,
    /// `[rows, top_k]`: their probabilities, 0 after the last.
    pub probs: Vec<f32>,
}

impl TopKeys {
    /// Stands where a row has no more keys.
    pub const NO_KEY: u32 = u32::MAX;

    /// The keys of the place-th row and their probabilities.
    pub fn row(&self, place: usize) -> impl Iterator<Item = (usize, f32)> {
        let range = place * self.top_k..(place + 1) * self.top_k;
        let pairs = self.keys[range.clone()].iter().zip(&self.probs[range]);
        pairs.filter(|(key, _)| **key != Self::NO_KEY).map(|(&key, &prob)| (key as usize, prob))
    }
}

/// Sums of a head's probabilities over blocks of rows and keys; rows that stand aside are in it, too.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Thumbnail {
    /// Blocks of rows: row i of `of_rows` is in block ⌊i·rows/of_rows⌋.
    pub rows: usize,
    /// Blocks of keys, likewise.
    pub columns: usize,
    /// Rows in all.
    pub of_rows: usize,
    /// Keys in all.
    pub of_columns: usize,
    /// `[rows, columns]`.
    pub sums: Vec<f32>,
}

impl Thumbnail {
    /// The mean mass that a row of the block of rows gives to the block of keys.
    pub fn mass(&self, row: usize, column: usize) -> f32 {
        let start = |block: usize| (block * self.of_rows).div_ceil(self.rows);
        self.sums[row * self.columns + column] / (start(row + 1) - start(row)).max(1) as f32
    }
}

/// Exact probabilities of one head.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Region {
    /// Which head.
    #[serde(flatten)]
    pub id: HeadId,
    /// Tokens that look.
    pub rows: Range<usize>,
    /// Tokens looked at.
    pub keys: Range<usize>,
    /// `[rows, keys]`.
    pub probs: Vec<f32>,
}

/// One head.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadProfile {
    /// Which head.
    #[serde(flatten)]
    pub id: HeadId,
    /// What it does.
    #[serde(flatten)]
    pub scores: Scores,
    /// The roles whose conditions hold, the most particular first.
    pub roles: Vec<Role>,
    /// The mean share of the mass that [`no_sink`](super::ProfileOptions::no_sink) left; `None` without it, and with
    /// [`norm`](super::ProfileOptions::norm).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<f32>,
    /// What it does with the shuffled text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shuffled: Option<Scores>,
    /// Keys of the rows asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top: Option<TopKeys>,
    /// Σ_i a_ij of each unit, over all rows; empty if not asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub received: Vec<f32>,
    /// The block sum asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<Thumbnail>,
}

/// Over how many rows the scores are means.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Counted {
    /// Rows of the text.
    pub rows: usize,
    /// Rows that see another copy of their token.
    pub duplicate: usize,
    /// Rows that see a token after an earlier copy of theirs.
    pub induction: usize,
    /// Rows that see a key at this distance.
    pub offsets: BTreeMap<i64, usize>,
}

/// What one run of a [`Profiler`](super::Profiler) found.
#[derive(Debug, Clone, PartialEq)]
pub struct Profiled {
    /// Every head asked for, by layer, then head; without roles.
    pub heads: Vec<HeadProfile>,
    /// What equal weights on the visible keys score.
    pub uniform: Scores,
    /// Over how many rows.
    pub counted: Counted,
    /// The tile asked for.
    pub region: Option<Region>,
    /// The check of sampled rows' statistics against the f64 reference; errors are relative where a value is above 1
    /// (entropies, distances).
    pub verification: Verification,
}

/// The shuffled control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Control {
    /// How many tokens it ran on: the text's first ones.
    pub tokens: usize,
    /// Where its order comes from.
    pub seed: u64,
}

/// What every head does with a text, with its controls.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// What rows, keys and distances count.
    pub unit: Unit,
    /// The tokens of each unit, in order.
    pub units: Vec<Range<usize>>,
    /// The run, with roles and each head's shuffled scores.
    pub profiled: Profiled,
    /// The shuffled control; `None` if there was none, or nothing to shuffle.
    pub control: Option<Control>,
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn distance_bin_start__bins__double() {
        let starts: Vec<i64> = (0..7).map(|bin| distance_bin_start(7, bin)).collect();
        assert_eq!(starts, [-4, -2, -1, 0, 1, 2, 4]);
    }

    #[test]
    fn thumbnail__uneven_blocks__divides_by_the_rows_of_each() {
        // Five rows in two blocks: rows 0 to 2, and 3 and 4.
        let sums = vec![3.0, 0.0, 1.0, 1.0];
        let thumbnail = Thumbnail { rows: 2, columns: 2, of_rows: 5, of_columns: 5, sums };
        assert_eq!([thumbnail.mass(0, 0), thumbnail.mass(1, 1)], [1.0, 0.5]);
    }
}

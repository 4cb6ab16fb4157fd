//! What is summed up of one attention row, number by number.
//!
//! While a row is under way its masses are measured from the largest score so far, as the output is; the last of them,
//! `SUM`, is what they are divided by in the end. All of them are in f64: blocks of 128 keys are summed in f32.

use crate::statistics::StatisticsRequest;

/// The largest score so far, in units of log₂.
pub(super) const MAX: usize = 0;
/// Σ w·x, w = 2^x and x = score − max.
pub(super) const ENERGY: usize = 1;
/// Σ w. From here on every number is a mass.
pub(super) const SUM: usize = 2;
/// Σ w·|p − j|.
pub(super) const DISTANCE: usize = 3;
/// Σ w over keys with the token of the row's own position.
pub(super) const SAME_TOKEN: usize = 4;
/// Σ w over keys after such, up to the row's own position.
pub(super) const INDUCTION: usize = 5;
const FIRST_LIST: usize = 6;

/// Where the lists of a row's numbers start, one after the other, and how long they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowLayout {
    /// Bins on each side.
    pub(super) num_bins: usize,
    pub(super) num_offsets: usize,
    pub(super) num_sets: usize,
    /// Columns of the thumbnail.
    pub(super) num_cells: usize,
    pub(super) top_k: usize,
}

impl RowLayout {
    pub(super) fn new(request: &StatisticsRequest<'_>) -> Self {
        Self {
            num_bins: request.num_distance_bins,
            num_offsets: request.offsets.len(),
            num_sets: request.key_sets.map_or(0, |sets| sets.num_sets),
            num_cells: request.thumbnail.map_or(0, |[_, columns]| columns),
            top_k: request.top_k,
        }
    }

    pub(super) fn bins_len(&self) -> usize {
        if self.num_bins == 0 { 0 } else { 2 * self.num_bins + 1 }
    }

    pub(super) fn bins(&self) -> usize {
        FIRST_LIST
    }

    pub(super) fn offsets(&self) -> usize {
        self.bins() + self.bins_len()
    }

    pub(super) fn sets(&self) -> usize {
        self.offsets() + self.num_offsets
    }

    pub(super) fn cells(&self) -> usize {
        self.sets() + self.num_sets
    }

    /// The largest scores, in falling order, then their keys, which f64 holds exactly.
    pub(super) fn tops(&self) -> usize {
        self.cells() + self.num_cells
    }

    pub(super) fn len(&self) -> usize {
        self.tops() + 2 * self.top_k
    }

    /// A row that has seen no key.
    pub(super) fn clear(&self, row: &mut [f64]) {
        row.fill(0.0);
        row[MAX] = f64::NEG_INFINITY;
        row[self.tops()..][..self.top_k].fill(f64::NEG_INFINITY);
    }

    /// Measures a row from another maximum.
    pub(super) fn rebase(&self, row: &mut [f64], max: f64) {
        let old = std::mem::replace(&mut row[MAX], max);
        if old == f64::NEG_INFINITY {
            return; // nothing has a weight yet
        }
        let shift = old - max;
        let factor = shift.exp2();
        row[ENERGY] = factor * (row[ENERGY] + shift * row[SUM]);
        for mass in &mut row[SUM..self.tops()] {
            *mass *= factor;
        }
    }

    /// Adds what was seen of later keys of the same row.
    pub(super) fn merge(&self, row: &mut [f64], later: &mut [f64]) {
        if later[MAX] > row[MAX] || later[MAX].is_nan() {
            self.rebase(row, later[MAX]);
        } else {
            self.rebase(later, row[MAX]);
        }
        for (mass, later) in row[ENERGY..self.tops()].iter_mut().zip(&later[ENERGY..]) {
            *mass += later;
        }
        let (scores, keys) = later[self.tops()..].split_at(self.top_k);
        for (&score, &key) in scores.iter().zip(keys) {
            self.insert(row, score, key);
        }
    }

    /// Keeps a score if it is among the largest; of equal ones the first that came.
    pub(super) fn insert(&self, row: &mut [f64], score: f64, key: f64) {
        let (scores, keys) = row[self.tops()..].split_at_mut(self.top_k);
        let mut place = self.top_k;
        while place > 0 && score > scores[place - 1] {
            if place < self.top_k {
                (scores[place], keys[place]) = (scores[place - 1], keys[place - 1]);
            }
            place -= 1;
        }
        if place < self.top_k {
            (scores[place], keys[place]) = (score, key);
        }
    }

    /// The score that a key has to exceed to be among the largest.
    pub(super) fn threshold(&self, row: &[f64]) -> f64 {
        match self.top_k {
            0 => f64::INFINITY,
            k => row[self.tops() + k - 1],
        }
    }
}

/// The bin of key distance `delta` = j − p among `2·num_bins + 1`.
pub(super) fn distance_bin(delta: i64, num_bins: usize) -> usize {
    let side = |distance: u64| (distance.ilog2() as usize).min(num_bins - 1);
    match delta {
        0 => num_bins,
        ..0 => num_bins - 1 - side(delta.unsigned_abs()),
        _ => num_bins + 1 + side(delta.unsigned_abs()),
    }
}

/// The first distance after `delta` that is in another bin.
pub(super) fn distance_bin_end(delta: i64, num_bins: usize) -> i64 {
    let side = |distance: u64| (distance.ilog2() as usize).min(num_bins - 1);
    match delta {
        0 => 1,
        ..0 => 1 - (1i64 << side(delta.unsigned_abs())),
        _ => match side(delta.unsigned_abs()) + 1 {
            outermost if outermost == num_bins => i64::MAX,
            next => 1i64 << next,
        },
    }
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use super::*;

    #[test]
    fn distance_bin__any_distance__is_the_power_of_two_below_and_ends_where_the_next_begins() {
        for num_bins in [1, 2, 3, 7, 63] {
            let mut end = distance_bin_end(-300, num_bins);
            for delta in -300i64..=300 {
                let bin = distance_bin(delta, num_bins);
                let power =
                    delta.unsigned_abs().checked_ilog2().map(|power| (power as usize).min(num_bins - 1));
                let expected = match (power, delta > 0) {
                    (None, _) => num_bins,
                    (Some(power), false) => num_bins - 1 - power,
                    (Some(power), true) => num_bins + 1 + power,
                };
                assert_eq!(bin, expected, "{delta} in {num_bins}");
                if delta > -300 {
                    assert_eq!(
                        bin != distance_bin(delta - 1, num_bins),
                        delta == end,
                        "{delta} in {num_bins}"
                    );
                }
                end = distance_bin_end(delta, num_bins);
            }
        }
    }
}

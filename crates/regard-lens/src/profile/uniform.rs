//! What equal weights on the visible keys would score: the least that a role has to beat.

use super::totals::{RowNumbers, Totals};
use super::units::{OFFSETS, Units};

/// The means of equal weights over the rows of the text, by counting: O(units · bins).
pub(super) fn uniform(units: &Units) -> Totals<'_> {
    let counts = Counts::new(units);
    let mut totals = Totals::new(units);
    for row in units.counted_rows() {
        totals.add(row, &counts.row(row));
    }
    totals
}

/// Sums over the first so many keys.
struct Counts<'a> {
    units: &'a Units,
    /// Allowed keys.
    keys: Vec<u64>,
    /// Their places.
    places: Vec<u64>,
    special: Vec<u64>,
}

impl<'a> Counts<'a> {
    fn new(units: &'a Units) -> Self {
        let running = |of: &dyn Fn(usize) -> u64| -> Vec<u64> {
            let mut sum = 0;
            let sums = (0..units.len()).map(|key| {
                sum += if units.allowed[key] { of(key) } else { 0 };
                sum
            });
            std::iter::once(0).chain(sums).collect()
        };
        Self {
            units,
            keys: running(&|_| 1),
            places: running(&|key| key as u64),
            special: running(&|key| u64::from(units.special[key])),
        }
    }

    fn row(&self, row: usize) -> RowNumbers {
        let units = self.units;
        let end = if units.causal { row + 1 } else { units.len() };
        let share = 1.0 / f64::from(units.visible[row]);
        let before = row as f64 * self.keys[row] as f64 - self.places[row] as f64;
        let after = (self.places[end] - self.places[row]) as f64
            - row as f64 * (self.keys[end] - self.keys[row]) as f64;
        let bins = units.distance_bins();
        let within = |from: usize, to: usize| (self.keys[to.min(end)] - self.keys[from.min(end)]) as f64;
        let mut distance = vec![0.0; 2 * bins + 1];
        distance[bins] = within(row, row + 1) * share;
        for power in 0..bins {
            let (near, far) = (1usize << power, (1usize << power) * 2 - 1);
            if near <= row {
                distance[bins - 1 - power] = within(row.saturating_sub(far), row - near + 1) * share;
            }
            distance[bins + 1 + power] = within(row + near, row + far + 1) * share;
        }
        RowNumbers {
            entropy: -share.ln(),
            max_prob: share,
            mean_distance: (before + after) * share,
            first_token: if units.sees(row, 0) { share } else { 0.0 },
            special: self.special[end] as f64 * share,
            duplicate: f64::from(units.copies[row]) * share,
            induction: f64::from(units.targets[row]) * share,
            offsets: OFFSETS.map(|offset| if units.at_offset(row, offset).is_some() { share } else { 0.0 }),
            distance,
        }
    }
}

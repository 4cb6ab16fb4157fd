//! Rows summed up into means.

use super::result::{Counted, Scores};
use super::units::{OFFSETS, Units};

/// What one row attends to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct RowNumbers {
    pub(super) entropy: f64,
    pub(super) max_prob: f64,
    pub(super) mean_distance: f64,
    pub(super) first_token: f64,
    pub(super) special: f64,
    pub(super) duplicate: f64,
    pub(super) induction: f64,
    /// By [`OFFSETS`].
    pub(super) offsets: [f64; OFFSETS.len()],
    pub(super) distance: Vec<f64>,
}

impl RowNumbers {
    /// Every number, in a fixed order.
    pub(super) fn all(&self) -> impl Iterator<Item = f64> {
        let single = [
            self.entropy,
            self.max_prob,
            self.mean_distance,
            self.first_token,
            self.special,
            self.duplicate,
            self.induction,
        ];
        single.into_iter().chain(self.offsets).chain(self.distance.iter().copied())
    }
}

/// Sums over the rows of one head, in f64 and in the order of the rows.
#[derive(Debug)]
pub(super) struct Totals<'a> {
    units: &'a Units,
    sums: RowNumbers,
    relative_entropy: f64,
    /// Rows that see at least two keys.
    choosing: usize,
    counted: [usize; OFFSETS.len()],
    rows: usize,
    duplicate_rows: usize,
    induction_rows: usize,
}

impl<'a> Totals<'a> {
    pub(super) fn new(units: &'a Units) -> Self {
        let distance = vec![0.0; 2 * units.distance_bins() + 1];
        Self {
            units,
            sums: RowNumbers { distance, ..RowNumbers::default() },
            relative_entropy: 0.0,
            choosing: 0,
            counted: [0; OFFSETS.len()],
            rows: 0,
            duplicate_rows: 0,
            induction_rows: 0,
        }
    }

    /// Adds a row of the text.
    pub(super) fn add(&mut self, row: usize, numbers: &RowNumbers) {
        let (units, sums) = (self.units, &mut self.sums);
        self.rows += 1;
        sums.entropy += numbers.entropy;
        sums.max_prob += numbers.max_prob;
        sums.mean_distance += numbers.mean_distance;
        sums.first_token += numbers.first_token;
        sums.special += numbers.special;
        if units.visible[row] > 1 {
            self.relative_entropy += numbers.entropy / f64::from(units.visible[row]).ln();
            self.choosing += 1;
        }
        if units.copies[row] > 0 {
            sums.duplicate += numbers.duplicate;
            self.duplicate_rows += 1;
        }
        if units.with_induction && units.targets[row] > 0 {
            sums.induction += numbers.induction;
            self.induction_rows += 1;
        }
        for (place, &offset) in OFFSETS.iter().enumerate() {
            if units.at_offset(row, offset).is_some() {
                sums.offsets[place] += numbers.offsets[place];
                self.counted[place] += 1;
            }
        }
        for (sum, mass) in sums.distance.iter_mut().zip(&numbers.distance) {
            *sum += mass;
        }
    }

    /// Over how many rows the means are.
    pub(super) fn counted(&self) -> Counted {
        let offsets = self.known_offsets().map(|(place, offset)| (offset, self.counted[place]));
        Counted {
            rows: self.rows,
            duplicate: self.duplicate_rows,
            induction: self.induction_rows,
            offsets: offsets.collect(),
        }
    }

    pub(super) fn finish(&self) -> Scores {
        let mean = |sum: f64, rows: usize| if rows == 0 { 0.0 } else { (sum / rows as f64) as f32 };
        let sums = &self.sums;
        let some = |sum: f64, rows: usize| (rows > 0).then(|| mean(sum, rows));
        let offsets =
            self.known_offsets().map(|(place, o)| (o, mean(sums.offsets[place], self.counted[place])));
        Scores {
            entropy: mean(sums.entropy, self.rows).max(0.0),
            relative_entropy: mean(self.relative_entropy, self.choosing).max(0.0),
            max_prob: mean(sums.max_prob, self.rows),
            mean_distance: mean(sums.mean_distance, self.rows),
            offsets: offsets.collect(),
            first_token: mean(sums.first_token, self.rows),
            special: mean(sums.special, self.rows),
            duplicate: some(sums.duplicate, self.duplicate_rows),
            induction: some(sums.induction, self.induction_rows),
            distance: sums.distance.iter().map(|&sum| mean(sum, self.rows)).collect(),
        }
    }

    /// The distances that a row can see at all.
    fn known_offsets(&self) -> impl Iterator<Item = (usize, i64)> {
        OFFSETS.into_iter().enumerate().filter(|(_, offset)| *offset <= 0 || !self.units.causal)
    }
}

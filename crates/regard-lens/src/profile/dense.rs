//! One row of probabilities by the definitions.

use super::totals::RowNumbers;
use super::units::{OFFSETS, Units};

/// What a row of probabilities, `[units]`, attends to.
pub(super) fn row_numbers(units: &Units, row: usize, probs: &[f64]) -> RowNumbers {
    let mut numbers =
        RowNumbers { distance: vec![0.0; 2 * units.distance_bins() + 1], ..RowNumbers::default() };
    let (mut all, mut distances) = (0.0, 0.0);
    let own = units.ids[row];
    for (key, &prob) in probs.iter().enumerate().filter(|(key, _)| units.sees(row, *key)) {
        if prob > 0.0 {
            numbers.entropy -= prob * prob.ln();
        }
        // Not `max`, which would drop a NaN.
        if prob > numbers.max_prob || prob.is_nan() {
            numbers.max_prob = prob;
        }
        all += prob;
        distances += prob * row.abs_diff(key) as f64;
        numbers.distance[units.bin(row, key)] += prob;
        if units.special[key] {
            numbers.special += prob;
        }
        if units.ids[key] == own && key != row {
            numbers.duplicate += prob;
        }
        if key.checked_sub(1).is_some_and(|before| units.ids[before] == own && before != row) && key <= row {
            numbers.induction += prob;
        }
    }
    if all > 0.0 {
        numbers.mean_distance = distances / all;
    }
    numbers.first_token = if units.sees(row, 0) { probs[0] } else { 0.0 };
    numbers.offsets = OFFSETS.map(|offset| units.at_offset(row, offset).map_or(0.0, |key| probs[key]));
    numbers
}

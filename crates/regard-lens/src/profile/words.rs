//! Heads by words: rows of probabilities, a block at a time, with pieces merged.

use std::ops::Range;

use super::dense::row_numbers;
use super::layer_call::LayerCall;
use super::options::ProfileOptions;
use super::result::{HeadProfile, Thumbnail, TopKeys};
use super::streamed::{not_a_number, top_rows};
use super::totals::Totals;
use super::units::Units;
use crate::error::LensError;
use crate::view::HeadId;

/// Rows of probabilities that exist at once.
const ROWS_AT_ONCE: usize = 32;

/// Receives a row's number and its probabilities, `[units]`.
pub(super) type OnRow<'a> = dyn FnMut(usize, &[f64]) -> Result<(), LensError> + 'a;

/// Adds a token's probabilities, `[tokens]`, to the row of its word, `[units]`: the word looks as its pieces do on
/// average, and is looked at as they are together.
pub(super) fn add_piece(units: &Units, pieces: usize, probs: &[f32], row: &mut [f64]) {
    for (sum, span) in row.iter_mut().zip(&units.spans) {
        let mass: f64 = probs[span.clone()].iter().map(|&prob| f64::from(prob)).sum();
        *sum += mass / pieces as f64;
    }
}

/// The rows of one head's words, `[units]` each, in order; `with` gets each.
pub(super) fn for_rows(
    call: &LayerCall<'_>,
    units: &Units,
    (head, log_sum_exp): (usize, &[f32]),
    rows: Range<usize>,
    with: &mut OnRow<'_>,
) -> Result<(), LensError> {
    let tokens = call.num_keys();
    let of_rows = units.spans[rows.start].start..units.spans[rows.end - 1].end;
    let mut probs = vec![0.0; ROWS_AT_ONCE.min(of_rows.len()) * tokens];
    let mut row = vec![0.0; units.len()];
    let mut unit = rows.start;
    for start in of_rows.clone().step_by(ROWS_AT_ONCE) {
        let block = start..of_rows.end.min(start + ROWS_AT_ONCE);
        let probs = &mut probs[..block.len() * tokens];
        call.probs(log_sum_exp, (head, block.clone(), 0..tokens), probs)?;
        for (token, probs) in block.zip(probs.chunks_exact(tokens)) {
            let span = &units.spans[unit];
            add_piece(units, span.len(), probs, &mut row);
            if token + 1 == span.end {
                with(unit, &row)?;
                row.fill(0.0);
                unit += 1;
            }
        }
    }
    Ok(())
}

/// Sums up one head of the call.
pub(super) fn head(
    call: &LayerCall<'_>,
    units: &Units,
    options: &ProfileOptions,
    log_sum_exp: &[f32],
    head: usize,
) -> Result<HeadProfile, LensError> {
    let id = HeadId { layer: call.layer, head };
    let mut totals = Totals::new(units);
    let mut top = Top::new(top_rows(units, options), options.top_k);
    let mut received = if options.received { vec![0.0f64; units.len()] } else { vec![] };
    let mut blocks = options.thumbnail.map(|size| Blocks::new(units, size));
    for_rows(call, units, (head, log_sum_exp), units.rows.clone(), &mut |row, probs| {
        if probs.iter().any(|prob| !prob.is_finite()) {
            return Err(not_a_number(id));
        }
        if units.counts(row) {
            totals.add(row, &row_numbers(units, row, probs));
        }
        received.iter_mut().zip(probs).for_each(|(sum, prob)| *sum += prob);
        if let Some(blocks) = &mut blocks {
            blocks.add(row - units.rows.start, probs);
        }
        top.add(units, row, probs);
        Ok(())
    })?;
    Ok(HeadProfile {
        id,
        scores: totals.finish(),
        roles: vec![],
        kept: None,
        shuffled: None,
        top: top.finish(),
        received: received.into_iter().map(|sum| sum as f32).collect(),
        thumbnail: blocks.map(Blocks::finish),
    })
}

/// The most probable keys of the rows asked for.
struct Top {
    rows: Option<Vec<usize>>,
    top_k: usize,
    keys: Vec<u32>,
    probs: Vec<f32>,
}

impl Top {
    fn new(rows: Option<Vec<usize>>, top_k: usize) -> Self {
        let len = rows.as_ref().map_or(0, |rows| rows.len() * top_k);
        Self { rows, top_k, keys: vec![TopKeys::NO_KEY; len], probs: vec![0.0; len] }
    }

    fn add(&mut self, units: &Units, row: usize, probs: &[f64]) {
        let Some(rows) = &self.rows else { return };
        let mut best: Option<Vec<usize>> = None;
        for place in (0..rows.len()).filter(|&place| rows[place] == row) {
            let best = best.get_or_insert_with(|| {
                let mut keys: Vec<usize> = (0..units.len()).filter(|&key| units.sees(row, key)).collect();
                keys.sort_by(|&a, &b| probs[b].total_cmp(&probs[a]));
                keys.truncate(self.top_k);
                keys
            });
            for (i, &key) in best.iter().enumerate() {
                self.keys[place * self.top_k + i] = key as u32;
                self.probs[place * self.top_k + i] = probs[key] as f32;
            }
        }
    }

    fn finish(self) -> Option<TopKeys> {
        let Self { rows, top_k, keys, probs } = self;
        rows.map(|rows| TopKeys { rows, top_k, keys, probs })
    }
}

/// Block sums.
struct Blocks {
    size: [usize; 2],
    of: [usize; 2],
    sums: Vec<f64>,
}

impl Blocks {
    fn new(units: &Units, [rows, columns]: [usize; 2]) -> Self {
        let of = [units.rows.len(), units.len()];
        let size = [rows.clamp(1, of[0]), columns.clamp(1, of[1])];
        Self { size, of, sums: vec![0.0; size[0] * size[1]] }
    }

    fn add(&mut self, row: usize, probs: &[f64]) {
        let [rows, columns] = self.size;
        let first = row * rows / self.of[0] * columns;
        for (key, prob) in probs.iter().enumerate() {
            self.sums[first + key * columns / self.of[1]] += prob;
        }
    }

    fn finish(self) -> Thumbnail {
        let ([rows, columns], [of_rows, of_columns]) = (self.size, self.of);
        let sums = self.sums.into_iter().map(|sum| sum as f32).collect();
        Thumbnail { rows, columns, of_rows, of_columns, sums }
    }
}

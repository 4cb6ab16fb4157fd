//! Copying what was read, and texts longer than those of training.

use super::recall::sizes_table;
use super::report::{Report, Table};
use super::rivals::{RATES, Rival, fitted};
use super::trial::{Task, Trial, accuracy, train};
use super::{Note, Settings};
use crate::chart::{Axis, Chart, Series};
use crate::error::TrainError;
use crate::objective::{Batch, Example};
use crate::random::{Purpose, rng};

const LETTERS: u32 = 26;
/// Between a text and its copy.
const AGAIN: u32 = LETTERS;
const FILL: u32 = LETTERS + 1;
pub(super) const VOCABULARY: usize = LETTERS as usize + 2;
const DIM: usize = 64;
/// Letters of a text in training.
const TRAINED: [usize; 2] = [5, 20];
const LENGTHS: [usize; 4] = [10, 20, 40, 80];

pub(super) fn run(settings: &Settings, report: &mut Report, note: &mut Note<'_>) -> Result<(), TrainError> {
    let (search, steps, seeds): (u64, u64, u64) = if settings.quick { (15, 40, 1) } else { (200, 1000, 3) };
    let rivals = fitted(VOCABULARY, DIM, 2 * LENGTHS[3] + 1)?;
    report.tables.push(sizes_table(&rivals, 2 * TRAINED[1]));
    let task = Copy { letters: TRAINED, seed: settings.seed };
    let trial = |learning_rate, steps: u64, seed| Trial {
        steps,
        batch_size: 32,
        learning_rate,
        seed,
        every: (steps / 20).max(1),
        enough: 0.999,
    };
    let mut found: Vec<(Rival, f64, Vec<Vec<f64>>)> = Vec::new();
    for fitted in &rivals {
        let mut best = (f64::INFINITY, RATES[0]);
        for rate in RATES {
            note(&format!("{}, rate {rate}", fitted.rival.name));
            let (_, points) =
                train(&fitted.sizes, &task, &trial(rate, search, settings.seed), &mut |_, _| Ok(()))?;
            let loss = points.last().map_or(f64::INFINITY, |point| point.loss);
            if loss < best.0 {
                best = (loss, rate);
            }
        }
        let mut by_length = vec![Vec::new(); LENGTHS.len()];
        for seed in 0..seeds {
            note(&format!("{}, seed {}", fitted.rival.name, settings.seed + seed));
            let trial = trial(best.1, steps, settings.seed + seed);
            let (network, _) = train(&fitted.sizes, &task, &trial, &mut |_, _| Ok(()))?;
            for (length, found) in LENGTHS.into_iter().zip(&mut by_length) {
                let task = Copy { letters: [length, length], seed: settings.seed };
                found.push(accuracy(&network, &fitted.sizes, &task, 32)?);
            }
        }
        found.push((fitted.rival, best.1, by_length));
    }
    let columns: Vec<String> = LENGTHS.iter().map(|length| format!("{length} letters")).collect();
    let mut names = vec!["network", "rate"];
    names.extend(columns.iter().map(String::as_str));
    let mut table = Table::new(
        &format!(
            "Letters copied right, trained on {} to {} letters for {steps} steps, mean and range of {seeds} seed(s) (chance 1/{LETTERS})",
            TRAINED[0], TRAINED[1]
        ),
        &names,
    );
    for (rival, rate, by_length) in &found {
        let mut row = vec![rival.name.to_owned(), rate.to_string()];
        row.extend(by_length.iter().map(|found| super::scale::spread(found)));
        table.rows.push(row);
    }
    report.tables.push(table);
    let mean = |found: &[f64]| found.iter().sum::<f64>() / found.len() as f64;
    report.charts.push(Chart {
        title: "Letters copied, by the length of the text (trained on 5 to 20)".to_owned(),
        x: Axis::log("letters"),
        y: Axis::linear("share right"),
        series: found
            .iter()
            .map(|(rival, _, by_length)| Series {
                name: rival.name.to_owned(),
                points: LENGTHS
                    .iter()
                    .zip(by_length)
                    .map(|(&length, found)| [length as f64, mean(found)])
                    .collect(),
            })
            .collect(),
    });
    let at = |rival: usize, length: usize| mean(&found[rival].2[length]);
    report.find(at(0, 1) > 0.95, format!("at 20 letters attention copies {:.1} %", 100.0 * at(0, 1)));
    report.find(
        at(0, 1) > at(1, 1) && at(0, 1) > at(2, 1),
        format!("LSTM and GRU copy {:.1} % and {:.1} %", 100.0 * at(1, 1), 100.0 * at(2, 1)),
    );
    report.find(
        at(0, 3) > 0.95,
        format!(
            "at 80 letters, four times what it was trained on, attention still does: {:.1} %",
            100.0 * at(0, 3)
        ),
    );
    report
        .limits
        .push("the last line is the negative control: outside the lengths of training nothing is promised");
    Ok(())
}

/// Letters, a sign, and the letters again, each to be said one place ahead.
pub(super) struct Copy {
    pub(super) letters: [usize; 2],
    pub(super) seed: u64,
}

impl Task for Copy {
    fn batch(&self, number: u64, size: usize) -> Batch {
        let example = |index| {
            let mut rng = rng(self.seed, Purpose::Experiment, number, index);
            let letters: Vec<u32> =
                (0..rng.usize(self.letters[0]..=self.letters[1])).map(|_| rng.u32(..LETTERS)).collect();
            let tokens: Vec<u32> =
                letters.iter().copied().chain([AGAIN]).chain(letters.iter().copied()).collect();
            let labels =
                letters.iter().enumerate().map(|(at, &letter)| (letters.len() + at, letter)).collect();
            Example { tokens, labels }
        };
        Batch::new(&(0..size as u64).map(example).collect::<Vec<_>>(), FILL)
    }
}

//! Recall: pairs of keys and values, then keys whose values are to be said (Arora et al. 2023, "MQAR").

use super::report::{Report, Table};
use super::rivals::{Fitted, RATES, Run, Runs, fitted};
use super::scale::spread;
use super::trial::{Task, Trial};
use super::{Note, Settings};
use crate::chart::{Axis, Chart, Series};
use crate::error::TrainError;
use crate::objective::{Batch, Example};
use crate::random::{Purpose, rng};

const VOCABULARY: u32 = 256;
const LEN: usize = 64;
const DIM: usize = 64;
/// What stands where nothing is asked.
const NOTHING: u32 = 0;

pub(super) fn run(settings: &Settings, report: &mut Report, note: &mut Note<'_>) -> Result<(), TrainError> {
    let (pairs, search, steps, seeds): (&[usize], u64, u64, u64) =
        if settings.quick { (&[4], 25, 50, 1) } else { (&[4, 8, 16], 400, 2000, 3) };
    let rivals = fitted(VOCABULARY as usize, DIM, LEN)?;
    let mut runs = Runs::open(settings.keep.join(format!("recall-{}.runs.jsonl", settings.seed)))?;
    report.tables.push(sizes_table(&rivals, LEN));
    let mut table = Table::new(
        &format!(
            "Values recalled, of {LEN} tokens (guessing a value: 1/{}; one of the text's values: 1/pairs), learning rate chosen after {search} steps of {}; {steps} steps, mean and range of {seeds} seed(s)",
            VOCABULARY / 2,
            RATES.len()
        ),
        &["pairs", "network", "rate", "after equal examples", "after equal seconds", "seconds for all"],
    );
    let mut curves = Vec::new();
    let mut hardest = Vec::new();
    for &pairs in pairs {
        let mut rows: Vec<(&Fitted, f64, Vec<Run>)> = Vec::new();
        for fitted in &rivals {
            let task = Recall { pairs, seed: settings.seed };
            let trial = |learning_rate, steps: u64, seed| Trial {
                steps,
                batch_size: 32,
                learning_rate,
                seed,
                every: (steps / 20).max(1),
                enough: 0.999,
            };
            let name = format!("recall {pairs}");
            let mut best = (f64::NEG_INFINITY, RATES[0]);
            for rate in RATES {
                note(&format!("{pairs} pairs, {}, rate {rate}", fitted.rival.name));
                let run = runs.get(&name, fitted, &task, &trial(rate, search, settings.seed))?;
                // Most networks guess at first: where all do, the loss tells.
                let last = run.points.last().map_or(f64::NEG_INFINITY, |point| point.accuracy - point.loss);
                if last > best.0 {
                    best = (last, rate);
                }
            }
            let mut made = Vec::new();
            for seed in 0..seeds {
                note(&format!("{pairs} pairs, {}, seed {}", fitted.rival.name, settings.seed + seed));
                made.push(runs.get(&name, fitted, &task, &trial(best.1, steps, settings.seed + seed))?);
            }
            rows.push((fitted, best.1, made));
        }
        let seconds = |runs: &[Run]| {
            let all = runs.iter().filter_map(|run| run.points.last()).map(|point| point.seconds);
            all.sum::<f64>() / runs.len() as f64
        };
        let least = rows.iter().map(|(_, _, made)| seconds(made)).fold(f64::INFINITY, f64::min);
        for (fitted, rate, made) in &rows {
            let finals: Vec<f64> = made.iter().map(Run::accuracy).collect();
            let early: Vec<f64> = made.iter().map(|run| run.accuracy_after(least)).collect();
            table.rows.push(vec![
                pairs.to_string(),
                fitted.rival.name.to_owned(),
                rate.to_string(),
                spread(&finals),
                spread(&early),
                format!("{:.0}", seconds(made)),
            ]);
            curves.push(Series {
                name: format!("{}, {pairs} pairs", fitted.rival.name),
                points: made[0].points.iter().map(|point| [point.step as f64, point.accuracy]).collect(),
            });
        }
        hardest = rows.iter().map(|(_, _, made)| made.iter().map(Run::accuracy).collect()).collect();
    }
    report.tables.push(table);
    report.charts.push(Chart {
        title: "Values recalled".to_owned(),
        x: Axis::linear("step"),
        y: Axis::linear("share right"),
        series: curves,
    });
    let of = |at: usize| {
        let all: &Vec<f64> = &hardest[at];
        all.iter().sum::<f64>() / all.len() as f64
    };
    let most = pairs[pairs.len() - 1];
    report.find(of(0) >= 0.99, format!("with {most} pairs attention recalls {:.1} %", 100.0 * of(0)));
    report.find(
        of(1) < 0.9 && of(2) < 0.9,
        format!("LSTM and GRU of equal parameters recall {:.1} % and {:.1} %", 100.0 * of(1), 100.0 * of(2)),
    );
    report.limits.push(
        "one width and so many steps: a wider recurrent state, or far more training, recalls more; attention's state grows with the text, theirs does not",
    );
    runs.finish();
    Ok(())
}

/// What the networks are made of.
pub(super) fn sizes_table(rivals: &[Fitted], seq_len: usize) -> Table {
    let mut table = Table::new(
        "Two layers each",
        &["network", "inner parameters", "width inside", &format!("numbers that carry {seq_len} tokens")],
    );
    for fitted in rivals {
        table.rows.push(vec![
            fitted.rival.name.to_owned(),
            fitted.parameters.to_string(),
            fitted.sizes.state.to_string(),
            fitted.state_numbers(seq_len).to_string(),
        ]);
    }
    table
}

/// Keys are the lower half of the vocabulary without 0, values the upper half.
struct Recall {
    pairs: usize,
    seed: u64,
}

impl Task for Recall {
    fn batch(&self, number: u64, size: usize) -> Batch {
        let example = |index| {
            let mut rng = rng(self.seed, Purpose::Experiment, number, index);
            let mut keys: Vec<u32> = (1..VOCABULARY / 2).collect();
            rng.shuffle(&mut keys);
            keys.truncate(self.pairs);
            let values: Vec<u32> = keys.iter().map(|_| rng.u32(VOCABULARY / 2..VOCABULARY)).collect();
            let mut tokens: Vec<u32> =
                keys.iter().zip(&values).flat_map(|(&key, &value)| [key, value]).collect();
            let mut places: Vec<usize> = (tokens.len()..LEN).collect();
            tokens.resize(LEN, NOTHING);
            rng.shuffle(&mut places);
            let labels = keys.iter().zip(&values).zip(places).map(|((&key, &value), place)| {
                tokens[place] = key;
                (place, value)
            });
            let labels = labels.collect();
            Example { tokens, labels }
        };
        Batch::new(&(0..size as u64).map(example).collect::<Vec<_>>(), NOTHING)
    }
}

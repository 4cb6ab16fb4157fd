//! Recall: pairs of keys and values, then keys whose values are to be said (Arora et al. 2023, "MQAR").

use super::report::Report;
use super::rivals::{self, Plan, Runs, Trained, fitted};
use super::trial::Task;
use super::{Note, Settings};
use crate::chart::{Axis, Chart, Series};
use crate::error::TrainError;
use crate::objective::{Batch, Example};
use crate::random::{Purpose, rng};

const VOCABULARY: u32 = 256;
const LEN: usize = 64;
/// What would fill up a text shorter than others; all have the same length.
const FILL: u32 = 0;
const DIM: usize = 64;
/// Pairs of a text.
static PAIRS: [usize; 3] = [4, 8, 16];

pub(super) fn run(settings: &Settings, report: &mut Report, note: &mut Note<'_>) -> Result<(), TrainError> {
    let seed = settings.seed;
    let (steps, seeds) = if settings.quick { (25, 1) } else { (800, 3) };
    let plan = Plan { steps, seeds, seed };
    let rivals = fitted(VOCABULARY as usize, DIM, LEN)?;
    let mut runs = Runs::of(settings, "recall")?;
    report.tables.push(rivals::sizes_table(&rivals, LEN));
    let tests = [0, 1, 2].map(|at| Recall { pairs: &PAIRS[at..=at], seed });
    let tests = tests.each_ref().map(|test| test as &dyn Task);
    let trained = rivals::compare(&rivals, &mut runs, &Recall { pairs: &PAIRS, seed }, &tests, plan, note)?;
    let names = PAIRS.map(|pairs| format!("{pairs} pairs"));
    report.tables.push(rivals::rates_table(&trained, plan));
    report.tables.push(rivals::tests_table(
        &format!(
            "Values recalled, of {LEN} tokens, trained on 4, 8 and 16 pairs, mean and range of {seeds} seed(s); a guess is one of the text's values",
        ),
        &trained,
        plan,
        &names,
        &PAIRS.map(|pairs| 1.0 / pairs as f64),
    ));
    for (test, name) in names.iter().enumerate() {
        report.charts.push(Chart {
            title: format!("Values recalled of {name}, seed {seed}"),
            x: Axis::linear("step"),
            y: Axis::linear("share right"),
            series: trained.iter().map(|trained| curve(trained, test)).collect(),
        });
    }
    let most = PAIRS.len() - 1;
    let [attention, lstm, gru] = [0, 1, 2].map(|rival: usize| trained[rival].mean_after(steps, most));
    report.find(
        attention >= 0.99,
        format!("with {} attention recalls {:.1} %", names[most], 100.0 * attention),
    );
    report.find(
        lstm < 0.9 && gru < 0.9,
        format!("LSTM and GRU of equal parameters recall {:.1} % and {:.1} %", 100.0 * lstm, 100.0 * gru),
    );
    rivals::report_wins(report, &trained, plan, &names);
    report.limits.push(
        "one width and so many steps: a wider recurrent state, or far more training, recalls more; attention's state grows with the text, theirs does not",
    );
    runs.finish();
    Ok(())
}

/// Share right in a test by step, of the first seed.
fn curve(trained: &Trained<'_>, test: usize) -> Series {
    let run = &trained.runs[0];
    let points = run.points.iter().zip(&run.tests).map(|(point, right)| [point.step as f64, right[test]]);
    Series { name: trained.fitted.rival.name.to_owned(), points: points.collect() }
}

/// Keys are the lower half of the vocabulary without 0, values the upper half. After the pairs every token asks for one of the keys.
pub(super) struct Recall {
    /// How many pairs a text may have.
    pub(super) pairs: &'static [usize],
    pub(super) seed: u64,
}

impl Task for Recall {
    fn batch(&self, number: u64, size: usize) -> Batch {
        let example = |index| {
            let mut rng = rng(self.seed, Purpose::Experiment, number, index);
            let pairs = self.pairs[rng.usize(..self.pairs.len())];
            let mut keys: Vec<u32> = (1..VOCABULARY / 2).collect();
            rng.shuffle(&mut keys);
            keys.truncate(pairs);
            let values: Vec<u32> = keys.iter().map(|_| rng.u32(VOCABULARY / 2..VOCABULARY)).collect();
            let mut tokens: Vec<u32> =
                keys.iter().zip(&values).flat_map(|(&key, &value)| [key, value]).collect();
            let mut labels = Vec::new();
            for place in tokens.len()..LEN {
                let asked = rng.usize(..pairs);
                tokens.push(keys[asked]);
                labels.push((place, values[asked]));
            }
            Example { tokens, labels }
        };
        Batch::new(&(0..size as u64).map(example).collect::<Vec<_>>(), FILL)
    }
}

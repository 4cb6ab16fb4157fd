//! Copying what was read, and texts longer than those of training.

use super::report::Report;
use super::rivals::{self, Plan, Runs, fitted};
use super::trial::Task;
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
    let seed = settings.seed;
    let (steps, seeds) = if settings.quick { (20, 1) } else { (500, 3) };
    let plan = Plan { steps, seeds, seed };
    let rivals = fitted(VOCABULARY, DIM, 2 * LENGTHS[3] + 1)?;
    let mut runs = Runs::of(settings, "copy")?;
    report.tables.push(rivals::sizes_table(&rivals, 2 * TRAINED[1]));
    let tests = LENGTHS.map(|length| Copy { letters: [length, length], seed });
    let tests = tests.each_ref().map(|test| test as &dyn Task);
    let trained = rivals::compare(&rivals, &mut runs, &Copy { letters: TRAINED, seed }, &tests, plan, note)?;
    let names = LENGTHS.map(|length| format!("{length} letters"));
    report.tables.push(rivals::rates_table(&trained, plan));
    report.tables.push(rivals::tests_table(
        &format!(
            "Letters copied right, trained on {} to {} letters, mean and range of {seeds} seed(s)",
            TRAINED[0], TRAINED[1]
        ),
        &trained,
        plan,
        &names,
        &[1.0 / f64::from(LETTERS); LENGTHS.len()],
    ));
    let right = |rival: usize, test: usize| trained[rival].mean_after(steps, test);
    let series = |rival: usize| Series {
        name: trained[rival].fitted.rival.name.to_owned(),
        points: (0..LENGTHS.len()).map(|test| [LENGTHS[test] as f64, right(rival, test)]).collect(),
    };
    report.charts.push(Chart {
        title: "Letters copied, by the length of the text (trained on 5 to 20)".to_owned(),
        x: Axis::log("letters"),
        y: Axis::linear("share right"),
        series: (0..trained.len()).map(series).collect(),
    });
    report.find(right(0, 1) > 0.95, format!("at 20 letters attention copies {:.1} %", 100.0 * right(0, 1)));
    report.find(
        right(0, 1) > right(1, 1) && right(0, 1) > right(2, 1),
        format!("LSTM and GRU copy less: {:.1} % and {:.1} %", 100.0 * right(1, 1), 100.0 * right(2, 1)),
    );
    report.find(
        right(0, 3) > 0.95,
        format!(
            "at 80 letters, four times what it was trained on, attention still does: {:.1} %",
            100.0 * right(0, 3)
        ),
    );
    rivals::report_wins(report, &trained, plan, &names);
    report.limits.push(
        "40 and 80 letters are the negative control: outside the lengths of training nothing is promised",
    );
    runs.finish();
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

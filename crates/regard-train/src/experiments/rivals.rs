//! Attention, LSTM and GRU on one task: equal parameters, the same learning rates to choose from, the same examples.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::network::{Mixer, Network, Positions, Sizes};
use super::report::{Report, Table};
use super::scale::spread;
use super::trial::{Point, Task, Trial, accuracy, train};
use super::{Note, Settings};
use crate::error::TrainError;

/// Learning rates that each network may choose from (Arora et al. 2023 use the same range).
pub(super) const RATES: [f64; 4] = [3e-4, 1e-3, 3e-3, 1e-2];

/// A kind of network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rival {
    pub(super) name: &'static str,
    pub(super) mixer: Mixer,
}

pub(super) const RIVALS: [Rival; 3] = [
    Rival { name: "attention", mixer: Mixer::Attention { heads: 2, causal: true } },
    Rival { name: "LSTM", mixer: Mixer::Lstm },
    Rival { name: "GRU", mixer: Mixer::Gru },
];

/// A rival's sizes and what they amount to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fitted {
    pub(super) rival: Rival,
    pub(super) sizes: Sizes,
    pub(super) parameters: usize,
}

/// Two layers of each kind with about as many inner parameters as attention of width `dim` with feed-forward parts has.
pub(super) fn fitted(vocabulary: usize, dim: usize, max_len: usize) -> Result<Vec<Fitted>, TrainError> {
    let device = Device::flex();
    let sizes = |rival: Rival| {
        let attends = matches!(rival.mixer, Mixer::Attention { .. });
        Sizes {
            vocabulary,
            classes: vocabulary,
            dim,
            state: dim,
            layers: 2,
            max_len,
            feed_forward: attends,
            mixer: rival.mixer,
            positions: if attends { Positions::Rotary } else { Positions::None },
            softmax_scale: None,
        }
    };
    let wanted = Network::new(&sizes(RIVALS[0]), 0, &device)?.inner_parameters();
    RIVALS
        .into_iter()
        .map(|rival| {
            let sizes = sizes(rival).with_state_for(wanted);
            Ok(Fitted { rival, sizes, parameters: Network::new(&sizes, 0, &device)?.inner_parameters() })
        })
        .collect()
}

impl Fitted {
    /// Numbers that carry the past at the end of `seq_len` tokens.
    pub(super) fn state_numbers(&self, seq_len: usize) -> usize {
        let layers = self.sizes.layers;
        match self.rival.mixer {
            Mixer::Attention { .. } => layers * 2 * seq_len * self.sizes.dim,
            Mixer::Lstm => layers * 2 * self.sizes.state,
            Mixer::Gru => layers * self.sizes.state,
        }
    }
}

/// What one training came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    /// What was trained, by which it is found again.
    key: String,
    pub(super) points: Vec<Point>,
    /// Share right in each test, at each point.
    pub(super) tests: Vec<Vec<f64>>,
}

impl Run {
    /// Share right in a test after so many steps, as far as there is a point.
    pub(super) fn right_after(&self, steps: u64, test: usize) -> f64 {
        let before = self.points.iter().take_while(|point| point.step <= steps).count();
        before.checked_sub(1).map_or(f64::NAN, |last| self.tests[last][test])
    }

    /// Loss of the last steps.
    fn loss(&self) -> f64 {
        self.points.last().map_or(f64::INFINITY, |point| point.loss)
    }

    /// Seconds of a step where it took least: what else the machine does counts as little as can be.
    fn step_seconds(&self) -> f64 {
        let mut before = (0, 0.0);
        let mut least = f64::INFINITY;
        for point in &self.points {
            least = least.min((point.seconds - before.1) / (point.step - before.0) as f64);
            before = (point.step, point.seconds);
        }
        least
    }
}

/// How long and how often each network is trained.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) steps: u64,
    /// Seeds of first parameters, of which the first chooses the learning rate.
    pub(super) seeds: u64,
    pub(super) seed: u64,
}

/// A network trained at the learning rate that it does best with.
#[derive(Debug)]
pub(super) struct Trained<'f> {
    pub(super) fitted: &'f Fitted,
    pub(super) rate: f64,
    /// One a seed.
    pub(super) runs: Vec<Run>,
    /// Loss of the last steps at each of [`RATES`].
    losses: Vec<f64>,
    step_seconds: f64,
}

impl Trained<'_> {
    /// Share right in a test after so many steps, for each seed.
    pub(super) fn right_after(&self, steps: u64, test: usize) -> Vec<f64> {
        self.runs.iter().map(|run| run.right_after(steps, test)).collect()
    }

    pub(super) fn mean_after(&self, steps: u64, test: usize) -> f64 {
        let right = self.right_after(steps, test);
        right.iter().sum::<f64>() / right.len() as f64
    }
}

/// Trains every network on the same examples, at each learning rate with the first seed and at the best one with the others.
/// Examples do not come twice, so that the loss of the last steps tells which is best without a look at a test.
pub(super) fn compare<'f>(
    rivals: &'f [Fitted],
    runs: &mut Runs,
    task: &dyn Task,
    tests: &[&dyn Task],
    plan: Plan,
    note: &mut Note<'_>,
) -> Result<Vec<Trained<'f>>, TrainError> {
    let mut all = Vec::new();
    for fitted in rivals {
        let mut get = |learning_rate, seed| {
            note(&format!("{}, rate {learning_rate}, seed {seed}", fitted.rival.name));
            let every = (plan.steps / 10).max(10);
            let trial = Trial { steps: plan.steps, batch_size: 32, learning_rate, seed, every, enough: 1.1 };
            runs.get(fitted, task, tests, &trial)
        };
        let searched =
            RATES.into_iter().map(|rate| get(rate, plan.seed)).collect::<Result<Vec<_>, TrainError>>()?;
        let losses: Vec<f64> = searched.iter().map(Run::loss).collect();
        let best = (1..RATES.len()).fold(0, |best, at| if losses[at] < losses[best] { at } else { best });
        let mut step_seconds = searched.iter().map(Run::step_seconds).fold(f64::INFINITY, f64::min);
        let mut made: Vec<Run> = searched.into_iter().skip(best).take(1).collect();
        for seed in 1..plan.seeds {
            made.push(get(RATES[best], plan.seed + seed)?);
        }
        step_seconds = made.iter().map(Run::step_seconds).fold(step_seconds, f64::min);
        all.push(Trained { fitted, rate: RATES[best], runs: made, losses, step_seconds });
    }
    Ok(all)
}

/// Steps that each network makes while the quickest makes all.
pub(super) fn steps_in_equal_time(trained: &[Trained<'_>], steps: u64) -> Vec<u64> {
    let quickest = trained.iter().map(|trained| trained.step_seconds).fold(f64::INFINITY, f64::min);
    trained.iter().map(|trained| (steps as f64 * quickest / trained.step_seconds) as u64).collect()
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

/// Which learning rate each network does best with, and what a step takes.
pub(super) fn rates_table(trained: &[Trained<'_>], plan: Plan) -> Table {
    let mut columns = vec!["network".to_owned()];
    columns.extend(RATES.iter().map(|rate| format!("rate {rate}")));
    columns.extend(["chosen", "ms a step"].map(str::to_owned));
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut table = Table::new(
        &format!(
            "Loss of the last tenth of {} steps in nats, by learning rate, seed {}; a step's time is the least of all stretches between points",
            plan.steps, plan.seed
        ),
        &columns,
    );
    for trained in trained {
        let mut row = vec![trained.fitted.rival.name.to_owned()];
        row.extend(trained.losses.iter().map(|loss| format!("{loss:.3}")));
        row.extend([trained.rate.to_string(), format!("{:.0}", 1e3 * trained.step_seconds)]);
        table.rows.push(row);
    }
    table
}

/// Share right in each test after as many examples and after as many seconds, and what a guess gets.
pub(super) fn tests_table(
    title: &str,
    trained: &[Trained<'_>],
    plan: Plan,
    tests: &[String],
    guesses: &[f64],
) -> Table {
    let mut columns = vec!["network", "after"];
    columns.extend(tests.iter().map(String::as_str));
    let mut table = Table::new(title, &columns);
    let mut guess = vec!["a guess".to_owned(), "–".to_owned()];
    guess.extend(guesses.iter().map(|guess| format!("{guess:.3}")));
    table.rows.push(guess);
    for (trained, fewer) in trained.iter().zip(steps_in_equal_time(trained, plan.steps)) {
        for (steps, equal) in [(plan.steps, "examples"), (fewer, "seconds")] {
            let mut row = vec![trained.fitted.rival.name.to_owned(), format!("equal {equal}: {steps} steps")];
            row.extend((0..tests.len()).map(|test| spread(&trained.right_after(steps, test))));
            table.rows.push(row);
        }
    }
    table
}

/// Where every seed of a recurrent network does better than every seed of attention after as many examples.
fn recurrent_wins(trained: &[Trained<'_>], plan: Plan, tests: &[String]) -> Vec<String> {
    let mut wins = Vec::new();
    for recurrent in &trained[1..] {
        for (test, name) in tests.iter().enumerate() {
            let [theirs, attention] = [recurrent, &trained[0]].map(|of| of.right_after(plan.steps, test));
            if theirs.iter().all(|theirs| attention.iter().all(|attention| theirs > attention)) {
                let [theirs, attention] = [theirs, attention].map(|right| spread(&right));
                wins.push(format!("{} at {name}: {theirs} against {attention}", recurrent.fitted.rival.name));
            }
        }
    }
    wins
}

/// Says where a recurrent network wins, cell by cell.
pub(super) fn report_wins(report: &mut Report, trained: &[Trained<'_>], plan: Plan, tests: &[String]) {
    let wins = recurrent_wins(trained, plan, tests);
    let but = if wins.is_empty() { String::new() } else { format!(", but {}", wins.join("; ")) };
    report.find(
        wins.is_empty(),
        format!("nowhere is each seed of a recurrent network above each of attention's{but}"),
    );
}

/// Trainings that have been made, on disk as soon as they are: a run that is stopped goes on after the last.
#[derive(Debug)]
pub(super) struct Runs {
    path: PathBuf,
    made: HashMap<String, Run>,
}

impl Runs {
    /// Those of an earlier run of an experiment with the same settings, or none.
    pub(super) fn of(settings: &Settings, experiment: &str) -> Result<Self, TrainError> {
        let form = if settings.quick { "quick-" } else { "" };
        Self::open(settings.keep.join(format!("{experiment}-{form}{}.runs.jsonl", settings.seed)))
    }

    /// Those of a file, or none.
    pub(super) fn open(path: PathBuf) -> Result<Self, TrainError> {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(TrainError::file(&path)(error)),
        };
        // A line that was cut off is a training that was not finished.
        let made = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Run>(line).ok())
            .map(|run| (run.key.clone(), run))
            .collect();
        Ok(Self { path, made })
    }

    /// The training of these sizes, made now unless it has been.
    pub(super) fn get(
        &mut self,
        fitted: &Fitted,
        task: &dyn Task,
        tests: &[&dyn Task],
        trial: &Trial,
    ) -> Result<Run, TrainError> {
        let key = format!("{:?} {trial:?}", fitted.sizes);
        if let Some(run) = self.made.get(&key) {
            return Ok(run.clone());
        }
        let mut right = Vec::new();
        let trained = train(&fitted.sizes, task, trial, &mut |network, _| {
            let found = tests.iter().map(|&test| accuracy(network, &fitted.sizes, test, trial.batch_size));
            right.push(found.collect::<Result<Vec<_>, _>>()?);
            Ok(())
        });
        let points = match trained {
            Ok((_, points)) => points,
            // A learning rate at which it blows up is a bad one, not the end of the experiment.
            Err(TrainError::LossNotFinite { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        let run = Run { key: key.clone(), points, tests: right };
        let line = serde_json::to_string(&run).expect("numbers are JSON");
        if let Some(dir) = self.path.parent() {
            std::fs::create_dir_all(dir).map_err(TrainError::file(dir))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        file.and_then(|mut file| writeln!(file, "{line}")).map_err(TrainError::file(&self.path))?;
        self.made.insert(key, run.clone());
        Ok(run)
    }

    /// Forgets them: what they were for is done.
    pub(super) fn finish(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

//! What is said of attention, each claim with an experiment, a control and its limits.

mod agreement;
mod copy;
mod data;
mod distance;
mod emergence;
mod heads;
mod induction;
mod multihead;
mod network;
mod order;
mod plain;
mod pruning;
mod recall;
mod recurrence;
mod report;
mod rivals;
mod scale;
mod treebank;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::error::TrainError;
use crate::export;

pub use report::{Finding, Report, Table};

/// How an experiment is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The short form: under three minutes on two cores.
    pub quick: bool,
    /// Decides every random number.
    pub seed: u64,
    /// Where finished parts of a long experiment are kept until it ends, and the model of `emergence` for others.
    pub keep: PathBuf,
    /// Folders in which texts of others are looked for, one after the other.
    pub data: Vec<PathBuf>,
    /// The folder with models of others.
    pub models: PathBuf,
}

/// Is told how far an experiment is.
pub type Note<'a> = dyn FnMut(&str) + 'a;

/// An experiment.
#[derive(Debug, Clone, Copy)]
pub struct Experiment {
    /// Its name.
    pub name: &'static str,
    /// What is said of attention.
    pub claim: &'static str,
    run: fn(&Settings, &mut Report, &mut Note<'_>) -> Result<(), TrainError>,
}

/// All of them.
pub const EXPERIMENTS: &[Experiment] = &[
    Experiment {
        name: "order",
        claim: "attention does not know the order of its input unless it is told the positions",
        run: order::run,
    },
    Experiment {
        name: "scale",
        claim: "without 1/√d_k scores grow with the width, softmax saturates and its gradient vanishes",
        run: scale::run,
    },
    Experiment {
        name: "multihead",
        claim: "one softmax can only average; heads side by side read several things at once",
        run: multihead::run,
    },
    Experiment {
        name: "recall",
        claim: "at equal parameters attention recalls what stood anywhere before, where a recurrent state is too small",
        run: recall::run,
    },
    Experiment {
        name: "copy",
        claim: "attention copies what it has read; but it need not do so beyond the lengths that it was trained on",
        run: copy::run,
    },
    Experiment {
        name: "distance",
        claim: "any two positions are one step apart in attention, and as many as lie between them in recurrence",
        run: distance::run,
    },
    Experiment {
        name: "induction",
        claim: "two layers of attention learn to continue a repeated sequence, by a head that looks after the earlier copy; one layer cannot",
        run: induction::run,
    },
    Experiment {
        name: "emergence",
        claim: "heads of a plain masked language model come to find neighbours and relations of syntax, which nothing asks them for",
        run: emergence::run,
    },
    Experiment {
        name: "heads",
        claim: "heads of the built-in model find relations of syntax and antecedents of pronouns where rules without a model and untrained heads do not",
        run: heads::run,
    },
    Experiment {
        name: "agreement",
        claim: "a head looks from the verb at its subject, past nouns of the other number, and the model needs it to say is or are",
        run: agreement::run,
    },
];

impl Experiment {
    /// The experiment of a name.
    ///
    /// # Errors
    /// [`TrainError::Option`] naming those that there are.
    pub fn named(name: &str) -> Result<&'static Self, TrainError> {
        EXPERIMENTS.iter().find(|experiment| experiment.name == name).ok_or_else(|| {
            let names: Vec<&str> = EXPERIMENTS.iter().map(|experiment| experiment.name).collect();
            let expected = format!("one of {}", names.join(", "));
            TrainError::Option { name: "NAME", expected, found: format!("{name:?}") }
        })
    }

    /// Runs it; `note` is told how far it is.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn run(&self, settings: &Settings, note: &mut Note<'_>) -> Result<Report, TrainError> {
        let began = Instant::now();
        let mut report = Report::new(self.name, self.claim, settings.quick, settings.seed);
        (self.run)(settings, &mut report, note)?;
        report.seconds = began.elapsed().as_secs_f64();
        Ok(report)
    }
}

/// Writes `NAME.json`, `NAME.md` and the charts into a directory.
///
/// # Errors
/// [`TrainError::File`], or [`TrainError::BadFile`] for a chart that cannot be drawn.
pub fn write(report: &Report, dir: &Path) -> Result<(), TrainError> {
    fs::create_dir_all(dir).map_err(TrainError::file(dir))?;
    for (number, chart) in report.charts.iter().enumerate() {
        let path = dir.join(report.chart_name(number));
        let svg = chart.svg().map_err(|problem| TrainError::bad(&path, problem))?;
        export::put(&path, svg.as_bytes())?;
    }
    export::put(&dir.join(format!("{}.md", report.name)), report.markdown().as_bytes())?;
    let json = serde_json::to_string_pretty(report).expect("a report is JSON");
    export::put(&dir.join(format!("{}.json", report.name)), json.as_bytes())
}

#[cfg(test)]
mod tests;

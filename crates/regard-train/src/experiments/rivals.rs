//! Attention, LSTM and GRU on one task: equal parameters, the same learning rates to choose from, the same examples.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::network::{Mixer, Network, Positions, Sizes};
use super::trial::{Point, Task, Trial, train};
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
}

impl Run {
    /// Share right at the end.
    pub(super) fn accuracy(&self) -> f64 {
        self.points.last().map_or(f64::NAN, |point| point.accuracy)
    }

    /// Share right after so many seconds of training, as far as it got.
    pub(super) fn accuracy_after(&self, seconds: f64) -> f64 {
        let before = |point: &&Point| point.seconds <= seconds;
        self.points.iter().take_while(before).last().map_or(0.0, |point| point.accuracy)
    }
}

/// Trainings that have been made, on disk as soon as they are: a run that is stopped goes on after the last.
#[derive(Debug)]
pub(super) struct Runs {
    path: PathBuf,
    made: HashMap<String, Run>,
}

impl Runs {
    /// Those of an earlier run with the same settings, or none.
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

    /// The training of this name, made now unless it has been.
    pub(super) fn get(
        &mut self,
        name: &str,
        fitted: &Fitted,
        task: &dyn Task,
        trial: &Trial,
    ) -> Result<Run, TrainError> {
        let key = format!("{name} {:?} {trial:?}", fitted.sizes);
        if let Some(run) = self.made.get(&key) {
            return Ok(run.clone());
        }
        let (_, points) = match train(&fitted.sizes, task, trial, &mut |_, _| Ok(())) {
            Ok(trained) => trained,
            // A learning rate at which it blows up is a bad one, not the end of the experiment.
            Err(TrainError::LossNotFinite { .. }) => return Ok(Run { key, points: Vec::new() }),
            Err(error) => return Err(error),
        };
        let run = Run { key: key.clone(), points };
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

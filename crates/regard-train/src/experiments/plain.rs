//! A plain masked language model: nothing is restored, no sentence is made up, no loss looks at attention.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use regard_lens::Model;

use super::{Note, Settings, data};
use crate::error::TrainError;
use crate::export::Storage;
use crate::fit::{self, Entry, Keeping, Log, Progress, Recipe, Watch};
use crate::model::{Architecture, Family};
use crate::objective::{Mixture, Objective};

/// After which steps the model is kept: the first, and how many while steps double.
#[derive(Debug, Clone, Copy)]
struct Spacing {
    first: u64,
    a_doubling: i32,
}

const QUICK: Spacing = Spacing { first: 8, a_doubling: 1 };
// Heads form within less than a doubling.
const FULL: Spacing = Spacing { first: 64, a_doubling: 4 };

/// The model, and what it was on the way.
#[derive(Debug)]
pub(super) struct Plain {
    dir: PathBuf,
    recipe: Recipe,
    spacing: Spacing,
}

impl Plain {
    /// Trains it on the novels, or goes on where a run in the same folder stopped, or finds it there.
    pub(super) fn trained(settings: &Settings, note: &mut Note<'_>) -> Result<Self, TrainError> {
        let recipe = recipe(settings);
        let form = if settings.quick { "-quick" } else { "" };
        let dir = settings.keep.join(format!("regard-plain{form}-seed-{}", settings.seed));
        let spacing = if settings.quick { QUICK } else { FULL };
        let plain = Self { dir, recipe, spacing };
        if !fit::is_finished(&plain.recipe, &plain.dir)? {
            let keeping = Keeping {
                out: plain.dir.clone(),
                log_every: plain.log_every(),
                checkpoint_every: 256,
                snapshots: plain.kept(),
                storage: Storage::F16,
            };
            let mut watch = Notes { note, latest: None };
            fit::fit(&data::novels(settings)?, &plain.recipe, &keeping, &AtomicBool::new(false), &mut watch)?;
        }
        Ok(plain)
    }

    /// The steps after which the model was kept, the last one included.
    pub(super) fn kept(&self) -> Vec<u64> {
        let Spacing { first, a_doubling } = self.spacing;
        let step = |number: i32| {
            (first as f64 * 2.0f64.powf(f64::from(number) / f64::from(a_doubling))).round() as u64
        };
        let mut steps: Vec<u64> = (0..).map(step).take_while(|&step| step < self.recipe.steps).collect();
        steps.push(self.recipe.steps);
        steps
    }

    /// The model as it was after one of the steps [`Self::kept`].
    pub(super) fn at(&self, step: u64) -> Result<Model, TrainError> {
        Ok(Model::load(&fit::snapshot(&self.dir, step))?)
    }

    /// The finished model.
    pub(super) fn model(&self) -> Result<Model, TrainError> {
        Ok(Model::load(&self.dir)?)
    }

    /// The same architecture and vocabulary before training.
    pub(super) fn untrained(&self, seed: u64) -> Result<Model, TrainError> {
        Ok(Model::untrained(&self.dir, seed)?)
    }

    /// Lines of its training's log.
    pub(super) fn log(&self) -> Result<Vec<Entry>, TrainError> {
        Log::read(&self.dir.join("log.jsonl"))
    }

    /// Over how many steps a loss of the log is a mean.
    pub(super) fn log_every(&self) -> u64 {
        self.spacing.first
    }

    /// How it was made, in words.
    pub(super) fn made(&self) -> String {
        let Recipe { architecture, mixture, batch_size, steps, learning_rate, seed, .. } = &self.recipe;
        format!(
            "a masked language model of {} layers × {} heads × {}, {steps} steps of {batch_size} × {} tokens of the novels, learning rate {learning_rate}, seed {seed}",
            architecture.layers, architecture.heads, architecture.dim, mixture.seq_len
        )
    }
}

/// The architecture of the built-in model and texts of as many tokens. Short ones: positions are learned, and the longer
/// a text, the later heads for neighbours form (of 16 tokens, within 0.6 million tokens of training; of 40, after 8
/// million).
fn recipe(settings: &Settings) -> Recipe {
    let (vocabulary, batch_size, steps) = if settings.quick { (1000, 8, 64) } else { (6144, 48, 8192) };
    let architecture = Architecture {
        family: Family::Bert,
        layers: 3,
        heads: 4,
        kv_heads: 4,
        dim: 128,
        inner_dim: 512,
        vocabulary,
        positions: 48,
    };
    Recipe {
        architecture,
        objective: Objective::Masked,
        mixture: Mixture { sentences: 0.0, restored: 0.0, seq_len: 40 },
        batch_size,
        accumulation: 1,
        steps,
        learning_rate: 1e-3,
        warmup: steps / 20,
        weight_decay: 0.01,
        clip: 1.0,
        dropout: 0.0,
        seed: settings.seed,
    }
}

/// Tells of a run, now and then.
struct Notes<'a, 'n> {
    note: &'a mut Note<'n>,
    latest: Option<Progress>,
}

impl Watch for Notes<'_, '_> {
    fn step(&mut self, progress: &Progress) {
        self.latest = Some(*progress);
    }

    fn logged(&mut self, entry: &Entry) {
        let left = self.latest.map_or(0.0, |progress| progress.seconds_left);
        (self.note)(&format!("step {}, loss {:.3}, {left:.0} s left", entry.step, entry.loss));
    }

    fn note(&mut self, note: &str) {
        (self.note)(note);
    }
}

//! Training: the loop, and what lies on disk between its steps.

mod checkpoint;
pub(crate) mod clip;
mod log;
mod plots;
pub(crate) mod probe;
mod schedule;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::module::ParamGroup;
use burn::optim::{AdamWConfig, GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::corpus::{Corpus, Documents};
use crate::error::TrainError;
use crate::export::{self, Storage};
use crate::model::{Architecture, Model, Pass};
use crate::objective::{self, Batch, Examples, Mixture, Objective};
use crate::random::{Purpose, rng};
use crate::sentences;
use crate::vocabulary::{Pieces, Vocabulary};

use checkpoint::State;
pub use log::{Entry, HeadMetrics, Log};
pub use probe::Probe;
pub use schedule::Schedule;

/// Everything that decides what a run computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The model's sizes; its vocabulary is what the tokenizer's training gives, at most as large.
    pub architecture: Architecture,
    /// What is learned.
    pub objective: Objective,
    /// From what.
    pub mixture: Mixture,
    /// Examples of a pass.
    pub batch_size: usize,
    /// Passes of a step, whose gradients are added up.
    pub accumulation: usize,
    /// Steps.
    pub steps: u64,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Steps until it is reached.
    pub warmup: u64,
    /// Of matrices (Loshchilov and Hutter 2019); vectors, which are biases and gains of norms, keep what they learn.
    pub weight_decay: f32,
    /// Longest gradient.
    pub clip: f64,
    /// Dropout of attention probabilities.
    pub dropout: f32,
    /// Decides parameters, examples and dropout.
    pub seed: u64,
}

/// How a run is made and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeping {
    /// Where everything is written.
    pub out: PathBuf,
    /// Steps between lines of the log.
    pub log_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Steps after which the model is also written as it is then, each time into a directory of its own ([`snapshot`]).
    pub snapshots: Vec<u64>,
    /// How the result is stored.
    pub storage: Storage,
}

/// Where a run's model of an earlier step lies, if it was asked for.
pub fn snapshot(out: &Path, step: u64) -> PathBuf {
    out.join(format!("step-{step}"))
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps made.
    pub step: u64,
    /// Of so many.
    pub steps: u64,
    /// The last step's loss.
    pub loss: f64,
    /// Since this process began.
    pub tokens_per_second: f64,
    /// Seconds that are left at this speed.
    pub seconds_left: f64,
}

/// Who is told how a run goes.
pub trait Watch {
    /// After each step.
    fn step(&mut self, progress: &Progress);
    /// After each line of the log.
    fn logged(&mut self, entry: &Entry);
    /// Of anything else.
    fn note(&mut self, note: &str);
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The model is in the directory.
    Finished,
    /// It was asked to stop and can be taken up again.
    Stopped {
        /// Steps made.
        step: u64,
    },
}

const RECIPE: &str = "training.json";
const TOKENIZER: &str = "tokenizer.json";
const LOG: &str = "log.jsonl";
/// Words of the generated sentences are put before the tokenizer so often that each becomes one token.
const WORDS_OFTEN: usize = 400;
/// Generated sentences that the tokenizer is trained on.
const SENTENCES: u64 = 4000;

/// Trains a model, or goes on where a run with the same recipe in the same directory stopped. The result of a run that
/// was stopped, at any moment and by any means, and taken up again is the same, bit for bit, on one machine with
/// as many threads.
///
/// # Errors
/// [`TrainError`]; the last good checkpoint stays.
pub fn fit(
    documents: &Documents,
    recipe: &Recipe,
    keeping: &Keeping,
    stop: &AtomicBool,
    watch: &mut dyn Watch,
) -> Result<Ending, TrainError> {
    fs::create_dir_all(&keeping.out).map_err(TrainError::file(&keeping.out))?;
    let vocabulary = prepare(documents, recipe, &keeping.out, watch)?;
    let mut recipe = recipe.clone();
    recipe.architecture.vocabulary = vocabulary.size();
    let corpus = Corpus::new(documents, &vocabulary)?;
    watch.note(&format!("{} tokens of text, {} in the vocabulary", corpus.tokens.len(), vocabulary.size()));
    let examples = Examples::new((&vocabulary, &corpus), recipe.objective, recipe.mixture, recipe.seed)?;
    let device = Device::flex().autodiff();
    let run = Run { recipe: &recipe, keeping, examples: &examples, vocabulary: &vocabulary, device };
    let text = fitting(examples.batch(u64::MAX, 16), &recipe.architecture)?;
    let probe = Probe::new(text, &recipe.architecture, vocabulary.special(), recipe.seed);
    let model = match run.train(&probe, stop, watch)? {
        Ok(model) => model,
        Err(step) => return Ok(Ending::Stopped { step }),
    };
    export::write(&keeping.out, &recipe.architecture, &model, &vocabulary, keeping.storage)?;
    plots::draw(&keeping.out, &keeping.out.join(LOG))?;
    Ok(Ending::Finished)
}

/// A batch, if the model takes texts so long: generated ones are as long as they are.
fn fitting(batch: Batch, architecture: &Architecture) -> Result<Batch, TrainError> {
    if batch.seq_len <= architecture.positions {
        return Ok(batch);
    }
    let expected = format!("{} or more, for the generated sentences", batch.seq_len);
    Err(TrainError::Option { name: "--positions", expected, found: architecture.positions.to_string() })
}

/// Whether a run with this recipe has ended in a directory: its model is there.
///
/// # Errors
/// [`TrainError::BadFile`] if a run with another recipe has begun there; [`TrainError::File`].
pub fn is_finished(recipe: &Recipe, out: &Path) -> Result<bool, TrainError> {
    Ok(has_begun(recipe, out)? && out.join("model.safetensors").exists())
}

/// Whether a run with this recipe has begun in a directory.
fn has_begun(recipe: &Recipe, out: &Path) -> Result<bool, TrainError> {
    let path = out.join(RECIPE);
    if !path.exists() {
        return Ok(false);
    }
    let text = fs::read_to_string(&path).map_err(TrainError::file(&path))?;
    let found: Recipe =
        serde_json::from_str(&text).map_err(|error| TrainError::bad(&path, error.to_string()))?;
    if found == *recipe {
        return Ok(true);
    }
    let problem = "another run has begun here, with other options; give the same ones or another --out";
    Err(TrainError::bad(&path, problem))
}

/// The tokenizer of a run that is taken up again, or a new one.
fn prepare(
    documents: &Documents,
    recipe: &Recipe,
    out: &Path,
    watch: &mut dyn Watch,
) -> Result<Vocabulary, TrainError> {
    if has_begun(recipe, out)? {
        return Vocabulary::load(&out.join(TOKENIZER));
    }
    recipe.architecture.check()?;
    watch.note("learning a vocabulary");
    let pieces = match recipe.objective {
        Objective::Causal => Pieces::ByteLevel,
        Objective::Masked | Objective::Restore => Pieces::WordPiece,
    };
    let line = |index| sentences::training_text(&mut rng(recipe.seed, Purpose::Experiment, 1, index)).line();
    let generated: Vec<String> = match recipe.mixture.sentences > 0.0 {
        true => (0..SENTENCES).map(line).collect(),
        false => Vec::new(),
    };
    let words = objective::words().into_iter().collect::<Vec<_>>().join(" ").repeat(WORDS_OFTEN);
    let mut texts = documents.lines();
    texts.extend(generated.iter().map(String::as_str));
    if !generated.is_empty() {
        texts.push(&words);
    }
    let vocabulary = Vocabulary::train(pieces, recipe.architecture.vocabulary, &texts)?;
    let partial = out.join("tokenizer.json.partial");
    vocabulary.save(&partial)?;
    let tokenizer = out.join(TOKENIZER);
    fs::rename(&partial, &tokenizer).map_err(TrainError::file(&tokenizer))?;
    // Last: with a recipe the directory counts as begun.
    let text = serde_json::to_string_pretty(recipe).expect("a recipe is JSON");
    export::put(&out.join(RECIPE), text.as_bytes())?;
    Ok(vocabulary)
}

/// Parameters whose paths hold these are vectors.
const VECTORS: [&str; 3] = ["bias", "gamma", "beta"];

/// AdamW, with weight decay of matrices alone.
pub(crate) fn optimizer(weight_decay: f32) -> ModuleOptimizer {
    let adamw = AdamWConfig::new().with_epsilon(1e-8);
    let vectors = ParamGroup::from_any_predicates(VECTORS.to_vec());
    let matrices = adamw.clone().with_weight_decay(weight_decay).init();
    matrices.with_group(vectors, adamw.with_weight_decay(0.0).build(), None)
}

struct Run<'a> {
    recipe: &'a Recipe,
    keeping: &'a Keeping,
    examples: &'a Examples<'a>,
    vocabulary: &'a Vocabulary,
    device: Device,
}

impl Run<'_> {
    /// The trained model, or the step at which it was stopped.
    fn train(
        &self,
        probe: &Probe,
        stop: &AtomicBool,
        watch: &mut dyn Watch,
    ) -> Result<Result<Model, u64>, TrainError> {
        let recipe = self.recipe;
        let mut model = Model::new(&recipe.architecture, recipe.seed, &self.device)?;
        let mut optimizer = optimizer(recipe.weight_decay);
        let mut state = State::default();
        let latest = checkpoint::latest(&self.keeping.out)?;
        if let Some(path) = &latest {
            (state, model, optimizer) = checkpoint::load(path, model, optimizer)?;
            watch.note(&format!("goes on after step {}", state.step));
        }
        let mut log = Log::open(&self.keeping.out.join(LOG), state.log_bytes)?;
        let schedule = Schedule { peak: recipe.learning_rate, warmup: recipe.warmup, steps: recipe.steps };
        let (began, mut tokens, mut last) = (Instant::now(), 0usize, latest);
        let first = state.step;
        while state.step < recipe.steps {
            let (loss, gradients, read) = self.gradients(&model, state.step)?;
            if !loss.is_finite() {
                return Err(TrainError::LossNotFinite { step: state.step, checkpoint: last });
            }
            let (rate, length);
            (model, rate, length) = self.update(model, &mut optimizer, gradients, schedule.rate(state.step));
            state.step += 1;
            state.add(loss);
            tokens += read;
            let seconds = began.elapsed().as_secs_f64();
            let left = seconds / (state.step - first) as f64 * (recipe.steps - state.step) as f64;
            let tokens_per_second = tokens as f64 / seconds;
            let (step, steps) = (state.step, recipe.steps);
            watch.step(&Progress { step, steps, loss, tokens_per_second, seconds_left: left });
            let done = state.step == recipe.steps;
            if done || state.step.is_multiple_of(self.keeping.log_every) {
                let heads = probe.heads(&model, &recipe.architecture, &self.device)?;
                let loss = state.take_loss();
                let entry =
                    Entry { step: state.step, loss, learning_rate: rate, gradient_norm: length, heads };
                log.add(&entry)?;
                watch.logged(&entry);
            }
            if self.keeping.snapshots.contains(&state.step) {
                self.write_snapshot(&model, state.step)?;
            }
            let stopped = stop.load(Ordering::Relaxed);
            if done || stopped || state.step.is_multiple_of(self.keeping.checkpoint_every) {
                state.log_bytes = log.sync()?;
                last = Some(checkpoint::save(&self.keeping.out, state, &model, &optimizer)?);
            }
            if stopped && !done {
                return Ok(Err(state.step));
            }
        }
        Ok(Ok(model))
    }

    fn write_snapshot(&self, model: &Model, step: u64) -> Result<(), TrainError> {
        let dir = snapshot(&self.keeping.out, step);
        fs::create_dir_all(&dir).map_err(TrainError::file(&dir))?;
        export::write(&dir, &self.recipe.architecture, model, self.vocabulary, self.keeping.storage)
    }

    /// Loss and gradients of a step, and how many tokens were read for them.
    fn gradients(&self, model: &Model, step: u64) -> Result<(f64, GradientsParams, usize), TrainError> {
        let recipe = self.recipe;
        let mut sum = GradientsAccumulator::new();
        let (mut loss, mut tokens) = (0.0, 0);
        for part in 0..recipe.accumulation as u64 {
            let number = step * recipe.accumulation as u64 + part;
            let batch = fitting(self.examples.batch(number, recipe.batch_size), &recipe.architecture)?;
            tokens += batch.lens.iter().sum::<usize>();
            let dropout = (recipe.dropout > 0.0).then_some((recipe.dropout, recipe.seed, number));
            let mut pass = Pass { lens: &batch.lens, dropout, ..Pass::default() };
            let part = model.loss(&recipe.architecture, &batch, &mut pass, &self.device)?;
            let part = part.div_scalar(recipe.accumulation as f64);
            loss += f64::from(part.clone().into_scalar::<f32>());
            sum.accumulate(model, GradientsParams::from_grads(part.backward(), model));
        }
        Ok((loss, sum.grads(), tokens))
    }

    /// The model after a step, the rate and the gradient's length.
    fn update(
        &self,
        model: Model,
        optimizer: &mut ModuleOptimizer,
        mut gradients: GradientsParams,
        rate: f64,
    ) -> (Model, f64, f64) {
        let length = clip::clip(&model, &mut gradients, self.recipe.clip);
        (optimizer.step(rate, model, gradients), rate, length)
    }
}

#[cfg(test)]
mod tests {
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::tensor::Tensor;

    use super::*;
    use crate::model::Family;

    /// Gives every parameter a gradient of 0, and keeps their sizes.
    #[derive(Default)]
    struct Still {
        gradients: GradientsParams,
        sums: Vec<(usize, f32)>,
    }

    impl ModuleVisitor for Still {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let tensor = param.val().inner();
            self.sums.push((D, tensor.clone().abs().sum().into_scalar::<f32>()));
            self.gradients.register(param.id, tensor.zeros_like());
        }
    }

    #[test]
    fn weight_decay__no_gradient__shrinks_matrices_and_leaves_vectors() {
        for family in [Family::Bert, Family::Llama] {
            let architecture = Architecture {
                family,
                layers: 1,
                heads: 2,
                kv_heads: 2,
                dim: 8,
                inner_dim: 16,
                vocabulary: 300,
                positions: 16,
            };
            let model = Model::new(&architecture, 1, &Device::flex().autodiff()).unwrap();
            let (mut before, mut after) = (Still::default(), Still::default());
            model.visit(&mut before);
            let model = optimizer(0.5).step(0.1, model, before.gradients);
            model.visit(&mut after);
            for (&(rank, before), &(_, after)) in before.sums.iter().zip(&after.sums) {
                let expected = if rank == 1 { before } else { before * 0.95 };
                assert!(
                    (after - expected).abs() <= 1e-5 * before,
                    "{family:?}, rank {rank}: {before} to {after}"
                );
            }
        }
    }
}

//! What a training step takes: by part, with other attentions in its place, and in PyTorch.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::fit::{clip, optimizer};
use crate::model::{Architecture, Attention, Model, Pass};
use crate::objective::Batch;
use crate::random::{Purpose, rng};

/// The step in Python.
const PEER: &str = include_str!("../peers/torch_step.py");
/// One token in so many is a label, about as in masked language modelling.
const LABEL_EVERY: usize = 6;
/// Steps that are not counted.
const WARMUP: usize = 2;

/// What is timed.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    /// Of a BERT, the objective of which is to name masked tokens.
    pub architecture: Architecture,
    /// Examples.
    pub batch_size: usize,
    /// Tokens of each.
    pub seq_len: usize,
    /// Steps of each way, in turn.
    pub rounds: usize,
    /// A Python that has PyTorch.
    pub python: Option<PathBuf>,
}

/// A way to make a step, and what it took: medians in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Way {
    /// Whose attention.
    pub name: &'static str,
    /// Loss from tokens.
    pub forward: Option<f64>,
    /// Gradients of all parameters.
    pub backward: Option<f64>,
    /// Clipping and AdamW.
    pub update: Option<f64>,
    /// All of it.
    pub step: f64,
    /// The last step's loss.
    pub loss: f64,
}

/// All ways, and what follows from them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// With our attention, with burn's, with none, and in PyTorch where a Python is given.
    pub ways: Vec<Way>,
    /// Tokens of a step.
    pub tokens: usize,
    /// Parameters of the model.
    pub parameters: usize,
    /// Threads.
    pub threads: usize,
    /// Steps of each way.
    pub rounds: usize,
}

impl Report {
    /// A way by its name.
    pub fn way(&self, name: &str) -> Option<&Way> {
        self.ways.iter().find(|way| way.name == name)
    }

    /// The share of a step that goes to attention: what a step without it does not take.
    pub fn attention_share(&self, name: &str) -> Option<f64> {
        Some(1.0 - self.way("none")?.step / self.way(name)?.step)
    }
}

/// Makes steps of each way in turn, so that what slows the machine slows all.
///
/// # Errors
/// [`TrainError`]; [`TrainError::Option`] where `python` has no PyTorch.
pub fn time(sizes: &Sizes) -> Result<Report, TrainError> {
    let device = Device::flex().autodiff();
    let batch = batch(sizes);
    let ways = [("regard", Attention::Regard), ("burn", Attention::Burn), ("none", Attention::Nobody)];
    let start = |(name, attention)| -> Result<Stepper, TrainError> {
        let model = Model::new(&sizes.architecture, 1, &device)?;
        Ok(Stepper {
            name,
            attention,
            model: Some(model),
            optimizer: optimizer(0.01),
            laps: Vec::new(),
            loss: 0.0,
        })
    };
    let mut steppers = ways.map(start).into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut peer = sizes.python.as_deref().map(|python| Peer::start(python, sizes, &batch)).transpose()?;
    let mut of_peer = Vec::new();
    let mut peer_loss = 0.0;
    for round in 0..WARMUP + sizes.rounds {
        for stepper in &mut steppers {
            stepper.step(&sizes.architecture, &batch, &device)?;
        }
        if let Some(peer) = &mut peer {
            let answer = peer.step()?;
            of_peer.push(answer.seconds);
            peer_loss = answer.loss;
        }
        if round + 1 == WARMUP {
            steppers.iter_mut().for_each(|stepper| stepper.laps.clear());
            of_peer.clear();
        }
    }
    let parameters = steppers[0].model.as_ref().map_or(0, burn::module::Module::num_params);
    let mut ways: Vec<Way> = steppers.into_iter().map(Stepper::way).collect();
    if peer.is_some() {
        let [forward, backward, update] = [None; 3];
        let step = median(of_peer);
        ways.push(Way { name: "PyTorch", forward, backward, update, step, loss: peer_loss });
    }
    Ok(Report {
        ways,
        tokens: sizes.batch_size * sizes.seq_len,
        parameters,
        threads: rayon::current_num_threads(),
        rounds: sizes.rounds,
    })
}

/// Random tokens, some of them labels: the same in every way.
fn batch(sizes: &Sizes) -> Batch {
    let mut rng = rng(1, Purpose::Experiment, 2, 0);
    let tokens = sizes.batch_size * sizes.seq_len;
    let mut token = || rng.usize(..sizes.architecture.vocabulary) as u32;
    let all: Vec<u32> = (0..tokens).map(|_| token()).collect();
    let labels = (0..tokens).step_by(LABEL_EVERY).map(|at| (at, token())).collect();
    Batch { tokens: all, lens: vec![sizes.seq_len; sizes.batch_size], seq_len: sizes.seq_len, labels }
}

/// A model that is trained with one kind of attention.
struct Stepper {
    name: &'static str,
    attention: Attention,
    /// Always there between steps.
    model: Option<Model>,
    optimizer: ModuleOptimizer,
    /// Forward, backward, update.
    laps: Vec<[f64; 3]>,
    loss: f64,
}

impl Stepper {
    fn step(
        &mut self,
        architecture: &Architecture,
        batch: &Batch,
        device: &Device,
    ) -> Result<(), TrainError> {
        let Some(model) = self.model.take() else { return Ok(()) };
        let began = Instant::now();
        let mut pass = Pass { lens: &batch.lens, attention: self.attention, ..Pass::default() };
        let loss = model.loss(architecture, batch, &mut pass, device)?;
        self.loss = f64::from(loss.clone().into_scalar::<f32>());
        let forward = began.elapsed().as_secs_f64();
        let mut gradients = GradientsParams::from_grads(loss.backward(), &model);
        let backward = began.elapsed().as_secs_f64();
        clip::clip(&model, &mut gradients, 1.0);
        self.model = Some(self.optimizer.step(1e-3, model, gradients));
        let all = began.elapsed().as_secs_f64();
        self.laps.push([forward, backward - forward, all - backward]);
        Ok(())
    }

    fn way(self) -> Way {
        let part = |at: usize| Some(median(self.laps.iter().map(|lap| lap[at]).collect()));
        let step = median(self.laps.iter().map(|lap| lap.iter().sum()).collect());
        Way { name: self.name, forward: part(0), backward: part(1), update: part(2), step, loss: self.loss }
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_unstable_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// PyTorch in a process of its own.
struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Answer {
    seconds: f64,
    loss: f64,
}

impl Peer {
    fn start(python: &Path, sizes: &Sizes, batch: &Batch) -> Result<Self, TrainError> {
        let Architecture { layers, heads, dim, inner_dim, vocabulary, positions, .. } = sizes.architecture;
        let mut child = Command::new(python)
            .args(["-c", PEER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(TrainError::file(python))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or_else(|| no_torch(python))?;
        let mut peer = Self { child, input, output: BufReader::new(output) };
        let (at, right): (Vec<usize>, Vec<u32>) = batch.labels.iter().copied().unzip();
        let line = serde_json::json!({
            "layers": layers, "heads": heads, "dim": dim, "inner_dim": inner_dim, "vocabulary": vocabulary,
            "positions": positions, "batch": sizes.batch_size, "seq_len": sizes.seq_len, "tokens": batch.tokens,
            "at": at, "right": right, "threads": rayon::current_num_threads(),
        });
        writeln!(peer.input, "{line}").map_err(|_| no_torch(python))?;
        Ok(peer)
    }

    fn step(&mut self) -> Result<Answer, TrainError> {
        let mut line = String::new();
        let asked = writeln!(self.input, "step").and_then(|()| self.output.read_line(&mut line));
        let answer = asked.ok().and_then(|_| serde_json::from_str(&line).ok());
        answer.ok_or_else(|| no_torch(Path::new("--torch")))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn no_torch(python: &Path) -> TrainError {
    TrainError::Option {
        name: "--torch",
        expected: "a Python in which `import torch` works".to_owned(),
        found: python.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Family;

    #[test]
    fn step__each_attention__starts_at_the_same_loss_and_only_none_differs_after() {
        let architecture = Architecture {
            family: Family::Bert,
            layers: 2,
            heads: 2,
            kv_heads: 2,
            dim: 16,
            inner_dim: 32,
            vocabulary: 50,
            positions: 12,
        };
        let sizes = Sizes { architecture, batch_size: 3, seq_len: 12, rounds: 3, python: None };
        let report = time(&sizes).unwrap();
        let loss = |name: &str| report.way(name).unwrap().loss;
        assert!((loss("regard") - loss("burn")).abs() < 1e-4, "{report:?}");
        assert!((loss("regard") - loss("none")).abs() > 1e-4, "{report:?}");
        assert!(loss("regard") < (50f64).ln(), "five steps on one batch are learned from: {report:?}");
        for way in &report.ways {
            let parts = [way.forward, way.backward, way.update].map(|part| part.unwrap());
            assert!(parts.iter().all(|&part| part > 0.0 && part <= way.step * 3.0), "{way:?}");
        }
    }

    #[test]
    fn step__no_such_python__is_a_typed_error() {
        let architecture = Architecture {
            family: Family::Bert,
            layers: 1,
            heads: 1,
            kv_heads: 1,
            dim: 4,
            inner_dim: 4,
            vocabulary: 9,
            positions: 4,
        };
        let python = Some(PathBuf::from("./no-such-python"));
        let sizes = Sizes { architecture, batch_size: 1, seq_len: 4, rounds: 1, python };
        assert!(matches!(time(&sizes), Err(TrainError::File { .. })));
    }
}

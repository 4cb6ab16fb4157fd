//! One network, one task, one learning rate, one seed.

use std::time::Instant;

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::network::{Network, Sizes};
use crate::error::TrainError;
use crate::fit::{Schedule, clip};
use crate::model::integers;
use crate::objective::Batch;

/// Gives examples; the same for the same number.
pub(super) trait Task: Sync {
    /// The `number`-th batch. Numbers from 2³² on are for reporting.
    fn batch(&self, number: u64, size: usize) -> Batch;
}

/// Batches from here on are for reporting.
pub(super) const REPORTING: u64 = 1 << 32;

/// How a network is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Trial {
    pub(super) steps: u64,
    pub(super) batch_size: usize,
    pub(super) learning_rate: f64,
    pub(super) seed: u64,
    /// Steps between points of the curve.
    pub(super) every: u64,
    /// Ends training early.
    pub(super) enough: f64,
}

/// How well a network does after some steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Point {
    pub(super) step: u64,
    /// Of the steps since the point before, in nats per label.
    pub(super) loss: f64,
    /// Share of labels that are right in batches for reporting.
    pub(super) accuracy: f64,
    /// Of training alone.
    pub(super) seconds: f64,
}

/// Trains; `watch` sees the network at each point.
pub(super) fn train(
    sizes: &Sizes,
    task: &dyn Task,
    trial: &Trial,
    watch: &mut dyn FnMut(&Network, &Point) -> Result<(), TrainError>,
) -> Result<(Network, Vec<Point>), TrainError> {
    let device = Device::flex().autodiff();
    let mut network = Network::new(sizes, trial.seed, &device)?;
    let mut optimizer = AdamWConfig::new().with_weight_decay(0.01).with_epsilon(1e-8).init();
    let schedule =
        Schedule { peak: trial.learning_rate, warmup: (trial.steps / 20).max(1), steps: trial.steps };
    let (mut points, mut seconds, mut loss) = (Vec::new(), 0.0, 0.0);
    for step in 0..trial.steps {
        let began = Instant::now();
        let batch = task.batch(step, trial.batch_size);
        let scores = network.scores(sizes, &batch, &device)?;
        let mean = cross_entropy(scores, &batch, &device);
        let found = f64::from(mean.clone().into_scalar::<f32>());
        if !found.is_finite() {
            return Err(TrainError::LossNotFinite { step, checkpoint: None });
        }
        loss += found;
        let mut gradients = GradientsParams::from_grads(mean.backward(), &network);
        clip::clip(&network, &mut gradients, 1.0);
        network = optimizer.step(schedule.rate(step), network, gradients);
        seconds += began.elapsed().as_secs_f64();
        let made = step + 1;
        if made.is_multiple_of(trial.every) || made == trial.steps {
            let since = made - points.last().map_or(0, |point: &Point| point.step);
            let accuracy = accuracy(&network, sizes, task, trial.batch_size)?;
            let point = Point { step: made, loss: loss / since as f64, accuracy, seconds };
            loss = 0.0;
            watch(&network, &point)?;
            points.push(point);
            if accuracy >= trial.enough {
                break;
            }
        }
    }
    Ok((network, points))
}

/// Share of labels that are right, over four batches for reporting.
pub(super) fn accuracy(
    network: &Network,
    sizes: &Sizes,
    task: &dyn Task,
    batch_size: usize,
) -> Result<f64, TrainError> {
    // Without gradients nothing is recorded.
    let (network, device) = (network.clone().valid(), Device::flex());
    let (mut right, mut all) = (0, 0);
    for number in 0..4 {
        let batch = task.batch(REPORTING + number, batch_size);
        let scores = network.scores(sizes, &batch, &device)?;
        let said = scores.argmax(1).into_data();
        right += said
            .iter::<i64>()
            .zip(&batch.labels)
            .filter(|(said, (_, label))| *said == i64::from(*label))
            .count();
        all += batch.labels.len();
    }
    Ok(right as f64 / all.max(1) as f64)
}

/// Mean cross-entropy of a batch's labels in nats.
pub(super) fn cross_entropy(scores: Tensor<2>, batch: &Batch, device: &Device) -> Tensor<1> {
    let right = integers(batch.labels.iter().map(|&(_, label)| label), [batch.labels.len(), 1], device);
    log_softmax(scores, 1).gather(1, right).mean().neg()
}

//! Induction: repeated random sequences, one layer against two (Olsson et al. 2022).

use std::cell::RefCell;

use burn::tensor::Device;

use super::network::{Mixer, Network, Positions, Sizes};
use super::report::{Report, Table};
use super::scale::spread;
use super::trial::{REPORTING, Task, Trial, cross_entropy, train};
use super::{Note, Settings};
use crate::chart::{Axis, Chart, Series};
use crate::error::TrainError;
use crate::fit::probe::layer_statistics;
use crate::objective::{Batch, Example};
use crate::random::{Purpose, rng};

const VOCABULARY: u32 = 64;
const LEN: usize = 64;
/// Tokens of a sequence that is repeated: drawn, so that no fixed distance finds the earlier copy.
const REPEATED: [usize; 2] = [12, 24];

/// A point of a curve: step, loss in the first copy, loss in the second, best induction score, best previous-token score.
type Point = [f64; 5];

pub(super) fn run(settings: &Settings, report: &mut Report, note: &mut Note<'_>) -> Result<(), TrainError> {
    let (steps, seeds) = if settings.quick { (60, 1) } else { (3000, 3) };
    let mut table = Table::new(
        &format!(
            "Attention only, 2 heads a layer, {steps} steps of saying the second copy (a guess: {:.2} nats), mean and range of {seeds} seed(s)",
            f64::from(VOCABULARY).ln()
        ),
        &[
            "layers",
            "loss, first copy",
            "loss, second copy",
            "in-context score",
            "best induction head",
            "best previous-token head",
        ],
    );
    let mut curves = Vec::new();
    let mut heads = Vec::new();
    let mut ends: Vec<Vec<Point>> = Vec::new();
    for layers in [1, 2] {
        let mut all: Vec<Point> = Vec::new();
        for seed in 0..seeds {
            note(&format!("{layers} layer(s), seed {}", settings.seed + seed));
            let curve = curve(layers, steps, settings.seed + seed)?;
            all.push(curve.last().copied().unwrap_or([f64::NAN; 5]));
            let of = |at: usize| curve.iter().map(|point| [point[0], point[at]]).collect::<Vec<_>>();
            let name = format!(
                "{layers} layer{}, seed {}",
                if layers == 1 { "" } else { "s" },
                settings.seed + seed
            );
            curves.push(Series { name: name.clone(), points: of(2) });
            heads.push(Series { name, points: of(3) });
        }
        let of = |get: fn(&Point) -> f64| spread(&all.iter().map(get).collect::<Vec<_>>());
        table.rows.push(vec![
            layers.to_string(),
            of(|point| point[1]),
            of(|point| point[2]),
            of(|point| point[2] - point[1]),
            of(|point| point[3]),
            of(|point| point[4]),
        ]);
        ends.push(all);
    }
    report.tables.push(table);
    report.charts.push(Chart {
        title: "Loss where a random sequence is repeated".to_owned(),
        x: Axis::linear("step"),
        y: Axis::linear("loss, nats"),
        series: curves,
    });
    report.charts.push(Chart {
        title: "The best head's mass on the token after an earlier copy".to_owned(),
        x: Axis::linear("step"),
        y: Axis::linear("mean probability"),
        series: heads,
    });
    let (one, two) = (&ends[0], &ends[1]);
    let formed = two.iter().filter(|point| point[3] > 0.5).count();
    report.find(
        formed == two.len(),
        format!("two layers form a head with an induction score above 0.5: {formed} of {} seeds", two.len()),
    );
    let most = one.iter().map(|point| point[3]).fold(0.0, f64::max);
    report.find(most < 0.3, format!("one layer forms none: {most:.2} at most"));
    let least = one.iter().map(|point| point[2]).fold(f64::INFINITY, f64::min);
    let below = two.iter().filter(|point| point[2] < least - 0.5).count();
    report.find(
        below == formed && formed > 0,
        format!(
            "where the head has formed, and only there, the repetition is foreseen better than by any one layer ({least:.2} nats), by half a nat or more: {below} of {} seeds",
            two.len()
        ),
    );
    report.limits.push("which seed forms the head within so many steps is luck; more steps help");
    report.limits.push(
        "random sequences reward nothing but copying; in text induction heads are one part among others",
    );
    Ok(())
}

fn curve(layers: usize, steps: u64, seed: u64) -> Result<Vec<Point>, TrainError> {
    let sizes = Sizes {
        vocabulary: VOCABULARY as usize,
        classes: VOCABULARY as usize,
        dim: 64,
        state: 0,
        layers,
        max_len: LEN,
        feed_forward: false,
        mixer: Mixer::Attention { heads: 2, causal: true },
        positions: Positions::Rotary,
        softmax_scale: None,
    };
    let trial = Trial { steps, batch_size: 32, learning_rate: 3e-3, seed, every: steps / 30, enough: 1.1 };
    let points = RefCell::new(Vec::new());
    train(&sizes, &Repeated { seed, part: Part::Second }, &trial, &mut |network, point| {
        points.borrow_mut().push(measure(network, &sizes, point.step, seed)?);
        Ok(())
    })?;
    Ok(points.into_inner())
}

fn measure(network: &Network, sizes: &Sizes, step: u64, seed: u64) -> Result<Point, TrainError> {
    use burn::module::Module;
    let (network, device) = (network.clone().valid(), Device::flex());
    let loss = |part| -> Result<f64, TrainError> {
        let batch = Repeated { seed, part }.batch(REPORTING, 64);
        let scores = network.scores(sizes, &batch, &device)?;
        Ok(f64::from(cross_entropy(scores, &batch, &device).into_scalar::<f32>()))
    };
    let (first, second) = (loss(Part::First)?, loss(Part::Second)?);
    let batch = Repeated { seed, part: Part::Second }.batch(REPORTING, 64);
    let (mut induction, mut previous) = (0.0f64, 0.0f64);
    for seen in network.queries_and_keys(sizes, &batch, &device)? {
        let [_, heads, _, _] = seen[0].dims();
        let found = layer_statistics(seen, &batch, &sizes.attention(&[]))?;
        for head in 0..heads {
            let mean = |mass: &[f32]| {
                let rows = batch.labels.iter().map(|&(at, _)| {
                    let (text, row) = (at / batch.seq_len, at % batch.seq_len);
                    f64::from(mass[(text * heads + head) * batch.seq_len + row])
                });
                rows.sum::<f64>() / batch.labels.len() as f64
            };
            induction = induction.max(mean(&found.induction_mass));
            previous = previous.max(mean(&found.offset_mass));
        }
    }
    Ok([step as f64, first, second, induction, previous])
}

/// Which tokens are to be foreseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    First,
    Second,
}

/// Random tokens, then a random sequence twice; the next tokens of one of the copies are to be said.
struct Repeated {
    seed: u64,
    part: Part,
}

impl Task for Repeated {
    fn batch(&self, number: u64, size: usize) -> Batch {
        let example = |index| {
            let mut rng = rng(self.seed, Purpose::Experiment, number, index);
            let repeated = rng.usize(REPEATED[0]..=REPEATED[1]);
            let before = LEN - 2 * repeated;
            let mut tokens: Vec<u32> = (0..before + repeated).map(|_| rng.u32(..VOCABULARY)).collect();
            tokens.extend_from_within(before..);
            // The first token of the second copy cannot be foreseen; those after it can.
            let second = before + repeated..LEN - 1;
            let wanted = match self.part {
                Part::First => before..before + repeated - 1,
                Part::Second => second,
            };
            let labels = wanted.map(|at| (at, tokens[at + 1])).collect();
            Example { tokens, labels }
        };
        Batch::new(&(0..size as u64).map(example).collect::<Vec<_>>(), 0)
    }
}

//! Scale: what 1/√d_k does to scores, softmax, its gradient, and to training.

use super::network::{Mixer, Positions, Sizes};
use super::report::{Report, Table};
use super::trial::{Point, Task, Trial, train};
use super::{Note, Settings};
use crate::chart::{Axis, Chart, Series};
use crate::error::TrainError;
use crate::model::initial::normal;
use crate::objective::{Batch, Example};
use crate::random::{Purpose, rng};

/// Keys of a query.
const KEYS: usize = 64;

pub(super) fn run(settings: &Settings, report: &mut Report, note: &mut Note<'_>) -> Result<(), TrainError> {
    at_first(settings, report);
    in_training(settings, report, note)
}

/// What softmax is like for queries and keys of unit variance, on average over rows.
#[derive(Debug, Clone, Copy, Default)]
struct Softness {
    variance: f64,
    entropy: f64,
    /// Length of the gradient of the probabilities with respect to the scores (Frobenius).
    gradient: f64,
}

fn at_first(settings: &Settings, report: &mut Report) {
    let rows = if settings.quick { 200 } else { 2000 };
    let widths = [16, 32, 64, 128, 256, 512, 1024];
    let mut table = Table::new(
        &format!("Queries and keys of unit variance, {KEYS} keys, {rows} rows: without and with 1/√d_k"),
        &["d_k", "Var(score)", "with", "entropy/ln n", "with", "‖∂p/∂s‖", "with"],
    );
    let mut curves = [Vec::new(), Vec::new()];
    let mut found = Vec::new();
    for (number, width) in widths.into_iter().enumerate() {
        let of = |scale: f64| softness(width, scale, rows, settings.seed, number as u64);
        let (without, with) = (of(1.0), of(1.0 / (width as f64).sqrt()));
        curves[0].push([width as f64, without.gradient]);
        curves[1].push([width as f64, with.gradient]);
        table.rows.push(vec![
            width.to_string(),
            format!("{:.1}", without.variance),
            format!("{:.2}", with.variance),
            format!("{:.3}", without.entropy),
            format!("{:.3}", with.entropy),
            format!("{:.4}", without.gradient),
            format!("{:.4}", with.gradient),
        ]);
        found.push((width as f64, without, with));
    }
    report.tables.push(table);
    let [without, with] = curves;
    report.charts.push(Chart {
        title: "Gradient through softmax for unit-variance queries and keys".to_owned(),
        x: Axis::log("d_k"),
        y: Axis::log("length of the gradient of p by the scores"),
        series: vec![
            Series { name: "without scale".to_owned(), points: without },
            Series { name: "with 1/√d_k".to_owned(), points: with },
        ],
    });
    let grows = found.iter().all(|(width, without, _)| (without.variance / width - 1.0).abs() < 0.1);
    report.find(grows, "without scale the variance of a score is d_k, within 10 %".to_owned());
    let stays = found.iter().all(|(_, _, with)| (with.variance - 1.0).abs() < 0.1);
    report.find(stays, "with 1/√d_k it is 1 at every width, within 10 %".to_owned());
    let (first, last) = (found[0], found[found.len() - 1]);
    report.find(
        last.1.gradient < 0.5 * first.1.gradient,
        format!(
            "without scale the gradient through softmax shrinks with the width, from {:.3} to {:.3}; with it, it is {:.3} and {:.3}",
            first.1.gradient, last.1.gradient, first.2.gradient, last.2.gradient
        ),
    );
}

fn softness(width: usize, scale: f64, rows: u64, seed: u64, stream: u64) -> Softness {
    let (mut sum, mut count) = (Softness::default(), 0.0);
    for row in 0..rows {
        let mut rng = rng(seed, Purpose::Experiment, 20 + stream, row);
        let query: Vec<f64> = (0..width).map(|_| normal(&mut rng)).collect();
        let score = |_| scale * query.iter().map(|number| number * normal(&mut rng)).sum::<f64>();
        let scores: Vec<f64> = (0..KEYS).map(score).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exps: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
        let total: f64 = exps.iter().sum();
        let probs: Vec<f64> = exps.iter().map(|exp| exp / total).collect();
        let squares: f64 = probs.iter().map(|p| p * p).sum();
        let cubes: f64 = probs.iter().map(|p| p * p * p).sum();
        sum.variance += scores.iter().map(|score| score * score).sum::<f64>() / KEYS as f64;
        sum.entropy -= probs.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>();
        // ‖diag(p) − p·pᵀ‖² = Σ p² − 2 Σ p³ + (Σ p²)².
        sum.gradient += (squares - 2.0 * cubes + squares * squares).max(0.0).sqrt();
        count += 1.0;
    }
    Softness {
        variance: sum.variance / count,
        entropy: sum.entropy / count / (KEYS as f64).ln(),
        gradient: sum.gradient / count,
    }
}

fn in_training(settings: &Settings, report: &mut Report, note: &mut Note<'_>) -> Result<(), TrainError> {
    let (widths, seeds, steps): (&[usize], u64, u64) =
        if settings.quick { (&[16, 128], 1, 60) } else { (&[16, 32, 64, 128, 256, 512], 3, 600) };
    let mut table = Table::new(
        &format!(
            "One layer, one head of width d_k, \"say the value of this key\" among {PAIRS} pairs: share right after {steps} steps (chance 1/{VALUES}), mean and range of {seeds} seed(s)"
        ),
        &["d_k", "with 1/√d_k", "without", "steps to 90 % with", "without"],
    );
    let mut curves = Vec::new();
    let mut differs = Vec::new();
    for &width in widths {
        let mut row = vec![width.to_string()];
        let mut reached = Vec::new();
        let mut last = Vec::new();
        for scale in [None, Some(1.0)] {
            let mut finals = Vec::new();
            let mut steps_to = Vec::new();
            for seed in 0..seeds {
                note(&format!(
                    "width {width}, {} scale, seed {}",
                    if scale.is_some() { "without" } else { "with" },
                    settings.seed + seed
                ));
                let points = lookup(width, scale, steps, settings.seed + seed)?;
                finals.push(points.last().map_or(f64::NAN, |point| point.accuracy));
                steps_to.push(points.iter().find(|point| point.accuracy >= 0.9).map(|point| point.step));
                if seed == 0 && (width == widths[widths.len() - 1] || width == widths[0]) {
                    let name = format!(
                        "d_k {width} {}",
                        if scale.is_some() { "without scale" } else { "with 1/√d_k" }
                    );
                    let points = points.iter().map(|point| [point.step as f64, point.loss]).collect();
                    curves.push(Series { name, points });
                }
            }
            row.push(spread(&finals));
            last.push(finals.iter().sum::<f64>() / finals.len() as f64);
            reached.push(steps_to);
        }
        for steps_to in reached {
            let steps: Vec<String> =
                steps_to.iter().map(|step| step.map_or("–".to_owned(), |step| step.to_string())).collect();
            row.push(steps.join(", "));
        }
        table.rows.push(row);
        differs.push((width, last[0] - last[1]));
    }
    report.tables.push(table);
    report.charts.push(Chart {
        title: "Loss with and without 1/√d_k".to_owned(),
        x: Axis::linear("step"),
        y: Axis::linear("loss, nats"),
        series: curves,
    });
    let same: Vec<String> =
        differs.iter().filter(|(_, gap)| gap.abs() < 0.02).map(|(width, _)| width.to_string()).collect();
    if !same.is_empty() {
        report.find(true, format!("at width {} training ends within 2 points either way", same.join(", ")));
    }
    let wide: Vec<&(usize, f64)> = differs.iter().filter(|(width, _)| *width >= 128).collect();
    let gaps: Vec<String> =
        wide.iter().map(|(width, gap)| format!("{:+.1} points at {width}", 100.0 * gap)).collect();
    report.find(
        wide.iter().all(|(_, gap)| *gap > 0.02),
        format!("from width 128 on training is better with the scale: {}", gaps.join(", ")),
    );
    report.limits.push(
        "projections start such that queries have unit variance; where they start smaller, or are normalised, the scale matters less, and an optimizer can make up for it in time",
    );
    Ok(())
}

pub(super) fn spread(numbers: &[f64]) -> String {
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if numbers.len() == 1 { format!("{mean:.3}") } else { format!("{mean:.3} ({least:.3}–{most:.3})") }
}

const LOOKUP_KEYS: u32 = 32;
const VALUES: u32 = 16;
const PAIRS: usize = 16;

fn lookup(width: usize, softmax_scale: Option<f32>, steps: u64, seed: u64) -> Result<Vec<Point>, TrainError> {
    let sizes = Sizes {
        vocabulary: (LOOKUP_KEYS * VALUES + LOOKUP_KEYS) as usize,
        classes: VALUES as usize,
        dim: width,
        state: 0,
        layers: 1,
        max_len: PAIRS + 1,
        feed_forward: false,
        mixer: Mixer::Attention { heads: 1, causal: false },
        positions: Positions::None,
        softmax_scale,
    };
    let trial = Trial { steps, batch_size: 64, learning_rate: 3e-3, seed, every: steps / 30, enough: 1.1 };
    Ok(train(&sizes, &Lookup { seed }, &trial, &mut |_, _| Ok(()))?.1)
}

/// Pairs of a key and a value, each one token, and at the end a key: its value is to be said.
struct Lookup {
    seed: u64,
}

impl Task for Lookup {
    fn batch(&self, number: u64, size: usize) -> Batch {
        let example = |index| {
            let mut rng = rng(self.seed, Purpose::Experiment, number, index);
            let mut keys: Vec<u32> = (0..LOOKUP_KEYS).collect();
            rng.shuffle(&mut keys);
            let values: Vec<u32> = (0..PAIRS).map(|_| rng.u32(..VALUES)).collect();
            let mut tokens: Vec<u32> =
                keys.iter().zip(&values).map(|(key, value)| key * VALUES + value).collect();
            let asked = rng.usize(..PAIRS);
            tokens.push(LOOKUP_KEYS * VALUES + keys[asked]);
            Example { tokens, labels: vec![(PAIRS, values[asked])] }
        };
        Batch::new(&(0..size as u64).map(example).collect::<Vec<_>>(), 0)
    }
}

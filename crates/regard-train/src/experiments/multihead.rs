//! Heads side by side: two things asked for at once, and what one softmax can say of them; and which of its heads a
//! finished model needs.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData};
use regard::AttentionConfig;
use regard_burn::{MultiHeadAttention, MultiHeadAttentionConfig};

use super::report::{Report, Table};
use super::scale::spread;
use super::{Note, Settings, pruning};
use crate::chart::{Axis, Chart, Series};
use crate::error::TrainError;
use crate::fit::{Schedule, clip};
use crate::model::initial::{draw, normal};
use crate::random::{Purpose, rng};

/// Keys there are; a text has all of them, in any order.
const KEYS: usize = 8;
/// Numbers of a value.
const VALUE: usize = 8;
const MODEL_DIM: usize = 64;
/// A token: which key it is, its value, and, in the last one, which two keys are asked for.
const TOKEN: usize = KEYS + VALUE + 2 * KEYS;
const HEADS: [usize; 4] = [1, 2, 4, 8];
/// The share of the variance that is left if both values are read through one average.
const FLOOR: f64 = 0.5;

/// One layer of attention between two linear maps.
#[derive(Module, Debug)]
struct Reader {
    input: Linear,
    attention: MultiHeadAttention,
    output: Linear,
}

pub(super) fn run(settings: &Settings, report: &mut Report, note: &mut Note<'_>) -> Result<(), TrainError> {
    let (steps, seeds) = if settings.quick { (200, 1) } else { (2000, 3) };
    let mut table = Table::new(
        &format!(
            "\"Return the values under two keys\", one layer of width {MODEL_DIM}: share of the values' variance not returned after {steps} steps, mean and range of {seeds} seed(s)"
        ),
        &["heads", "parameters", "not returned", "divergence between heads, bits"],
    );
    let mut losses = Vec::new();
    let mut divergences = Vec::new();
    let mut means = Vec::new();
    for heads in HEADS {
        let mut finals = Vec::new();
        let mut apart = Vec::new();
        let mut parameters = 0;
        for seed in 0..seeds {
            note(&format!("{heads} heads, seed {}", settings.seed + seed));
            let found = train(heads, steps, settings.seed + seed)?;
            parameters = found.parameters;
            let last = found.curve.last().copied().unwrap_or([f64::NAN; 3]);
            finals.push(last[1]);
            apart.push(last[2]);
            if seed == 0 {
                let points = |at: usize| found.curve.iter().map(|point| [point[0], point[at]]).collect();
                let name = if heads == 1 { "1 head".to_owned() } else { format!("{heads} heads") };
                losses.push(Series { name: name.clone(), points: points(1) });
                if heads > 1 {
                    divergences.push(Series { name, points: points(2) });
                }
            }
        }
        means.push(finals.iter().sum::<f64>() / finals.len() as f64);
        table.rows.push(vec![
            heads.to_string(),
            parameters.to_string(),
            spread(&finals),
            if heads == 1 { "–".to_owned() } else { spread(&apart) },
        ]);
    }
    report.tables.push(table);
    report.charts.push(Chart {
        title: "Variance of two values that one layer fails to return".to_owned(),
        x: Axis::linear("step"),
        y: Axis::linear("share of variance"),
        series: losses,
    });
    report.charts.push(Chart {
        title: "How far the heads' attention is apart, in the last row".to_owned(),
        x: Axis::linear("step"),
        y: Axis::linear("mean Jensen–Shannon divergence, bits"),
        series: divergences,
    });
    report.find(
        means[0] > FLOOR - 0.05,
        format!(
            "one head stays at what any single average leaves, {FLOOR}: {:.3} (p·v₁ + (1−p)·v₂ is one number in the place of two)",
            means[0]
        ),
    );
    report.find(
        means[1..].iter().all(|&mean| mean < 0.5 * means[0]),
        format!(
            "two heads and more get below half of that: {}",
            means[1..].iter().map(|mean| format!("{mean:.3}")).collect::<Vec<_>>().join(", ")
        ),
    );
    report.limits.push(
        "values are continuous and independent; where values come from a few words, unequal weights of one softmax can be told apart and one head may do; so may a second layer",
    );
    pruning::run(settings, report, note)
}

struct Trained {
    parameters: usize,
    /// Step, share of variance left, divergence between heads.
    curve: Vec<[f64; 3]>,
}

fn train(heads: usize, steps: u64, seed: u64) -> Result<Trained, TrainError> {
    let failed = |error: regard_burn::Error| TrainError::Attention(error.to_string());
    let device = Device::flex().autodiff();
    let reader = Reader {
        input: LinearConfig::new(TOKEN, MODEL_DIM).init(&device),
        attention: MultiHeadAttentionConfig::new(MODEL_DIM, heads).init(&device).map_err(failed)?,
        output: LinearConfig::new(MODEL_DIM, 2 * VALUE).init(&device),
    };
    let mut reader = draw(reader, seed, &device);
    let parameters = reader.num_params();
    let mut optimizer = AdamWConfig::new().with_weight_decay(0.0).with_epsilon(1e-8).init();
    let schedule = Schedule { peak: 3e-3, warmup: steps / 20, steps };
    let mut curve = Vec::new();
    let every = (steps / 20).max(1);
    for step in 0..steps {
        if step % every == 0 {
            curve.push(measure(&reader, step, seed)?);
        }
        let (tokens, wanted) = texts(64, seed, step, &device);
        let error = reader.read(tokens).map_err(failed)?.sub(wanted).square().mean();
        let mut gradients = GradientsParams::from_grads(error.backward(), &reader);
        clip::clip(&reader, &mut gradients, 1.0);
        reader = optimizer.step(schedule.rate(step), reader, gradients);
    }
    curve.push(measure(&reader, steps, seed)?);
    Ok(Trained { parameters, curve })
}

impl Reader {
    fn read(&self, tokens: Tensor<3>) -> Result<Tensor<2>, regard_burn::Error> {
        let [batch_size, seq_len, _] = tokens.dims();
        let mixed = self.attention.forward(self.input.forward(tokens), &AttentionConfig::new())?;
        let last = mixed.slice([0..batch_size, seq_len - 1..seq_len]).reshape([batch_size, MODEL_DIM]);
        Ok(self.output.forward(last))
    }
}

/// Step, mean square error over new texts (the variance of a value's numbers is 1), and divergence.
fn measure(reader: &Reader, step: u64, seed: u64) -> Result<[f64; 3], TrainError> {
    let failed = |error: regard_burn::Error| TrainError::Attention(error.to_string());
    let (reader, device) = (reader.clone().valid(), Device::flex());
    let (tokens, wanted) = texts(256, seed, u64::MAX - 1, &device);
    let error = reader.read(tokens.clone()).map_err(failed)?.sub(wanted).square().mean();
    let [query, key, _] = reader.attention.heads(reader.input.forward(tokens)).map_err(failed)?;
    Ok([step as f64, f64::from(error.into_scalar::<f32>()), divergence(query, key)])
}

/// Mean generalised Jensen–Shannon divergence of the heads' last rows in bits (Lin 1991, equation 5.1, equal weights).
fn divergence(query: Tensor<4>, key: Tensor<4>) -> f64 {
    let [batch_size, heads, seq_len, head_dim] = query.dims();
    let last = query.slice([0..batch_size, 0..heads, seq_len - 1..seq_len]);
    let scores = last.matmul(key.swap_dims(2, 3)).div_scalar((head_dim as f64).sqrt());
    let scores: Vec<f32> = scores.into_data().try_into_vec().unwrap_or_default();
    let entropy = |probs: &[f64]| -probs.iter().filter(|p| **p > 0.0).map(|p| p * p.log2()).sum::<f64>();
    let mut sum = 0.0;
    for text in scores.chunks_exact(heads * seq_len) {
        let mut mean = vec![0.0; seq_len];
        let mut own = 0.0;
        for row in text.chunks_exact(seq_len) {
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exps: Vec<f64> = row.iter().map(|score| f64::from(score - most).exp()).collect();
            let total: f64 = exps.iter().sum();
            let probs: Vec<f64> = exps.iter().map(|exp| exp / total).collect();
            own += entropy(&probs) / heads as f64;
            mean.iter_mut().zip(&probs).for_each(|(mean, p)| *mean += p / heads as f64);
        }
        sum += entropy(&mean) - own;
    }
    sum / batch_size as f64
}

/// Tokens `[size, KEYS + 1, TOKEN]` and the two values wanted, `[size, 2 · VALUE]`.
fn texts(size: usize, seed: u64, step: u64, device: &Device) -> (Tensor<3>, Tensor<2>) {
    let mut tokens = Vec::with_capacity(size * (KEYS + 1) * TOKEN);
    let mut wanted: Vec<f32> = Vec::with_capacity(size * 2 * VALUE);
    for index in 0..size as u64 {
        let mut rng = rng(seed, Purpose::Experiment, step, index);
        let mut keys: Vec<usize> = (0..KEYS).collect();
        rng.shuffle(&mut keys);
        let values: Vec<[f32; VALUE]> =
            keys.iter().map(|_| std::array::from_fn(|_| normal(&mut rng) as f32)).collect();
        for (&key, value) in keys.iter().zip(&values) {
            let mut token = [0.0; TOKEN];
            token[key] = 1.0;
            token[KEYS..KEYS + VALUE].copy_from_slice(value);
            tokens.extend(token);
        }
        let first = rng.usize(..KEYS);
        let second = (first + rng.usize(1..KEYS)) % KEYS;
        let mut token = [0.0; TOKEN];
        token[KEYS + VALUE + keys[first]] = 1.0;
        token[2 * KEYS + VALUE + keys[second]] = 1.0;
        tokens.extend(token);
        wanted.extend(values[first].iter().chain(&values[second]));
    }
    let tokens = Tensor::from_data(TensorData::new(tokens, [size, KEYS + 1, TOKEN]), device);
    (tokens, Tensor::from_data(TensorData::new(wanted, [size, 2 * VALUE]), device))
}

//! One row of one head, from query·key to what it adds to the hidden states, in f64.

use std::ops::Range;

use regard::TensorView;
use regard::layer::Linear;
use regard::reference::Reference;

use super::Verifier;
use crate::error::LensError;
use crate::model::Model;
use crate::observer::{AttentionObserver, LayerAttention};
use crate::token::TokenizedText;
use crate::view::{HeadId, Verification};

/// softmax(q·k / √d_k)·V·W_o for one query of one head (Vaswani et al. 2017, equation 1 and section 3.2.2), computed
/// in f64 from the query, keys and values that the kernel was given, beside what the kernel made of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// Which head.
    pub head: HeadId,
    /// The query's token.
    pub query: usize,
    /// Numbers of a query and of a key.
    pub head_dim: usize,
    /// Multiplies q·k; the f32 that the kernel uses.
    pub softmax_scale: f64,
    /// The key head that this query head reads, of [`Self::num_kv_heads`].
    pub kv_head: usize,
    /// Key heads of the layer.
    pub num_kv_heads: usize,
    /// Every key, in text order.
    pub keys: Vec<ExplainedKey>,
    /// The largest scaled score.
    pub max_score: f64,
    /// Σ e^(score − max) over the keys that the query may see.
    pub sum_exp: f64,
    /// Where the head's output lies among the numbers that all heads of the layer write side by side.
    pub slot: Range<usize>,
    /// How many those are.
    pub slots: usize,
    /// Length of what this head adds to the hidden states: ‖o·W_o‖, o the head's output.
    pub head_size: f64,
    /// Length of what the whole layer adds: all heads and the bias.
    pub layer_size: f64,
    /// The part of the layer's sum that lies along it and comes from this head, y_h·y / ‖y‖²: negative where the head
    /// works against the rest. The parts of all heads and of the bias sum to 1. `None` if the sum is 0.
    pub share: Option<f64>,
    /// The largest |f64 − kernel| of the row's probabilities.
    pub probs_error: f64,
    /// The same of the head's output.
    pub output_error: f64,
    /// The same of the natural log of Σ e^score.
    pub log_sum_exp_error: f64,
    /// The check of sampled rows of the whole run.
    pub verification: Verification,
}

/// One key of an [`Explained`] row.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedKey {
    /// The key's token.
    pub key: usize,
    /// The probability as the kernel gives it.
    pub kernel_prob: f32,
    /// The steps; `None` if the mask hides the key from the query.
    pub seen: Option<SeenKey>,
}

/// The steps from a query and a key to what the key's value adds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeenKey {
    /// q·k, after biases and rotary positions.
    pub dot: f64,
    /// q·k times the scale.
    pub score: f64,
    /// e^(score − largest score).
    pub exp: f64,
    /// exp / Σ exp.
    pub prob: f64,
    /// ‖v·W_o‖: the length of the key's value after the output projection.
    pub value_size: f64,
    /// prob·‖v·W_o‖: the length of what the key adds to the hidden states (Kobayashi et al. 2020, equation 5).
    pub added: f64,
}

/// Explains one row of one head of a text.
///
/// # Errors
/// [`LensError::NoSuchHead`]; [`LensError::Attention`] if there is no such token; [`LensError::Observer`] if the row
/// is not finite; as [`Model::run`].
pub fn explain(
    model: &Model,
    tokens: &TokenizedText,
    head: HeadId,
    query: usize,
) -> Result<Explained, LensError> {
    let mut explainer = Explainer { head, query, explained: None, verifier: Verifier::default() };
    model.run(tokens, &mut explainer)?;
    let verification = explainer.verifier.0;
    let info = model.info();
    let found = explainer.explained.map(|explained| Explained { verification, ..explained });
    found.ok_or(LensError::NoSuchHead { head, layers: info.layers, heads: info.heads })
}

struct Explainer {
    head: HeadId,
    query: usize,
    explained: Option<Explained>,
    verifier: Verifier,
}

impl AttentionObserver for Explainer {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        self.verifier.layer(attention)?;
        if attention.layer == self.head.layer && self.head.head < attention.query.shape()[1] {
            self.explained = Some(row(attention, self.head, self.query)?);
        }
        Ok(())
    }
}

fn row(attention: &LayerAttention<'_>, id: HeadId, query: usize) -> Result<Explained, LensError> {
    let head = id.head;
    let [_, heads, tokens, head_dim] = attention.query.shape();
    let [_, kv_heads, _, value_dim] = attention.value.shape();
    let kv_head = head / (heads / kv_heads);
    let (q, k, v) = (attention.query, attention.key, attention.value);
    let expected = Reference::<f64>::new(q, k, v, &attention.config)?.row([0, head, query])?;
    let mut kernel_probs = vec![0.0; tokens];
    attention.probs(head, query..query + 1, &mut kernel_probs)?;

    let scale = attention.config.softmax_scale.unwrap_or_else(|| (head_dim as f32).sqrt().recip());
    let scale = f64::from(scale);
    let slot = head * value_dim..(head + 1) * value_dim;
    let projection = attention.output_projection;
    let query_row = wide_row(&q, [head, query]);
    let mut keys = Vec::with_capacity(tokens);
    for (key, &kernel_prob) in kernel_probs.iter().enumerate() {
        let seen = expected.allowed[key].then(|| {
            let dot = dot(&query_row, &wide_row(&k, [kv_head, key]));
            let value_size = length(&projected(projection, &slot, &wide_row(&v, [kv_head, key])));
            SeenKey { dot, score: scale * dot, exp: 0.0, prob: 0.0, value_size, added: 0.0 }
        });
        keys.push(ExplainedKey { key, kernel_prob, seen });
    }
    let seen = || keys.iter().filter_map(|key| key.seen);
    let max_score = seen().map(|seen| seen.score).fold(f64::NEG_INFINITY, f64::max);
    let sum_exp: f64 = seen().map(|seen| (seen.score - max_score).exp()).sum();
    if !sum_exp.is_finite() || sum_exp == 0.0 {
        let problem =
            format!("{id} has a row that is not a number; the model's weights hold NaN or infinite numbers");
        return Err(LensError::Observer(problem.into()));
    }
    for seen in keys.iter_mut().filter_map(|key| key.seen.as_mut()) {
        seen.exp = (seen.score - max_score).exp();
        seen.prob = seen.exp / sum_exp;
        seen.added = seen.prob * seen.value_size;
    }

    let kernel_output = wide_row(&attention.output, [head, query]);
    let (head_adds, layer_adds) = added(attention, &expected.output, [head, query]);
    let layer_size = length(&layer_adds);
    let largest = |errors: &mut dyn Iterator<Item = f64>| {
        errors.fold(0.0, |worst: f64, error| if error <= worst { worst } else { error })
    };
    let prob_of = |key: &ExplainedKey| key.seen.map_or(0.0, |seen| seen.prob);
    Ok(Explained {
        head: id,
        query,
        head_dim,
        softmax_scale: scale,
        kv_head,
        num_kv_heads: kv_heads,
        max_score,
        sum_exp,
        slots: heads * value_dim,
        slot,
        head_size: length(&head_adds),
        layer_size,
        share: (layer_size > 0.0).then(|| dot(&head_adds, &layer_adds) / (layer_size * layer_size)),
        probs_error: largest(&mut keys.iter().map(|key| (prob_of(key) - f64::from(key.kernel_prob)).abs())),
        output_error: largest(
            &mut expected.output.iter().zip(&kernel_output).map(|(right, found)| (right - found).abs()),
        ),
        log_sum_exp_error: {
            let found = f64::from(attention.log_sum_exp[head * tokens + query]);
            (max_score + sum_exp.ln() - found).abs()
        },
        keys,
        verification: Verification::default(),
    })
}

/// What one head, with the output given, and the whole layer add to one row of the hidden states.
fn added(attention: &LayerAttention<'_>, output: &[f64], [head, query]: [usize; 2]) -> (Vec<f64>, Vec<f64>) {
    let (projection, dim) = (attention.output_projection, output.len());
    let slot = |head: usize| head * dim..(head + 1) * dim;
    let head_adds = projected(projection, &slot(head), output);
    let mut sum = head_adds.clone();
    for other in (0..attention.output.shape()[1]).filter(|&other| other != head) {
        let adds = projected(projection, &slot(other), &wide_row(&attention.output, [other, query]));
        sum.iter_mut().zip(adds).for_each(|(sum, adds)| *sum += adds);
    }
    if let Some(bias) = projection.bias() {
        sum.iter_mut().zip(bias).for_each(|(sum, &bias)| *sum += f64::from(bias));
    }
    (head_adds, sum)
}

/// The part of the output projection, `[out_features]`, that comes from the numbers of one slot.
fn projected(projection: &Linear, slot: &Range<usize>, numbers: &[f64]) -> Vec<f64> {
    let rows = projection.weight().chunks_exact(projection.in_features().max(1));
    rows.map(|row| row[slot.clone()].iter().zip(numbers).map(|(&w, x)| f64::from(w) * x).sum()).collect()
}

fn wide_row(view: &TensorView<'_, f32>, [head, row]: [usize; 2]) -> Vec<f64> {
    (0..view.shape()[3]).map(|element| f64::from(view.at([0, head, row, element]))).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn length(vector: &[f64]) -> f64 {
    dot(vector, vector).sqrt()
}

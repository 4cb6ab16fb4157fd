use std::ops::{Add, Div, Mul, Sub};

use crate::config::AttentionConfig;
use crate::element::Element;
use crate::error::AttentionError;
use crate::mask::{Mask, QueryPosition};
use crate::shape::AttentionShape;
use crate::view::TensorView;

/// A number type that the textbook can be worked in: `f64`, or `f32` for the naive comparison.
pub trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Send
    + 'static
{
    /// The number of a given f64, rounded.
    fn from_f64(number: f64) -> Self;
    /// The number widened.
    fn to_f64(self) -> f64;
    /// e to the power of the number.
    fn exp(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
}

macro_rules! real {
    ($type:ty) => {
        impl Real for $type {
            fn from_f64(number: f64) -> Self {
                number as $type
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn exp(self) -> Self {
                <$type>::exp(self)
            }
            fn ln(self) -> Self {
                <$type>::ln(self)
            }
        }
    };
}
real!(f32);
real!(f64);

/// One attention row by the textbook.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceRow<R> {
    /// Probabilities of all keys, `[seq_len_kv]`; 0 where not allowed.
    pub probs: Vec<R>,
    /// Whether each key is allowed, `[seq_len_kv]`.
    pub allowed: Vec<bool>,
    /// Natural log of the summed exponentials of the allowed scores; −∞ if there is none.
    pub log_sum_exp: R,
    /// The weighted sum of the values, `[value_head_dim]`.
    pub output: Vec<R>,
    /// The largest finite |score| among the allowed keys, 0 if there is none.
    pub max_abs_score: f64,
    /// The largest Σ_c |scale·q_c·k_c| + |bias| of an allowed score: the size of the terms it is summed from.
    pub max_score_terms: f64,
    /// The largest Σ_j |p_j·v_j| of an output element: the size of the terms it is summed from.
    pub max_output_terms: f64,
}

/// All attention rows by the textbook.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceOutput<R> {
    /// `[batch_size, num_heads, seq_len_q, value_head_dim]`, contiguous.
    pub output: Vec<R>,
    /// `[batch_size, num_heads, seq_len_q]`.
    pub log_sum_exp: Vec<R>,
    /// The largest finite |score| of each row, `[batch_size, num_heads, seq_len_q]`.
    pub max_abs_score: Vec<f64>,
    /// [`ReferenceRow::max_score_terms`] of each row, `[batch_size, num_heads, seq_len_q]`.
    pub max_score_terms: Vec<f64>,
    /// [`ReferenceRow::max_output_terms`] of each row, `[batch_size, num_heads, seq_len_q]`.
    pub max_output_terms: Vec<f64>,
}

/// Attention(Q, K, V) = softmax(QKᵀ/√d_k)·V in three loops (Vaswani et al. 2017, equation 1).
///
/// # Errors
/// As for [`crate::attention`].
pub fn forward<R: Real, Q: Element, KV: Element>(
    query: TensorView<'_, Q>,
    key: TensorView<'_, KV>,
    value: TensorView<'_, KV>,
    config: &AttentionConfig<'_>,
) -> Result<ReferenceOutput<R>, AttentionError> {
    let shape = AttentionShape::new(query.shape(), key.shape(), value.shape())?;
    config.check(&shape)?;
    let mut all = ReferenceOutput {
        output: vec![],
        log_sum_exp: vec![],
        max_abs_score: vec![],
        max_score_terms: vec![],
        max_output_terms: vec![],
    };
    for batch in 0..shape.batch_size {
        for head in 0..shape.num_heads {
            for i in 0..shape.seq_len_q {
                let row = row::<R, Q, KV>(query, key, value, config, [batch, head, i])?;
                all.output.extend(row.output);
                all.log_sum_exp.push(row.log_sum_exp);
                all.max_abs_score.push(row.max_abs_score);
                all.max_score_terms.push(row.max_score_terms);
                all.max_output_terms.push(row.max_output_terms);
            }
        }
    }
    Ok(all)
}

/// One row of [`forward`], at `[batch, head, query row]`.
///
/// # Errors
/// As for [`forward`].
pub fn row<R: Real, Q: Element, KV: Element>(
    query: TensorView<'_, Q>,
    key: TensorView<'_, KV>,
    value: TensorView<'_, KV>,
    config: &AttentionConfig<'_>,
    [batch, head, i]: [usize; 3],
) -> Result<ReferenceRow<R>, AttentionError> {
    let shape = AttentionShape::new(query.shape(), key.shape(), value.shape())?;
    let scale = R::from_f64(f64::from(config.check(&shape)?.scale));
    let sizes =
        [("batch", batch, shape.batch_size), ("head", head, shape.num_heads), ("row", i, shape.seq_len_q)];
    for (what, index, found) in sizes {
        if index >= found {
            return Err(AttentionError::OutOfBounds { what, needed: index.saturating_add(1), found });
        }
    }
    let kv_head = head / shape.group_size();
    let zero = R::from_f64(0.0);
    let wide = |x: f32| R::from_f64(f64::from(x));

    // Scores of the allowed keys.
    let mut scores: Vec<Option<R>> = vec![None; shape.seq_len_kv];
    let mut max_score_terms = 0.0f64;
    for (j, score) in scores.iter_mut().enumerate() {
        let bias = config.attention_bias.map(|bias| broadcast_at(&bias, [batch, head, i, j]));
        if !is_allowed(&config.mask, &shape, [batch, head, i, j]) || bias == Some(f32::NEG_INFINITY) {
            continue;
        }
        let mut dot = zero;
        let mut terms = f64::from(bias.unwrap_or(0.0).abs());
        for c in 0..shape.head_dim {
            let (q, k) = (query.at([batch, head, i, c]), key.at([batch, kv_head, j, c]));
            let term = wide(q.to_f32()) * wide(k.to_f32());
            dot = dot + term;
            terms += (scale * term).to_f64().abs();
        }
        max_score_terms = max_score_terms.max(terms);
        let scaled = scale * dot;
        *score = Some(bias.map_or(scaled, |bias| scaled + wide(bias)));
    }

    // Softmax over them.
    let mut max = R::from_f64(f64::NEG_INFINITY);
    let mut max_abs_score = 0.0f64;
    for &score in scores.iter().flatten() {
        if score > max {
            max = score;
        }
        if score.to_f64().is_finite() {
            max_abs_score = max_abs_score.max(score.to_f64().abs());
        }
    }
    let mut sum = zero;
    let mut probs = vec![zero; shape.seq_len_kv];
    for (prob, score) in probs.iter_mut().zip(&scores) {
        if let Some(score) = *score {
            *prob = (score - max).exp();
            sum = sum + *prob;
        }
    }
    let any_allowed = scores.iter().any(Option::is_some);
    let log_sum_exp = if any_allowed { max + sum.ln() } else { R::from_f64(f64::NEG_INFINITY) };

    // The weighted sum of their values.
    let mut output = vec![zero; shape.value_head_dim];
    let mut term_sums = vec![0.0f64; shape.value_head_dim];
    for (j, (prob, score)) in probs.iter_mut().zip(&scores).enumerate() {
        if score.is_none() {
            continue;
        }
        *prob = *prob / sum;
        for (c, out) in output.iter_mut().enumerate() {
            let term = *prob * wide(value.at([batch, kv_head, j, c]).to_f32());
            *out = *out + term;
            term_sums[c] += term.to_f64().abs();
        }
    }
    let max_output_terms = term_sums.into_iter().fold(0.0, f64::max);
    let allowed = scores.iter().map(Option::is_some).collect();
    Ok(ReferenceRow { probs, allowed, log_sum_exp, output, max_abs_score, max_score_terms, max_output_terms })
}

/// The mask by its definition: query i is at p = i + offset; causal is j ≤ p; a window is
/// p − left ≤ j ≤ p + right; j must be inside the sequence and kept.
fn is_allowed(mask: &Mask<'_>, shape: &AttentionShape, [batch, head, i, j]: [usize; 4]) -> bool {
    let length = match mask.key_lengths {
        None => shape.seq_len_kv,
        Some(lengths) => lengths[if lengths.len() == 1 { 0 } else { batch }],
    };
    let offset = match mask.position {
        QueryPosition::TopLeft => 0,
        QueryPosition::BottomRight => length as i128 - shape.seq_len_q as i128,
        QueryPosition::Offset(offset) => i128::from(offset),
        QueryPosition::OffsetPerSequence(offsets) => i128::from(offsets[batch]),
    };
    let (p, at) = (i as i128 + offset, j as i128);
    let in_sequence = j < length;
    let causal = !mask.causal || at <= p;
    let window = mask.window.is_none_or(|w| p - w.left as i128 <= at && at <= p + w.right as i128);
    let kept = mask.keep.is_none_or(|keep| broadcast_at(&keep, [batch, head, i, j]));
    in_sequence && causal && window && kept
}

fn broadcast_at<T: Copy>(view: &TensorView<'_, T>, index: [usize; 4]) -> T {
    let shape = view.shape();
    view.at(std::array::from_fn(|axis| if shape[axis] == 1 { 0 } else { index[axis] }))
}

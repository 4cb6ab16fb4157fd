use super::{Real, Reference, wide};
use crate::error::AttentionError;

/// One attention row by the textbook.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceRow<R> {
    /// Probabilities of all keys before dropout, `[seq_len_kv]`; 0 where not allowed. With a sink they sum to less
    /// than 1.
    pub probs: Vec<R>,
    /// Whether each key is allowed, `[seq_len_kv]`.
    pub allowed: Vec<bool>,
    /// Natural log of the summed exponentials of the allowed scores, the sink not among them; −∞ if there is
    /// none.
    pub log_sum_exp: R,
    /// The weighted sum of the values, `[value_head_dim]`.
    pub output: Vec<R>,
    /// The probability of the sink.
    pub sink_prob: R,
    /// The largest finite |score| among the allowed keys, 0 if there is none.
    pub max_abs_score: f64,
    /// The largest Σ_c |scale·q_c·k_c| + |biases| of an allowed score: the size of the terms it is summed from.
    pub max_score_terms: f64,
    /// The largest Σ_j |p_j·v_j| of an output element: the size of the terms it is summed from.
    pub max_output_terms: f64,
    /// The score of each allowed key, `[seq_len_kv]`.
    pub(super) scores: Vec<Option<R>>,
    /// The derivative of each capped score by the uncapped one, `[seq_len_kv]`: 1 without a cap.
    pub(super) cap_slopes: Vec<R>,
    /// Probabilities as if there were no sink, `[seq_len_kv]`.
    pub(super) probs_without_sink: Vec<R>,
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

/// The scores of one row and what they are made of.
struct Scores<R> {
    /// `None` where not allowed.
    scores: Vec<Option<R>>,
    cap_slopes: Vec<R>,
    max_terms: f64,
}

impl<R: Real> Reference<'_, R> {
    /// Attention(Q, K, V) = softmax(QKᵀ/√d_k)·V in three loops (Vaswani et al. 2017, equation 1).
    pub fn forward(&self) -> ReferenceOutput<R> {
        let mut all = ReferenceOutput {
            output: vec![],
            log_sum_exp: vec![],
            max_abs_score: vec![],
            max_score_terms: vec![],
            max_output_terms: vec![],
        };
        for at in self.rows() {
            let row = self.row_inside(at);
            all.output.extend(row.output);
            all.log_sum_exp.push(row.log_sum_exp);
            all.max_abs_score.push(row.max_abs_score);
            all.max_score_terms.push(row.max_score_terms);
            all.max_output_terms.push(row.max_output_terms);
        }
        all
    }

    /// One row of [`Self::forward`], at `[batch, head, query row]`.
    ///
    /// # Errors
    /// [`AttentionError::OutOfBounds`] if there is no such row.
    pub fn row(&self, at: [usize; 3]) -> Result<ReferenceRow<R>, AttentionError> {
        let shape = &self.shape;
        let sizes = [
            ("batch", at[0], shape.batch_size),
            ("head", at[1], shape.num_heads),
            ("row", at[2], shape.seq_len_q),
        ];
        for (what, index, found) in sizes {
            if index >= found {
                return Err(AttentionError::OutOfBounds { what, needed: index.saturating_add(1), found });
            }
        }
        Ok(self.row_inside(at))
    }

    /// Every row's `[batch, head, query row]`, in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = [usize; 3]> + use<R> {
        let (heads, rows) = (self.shape.num_heads, self.shape.seq_len_q);
        let all = self.shape.batch_size * heads * rows;
        (0..all).map(move |index| [index / (heads * rows), index / rows % heads, index % rows])
    }

    /// Scores of the allowed keys: scale·q·k, capped, plus biases.
    fn scores(&self, at: [usize; 3]) -> Scores<R> {
        let (head_dim, one) = (self.shape.head_dim, R::from_f64(1.0));
        let query = &self.query[self.query_row(at) * head_dim..][..head_dim];
        let mut scores = vec![None; self.shape.seq_len_kv];
        let mut cap_slopes = vec![one; self.shape.seq_len_kv];
        let mut max_terms = 0.0f64;
        for (j, (place, cap_slope)) in scores.iter_mut().zip(&mut cap_slopes).enumerate() {
            let alibi = self.config.alibi_slopes.map(|slopes| {
                let distance = (self.position(at) - j as i128).unsigned_abs() as f64;
                R::from_f64(-f64::from(slopes[at[1]]) * distance)
            });
            let relative = self.relative_index(at, j).map(|index| self.relative_bias[index]);
            let bias = self.config.attention_bias.map(|_| self.attention_bias[self.bias_index(at, j)]);
            let biases = [alibi, relative, bias].into_iter().flatten();
            let forbidden = biases.clone().any(|bias| bias.to_f64() == f64::NEG_INFINITY);
            if !self.is_allowed(at, j) || forbidden {
                continue;
            }
            let key = &self.key[self.key_row(at, j) * head_dim..][..head_dim];
            let mut dot = R::from_f64(0.0);
            let mut terms = 0.0;
            for (&q, &k) in query.iter().zip(key) {
                dot = dot + q * k;
                terms += (self.scale * (q * k)).to_f64().abs();
            }
            let mut score = self.scale * dot;
            if let Some(cap) = self.config.softcap {
                let x = score / wide(cap);
                // 1 − tanh²(x) without its cancellation: 4e/(1 + e)² with e = e^(−2|x|).
                let size = if x < R::from_f64(0.0) { R::from_f64(0.0) - x } else { x };
                let e = (R::from_f64(-2.0) * size).exp();
                *cap_slope = R::from_f64(4.0) * e / ((one + e) * (one + e));
                score = wide::<R>(cap) * x.tanh();
            }
            for bias in biases {
                score = score + bias;
                terms += bias.to_f64().abs();
            }
            max_terms = max_terms.max(terms);
            *place = Some(score);
        }
        Scores { scores, cap_slopes, max_terms }
    }

    pub(super) fn row_inside(&self, at: [usize; 3]) -> ReferenceRow<R> {
        let (zero, one) = (R::from_f64(0.0), R::from_f64(1.0));
        let Scores { scores, cap_slopes, max_terms: max_score_terms } = self.scores(at);

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
        let mut probs = vec![zero; self.shape.seq_len_kv];
        for (prob, score) in probs.iter_mut().zip(&scores) {
            if let Some(score) = *score {
                *prob = (score - max).exp();
                sum = sum + *prob;
            }
        }
        let any_allowed = scores.iter().any(Option::is_some);
        let log_sum_exp = if any_allowed { max + sum.ln() } else { R::from_f64(f64::NEG_INFINITY) };

        // The sink takes its share: e^sink / (e^sink + e^log_sum_exp).
        let (mut share, mut sink_prob) = (one, zero);
        if let Some(&sink) = self.sinks.get(at[1])
            && any_allowed
        {
            share = one / (one + (sink - log_sum_exp).exp());
            sink_prob = one / (one + (log_sum_exp - sink).exp());
        }

        // The weighted sum of their values.
        let value_dim = self.shape.value_head_dim;
        let mut probs_without_sink = vec![zero; probs.len()];
        let mut output = vec![zero; value_dim];
        let mut term_sums = vec![0.0f64; value_dim];
        for (j, (prob, score)) in probs.iter_mut().zip(&scores).enumerate() {
            if score.is_none() {
                continue;
            }
            probs_without_sink[j] = *prob / sum;
            *prob = probs_without_sink[j] * share;
            let weight = *prob * self.dropout_multiplier(at, j);
            let value = &self.value[self.key_row(at, j) * value_dim..][..value_dim];
            for ((out, terms), &v) in output.iter_mut().zip(&mut term_sums).zip(value) {
                *out = *out + weight * v;
                *terms += (weight * v).to_f64().abs();
            }
        }
        let max_output_terms = term_sums.into_iter().fold(0.0, f64::max);
        ReferenceRow {
            probs,
            allowed: scores.iter().map(Option::is_some).collect(),
            log_sum_exp,
            output,
            sink_prob,
            max_abs_score,
            max_score_terms,
            max_output_terms,
            scores,
            cap_slopes,
            probs_without_sink,
        }
    }
}

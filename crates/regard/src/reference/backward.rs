use super::{Real, Reference};

/// What a loss gives back to an attention call: its derivatives by what the call returned.
#[derive(Debug, Clone, PartialEq)]
pub struct Cotangents<R> {
    /// `[batch_size, num_heads, seq_len_q, value_head_dim]`, contiguous.
    pub d_output: Vec<R>,
    /// `[batch_size, num_heads, seq_len_q]`; empty if the loss does not use the log-sum-exp.
    pub d_log_sum_exp: Vec<R>,
}

/// A gradient and the size of what was summed into it.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient<R> {
    /// The gradient.
    pub sum: Vec<R>,
    /// Σ |term| of each element, the terms being products with the gradients of scores.
    pub terms: Vec<f64>,
    /// The same with the gradients of scores themselves replaced by the size of what they are summed from.
    pub all_terms: Vec<f64>,
}

impl<R: Real> Gradient<R> {
    fn zeros(len: usize) -> Self {
        Self { sum: vec![R::from_f64(0.0); len], terms: vec![0.0; len], all_terms: vec![0.0; len] }
    }

    /// Adds `factor · number`, the factor being summed from terms of size `factor_terms`.
    fn add(&mut self, index: usize, (factor, factor_terms): (R, f64), number: R) {
        self.sum[index] = self.sum[index] + factor * number;
        self.terms[index] += (factor * number).to_f64().abs();
        self.all_terms[index] += factor_terms * number.to_f64().abs();
    }
}

/// The gradients of all inputs by the textbook.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceGradients<R> {
    /// `[batch_size, num_heads, seq_len_q, head_dim]`.
    pub d_query: Gradient<R>,
    /// `[batch_size, num_kv_heads, seq_len_kv, head_dim]`.
    pub d_key: Gradient<R>,
    /// `[batch_size, num_kv_heads, seq_len_kv, value_head_dim]`.
    pub d_value: Gradient<R>,
    /// In the shape of the additive bias, summed over its axes of size 1; empty without one.
    pub d_attention_bias: Gradient<R>,
    /// In the shape of the table of the relative bias; empty without one.
    pub d_relative_bias: Gradient<R>,
    /// `[num_heads]`; empty without sinks.
    pub d_sinks: Gradient<R>,
}

impl<R: Real> Reference<'_, R> {
    /// The gradients of the inputs: with p the probabilities, m what dropout multiplies them with, and
    /// o = Σ_j p_j·m_j·v_j,
    ///
    /// - d_value_j = Σ_i p_ij·m_ij·d_output_i,
    /// - d_score_ij = p_ij·(m_ij·d_output_i·v_j − d_output_i·o_i) + e^(score_ij − log_sum_exp_i)·d_log_sum_exp_i,
    /// - d_query_i = scale·Σ_j d_score_ij·k_j and d_key_j = scale·Σ_i d_score_ij·q_i, through the cap where there
    ///   is one,
    /// - d_sink = −Σ_i p_sink,i·d_output_i·o_i.
    ///
    /// A pair of query and key that is not allowed takes no part.
    ///
    /// # Panics
    /// If the cotangents are not of the call's shape.
    pub fn backward(&self, cotangents: &Cotangents<R>) -> ReferenceGradients<R> {
        let (head_dim, value_dim, one) = (self.shape.head_dim, self.shape.value_head_dim, R::from_f64(1.0));
        let mut gradients = ReferenceGradients {
            d_query: Gradient::zeros(self.query.len()),
            d_key: Gradient::zeros(self.key.len()),
            d_value: Gradient::zeros(self.value.len()),
            d_attention_bias: Gradient::zeros(self.attention_bias.len()),
            d_relative_bias: Gradient::zeros(self.relative_bias.len()),
            d_sinks: Gradient::zeros(self.sinks.len()),
        };
        for at in self.rows() {
            let row = self.row_inside(at);
            let query_row = self.query_row(at);
            let d_output = &cotangents.d_output[query_row * value_dim..][..value_dim];
            let d_lse = cotangents.d_log_sum_exp.get(query_row).copied();
            let (output_dot, output_terms) = dot(d_output, &row.output);
            if !self.sinks.is_empty() && row.allowed.contains(&true) {
                let factor = R::from_f64(-1.0) * row.sink_prob;
                let terms = row.sink_prob.to_f64() * output_terms;
                gradients.d_sinks.add(at[1], (factor * output_dot, terms), one);
            }
            for j in (0..self.shape.seq_len_kv).filter(|&j| row.allowed[j]) {
                let (prob, key_row) = (row.probs[j], self.key_row(at, j));
                let multiplier = self.dropout_multiplier(at, j);
                let value = &self.value[key_row * value_dim..][..value_dim];
                for (c, &d_o) in d_output.iter().enumerate() {
                    let weight = prob * multiplier;
                    gradients.d_value.add(key_row * value_dim + c, (weight, weight.to_f64()), d_o);
                }
                let (value_dot, value_terms) = dot(d_output, value);
                let mut d_score = prob * (multiplier * value_dot - output_dot);
                let mut terms = prob.to_f64() * (multiplier.to_f64() * value_terms + output_terms);
                if let Some(d_lse) = d_lse {
                    let term = row.probs_without_sink[j] * d_lse;
                    d_score = d_score + term;
                    terms += term.to_f64().abs();
                }
                if !self.attention_bias.is_empty() {
                    gradients.d_attention_bias.add(self.bias_index(at, j), (d_score, terms), one);
                }
                if let Some(index) = self.relative_index(at, j) {
                    gradients.d_relative_bias.add(index, (d_score, terms), one);
                }
                let slope = self.scale * row.cap_slopes[j];
                let factor = (slope * d_score, slope.to_f64().abs() * terms);
                for c in 0..head_dim {
                    let (q, k) = (query_row * head_dim + c, key_row * head_dim + c);
                    gradients.d_query.add(q, factor, self.key[k]);
                    gradients.d_key.add(k, factor, self.query[q]);
                }
            }
        }
        gradients
    }
}

/// a·b and Σ |a_c·b_c|.
fn dot<R: Real>(a: &[R], b: &[R]) -> (R, f64) {
    let mut sum = (R::from_f64(0.0), 0.0);
    for (&a, &b) in a.iter().zip(b) {
        sum = (sum.0 + a * b, sum.1 + (a * b).to_f64().abs());
    }
    sum
}

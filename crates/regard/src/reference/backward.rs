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
    /// Σ |term| of each element, the gradients of scores counted as the products they are the difference of.
    pub terms: Vec<f64>,
    /// The same with these products, which are sums over `value_head_dim`, counted by their own terms.
    pub all_terms: Vec<f64>,
}

impl<R: Real> Gradient<R> {
    fn zeros(len: usize) -> Self {
        Self { sum: vec![R::from_f64(0.0); len], terms: vec![0.0; len], all_terms: vec![0.0; len] }
    }

    /// Adds `factor · number`.
    fn add(&mut self, index: usize, factor: Factor<R>, number: R) {
        self.sum[index] = self.sum[index] + factor.sum * number;
        self.terms[index] += factor.terms * number.to_f64().abs();
        self.all_terms[index] += factor.all_terms * number.to_f64().abs();
    }
}

/// A number and the size of what it was summed from.
#[derive(Clone, Copy)]
struct Factor<R> {
    sum: R,
    terms: f64,
    all_terms: f64,
}

impl<R: Real> Factor<R> {
    /// One that is no sum.
    fn plain(number: R) -> Self {
        let size = number.to_f64().abs();
        Self { sum: number, terms: size, all_terms: size }
    }

    /// The product with a plain number.
    fn times(self, number: R) -> Self {
        let size = number.to_f64().abs();
        Self { sum: number * self.sum, terms: size * self.terms, all_terms: size * self.all_terms }
    }

    /// The sum of two; `sign` is 1 or −1.
    fn plus(self, sign: f64, other: Self) -> Self {
        Self {
            sum: self.sum + R::from_f64(sign) * other.sum,
            terms: self.terms + other.terms,
            all_terms: self.all_terms + other.all_terms,
        }
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
            let output_dot = dot(d_output, &row.output);
            if !self.sinks.is_empty() && row.allowed.contains(&true) {
                let factor = output_dot.times(R::from_f64(-1.0) * row.sink_prob);
                gradients.d_sinks.add(at[1], factor, one);
            }
            for j in (0..self.shape.seq_len_kv).filter(|&j| row.allowed[j]) {
                let (prob, key_row) = (row.probs[j], self.key_row(at, j));
                let multiplier = self.dropout_multiplier(at, j);
                let value = &self.value[key_row * value_dim..][..value_dim];
                for (c, &d_o) in d_output.iter().enumerate() {
                    let weight = Factor::plain(prob * multiplier);
                    gradients.d_value.add(key_row * value_dim + c, weight, d_o);
                }
                let value_dot = dot(d_output, value).times(multiplier);
                let mut d_score = value_dot.plus(-1.0, output_dot).times(prob);
                if let Some(d_lse) = d_lse {
                    d_score = d_score.plus(1.0, Factor::plain(row.probs_without_sink[j] * d_lse));
                }
                if !self.attention_bias.is_empty() {
                    gradients.d_attention_bias.add(self.bias_index(at, j), d_score, one);
                }
                if let Some(index) = self.relative_index(at, j) {
                    gradients.d_relative_bias.add(index, d_score, one);
                }
                let factor = d_score.times(self.scale * row.cap_slopes[j]);
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

/// a·b.
fn dot<R: Real>(a: &[R], b: &[R]) -> Factor<R> {
    let (mut sum, mut all_terms) = (R::from_f64(0.0), 0.0);
    for (&a, &b) in a.iter().zip(b) {
        sum = sum + a * b;
        all_terms += (a * b).to_f64().abs();
    }
    Factor { sum, terms: sum.to_f64().abs(), all_terms }
}

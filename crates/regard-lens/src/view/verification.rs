//! Checking what was shown against the textbook.

use regard::reference::Reference;

use crate::error::LensError;
use crate::observer::LayerAttention;

/// Rows checked in each layer.
const ROWS_PER_LAYER: usize = 4;

/// How far the kernel was from the f64 reference on the rows that were checked.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Verification {
    /// How many rows.
    pub rows: usize,
    /// The largest absolute error among all their probabilities, outputs and log-sum-exps.
    pub max_abs_error: f64,
}

impl Verification {
    /// Checks some rows of one layer, spread over its heads and the text; always the same ones.
    ///
    /// The probabilities as the views read them, the attention output that the next layer gets and the
    /// log-sum-exp are compared with [`Reference`] on the same query, key and value.
    pub(crate) fn check(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        let [_, heads, tokens, _] = attention.query.shape();
        let mut probs = vec![0.0f32; tokens];
        let (query, key, value) = (attention.query, attention.key, attention.value);
        let reference = Reference::<f64>::new(query, key, value, &attention.config)?;
        for [head, row] in sampled_rows(attention.layer, heads, tokens) {
            let expected = reference.row([0, head, row])?;
            attention.probs(head, row..row + 1, &mut probs)?;
            let output = (0..expected.output.len()).map(|c| attention.output.at([0, head, row, c]));
            let log_sum_exp = attention.log_sum_exp[head * tokens + row];
            let found = probs.iter().copied().chain(output).chain([log_sum_exp]);
            let expected = expected.probs.iter().chain(&expected.output).chain([&expected.log_sum_exp]);
            for (found, expected) in found.zip(expected) {
                let error = (f64::from(found) - expected).abs();
                // Not `max`, which would drop a NaN.
                if error > self.max_abs_error || error.is_nan() {
                    self.max_abs_error = error;
                }
            }
            self.rows += 1;
        }
        Ok(())
    }

    /// Takes what another run checked into account.
    pub fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        if other.max_abs_error > self.max_abs_error || other.max_abs_error.is_nan() {
            self.max_abs_error = other.max_abs_error;
        }
    }
}

/// Heads and rows to check: different ones in each layer, none twice.
fn sampled_rows(layer: usize, heads: usize, tokens: usize) -> Vec<[usize; 2]> {
    let mut rows: Vec<_> = (0..ROWS_PER_LAYER)
        .map(|sample| {
            let spread = |size: usize| (sample * size.div_ceil(ROWS_PER_LAYER) + layer) % size;
            [spread(heads), spread(tokens)]
        })
        .collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn sampled_rows__any_size__are_inside_and_distinct() {
        for heads in 1..20 {
            for tokens in 1..40 {
                for layer in 0..30 {
                    let rows = sampled_rows(layer, heads, tokens);
                    assert!(rows.iter().all(|&[head, row]| head < heads && row < tokens));
                    if heads >= ROWS_PER_LAYER && heads.is_multiple_of(ROWS_PER_LAYER) {
                        assert_eq!(rows.len(), ROWS_PER_LAYER);
                    }
                }
            }
        }
    }
}

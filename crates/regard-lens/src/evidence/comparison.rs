//! One row of every head in two texts, or in two models.

use super::Verifier;
use super::alignment::Alignment;
use crate::error::LensError;
use crate::model::Model;
use crate::observer::{AttentionObserver, LayerAttention};
use crate::token::TokenizedText;
use crate::view::{HeadId, Verification};

/// One side of a comparison: the row of one query in a text, in a model.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// The model.
    pub model: &'a Model,
    /// The text.
    pub tokens: &'a TokenizedText,
    /// The query's token.
    pub query: usize,
}

/// Every head on both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// By layer, then head.
    pub heads: Vec<HeadDifference>,
    /// The checks of both runs.
    pub verifications: [Verification; 2],
}

/// How far one head's row differs between the sides.
///
/// Keys are the aligned words, each with the mass of all its tokens; a word without a counterpart is a key that the
/// other side gives nothing to.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadDifference {
    /// Which head.
    pub id: HeadId,
    /// Total variation, ½·Σ |a − b|: the mass that moved, 0 to 1.
    pub total_variation: f64,
    /// Jensen–Shannon divergence in bits, 0 to 1 (Lin 1991, equation 4.1, equal weights).
    pub jensen_shannon: f64,
    /// All probabilities of the row, `[tokens]`, on each side.
    pub probs: [Vec<f32>; 2],
}

/// Compares the row of a query in every head. The two models have as many layers and heads.
///
/// # Errors
/// [`LensError::Attention`] if a query does not exist or the models have different heads; as [`Model::run`].
pub fn compare(sides: [Compared<'_>; 2], alignment: &Alignment) -> Result<Comparison, LensError> {
    let [a, b] = sides.map(|side| side.model.info());
    for (axis, expected, found) in [("layers", a.layers, b.layers), ("heads", a.heads, b.heads)] {
        if expected != found {
            return Err(regard::AttentionError::ShapeMismatch { axis, expected, found }.into());
        }
    }
    let [(rows_a, check_a), (rows_b, check_b)] = [rows_of(sides[0])?, rows_of(sides[1])?];
    let heads = rows_a.into_iter().zip(rows_b).map(|((id, a), (_, b))| {
        let pairs = outcomes(&a, &b, alignment);
        HeadDifference {
            id,
            total_variation: total_variation(&pairs),
            jensen_shannon: jensen_shannon(&pairs),
            probs: [a, b],
        }
    });
    Ok(Comparison { heads: heads.collect(), verifications: [check_a, check_b] })
}

/// The row of the query in every head, and the check of the run.
#[allow(clippy::type_complexity, reason = "two results of one run, used at one place")]
fn rows_of(side: Compared<'_>) -> Result<(Vec<(HeadId, Vec<f32>)>, Verification), LensError> {
    struct Rows {
        query: usize,
        rows: Vec<(HeadId, Vec<f32>)>,
        verifier: Verifier,
    }
    impl AttentionObserver for Rows {
        fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
            self.verifier.layer(attention)?;
            let [_, heads, tokens, _] = attention.query.shape();
            for head in 0..heads {
                let mut row = vec![0.0; tokens];
                attention.probs(head, self.query..self.query + 1, &mut row)?;
                let id = HeadId { layer: attention.layer, head };
                if row.iter().any(|prob| !prob.is_finite()) {
                    let problem = format!(
                        "{id} gives attention that is not a number; the model's weights hold NaN or infinite numbers"
                    );
                    return Err(LensError::Observer(problem.into()));
                }
                self.rows.push((id, row));
            }
            Ok(())
        }
    }
    let mut rows = Rows { query: side.query, rows: Vec::new(), verifier: Verifier::default() };
    side.model.run(side.tokens, &mut rows)?;
    Ok((rows.rows, rows.verifier.0))
}

/// What each side gives to each word.
fn outcomes(a: &[f32], b: &[f32], alignment: &Alignment) -> Vec<[f64; 2]> {
    let mass = |row: &[f32], word: &std::ops::Range<usize>| -> f64 {
        row[word.clone()].iter().map(|&prob| f64::from(prob)).sum()
    };
    let both = alignment.units.iter().map(|unit| [mass(a, &unit.a), mass(b, &unit.b)]);
    let only_a = alignment.only_a.iter().map(|word| [mass(a, word), 0.0]);
    let only_b = alignment.only_b.iter().map(|word| [0.0, mass(b, word)]);
    both.chain(only_a).chain(only_b).collect()
}

fn total_variation(pairs: &[[f64; 2]]) -> f64 {
    0.5 * pairs.iter().map(|[a, b]| (a - b).abs()).sum::<f64>()
}

fn jensen_shannon(pairs: &[[f64; 2]]) -> f64 {
    let part = |p: f64, mean: f64| if p > 0.0 { p * (p / mean).log2() } else { 0.0 };
    let sum: f64 = pairs
        .iter()
        .map(|&[a, b]| {
            let mean = 0.5 * (a + b);
            0.5 * (part(a, mean) + part(b, mean))
        })
        .sum();
    // Of equal rows rounding may leave a little less than nothing.
    sum.max(0.0)
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn distances__equal_rows__are_zero_and_of_disjoint_ones_one() {
        let equal = [[0.25, 0.25], [0.75, 0.75]];
        assert_eq!((total_variation(&equal), jensen_shannon(&equal)), (0.0, 0.0));
        let disjoint = [[1.0, 0.0], [0.0, 1.0]];
        assert_eq!((total_variation(&disjoint), jensen_shannon(&disjoint)), (1.0, 1.0));
    }

    #[test]
    fn jensen_shannon__known_rows__is_half_the_sum_of_two_relative_entropies() {
        // a = (3/4, 1/4), b = (1/4, 3/4), mean = (1/2, 1/2): 1 − H(1/4) bits.
        let entropy = -(0.75f64 * 0.75f64.log2() + 0.25 * 0.25f64.log2());
        assert!((jensen_shannon(&[[0.75, 0.25], [0.25, 0.75]]) - (1.0 - entropy)).abs() < 1e-12);
        assert!((total_variation(&[[0.75, 0.25], [0.25, 0.75]]) - 0.5).abs() < 1e-12);
    }
}

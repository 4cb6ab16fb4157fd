//! Attention through all layers.

use rayon::prelude::*;

use super::Verifier;
use crate::error::LensError;
use crate::kept::{Keeper, KeptLayer};
use crate::model::Model;
use crate::token::TokenizedText;
use crate::transformer::zeros;
use crate::view::Verification;

/// Rows of probabilities that exist at once in each thread.
const ROWS_AT_ONCE: usize = 32;

/// Attention rollout of one token (Abnar and Zuidema 2020, section 3): the row of that token in
/// Â_L·…·Â_1 with Â_l = ½·A_l + ½·I, A_l the attention of layer l, heads averaged.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// How much of the token's last layer comes from each token's embedding, `[tokens]`, sum 1.
    pub mass: Vec<f64>,
    /// The last layer's attention from the token alone, heads averaged, `[tokens]`.
    pub last_layer: Vec<f64>,
    /// The check of sampled rows of the run.
    pub verification: Verification,
}

/// Computes the rollout of one token, from the last layer down: the row is a vector that is multiplied by one layer
/// at a time, so no matrix of tokens by tokens exists. Queries and keys of all layers are kept meanwhile.
///
/// What it leaves out: values, output projections, norms and feed-forward networks; what heads do apart; and that
/// residual and attention are rarely equal.
///
/// # Errors
/// [`LensError::TooMuchMemory`] if the layers' queries and keys do not fit; [`LensError::Attention`] if there is no
/// such token; as [`Model::run`].
pub fn rollout(model: &Model, tokens: &TokenizedText, token: usize) -> Result<Rollout, LensError> {
    let seq_len = tokens.tokens.len();
    if token >= seq_len {
        let needed = token.saturating_add(1);
        return Err(regard::AttentionError::OutOfBounds { what: "token", needed, found: seq_len }.into());
    }
    let mut verifier = Verifier::default();
    let mut keeper = Keeper::new(model.info().layers, &|_| true, &mut verifier);
    model.run(tokens, &mut keeper)?;
    let layers = std::mem::take(&mut keeper.kept);
    let mut mass = vec![0.0f64; seq_len];
    mass[token] = 1.0;
    let mut last_layer = None;
    for layer in layers.iter().rev().flatten() {
        let attended = through(layer, &mass)?;
        last_layer.get_or_insert_with(|| attended.clone());
        mass.iter_mut().zip(attended).for_each(|(mass, attended)| *mass = 0.5 * *mass + 0.5 * attended);
    }
    if mass.iter().any(|mass| !mass.is_finite()) {
        let problem =
            "the model gives attention that is not a number; its weights hold NaN or infinite numbers";
        return Err(LensError::Observer(problem.into()));
    }
    let last_layer = last_layer.unwrap_or_else(|| mass.clone());
    Ok(Rollout { mass, last_layer, verification: verifier.0 })
}

/// The vector times the layer's attention, heads averaged.
fn through(layer: &KeptLayer, vector: &[f64]) -> Result<Vec<f64>, LensError> {
    let (heads, seq_len) = (layer.num_heads(), layer.seq_len());
    // Added in the order of the heads, so that the bits do not depend on threads.
    let of_heads = (0..heads).into_par_iter().map(|head| {
        let mut sums = vec![0.0f64; seq_len];
        let mut block = zeros(ROWS_AT_ONCE.min(seq_len) * seq_len)?;
        for start in (0..seq_len).step_by(ROWS_AT_ONCE) {
            let rows = start..seq_len.min(start + ROWS_AT_ONCE);
            if vector[rows.clone()].iter().all(|&weight| weight == 0.0) {
                continue;
            }
            let block = &mut block[..rows.len() * seq_len];
            layer.probs(head, rows.clone(), block)?;
            for (row, probs) in rows.zip(block.chunks_exact(seq_len)) {
                let weight = vector[row];
                if weight != 0.0 {
                    sums.iter_mut().zip(probs).for_each(|(sum, &prob)| *sum += weight * f64::from(prob));
                }
            }
        }
        Ok(sums)
    });
    let of_heads = of_heads.collect::<Result<Vec<_>, LensError>>()?;
    let mut mean = vec![0.0; seq_len];
    for sums in of_heads {
        mean.iter_mut().zip(sums).for_each(|(mean, sum)| *mean += sum / heads as f64);
    }
    Ok(mean)
}

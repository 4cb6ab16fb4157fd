//! How much each key's value adds to the output, for a whole probability.

use rayon::prelude::*;

use crate::observer::LayerAttention;

/// ln ‖v_j·W_O^h‖ of every query head and key, `[num_heads, seq_len]`, W_O^h being the head's part of the output
/// projection (Kobayashi et al. 2020, equation 6; v includes its bias, and the projection's own belongs to no head).
/// −∞ where the value adds nothing.
///
/// ‖v·W‖² = v·(W·Wᵀ)·vᵀ takes head_dim² for each key in place of head_dim·model_dim; in f64.
pub(super) fn log_value_norms(attention: &LayerAttention<'_>) -> Vec<f32> {
    let [_, num_heads, ..] = attention.query.shape();
    let [_, num_kv_heads, seq_len, dim] = attention.value.shape();
    let group_size = num_heads / num_kv_heads.max(1);
    let projection = attention.output_projection;
    let mut norms = vec![0.0; num_heads * seq_len];
    norms.par_chunks_exact_mut(seq_len).enumerate().for_each(|(head, norms)| {
        let mut gram = vec![0.0f64; dim * dim];
        for weights in projection.weight().chunks_exact(projection.in_features()) {
            let weights = &weights[head * dim..][..dim];
            for (row, &a) in gram.chunks_exact_mut(dim).zip(weights) {
                row.iter_mut().zip(weights).for_each(|(sum, &b)| *sum += f64::from(a) * f64::from(b));
            }
        }
        let mut value = vec![0.0f64; dim];
        for (key, norm) in norms.iter_mut().enumerate() {
            for (c, number) in value.iter_mut().enumerate() {
                *number = f64::from(attention.value.at([0, head / group_size, key, c]));
            }
            let squared: f64 = gram
                .chunks_exact(dim)
                .zip(&value)
                .map(|(row, &v)| v * row.iter().zip(&value).map(|(g, v)| g * v).sum::<f64>())
                .sum();
            // Rounding may leave a square below 0; NaN stays.
            *norm = (0.5 * if squared < 0.0 { 0.0 } else { squared }.ln()) as f32;
        }
    });
    norms
}

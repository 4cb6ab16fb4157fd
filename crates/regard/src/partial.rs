//! Attention in parts: over some of the keys at a time, here or on other machines, and put together exactly.

use crate::attention::AttentionOutput;
use crate::element::Element;
use crate::error::AttentionError;
use crate::kernel::share_beside_sink;
use crate::shape::expect;
use crate::view::TensorView;

/// What attention over some of the keys returned: an output in f32, and the log-sum-exp over those keys.
#[derive(Debug, Clone, Copy)]
pub struct Partial<'a> {
    /// `[batch_size, num_heads, seq_len_q, value_head_dim]`.
    pub output: TensorView<'a, f32>,
    /// `[batch_size, num_heads, seq_len_q]`; −∞ for rows that may attend to none of these keys.
    pub log_sum_exp: &'a [f32],
}

/// Attention over all keys from attention over parts of them: each part weighs e^(its log_sum_exp − the whole's)
/// (Rabe and Staats 2021; Liu et al. 2023).
///
/// The parts must not share keys. They are made by [`attention_with`](crate::attention_with) with an f32 output and
/// [`AttentionConfig::for_block`](crate::AttentionConfig::for_block), without sinks; `sinks`, `[num_heads]`, are
/// applied here, once. A part in which a row may attend to nothing changes nothing in that row.
///
/// For gradients, [`attention_backward`](crate::attention_backward) takes each part with the whole's output and
/// log-sum-exp; its `d_query` are then added.
///
/// # Errors
/// [`AttentionError::ShapeMismatch`] if a part or the sinks do not fit the target; nothing is written then.
///
/// ```
/// use regard::{
///     AttentionConfig, AttentionOutput, Layout, Partial, TensorView, TensorViewMut, Workspace, attention,
///     attention_with, merge_partials,
/// };
/// let data: Vec<f32> = (0..6 * 4).map(|i| (i as f32).sin()).collect();
/// let view = |from: usize, to: usize| {
///     TensorView::new(&data[from * 4..to * 4], [1, 1, to - from, 4], Layout::BatchHeadSeqDim).unwrap()
/// };
/// fn target(output: &mut [f32]) -> TensorViewMut<'_, f32> {
///     TensorViewMut::new(output, [1, 1, 6, 4], Layout::BatchHeadSeqDim).unwrap()
/// }
/// let (mut outputs, mut sums) = ([[0.0f32; 24]; 3], [[0.0f32; 6]; 3]);
/// let config = AttentionConfig::new();
/// for (i, (from, to)) in [(0, 2), (2, 6)].into_iter().enumerate() {
///     let part = AttentionOutput { output: target(&mut outputs[i]), log_sum_exp: Some(&mut sums[i]) };
///     let config = config.for_block(0, from)?;
///     attention_with(view(0, 6), view(from, to), view(from, to), part, &config, &mut Workspace::new())?;
/// }
/// let [first, second, mut merged] = outputs;
/// let part = |output, log_sum_exp| {
///     Partial { output: TensorView::new(output, [1, 1, 6, 4], Layout::BatchHeadSeqDim).unwrap(), log_sum_exp }
/// };
/// let parts = [part(&first, &sums[0]), part(&second, &sums[1])];
/// merge_partials(&parts, AttentionOutput { output: target(&mut merged), log_sum_exp: None }, None)?;
///
/// let mut whole = [0.0f32; 24];
/// attention(view(0, 6), view(0, 6), view(0, 6), target(&mut whole), &config)?;
/// assert!(merged.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-6));
/// # Ok::<(), regard::AttentionError>(())
/// ```
pub fn merge_partials<T: Element>(
    parts: &[Partial<'_>],
    target: AttentionOutput<'_, T>,
    sinks: Option<&[f32]>,
) -> Result<(), AttentionError> {
    let AttentionOutput { mut output, mut log_sum_exp } = target;
    let (shape, strides) = (output.shape(), output.strides());
    let [batch_size, num_heads, seq_len, dim] = shape;
    let num_rows = batch_size * num_heads * seq_len;
    let axes = ["partial.batch_size", "partial.num_heads", "partial.seq_len_q", "partial.value_head_dim"];
    for part in parts {
        for (axis, (expected, found)) in axes.into_iter().zip(shape.into_iter().zip(part.output.shape())) {
            expect(axis, expected, found)?;
        }
        expect("partial.log_sum_exp.len", num_rows, part.log_sum_exp.len())?;
    }
    if let Some(log_sum_exp) = &log_sum_exp {
        expect("log_sum_exp.len", num_rows, log_sum_exp.len())?;
    }
    if let Some(sinks) = sinks {
        expect("sinks.len", num_heads, sinks.len())?;
    }
    for index in 0..num_rows {
        let at = [index / (num_heads * seq_len), index / seq_len % num_heads, index % seq_len];
        let sums = || parts.iter().map(|part| f64::from(part.log_sum_exp[index]));
        // A NaN must win, which `max` would drop.
        let max = sums().fold(f64::NEG_INFINITY, |a, b| if b > a || b.is_nan() { b } else { a });
        let is_empty = max == f64::NEG_INFINITY;
        let whole = if is_empty { max } else { max + sums().map(|sum| (sum - max).exp()).sum::<f64>().ln() };
        let share = sinks.map_or(1.0, |sinks| f64::from(share_beside_sink(whole as f32, sinks[at[1]])));
        let start: usize = at.into_iter().zip(strides).map(|(i, stride)| i * stride).sum();
        for c in 0..dim {
            let mut sum = 0.0f64;
            for part in parts.iter().filter(|part| part.log_sum_exp[index] != f32::NEG_INFINITY) {
                let weight = (f64::from(part.log_sum_exp[index]) - whole).exp();
                sum += weight * f64::from(part.output.at([at[0], at[1], at[2], c]));
            }
            let merged = if is_empty { 0.0 } else { (sum * share) as f32 + 0.0 };
            output.data_mut()[start + c * strides[3]] = T::from_f32(merged);
        }
        if let Some(log_sum_exp) = &mut log_sum_exp {
            log_sum_exp[index] = whole as f32;
        }
    }
    Ok(())
}

//! The public calls: validate, plan, run.

use std::ops::Range;

use crate::config::AttentionConfig;
use crate::element::Element;
use crate::error::AttentionError;
use crate::gradients::check_outputs;
use crate::kernel::{ForwardCall, Isa, ProbsCall, RowSource, SharedOutput, Workspace};
use crate::shape::{AttentionShape, expect};
use crate::view::{TensorView, TensorViewMut, checked_product};

/// Multi-head attention: `output = softmax(softmax_scale · query·keyᵀ + bias, masked) · value`, exactly, in
/// memory that grows with the sequence and not with its square.
///
/// Equation 1 of Vaswani et al. 2017, computed block by block (Dao et al. 2022). Queries, keys (with values) and
/// output may differ in storage type; arithmetic is in f32.
///
/// # Shapes
/// query `[batch_size, num_heads, seq_len_q, head_dim]`, key `[batch_size, num_kv_heads, seq_len_kv, head_dim]`,
/// value `[batch_size, num_kv_heads, seq_len_kv, value_head_dim]`, output
/// `[batch_size, num_heads, seq_len_q, value_head_dim]`. Query head h reads key head
/// `h / (num_heads / num_kv_heads)`.
///
/// # Errors
/// [`AttentionError`], before anything is written.
///
/// ```
/// use regard::{AttentionConfig, Layout, TensorView, TensorViewMut, attention};
///
/// let (heads, seq, dim) = (2, 3, 4);
/// let data: Vec<f32> = (0..heads * seq * dim).map(|i| (i as f32).sin()).collect();
/// let view = TensorView::new(&data, [1, heads, seq, dim], Layout::BatchHeadSeqDim)?;
/// let mut output = vec![0.0; data.len()];
/// let target = TensorViewMut::new(&mut output, [1, heads, seq, dim], Layout::BatchHeadSeqDim)?;
/// attention(view, view, view, target, &AttentionConfig::new())?;
/// assert!(output.iter().all(|x| x.abs() <= 1.0)); // a mean of values in [−1, 1]
/// # Ok::<(), regard::AttentionError>(())
/// ```
pub fn attention<Q: Element, KV: Element, O: Element>(
    query: TensorView<'_, Q>,
    key: TensorView<'_, KV>,
    value: TensorView<'_, KV>,
    output: TensorViewMut<'_, O>,
    config: &AttentionConfig<'_>,
) -> Result<(), AttentionError> {
    let output = AttentionOutput { output, log_sum_exp: None };
    attention_with(query, key, value, output, config, &mut Workspace::new())
}

/// Where [`attention_with`] writes.
#[derive(Debug)]
pub struct AttentionOutput<'a, T> {
    /// `[batch_size, num_heads, seq_len_q, value_head_dim]`.
    pub output: TensorViewMut<'a, T>,
    /// `[batch_size, num_heads, seq_len_q]`: the natural log of Σ e^score over the allowed keys; −∞ where
    /// there is none.
    pub log_sum_exp: Option<&'a mut [f32]>,
}

/// [`attention`] that also returns the log-sum-exp of each row and keeps its scratch memory for the next call.
///
/// # Errors
/// [`AttentionError`], before anything is written.
pub fn attention_with<Q: Element, KV: Element, O: Element>(
    query: TensorView<'_, Q>,
    key: TensorView<'_, KV>,
    value: TensorView<'_, KV>,
    target: AttentionOutput<'_, O>,
    config: &AttentionConfig<'_>,
    workspace: &mut Workspace,
) -> Result<(), AttentionError> {
    attention_over(query, [key.shape(), value.shape()], (&key, &value), target, config, workspace)
}

/// [`attention_with`] over keys and values of these shapes, wherever their rows lie.
pub(crate) fn attention_over<Q: Element, O: Element>(
    query: TensorView<'_, Q>,
    [key_shape, value_shape]: [[usize; 4]; 2],
    (key, value): (&dyn RowSource, &dyn RowSource),
    target: AttentionOutput<'_, O>,
    config: &AttentionConfig<'_>,
    workspace: &mut Workspace,
) -> Result<(), AttentionError> {
    let call = prepare([query.shape(), key_shape, value_shape], (&query, key, value), config)?;
    let AttentionOutput { mut output, log_sum_exp } = target;
    check_outputs(query.shape(), value_shape, output.shape())?;
    if let Some(log_sum_exp) = &log_sum_exp {
        expect("log_sum_exp.len", call.shape.num_rows(), log_sum_exp.len())?;
    }
    call.run(&SharedOutput::new(&mut output, log_sum_exp), workspace)
}

/// Bytes of scratch memory that a call with these inputs would use, without running it.
///
/// # Errors
/// As for [`attention_with`].
pub fn attention_scratch_bytes<Q: Element, KV: Element>(
    query: TensorView<'_, Q>,
    key: TensorView<'_, KV>,
    value: TensorView<'_, KV>,
    config: &AttentionConfig<'_>,
) -> Result<usize, AttentionError> {
    prepare([query.shape(), key.shape(), value.shape()], (&query, &key, &value), config)?.scratch_bytes()
}

/// Rows of one head, against some of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadBlock {
    /// Sequence of the batch.
    pub batch: usize,
    /// Query head.
    pub head: usize,
    /// Query rows.
    pub rows: Range<usize>,
    /// Keys.
    pub keys: Range<usize>,
}

/// Attention probabilities of chosen rows and keys, recomputed from the log-sum-exp that [`attention_with`]
/// returned, in place of the whole `[seq_len_q, seq_len_kv]` matrix of every head.
///
/// p = e^(score − log_sum_exp), 0 where a key is not allowed, before dropout; times the share that a sink leaves.
/// Where all keys are asked for, a row is divided by its sum, which takes out what rounding the log-sum-exp to
/// f32 put in (a relative |log_sum_exp|·2⁻²⁴).
///
/// # Shapes
/// query and key as for [`attention`]; `log_sum_exp` `[batch_size, num_heads, seq_len_q]`; `probs`
/// `[rows, keys]`.
///
/// # Errors
/// [`AttentionError`], before anything is written.
pub fn attention_probs<Q: Element, KV: Element>(
    query: TensorView<'_, Q>,
    key: TensorView<'_, KV>,
    log_sum_exp: &[f32],
    at: &HeadBlock,
    config: &AttentionConfig<'_>,
    probs: &mut [f32],
) -> Result<(), AttentionError> {
    let shape = AttentionShape::new(query.shape(), key.shape(), key.shape())?;
    let (isa, num_workers) = (checked_isa(config)?, config.parallelism.num_workers());
    let config = config.check(&shape)?;
    expect("log_sum_exp.len", shape.num_rows(), log_sum_exp.len())?;
    let inside = |what, needed: usize, found: usize| match needed <= found {
        true => Ok(()),
        false => Err(AttentionError::OutOfBounds { what, needed, found }),
    };
    let end = |range: &Range<usize>| if range.is_empty() { 0 } else { range.end };
    // No tensor has usize::MAX heads: an index of that size stays outside although its successor does not exist.
    inside("block.batch", at.batch.saturating_add(1), shape.batch_size)?;
    inside("block.head", at.head.saturating_add(1), shape.num_heads)?;
    inside("block.rows", end(&at.rows), shape.seq_len_q)?;
    inside("block.keys", end(&at.keys), shape.seq_len_kv)?;
    let needed = checked_product(&[at.rows.len(), at.keys.len()], "probs")?;
    expect("probs.len", needed, probs.len())?;
    if needed == 0 {
        return Ok(());
    }
    let first = (at.batch * shape.num_heads + at.head) * shape.seq_len_q;
    let log_sum_exp = &log_sum_exp[first + at.rows.start..first + at.rows.end];
    ProbsCall { shape, config, query: &query, key: &key, at, log_sum_exp, isa, num_workers }.run(probs)
}

pub(crate) fn checked_isa(config: &AttentionConfig<'_>) -> Result<Isa, AttentionError> {
    config.isa.map_or_else(Isa::active, Isa::require)
}

fn prepare<'a>(
    [query_shape, key_shape, value_shape]: [[usize; 4]; 3],
    (query, key, value): (&'a dyn RowSource, &'a dyn RowSource, &'a dyn RowSource),
    config: &AttentionConfig<'a>,
) -> Result<ForwardCall<'a>, AttentionError> {
    let shape = AttentionShape::new(query_shape, key_shape, value_shape)?;
    let isa = checked_isa(config)?;
    let num_workers = config.parallelism.num_workers();
    Ok(ForwardCall { shape, config: config.check(&shape)?, query, key, value, isa, num_workers })
}

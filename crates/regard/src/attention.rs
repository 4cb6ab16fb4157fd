//! The public calls: validate, plan, run.

use std::ops::Range;

use crate::config::AttentionConfig;
use crate::element::Element;
use crate::error::AttentionError;
use crate::kernel::{ForwardCall, Isa, ProbsCall, RowSource, SharedOutput, Workspace};
use crate::shape::{AttentionShape, expect};
use crate::view::{TensorView, TensorViewMut, checked_product};

/// Multi-head attention: `output = softmax(softmax_scale · query·keyᵀ + bias, masked) · value`, exactly, in
/// memory that grows with the sequence and not with its square.
///
/// Equation 1 of Vaswani et al. 2017, computed block by block (Dao et al. 2022). Query and output may have
/// another storage type than key and value; arithmetic is in f32.
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
pub fn attention<Q: Element, KV: Element>(
    query: TensorView<'_, Q>,
    key: TensorView<'_, KV>,
    value: TensorView<'_, KV>,
    output: TensorViewMut<'_, Q>,
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
pub fn attention_with<Q: Element, KV: Element>(
    query: TensorView<'_, Q>,
    key: TensorView<'_, KV>,
    value: TensorView<'_, KV>,
    target: AttentionOutput<'_, Q>,
    config: &AttentionConfig<'_>,
    workspace: &mut Workspace,
) -> Result<(), AttentionError> {
    attention_over(query, [key.shape(), value.shape()], (&key, &value), target, config, workspace)
}

/// [`attention_with`] over keys and values of these shapes, wherever their rows lie.
pub(crate) fn attention_over<Q: Element>(
    query: TensorView<'_, Q>,
    [key_shape, value_shape]: [[usize; 4]; 2],
    (key, value): (&dyn RowSource, &dyn RowSource),
    target: AttentionOutput<'_, Q>,
    config: &AttentionConfig<'_>,
    workspace: &mut Workspace,
) -> Result<(), AttentionError> {
    let call = prepare([query.shape(), key_shape, value_shape], (&query, key, value), config)?;
    let AttentionOutput { mut output, log_sum_exp } = target;
    let axes = ["output.batch_size", "output.num_heads", "output.seq_len_q", "output.value_head_dim"];
    for (axis, (expected, found)) in axes.into_iter().zip(call.shape.output().into_iter().zip(output.shape()))
    {
        expect(axis, expected, found)?;
    }
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

/// Rows of one head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadRows {
    /// Sequence of the batch.
    pub batch: usize,
    /// Query head.
    pub head: usize,
    /// Query rows.
    pub rows: Range<usize>,
}

/// Attention probabilities of chosen rows, recomputed from the log-sum-exp that [`attention_with`] returned, in
/// place of the whole `[seq_len_q, seq_len_kv]` matrix of every head.
///
/// p = e^(score − log_sum_exp), normalised to sum to 1; 0 where a key is not allowed.
///
/// # Shapes
/// query and key as for [`attention`]; `log_sum_exp` `[batch_size, num_heads, seq_len_q]`; `probs`
/// `[rows, seq_len_kv]`.
///
/// # Errors
/// [`AttentionError`], before anything is written.
pub fn attention_probs<Q: Element, KV: Element>(
    query: TensorView<'_, Q>,
    key: TensorView<'_, KV>,
    log_sum_exp: &[f32],
    at: &HeadRows,
    config: &AttentionConfig<'_>,
    probs: &mut [f32],
) -> Result<(), AttentionError> {
    let shape = AttentionShape::new(query.shape(), key.shape(), key.shape())?;
    let isa = config.isa.map_or_else(Isa::active, Isa::require)?;
    let config = config.check(&shape)?;
    expect("log_sum_exp.len", shape.num_rows(), log_sum_exp.len())?;
    let HeadRows { batch, head, rows } = at.clone();
    let inside = |what, index: usize, size: usize| {
        let needed = index.saturating_add(1);
        if index < size { Ok(()) } else { Err(AttentionError::OutOfBounds { what, needed, found: size }) }
    };
    inside("rows.batch", batch, shape.batch_size)?;
    inside("rows.head", head, shape.num_heads)?;
    let num_rows = rows.len();
    if num_rows > 0 {
        inside("rows.rows", rows.end - 1, shape.seq_len_q)?;
    }
    let needed = checked_product(&[num_rows, shape.seq_len_kv], "probs")?;
    expect("probs.len", needed, probs.len())?;
    if num_rows == 0 {
        return Ok(());
    }
    let first = (batch * shape.num_heads + head) * shape.seq_len_q;
    let log_sum_exp = &log_sum_exp[first + rows.start..first + rows.end];
    ProbsCall { shape, config, query: &query, key: &key, batch, head, rows, log_sum_exp, isa }.run(probs)
}

fn prepare<'a>(
    [query_shape, key_shape, value_shape]: [[usize; 4]; 3],
    (query, key, value): (&'a dyn RowSource, &'a dyn RowSource, &'a dyn RowSource),
    config: &AttentionConfig<'a>,
) -> Result<ForwardCall<'a>, AttentionError> {
    let shape = AttentionShape::new(query_shape, key_shape, value_shape)?;
    let isa = config.isa.map_or_else(Isa::active, Isa::require)?;
    let num_workers = config.parallelism.num_workers();
    Ok(ForwardCall { shape, config: config.check(&shape)?, query, key, value, isa, num_workers })
}

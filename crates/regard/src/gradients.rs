//! The public backward call: validate, plan, run.

use crate::attention::checked_isa;
use crate::config::AttentionConfig;
use crate::element::Element;
use crate::error::AttentionError;
use crate::kernel::{
    BackwardCall, BiasGradients, GradientSinks, RowNumbers, RowSource, SharedOutput, Workspace,
};
use crate::shape::{AttentionShape, expect};
use crate::view::{TensorView, TensorViewMut};

/// What the forward call returned, and what the loss says about it.
#[derive(Debug, Clone, Copy)]
pub struct BackwardInputs<'a, T> {
    /// The output of the forward call, `[batch_size, num_heads, seq_len_q, value_head_dim]`.
    pub output: TensorView<'a, T>,
    /// Its log-sum-exp, `[batch_size, num_heads, seq_len_q]`.
    pub log_sum_exp: &'a [f32],
    /// Derivative of the loss by the output, in its shape.
    pub d_output: TensorView<'a, T>,
    /// Derivative of the loss by the log-sum-exp, `[batch_size, num_heads, seq_len_q]`, if the loss uses it.
    pub d_log_sum_exp: Option<&'a [f32]>,
}

/// Where [`attention_backward`] writes; everything is overwritten, nothing added to.
#[derive(Debug)]
pub struct AttentionGradients<'a, Q, KV> {
    /// `[batch_size, num_heads, seq_len_q, head_dim]`.
    pub d_query: TensorViewMut<'a, Q>,
    /// `[batch_size, num_kv_heads, seq_len_kv, head_dim]`; 0 for keys beyond a sequence's length.
    pub d_key: TensorViewMut<'a, KV>,
    /// `[batch_size, num_kv_heads, seq_len_kv, value_head_dim]`; 0 likewise.
    pub d_value: TensorViewMut<'a, KV>,
    /// In the shape of the configuration's `attention_bias`: summed over its axes of size 1.
    pub d_attention_bias: Option<TensorViewMut<'a, f32>>,
    /// In the shape of the table of the configuration's `relative_bias`.
    pub d_relative_bias: Option<&'a mut [f32]>,
    /// `[num_heads]`, for the configuration's `sinks`.
    pub d_sinks: Option<&'a mut [f32]>,
}

impl<'a, Q, KV> AttentionGradients<'a, Q, KV> {
    /// Gradients of query, key and value alone.
    pub fn new(
        d_query: TensorViewMut<'a, Q>,
        d_key: TensorViewMut<'a, KV>,
        d_value: TensorViewMut<'a, KV>,
    ) -> Self {
        let (d_attention_bias, d_relative_bias, d_sinks) = (None, None, None);
        Self { d_query, d_key, d_value, d_attention_bias, d_relative_bias, d_sinks }
    }
}

/// The gradients of an attention call, in memory that grows with the sequence and not with its square.
///
/// Probabilities are recomputed block by block from the log-sum-exp that [`attention_with`](crate::attention_with)
/// returned (Dao 2023, algorithm 2). The configuration is the one of the forward call, the seed of its dropout
/// included. Heads that share a key head are summed in order; the bits do not depend on the number of threads.
///
/// Given the log-sum-exp, output and output gradient of a whole and only some of its keys, it returns what these
/// keys contribute: exact gradients for them, and a part of `d_query` that sums up to the whole.
///
/// Gradients may have another storage type than the tensors they belong to; arithmetic is in f32.
///
/// # Shapes
/// As for [`attention`](crate::attention), [`BackwardInputs`] and [`AttentionGradients`]. Inputs may repeat axes by
/// stride 0; their gradients are of the full shape.
///
/// # Errors
/// [`AttentionError`], before anything is written.
///
/// ```
/// use regard::{
///     AttentionConfig, AttentionGradients, AttentionOutput, BackwardInputs, Layout, TensorView, TensorViewMut,
///     Workspace, attention_backward, attention_with,
/// };
/// let (shape, layout) = ([1, 1, 2, 2], Layout::BatchHeadSeqDim);
/// let (query, key, value) = ([1.0f32, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0], [1.0, 2.0, 3.0, 4.0]);
/// let [query, key, value] = [&query, &key, &value].map(|data| TensorView::new(data, shape, layout).unwrap());
/// let (config, mut workspace) = (AttentionConfig::new(), Workspace::new());
/// let (mut output, mut log_sum_exp) = ([0.0f32; 4], [0.0; 2]);
/// let target = AttentionOutput {
///     output: TensorViewMut::new(&mut output, shape, layout)?,
///     log_sum_exp: Some(&mut log_sum_exp),
/// };
/// attention_with(query, key, value, target, &config, &mut workspace)?;
///
/// let (mut d_query, mut d_key, mut d_value) = ([0.0f32; 4], [0.0f32; 4], [0.0f32; 4]);
/// let inputs = BackwardInputs {
///     output: TensorView::new(&output, shape, layout)?,
///     log_sum_exp: &log_sum_exp,
///     d_output: TensorView::new(&[1.0; 4], shape, layout)?,
///     d_log_sum_exp: None,
/// };
/// let gradients = AttentionGradients::new(
///     TensorViewMut::new(&mut d_query, shape, layout)?,
///     TensorViewMut::new(&mut d_key, shape, layout)?,
///     TensorViewMut::new(&mut d_value, shape, layout)?,
/// );
/// attention_backward(query, key, value, inputs, gradients, &config, &mut workspace)?;
/// // Both probabilities of a row sum to 1, whatever their values weigh.
/// assert!((d_value.iter().sum::<f32>() - 4.0).abs() < 1e-6);
/// # Ok::<(), regard::AttentionError>(())
/// ```
pub fn attention_backward<Q: Element, KV: Element, O: Element, DQ: Element, DKV: Element>(
    query: TensorView<'_, Q>,
    key: TensorView<'_, KV>,
    value: TensorView<'_, KV>,
    inputs: BackwardInputs<'_, O>,
    gradients: AttentionGradients<'_, DQ, DKV>,
    config: &AttentionConfig<'_>,
    workspace: &mut Workspace,
) -> Result<(), AttentionError> {
    let shapes = [query.shape(), key.shape(), value.shape()];
    let call = prepare(shapes, (&query, &key, &value), &inputs, config)?;
    check_gradients(shapes, &gradients)?;
    check_bias_gradients(&gradients, config)?;
    let AttentionGradients { mut d_query, mut d_key, mut d_value, .. } = gradients;
    let mut biases = BiasGradients {
        d_attention_bias: gradients.d_attention_bias,
        d_relative_bias: gradients.d_relative_bias,
    };
    biases.clear();
    let mut d_sinks = gradients.d_sinks;
    if let Some(d_sinks) = &mut d_sinks {
        d_sinks.fill(0.0);
    }
    let sinks = GradientSinks {
        d_query: &SharedOutput::new(&mut d_query, None),
        d_key: &SharedOutput::new(&mut d_key, None),
        d_value: &SharedOutput::new(&mut d_value, None),
        biases,
        d_sinks,
    };
    call.run(sinks, workspace)
}

/// Bytes of scratch memory that [`attention_backward`] would use with these inputs, without running it.
///
/// # Errors
/// As for [`attention_backward`].
pub fn attention_backward_scratch_bytes<Q: Element, KV: Element, O: Element>(
    query: TensorView<'_, Q>,
    key: TensorView<'_, KV>,
    value: TensorView<'_, KV>,
    inputs: BackwardInputs<'_, O>,
    config: &AttentionConfig<'_>,
) -> Result<usize, AttentionError> {
    let shapes = [query.shape(), key.shape(), value.shape()];
    prepare(shapes, (&query, &key, &value), &inputs, config)?.scratch_bytes()
}

fn expect_shape(
    axes: [&'static str; 4],
    expected: [usize; 4],
    found: [usize; 4],
) -> Result<(), AttentionError> {
    axes.into_iter().zip(expected.into_iter().zip(found)).try_for_each(|(axis, (e, f))| expect(axis, e, f))
}

/// Checks the output of a call, or what stands for it; returns its rows.
pub(crate) fn check_outputs(
    query: [usize; 4],
    value: [usize; 4],
    output: [usize; 4],
) -> Result<usize, AttentionError> {
    let axes = ["output.batch_size", "output.num_heads", "output.seq_len_q", "output.value_head_dim"];
    expect_shape(axes, [query[0], query[1], query[2], value[3]], output)?;
    Ok(query[0] * query[1] * query[2])
}

impl<T: Element> BackwardInputs<'_, T> {
    /// Checks everything against the output, whose number of rows is given.
    pub(crate) fn check(&self, num_rows: usize) -> Result<(), AttentionError> {
        let axes =
            ["d_output.batch_size", "d_output.num_heads", "d_output.seq_len_q", "d_output.value_head_dim"];
        expect_shape(axes, self.output.shape(), self.d_output.shape())?;
        expect("log_sum_exp.len", num_rows, self.log_sum_exp.len())?;
        self.d_log_sum_exp.map_or(Ok(()), |d_lse| expect("d_log_sum_exp.len", num_rows, d_lse.len()))
    }
}

/// Checks the gradients of query, key and value, whose shapes are given.
pub(crate) fn check_gradients<DQ: Element, DKV: Element>(
    [query, key, value]: [[usize; 4]; 3],
    gradients: &AttentionGradients<'_, DQ, DKV>,
) -> Result<(), AttentionError> {
    let axes = ["d_query.batch_size", "d_query.num_heads", "d_query.seq_len_q", "d_query.head_dim"];
    expect_shape(axes, query, gradients.d_query.shape())?;
    let axes = ["d_key.batch_size", "d_key.num_kv_heads", "d_key.seq_len_kv", "d_key.head_dim"];
    expect_shape(axes, key, gradients.d_key.shape())?;
    let axes = ["d_value.batch_size", "d_value.num_kv_heads", "d_value.seq_len_kv", "d_value.value_head_dim"];
    expect_shape(axes, value, gradients.d_value.shape())
}

/// Checks the gradients of options.
pub(crate) fn check_bias_gradients<DQ, DKV>(
    gradients: &AttentionGradients<'_, DQ, DKV>,
    config: &AttentionConfig<'_>,
) -> Result<(), AttentionError> {
    if let Some(bias) = &gradients.d_attention_bias {
        let axes = [
            "d_attention_bias.batch_size",
            "d_attention_bias.num_heads",
            "d_attention_bias.seq_len_q",
            "d_attention_bias.seq_len_kv",
        ];
        let shape = config.attention_bias.map(|bias| bias.shape());
        expect_shape(axes, shape.ok_or(missing("attention_bias"))?, bias.shape())?;
    }
    if let Some(relative) = &gradients.d_relative_bias {
        let bias = config.relative_bias.ok_or(missing("relative_bias"))?;
        expect("d_relative_bias.len", bias.table.len(), relative.len())?;
    }
    if let Some(d_sinks) = &gradients.d_sinks {
        let sinks = config.sinks.ok_or(missing("sinks"))?;
        expect("d_sinks.len", sinks.len(), d_sinks.len())?;
    }
    Ok(())
}

fn missing(option: &'static str) -> AttentionError {
    AttentionError::MissingOption { option }
}

fn prepare<'a, O: Element>(
    [query_shape, key_shape, value_shape]: [[usize; 4]; 3],
    (query, key, value): (&'a dyn RowSource, &'a dyn RowSource, &'a dyn RowSource),
    inputs: &'a BackwardInputs<'_, O>,
    config: &AttentionConfig<'a>,
) -> Result<BackwardCall<'a>, AttentionError> {
    let shape = AttentionShape::new(query_shape, key_shape, value_shape)?;
    let isa = checked_isa(config)?;
    let checked = config.check(&shape)?;
    inputs.check(check_outputs(query_shape, value_shape, inputs.output.shape())?)?;
    let numbers = |numbers| RowNumbers { numbers, rows_per_head: shape.seq_len_q, first: 0 };
    Ok(BackwardCall {
        shape,
        config: checked,
        query,
        key,
        value,
        output: &inputs.output,
        d_output: &inputs.d_output,
        log_sum_exp: numbers(inputs.log_sum_exp),
        d_log_sum_exp: inputs.d_log_sum_exp.map(numbers),
        isa,
        num_workers: config.parallelism.num_workers(),
    })
}

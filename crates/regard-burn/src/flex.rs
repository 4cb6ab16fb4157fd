//! `regard` on the memory of Flex tensors: inputs are read where they lie, outputs are moved in.

use std::cell::Cell;

use burn::backend::flex::{FlexTensor, Layout as FlexLayout};
use burn::tensor::{Bytes, DType, Shape};
use regard::position::RotaryPositions;
use regard::{
    AttentionConfig, AttentionError, AttentionGradients, AttentionOutput, BackwardInputs, TensorView,
    TensorViewMut, Workspace, attention_backward, attention_with,
};

thread_local! {
    /// Scratch memory of this thread's last call, taken out while one runs: a call may wait for others, and rayon may
    /// then start another one on this thread.
    static WORKSPACE: Cell<Workspace> = Cell::default();
}

/// Runs a call with the thread's scratch memory.
fn with_workspace(
    call: impl FnOnce(&mut Workspace) -> Result<(), AttentionError>,
) -> Result<(), AttentionError> {
    let mut workspace = WORKSPACE.take();
    let result = call(&mut workspace);
    WORKSPACE.set(workspace);
    result
}

/// What a forward call leaves for its backward.
#[derive(Debug, Clone)]
pub(crate) struct Forward {
    /// `[batch_size, num_heads, seq_len_q, value_head_dim]`.
    pub(crate) output: FlexTensor,
    /// `[batch_size, num_heads, seq_len_q]`, or empty.
    pub(crate) log_sum_exp: Vec<f32>,
}

/// Attention; the log-sum-exp stays empty unless it is wanted.
pub(crate) fn attend(
    [query, key, value]: [FlexTensor; 3],
    bias: Option<FlexTensor>,
    config: &AttentionConfig<'_>,
    wants_log_sum_exp: bool,
) -> Result<Forward, AttentionError> {
    let [query, key, value] = [query, key, value].map(readable);
    let bias = bias.map(readable);
    let [batch_size, num_heads, seq_len_q, _] = shape(&query);
    let mut output = Target::like(&query, [batch_size, num_heads, seq_len_q, shape(&value)[3]])?;
    let mut log_sum_exp = zeroed(if wants_log_sum_exp { batch_size * num_heads * seq_len_q } else { 0 })?;
    let target = AttentionOutput {
        output: output.view()?,
        log_sum_exp: wants_log_sum_exp.then_some(log_sum_exp.as_mut_slice()),
    };
    let config = with_bias(config, bias.as_ref())?;
    let (query, key, value) = (view(&query)?, view(&key)?, view(&value)?);
    with_workspace(|workspace| attention_with(query, key, value, target, &config, workspace))?;
    Ok(Forward { output: output.finish(), log_sum_exp })
}

/// The gradients of query, key, value and, if asked for, of the bias.
pub(crate) fn differentiate(
    [query, key, value]: [FlexTensor; 3],
    (bias, wants_bias): (Option<FlexTensor>, bool),
    forward: Forward,
    d_output: FlexTensor,
    config: &AttentionConfig<'_>,
) -> Result<([FlexTensor; 3], Option<FlexTensor>), AttentionError> {
    let [query, key, value, d_output] = [query, key, value, d_output].map(readable);
    let bias = bias.map(readable);
    let [mut d_query, mut d_key, mut d_value] = [
        Target::like(&query, shape(&query))?,
        Target::like(&key, shape(&key))?,
        Target::like(&value, shape(&value))?,
    ];
    let mut d_bias = match &bias {
        Some(bias) if wants_bias => Some(Target::like(bias, shape(bias))?),
        _ => None,
    };
    let inputs = BackwardInputs {
        output: view(&forward.output)?,
        log_sum_exp: &forward.log_sum_exp,
        d_output: view(&d_output)?,
        d_log_sum_exp: None,
    };
    let mut gradients = AttentionGradients::new(d_query.view()?, d_key.view()?, d_value.view()?);
    gradients.d_attention_bias = d_bias.as_mut().map(Target::view).transpose()?;
    let config = with_bias(config, bias.as_ref())?;
    let (query, key, value) = (view(&query)?, view(&key)?, view(&value)?);
    with_workspace(|workspace| attention_backward(query, key, value, inputs, gradients, &config, workspace))?;
    Ok(([d_query.finish(), d_key.finish(), d_value.finish()], d_bias.map(Target::finish)))
}

/// Which way rows are turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Forward,
    Backward,
}

/// Turns each row to its position, or a gradient back from it.
pub(crate) fn rotate(
    tensor: FlexTensor,
    rotary: &RotaryPositions,
    first_position: usize,
    turn: Turn,
) -> Result<FlexTensor, AttentionError> {
    let tensor = readable(tensor);
    let [batch_size, num_heads, seq_len, head_dim] = shape(&tensor);
    let source = view(&tensor)?;
    let mut target = Target::like(&tensor, source.shape())?;
    if target.numbers.is_empty() {
        return Ok(target.finish());
    }
    for position in 0..seq_len {
        let rotation = rotary.at(first_position + position);
        for (batch, head) in (0..batch_size).flat_map(|batch| (0..num_heads).map(move |head| (batch, head))) {
            let row = target.row([batch, head, position]);
            (0..head_dim).for_each(|i| row[i] = source.at([batch, head, position, i]));
            match turn {
                Turn::Forward => rotation.apply(row),
                Turn::Backward => rotation.apply_backward(row),
            }
        }
    }
    Ok(target.finish())
}

/// A tensor to be written, its axes in memory in the order of another's.
struct Target {
    numbers: Vec<f32>,
    shape: [usize; 4],
    strides: [usize; 4],
}

impl Target {
    /// Where `other` keeps heads inside positions, as a projection leaves them, so does the target: what undoes
    /// the projection's `swap_dims` then moves nothing.
    fn like(other: &FlexTensor, shape: [usize; 4]) -> Result<Self, AttentionError> {
        let [_, heads, seq, dim] = shape;
        let strides = other.layout().strides();
        let heads_inside = strides[1] < strides[2] && heads > 1 && seq > 1;
        let inner = if heads_inside { [dim, heads * dim] } else { [seq * dim, dim] };
        // An expanded tensor can be larger than memory.
        let len = shape.into_iter().try_fold(1usize, usize::checked_mul);
        let numbers = zeroed(len.ok_or(AttentionError::SizeOverflow { what: "tensor" })?)?;
        Ok(Self { numbers, shape, strides: [heads * seq * dim, inner[0], inner[1], 1] })
    }

    fn view(&mut self) -> Result<TensorViewMut<'_, f32>, AttentionError> {
        TensorViewMut::with_strides(&mut self.numbers, self.shape, self.strides)
    }

    /// The row at `[batch, head, position]`.
    fn row(&mut self, at: [usize; 3]) -> &mut [f32] {
        let start: usize = at.into_iter().zip(self.strides).map(|(i, stride)| i * stride).sum();
        &mut self.numbers[start..][..self.shape[3]]
    }

    fn finish(self) -> FlexTensor {
        let strides = self.strides.map(|stride| stride as isize).to_vec();
        let layout = FlexLayout::new(Shape::from(self.shape), strides, 0);
        FlexTensor::new(Bytes::from_elems(self.numbers), layout, DType::F32)
    }
}

fn zeroed(len: usize) -> Result<Vec<f32>, AttentionError> {
    let mut numbers = Vec::new();
    let bytes = len.saturating_mul(size_of::<f32>());
    numbers.try_reserve_exact(len).map_err(|_| AttentionError::AllocationFailed { bytes })?;
    numbers.resize(len, 0.0);
    Ok(numbers)
}

fn shape(tensor: &FlexTensor) -> [usize; 4] {
    tensor.layout().shape().dims()
}

/// The tensor itself, unless an axis runs backwards (`flip`).
fn readable(tensor: FlexTensor) -> FlexTensor {
    if tensor.layout().strides().iter().all(|&stride| stride >= 0) { tensor } else { tensor.to_contiguous() }
}

fn view(tensor: &FlexTensor) -> Result<TensorView<'_, f32>, AttentionError> {
    let layout = tensor.layout();
    let strides = std::array::from_fn(|axis| layout.strides()[axis].unsigned_abs());
    // An empty tensor may start behind the end of its storage.
    let numbers = tensor.storage::<f32>().get(layout.start_offset()..).unwrap_or(&[]);
    TensorView::with_strides(numbers, shape(tensor), strides)
}

fn with_bias<'a>(
    config: &AttentionConfig<'a>,
    bias: Option<&'a FlexTensor>,
) -> Result<AttentionConfig<'a>, AttentionError> {
    Ok(match bias {
        Some(bias) => config.with_attention_bias(view(bias)?),
        None => *config,
    })
}

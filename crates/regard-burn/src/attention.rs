use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Device, Tensor};
use regard::position::RotaryPositions;
use regard::{AttentionConfig, AttentionError, AttentionShape, TensorView, attention_scratch_bytes};

use crate::composed;
use crate::error::Error;
use crate::extension::{Bias, Outcome, RegardBackend};

/// Multi-head attention with gradients:
/// `output = softmax(softmax_scale · query·keyᵀ + bias, masked) · value`.
///
/// On the Flex device (with or without autodiff) and f32 tensors it is [`regard::attention_with`] and
/// [`regard::attention_backward`], in memory that grows with the sequence and not with its square: inputs are read
/// where they lie, strides included (an axis that runs backwards is copied), and what is kept for the backward pass is
/// inputs, output and the log-sum-exp. A query whose heads lie inside its positions, as `swap_dims` after a projection
/// leaves them, gets an output of the same kind.
///
/// On every other device, and for other float types, it composes burn's own operations: the same options and the
/// same dropped probabilities, but a matrix of scores for each head and a mask made by the CPU, and a NaN in a value
/// that may not be attended to reaches the output.
///
/// Gradients flow to query, key, value and bias, to those that ask for them; the arrays in `config` are constants.
/// `−∞` in the bias forbids a key as a mask does. A row that may attend to nothing has output 0 and gradients 0.
///
/// # Shapes
/// query `[batch_size, num_heads, seq_len_q, head_dim]`, key `[batch_size, num_kv_heads, seq_len_kv, head_dim]`, value
/// `[batch_size, num_kv_heads, seq_len_kv, value_head_dim]`; bias
/// `[batch_size, num_heads, seq_len_q, seq_len_kv]` with axes of size 1 repeated; output
/// `[batch_size, num_heads, seq_len_q, value_head_dim]`.
///
/// # Errors
/// [`Error`]; [`AttentionError::ConflictingOption`] if the configuration has an `attention_bias` of its own.
///
/// # Panics
/// The backward pass, if its memory cannot be allocated: burn has no error for that.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use regard::{AttentionConfig, Mask, QueryPosition};
///
/// let device = Device::flex().autodiff();
/// let query = Tensor::<4>::random([2, 4, 10, 16], Distribution::Default, &device).require_grad();
/// let key = Tensor::<4>::random([2, 2, 10, 16], Distribution::Default, &device); // two query heads share a key head
/// let config = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::TopLeft));
/// let output = regard_burn::attention(query.clone(), key.clone(), key, None, &config)?;
/// let gradients = output.sum().backward();
/// assert_eq!(query.grad(&gradients).unwrap().dims(), [2, 4, 10, 16]);
/// # Ok::<(), regard_burn::Error>(())
/// ```
pub fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    bias: Option<Tensor<4>>,
    config: &AttentionConfig<'_>,
) -> Result<Tensor<4>, Error> {
    let shape = check([&query, &key, &value], bias.as_ref(), config)?;
    if !runs_regard(&query) {
        return Ok(composed::attention([query, key, value], bias, config, &shape));
    }
    let bias = bias.map_or(Bias::Absent, |bias| Bias::Given(bias.into_dispatch()));
    let [query, key, value] = [query, key, value].map(Tensor::into_dispatch);
    output(<Dispatch as RegardBackend>::regard_attention(query, key, value, bias, config))
}

/// Rotary positions, with gradients: row i of each head is turned to position `first_position + i`.
///
/// On the Flex device and f32 it is [`regard::position::Rotation`]; elsewhere burn's own operations.
///
/// # Shapes
/// tensor and output `[batch_size, num_heads, seq_len, head_dim]`.
///
/// # Errors
/// [`Error`]: another `head_dim` than the rotation's, or positions beyond `usize`.
pub fn rotate(
    tensor: Tensor<4>,
    rotary: &RotaryPositions,
    first_position: usize,
) -> Result<Tensor<4>, Error> {
    let [_, _, seq_len, head_dim] = tensor.dims();
    if head_dim != rotary.head_dim() {
        let (axis, expected) = ("tensor.head_dim", rotary.head_dim());
        return Err(AttentionError::ShapeMismatch { axis, expected, found: head_dim }.into());
    }
    first_position.checked_add(seq_len).ok_or(AttentionError::SizeOverflow { what: "positions" })?;
    if let DType::QFloat(_) = tensor.dtype() {
        return Err(Error::QuantizedTensor { found: tensor.dtype() });
    }
    if !runs_regard(&tensor) {
        return Ok(composed::rotate(tensor, rotary, first_position));
    }
    output(<Dispatch as RegardBackend>::regard_rotate(tensor.into_dispatch(), rotary, first_position))
}

fn output(outcome: Outcome<Dispatch>) -> Result<Tensor<4>, Error> {
    match outcome {
        Outcome::Output(output) => Ok(Tensor::from_dispatch(output)),
        Outcome::Refused(error) => Err(error.into()),
    }
}

/// Whether `regard` computes what this tensor asks for: dispatching to a backend it does not know would panic.
fn runs_regard(query: &Tensor<4>) -> bool {
    let is_flex = |device: Device| matches!(device.as_dispatch(), DispatchDevice::Flex(_));
    query.dtype() == DType::F32 && is_flex(query.device().without_autodiff())
}

/// Refuses what cannot be computed.
fn check(
    [query, key, value]: [&Tensor<4>; 3],
    bias: Option<&Tensor<4>>,
    config: &AttentionConfig<'_>,
) -> Result<AttentionShape, Error> {
    if let DType::QFloat(_) = query.dtype() {
        return Err(Error::QuantizedTensor { found: query.dtype() });
    }
    let strategy = |tensor: &Tensor<4>| tensor.device().gradient_checkpointing_strategy();
    let mut recorded = strategy(query);
    for (tensor, other) in [("key", Some(key)), ("value", Some(value)), ("bias", bias)] {
        let Some(other) = other else { continue };
        if other.dtype() != query.dtype() {
            let (expected, found) = (query.dtype(), other.dtype());
            return Err(Error::DtypeMismatch { tensor, expected, found });
        }
        if other.device() != query.device() {
            let (expected, found) = (format!("{:?}", query.device()), format!("{:?}", other.device()));
            return Err(Error::DeviceMismatch { tensor, expected, found });
        }
        if recorded.zip(strategy(other)).is_some_and(|(one, another)| one != another) {
            return Err(Error::CheckpointingMismatch { tensor });
        }
        recorded = recorded.or(strategy(other));
    }
    if config.attention_bias.is_some() {
        let (what, with) = ("config.attention_bias", "a bias that is a tensor");
        return Err(AttentionError::ConflictingOption { what, with }.into());
    }
    let shape = AttentionShape::new(query.dims(), key.dims(), value.dims())?;
    // Views that repeat one number have the shapes of the call, which is all that is looked at.
    let shaped = |shape| TensorView::with_strides(&[0.0f32], shape, [0; 4]);
    let mut config = *config;
    config.attention_bias = bias.map(|bias| shaped(bias.dims())).transpose()?;
    attention_scratch_bytes(shaped(query.dims())?, shaped(key.dims())?, shaped(value.dims())?, &config)?;
    Ok(shape)
}

//! The same mathematics in burn's own operations, for devices and number types that `regard` does not run on.

use burn::tensor::{Bool, DType, Device, Tensor, TensorData};
use regard::position::{RotaryPairs, RotaryPositions};
use regard::{AttentionConfig, AttentionShape, Dropout, Mask, QueryPosition, TensorView, Window};

use crate::owned::indices;

/// Attention of checked inputs.
pub(crate) fn attention(
    [query, key, value]: [Tensor<4>; 3],
    bias: Option<Tensor<4>>,
    config: &AttentionConfig<'_>,
    shape: &AttentionShape,
) -> Tensor<4> {
    let (device, dtype) = (query.device(), query.dtype());
    if shape.output().contains(&0) || shape.seq_len_kv == 0 {
        return Tensor::zeros(shape.output(), (&device, dtype));
    }
    let [key, value] = [key, value].map(|tensor| for_query_heads(tensor, shape.group_size()));
    let scale = config.softmax_scale.map_or_else(|| 1.0 / (shape.head_dim as f64).sqrt(), f64::from);
    let mut scores = query.matmul(key.swap_dims(2, 3)) * scale;
    if let Some(cap) = config.softcap {
        scores = (scores / cap).tanh() * cap;
    }
    let structure = Structure::new(config, shape);
    let mut forbidden = structure.forbidden(&device);
    if structure.adds {
        scores = scores + tensor(structure.added, structure.shape, &device, dtype);
    }
    if let Some(bias) = bias {
        let minus_infinity = bias.clone().equal_elem(f32::NEG_INFINITY);
        scores = scores + bias.mask_fill(minus_infinity.clone(), 0.0);
        let scores_shape = scores.dims();
        forbidden = forbidden.expand(scores_shape).bool_or(minus_infinity.expand(scores_shape));
    }
    let scores = scores.clone().mask_fill(forbidden.expand(scores.dims()), f32::NEG_INFINITY);
    let sinks_shape = [1, shape.num_heads, 1, 1];
    let sinks = config.sinks.map(|sinks| tensor(sinks.to_vec(), sinks_shape, &device, dtype));
    let mut probs = softmax(scores, sinks);
    if let Some(dropout) = config.dropout {
        let factors = structure.placing.dropout_factors(dropout, probs.dims());
        probs = probs.clone() * tensor(factors, probs.dims(), &device, dtype);
    }
    probs.matmul(value)
}

/// Exponentials over their sum (and a sink's); 0 where all scores are −∞.
fn softmax(scores: Tensor<4>, sinks: Option<Tensor<4>>) -> Tensor<4> {
    // What is subtracted changes no probability, so no gradient has to pass through it.
    let mut largest = scores.clone().detach().max_dim(3);
    if let Some(sinks) = &sinks {
        largest = largest.clone().max_pair(sinks.clone().expand(largest.dims()));
    }
    let nothing = largest.clone().equal_elem(f32::NEG_INFINITY);
    let largest = largest.mask_fill(nothing, 0.0);
    let exponentials = (scores - largest.clone()).exp();
    let mut sum = exponentials.clone().sum_dim(3);
    if let Some(sinks) = sinks {
        sum = sum + (sinks - largest).exp();
    }
    let nothing = sum.clone().equal_elem(0.0);
    exponentials / sum.mask_fill(nothing, 1.0)
}

/// Rotary positions of a tensor of the right head_dim.
pub(crate) fn rotate(input: Tensor<4>, rotary: &RotaryPositions, first_position: usize) -> Tensor<4> {
    let [batch, heads, seq, head_dim] = input.dims();
    if batch * heads * seq == 0 {
        return input;
    }
    let (device, dtype, half) = (input.device(), input.dtype(), rotary.frequencies().len());
    let angles =
        (0..seq).flat_map(|i| rotary.frequencies().iter().map(move |f| (first_position + i) as f64 * f));
    let table = |of: fn(f64) -> f64| {
        let numbers = angles.clone().map(|angle| (of(angle) * rotary.attention_factor()) as f32).collect();
        tensor(numbers, [1, 1, seq, half], &device, dtype)
    };
    let (cos, sin) = (table(f64::cos), table(f64::sin));
    let turned = input.clone().narrow(3, 0, 2 * half);
    let turned = match rotary.pairs() {
        RotaryPairs::HalfSplit => {
            let (a, b) = (turned.clone().narrow(3, 0, half), turned.narrow(3, half, half));
            let first = a.clone() * cos.clone() - b.clone() * sin.clone();
            Tensor::cat(vec![first, a * sin + b * cos], 3)
        }
        RotaryPairs::Interleaved => {
            let pairs: Tensor<5> = turned.reshape([batch, heads, seq, half, 2]);
            let part = |i| pairs.clone().narrow(4, i, 1).reshape([batch, heads, seq, half]);
            let (a, b): (Tensor<4>, Tensor<4>) = (part(0), part(1));
            let first = a.clone() * cos.clone() - b.clone() * sin.clone();
            Tensor::stack::<5>(vec![first, a * sin + b * cos], 4).reshape([batch, heads, seq, 2 * half])
        }
    };
    match head_dim - 2 * half {
        0 => turned,
        rest => Tensor::cat(vec![turned, input.narrow(3, 2 * half, rest)], 3),
    }
}

fn tensor(numbers: Vec<f32>, shape: [usize; 4], device: &Device, dtype: DType) -> Tensor<4> {
    Tensor::from_data(TensorData::new(numbers, shape), (device, dtype))
}

/// `[batch, kv_heads, …]` to `[batch, heads, …]`: each key head once for every query head of its group.
fn for_query_heads(tensor: Tensor<4>, group_size: usize) -> Tensor<4> {
    let [batch, kv_heads, seq, dim] = tensor.dims();
    let tensor: Tensor<5> = tensor.reshape([batch, kv_heads, 1, seq, dim]);
    tensor.expand([batch, kv_heads, group_size, seq, dim]).reshape([batch, kv_heads * group_size, seq, dim])
}

/// Where queries stand and keys end.
struct Placing<'a> {
    mask: Mask<'a>,
    seq_len_q: usize,
    seq_len_kv: usize,
}

impl Placing<'_> {
    fn key_len(&self, batch: usize) -> usize {
        match self.mask.key_lengths {
            None => self.seq_len_kv,
            Some([length]) => *length,
            Some(lengths) => lengths[batch],
        }
    }

    /// The offset of a sequence's queries.
    fn offset(&self, batch: usize) -> i64 {
        match self.mask.position {
            QueryPosition::TopLeft => 0,
            QueryPosition::BottomRight => self.key_len(batch) as i64 - self.seq_len_q as i64,
            QueryPosition::Offset(offset) => offset,
            QueryPosition::OffsetPerSequence(offsets) => offsets[batch],
        }
    }

    fn is_allowed(&self, [batch, head, row, key]: [usize; 4]) -> bool {
        let (position, j) = (i128::from(self.offset(batch)) + row as i128, key as i128);
        let window = |w: Window| position - w.left as i128 <= j && j <= position + w.right as i128;
        let keeps = |keep: TensorView<'_, bool>| {
            let (index, shape) = ([batch, head, row, key], keep.shape());
            keep.at(std::array::from_fn(|axis| if shape[axis] == 1 { 0 } else { index[axis] }))
        };
        key < self.key_len(batch)
            && (!self.mask.causal || j <= position)
            && self.mask.window.is_none_or(window)
            && self.mask.keep.is_none_or(keeps)
    }

    /// What each probability is multiplied with, `[batch_size, num_heads, seq_len_q, seq_len_kv]`.
    fn dropout_factors(&self, dropout: Dropout, shape: [usize; 4]) -> Vec<f32> {
        let factor = (1.0 / (1.0 - f64::from(dropout.rate))) as f32;
        let factor_at = |[batch, head, row, key]: [usize; 4]| {
            let position = self.offset(batch).wrapping_add(row as i64);
            if dropout.keeps([batch, head], position, key) { factor } else { 0.0 }
        };
        indices(shape).map(factor_at).collect()
    }
}

/// What mask, ALiBi and relative bias do to the scores, in a shape that repeats.
struct Structure<'a> {
    placing: Placing<'a>,
    shape: [usize; 4],
    forbidden: Vec<bool>,
    added: Vec<f32>,
    /// Whether anything is added at all.
    adds: bool,
}

impl<'a> Structure<'a> {
    fn new(config: &AttentionConfig<'a>, shape: &AttentionShape) -> Self {
        let mask = config.mask;
        let placing = Placing { mask, seq_len_q: shape.seq_len_q, seq_len_kv: shape.seq_len_kv };
        let adds = config.alibi_slopes.is_some() || config.relative_bias.is_some();
        let keep_shape = mask.keep.map_or([1; 4], |keep| keep.shape());
        let by_sequence = mask.key_lengths.is_some_and(|lengths| lengths.len() > 1)
            || matches!(mask.position, QueryPosition::OffsetPerSequence(_))
            || keep_shape[0] > 1;
        let batch = if by_sequence { shape.batch_size } else { 1 };
        let heads = if adds || keep_shape[1] > 1 { shape.num_heads } else { 1 };
        let shape = [batch, heads, shape.seq_len_q, shape.seq_len_kv];
        let added_at = |[batch, head, row, key]: [usize; 4]| {
            let position = i128::from(placing.offset(batch)) + row as i128;
            let distance = key as i128 - position;
            let alibi =
                config.alibi_slopes.map_or(0.0, |slopes| -slopes[head] * distance.unsigned_abs() as f32);
            let relative = config.relative_bias.map_or(0.0, |bias| {
                let column = distance.clamp(-(bias.left as i128), bias.right as i128) + bias.left as i128;
                bias.table[head * (bias.left + 1 + bias.right) + column as usize]
            });
            alibi + relative
        };
        let mut added: Vec<f32> = if adds { indices(shape).map(added_at).collect() } else { vec![] };
        let mut forbidden: Vec<bool> = indices(shape).map(|index| !placing.is_allowed(index)).collect();
        for (added, forbidden) in added.iter_mut().zip(&mut forbidden) {
            *forbidden |= *added == f32::NEG_INFINITY;
            if *forbidden {
                *added = 0.0;
            }
        }
        Self { placing, shape, forbidden, added, adds }
    }

    fn forbidden(&self, device: &Device) -> Tensor<4, Bool> {
        Tensor::from_data(TensorData::new(self.forbidden.clone(), self.shape), device)
    }
}

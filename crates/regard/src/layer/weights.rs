//! Layers from safetensors files, by the names that frameworks give their weights.

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::linear::Linear;
use super::multi_head_attention::MultiHeadAttention;
use crate::error::AttentionError;

impl Linear {
    /// The projection `{name}.weight` `[out_features, in_features]` with `{name}.bias` where there is one.
    ///
    /// F32, F16 and BF16 are read; arithmetic is in f32.
    ///
    /// # Errors
    /// [`AttentionError::Weight`] if the weight is missing or has a type or shape that does not fit.
    pub fn from_safetensors(file: &SafeTensors<'_>, name: &str) -> Result<Self, AttentionError> {
        let weight = format!("{name}.weight");
        let bias = format!("{name}.bias");
        let ([out_features, in_features], numbers) = read_matrix(file, &weight)?;
        let bias = file.tensor(&bias).is_ok().then(|| read_vector(file, &bias, out_features)).transpose()?;
        Self::new(numbers, bias, in_features, out_features)
    }
}

impl MultiHeadAttention {
    /// A layer by the names of PyTorch or Hugging Face, each after `prefix` (`""`, or one that ends in a dot).
    /// `heads` is `[num_heads, num_kv_heads]`.
    ///
    /// | from | weights | biases, if any |
    /// |---|---|---|
    /// | `torch.nn.MultiheadAttention` | `in_proj_weight`, `out_proj.weight` | `in_proj_bias`, `out_proj.bias` |
    /// | the same with `kdim` = `vdim` | `{q,k,v}_proj_weight`, `out_proj.weight` | `in_proj_bias`, `out_proj.bias` |
    /// | Hugging Face | `{q,k,v}_proj.weight`, `{o,out}_proj.weight` | `{q,k,v}_proj.bias`, `{o,out}_proj.bias` |
    ///
    /// # Errors
    /// [`AttentionError::Weight`] naming the tensor: one that is missing or does not fit, or PyTorch's `bias_k` or
    /// `bias_v` (`add_bias_kv`), a key and value of no position, which this layer does not have. Otherwise as
    /// [`MultiHeadAttention::new`].
    pub fn from_safetensors(
        file: &SafeTensors<'_>,
        prefix: &str,
        heads: [usize; 2],
    ) -> Result<Self, AttentionError> {
        let named = |name: &str| Linear::from_safetensors(file, &format!("{prefix}{name}"));
        let has = |name: &str| file.tensor(&format!("{prefix}{name}")).is_ok();
        let output = if has("o_proj.weight") { named("o_proj")? } else { named("out_proj")? };
        if let Some(name) = ["bias_k", "bias_v"].into_iter().find(|name| has(name)) {
            let problem = "a learnt key and value of no position (add_bias_kv) is not supported".to_owned();
            return Err(AttentionError::Weight { name: format!("{prefix}{name}"), problem });
        }
        let parts = if has("in_proj_weight") {
            stacked_parts(file, prefix)?
        } else if has("q_proj_weight") {
            separate_parts(file, prefix)?
        } else {
            [named("q_proj")?, named("k_proj")?, named("v_proj")?]
        };
        let [query, key, value] = parts;
        Self::new(query, key, value, output, heads)
    }
}

/// PyTorch's query, key and value projections of one input size, one above the other in one matrix.
fn stacked_parts(file: &SafeTensors<'_>, prefix: &str) -> Result<[Linear; 3], AttentionError> {
    let name = format!("{prefix}in_proj_weight");
    let ([rows, model_dim], numbers) = read_matrix(file, &name)?;
    if !rows.is_multiple_of(3) {
        let problem = format!("expected query, key and value rows of equal number, found {rows} rows in all");
        return Err(AttentionError::Weight { name, problem });
    }
    let features = rows / 3;
    let [query, key, value] = stacked_biases(file, prefix, [features; 3])?;
    let part = |index: usize, bias| {
        let weight = &numbers[index * features * model_dim..][..features * model_dim];
        Linear::new(weight.to_vec(), bias, model_dim, features)
    };
    Ok([part(0, query)?, part(1, key)?, part(2, value)?])
}

/// PyTorch's projections where keys and values have a size of their own (`kdim`, `vdim`): three matrices, but one
/// bias.
fn separate_parts(file: &SafeTensors<'_>, prefix: &str) -> Result<[Linear; 3], AttentionError> {
    let read = |name: &str| read_matrix(file, &format!("{prefix}{name}"));
    let (query, key, value) = (read("q_proj_weight")?, read("k_proj_weight")?, read("v_proj_weight")?);
    let [q_bias, k_bias, v_bias] = stacked_biases(file, prefix, [query.0[0], key.0[0], value.0[0]])?;
    let part = |(shape, weight): ([usize; 2], _), bias| Linear::new(weight, bias, shape[1], shape[0]);
    Ok([part(query, q_bias)?, part(key, k_bias)?, part(value, v_bias)?])
}

/// PyTorch's `in_proj_bias`, if there is one, in its three parts.
fn stacked_biases(
    file: &SafeTensors<'_>,
    prefix: &str,
    [query, key, value]: [usize; 3],
) -> Result<[Option<Vec<f32>>; 3], AttentionError> {
    let name = format!("{prefix}in_proj_bias");
    if file.tensor(&name).is_err() {
        return Ok([None, None, None]);
    }
    let len = query.checked_add(key).and_then(|len| len.checked_add(value));
    let bias = read_vector(file, &name, len.ok_or(AttentionError::SizeOverflow { what: "in_proj_bias" })?)?;
    let part = |start: usize, len: usize| Some(bias[start..start + len].to_vec());
    Ok([part(0, query), part(query, key), part(query + key, value)])
}

fn read_matrix(file: &SafeTensors<'_>, name: &str) -> Result<([usize; 2], Vec<f32>), AttentionError> {
    let (shape, numbers) = read(file, name)?;
    match shape[..] {
        [rows, columns] => Ok(([rows, columns], numbers)),
        _ => Err(weight_error(name, format!("expected 2 axes, found shape {shape:?}"))),
    }
}

fn read_vector(file: &SafeTensors<'_>, name: &str, len: usize) -> Result<Vec<f32>, AttentionError> {
    let (shape, numbers) = read(file, name)?;
    if shape == [len] {
        return Ok(numbers);
    }
    Err(weight_error(name, format!("expected shape [{len}], found {shape:?}")))
}

fn read(file: &SafeTensors<'_>, name: &str) -> Result<(Vec<usize>, Vec<f32>), AttentionError> {
    let tensor = file.tensor(name).map_err(|error| weight_error(name, error.to_string()))?;
    let (bytes, shape) = (tensor.data(), tensor.shape().to_vec());
    let halves = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let numbers = match tensor.dtype() {
        Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Dtype::F16 => halves().map(|bits| f16::from_bits(bits).to_f32()).collect(),
        Dtype::BF16 => halves().map(|bits| bf16::from_bits(bits).to_f32()).collect(),
        other => return Err(weight_error(name, format!("expected F32, F16 or BF16, found {other:?}"))),
    };
    Ok((shape, numbers))
}

fn weight_error(name: &str, problem: String) -> AttentionError {
    AttentionError::Weight { name: name.to_owned(), problem }
}

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
    /// A layer by the names of PyTorch or Hugging Face, each after `prefix` (`""`, or one that ends in a dot):
    /// `in_proj_weight`, `in_proj_bias` and `out_proj` (`torch.nn.MultiheadAttention`), or `q_proj`, `k_proj`,
    /// `v_proj` and `o_proj` or `out_proj`. `heads` is `[num_heads, num_kv_heads]`.
    ///
    /// # Errors
    /// [`AttentionError::Weight`] naming the tensor; otherwise as [`MultiHeadAttention::new`].
    pub fn from_safetensors(
        file: &SafeTensors<'_>,
        prefix: &str,
        heads: [usize; 2],
    ) -> Result<Self, AttentionError> {
        let named = |name: &str| Linear::from_safetensors(file, &format!("{prefix}{name}"));
        let has = |name: &str| file.tensor(&format!("{prefix}{name}")).is_ok();
        let output = if has("o_proj.weight") { named("o_proj")? } else { named("out_proj")? };
        if !has("in_proj_weight") {
            return Self::new(named("q_proj")?, named("k_proj")?, named("v_proj")?, output, heads);
        }
        let (weight, bias) = (format!("{prefix}in_proj_weight"), format!("{prefix}in_proj_bias"));
        let ([rows, model_dim], numbers) = read_matrix(file, &weight)?;
        if !rows.is_multiple_of(3) {
            let problem =
                format!("expected query, key and value rows of equal number, found {rows} rows in all");
            return Err(AttentionError::Weight { name: weight, problem });
        }
        let bias = file.tensor(&bias).is_ok().then(|| read_vector(file, &bias, rows)).transpose()?;
        let part = |i: usize| {
            let (from, to) = (i * (rows / 3), (i + 1) * (rows / 3));
            let bias = bias.as_ref().map(|bias| bias[from..to].to_vec());
            Linear::new(numbers[from * model_dim..to * model_dim].to_vec(), bias, model_dim, rows / 3)
        };
        Self::new(part(0)?, part(1)?, part(2)?, output, heads)
    }
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

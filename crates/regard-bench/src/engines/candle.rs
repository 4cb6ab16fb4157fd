//! candle on the CPU: its fused attention, and attention composed of its tensor operations.

use candle_core::{DType, Device, Error, Result, Tensor, Var};
use candle_nn::attention::{AttnMask, flash_attn};
use candle_nn::ops::{softmax, softmax_last_dim};

use super::{Call, input, sample, unsupported};
use crate::inputs::Tensor as Name;
use crate::protocol::{Dtype, Mask, Op, Request, Samples};

/// `flash_attn` reads `[batch, seq, heads, dim]`, which is how it gets its inputs; masks other than causal are
/// tensors of 0 and −∞, of one sequence.
struct Flash {
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: AttnMask,
    scale: f32,
    dtype: Dtype,
    output: Option<Tensor>,
}

pub(super) fn prepare_flash(request: &Request) -> std::result::Result<Box<dyn Call>, String> {
    check_threads(request)?;
    if !matches!(request.op, Op::Forward | Op::Decode) || (request.batch > 1 && extra_mask(request)) {
        return unsupported("candle's flash_attn", request);
    }
    flash(request).map(|call| Box::new(call) as Box<dyn Call>).map_err(message)
}

fn flash(request: &Request) -> Result<Flash> {
    let (query_shape, key_shape) = (request.query_shape(), request.key_shape());
    let by_position = |name, shape| tensor(request, name, shape)?.transpose(1, 2)?.contiguous();
    let mask = match request.mask {
        Mask::None => AttnMask::None,
        Mask::Causal => AttnMask::causal(),
        Mask::Window(_) | Mask::Lengths => {
            AttnMask::Mask(additive_mask(request)?.reshape((request.seq_q, request.seq_kv))?)
        }
    };
    Ok(Flash {
        query: by_position(Name::Query, query_shape)?,
        key: by_position(Name::Key, key_shape)?,
        value: by_position(Name::Value, key_shape)?,
        mask,
        scale: 1.0 / (request.head_dim as f32).sqrt(),
        dtype: request.dtype,
        output: None,
    })
}

impl Call for Flash {
    fn run(&mut self) -> std::result::Result<(), String> {
        // Freed before the next, as by a caller that has used it.
        self.output = None;
        let attend = match self.dtype {
            Dtype::F32 => flash_attn::<f32>,
            Dtype::F16 => flash_attn::<half::f16>,
            Dtype::Bf16 => flash_attn::<half::bf16>,
        };
        let output = attend(&self.query, &self.key, &self.value, self.scale, self.mask.clone(), None, None);
        self.output = Some(output.map_err(message)?);
        Ok(())
    }

    fn samples(&self) -> std::result::Result<Samples, String> {
        samples(self.output.iter().map(|output| ("output", output)))
    }
}

/// softmax(query · keyᵀ · scale + mask) · value, and its gradients by candle's own backward pass.
struct Composed {
    inputs: [Tensor; 3],
    mask: Option<Tensor>,
    cotangent: Option<Tensor>,
    scale: f64,
    results: Vec<(&'static str, Tensor)>,
}

pub(super) fn prepare_composed(request: &Request) -> std::result::Result<Box<dyn Call>, String> {
    check_threads(request)?;
    if !matches!(request.op, Op::Forward | Op::Decode | Op::ForwardBackward) {
        return unsupported("candle", request);
    }
    composed(request).map(|call| Box::new(call) as Box<dyn Call>).map_err(message)
}

fn composed(request: &Request) -> Result<Composed> {
    let (query_shape, key_shape) = (request.query_shape(), request.key_shape());
    let backward = request.op == Op::ForwardBackward;
    let leaf = |name, shape| {
        let tensor = tensor(request, name, shape)?;
        Ok::<_, Error>(if backward { Var::from_tensor(&tensor)?.into_inner() } else { tensor })
    };
    Ok(Composed {
        inputs: [leaf(Name::Query, query_shape)?, leaf(Name::Key, key_shape)?, leaf(Name::Value, key_shape)?],
        mask: (request.mask != Mask::None).then(|| additive_mask(request)).transpose()?,
        cotangent: backward.then(|| tensor(request, Name::Cotangent, query_shape)).transpose()?,
        scale: 1.0 / (request.head_dim as f64).sqrt(),
        results: Vec::new(),
    })
}

impl Composed {
    fn attend(&mut self) -> Result<()> {
        self.results.clear();
        let [query, key, value] = &self.inputs;
        let group = query.dim(1)? / key.dim(1)?;
        let (key, value) = (repeat_heads(key, group)?, repeat_heads(value, group)?);
        let scores = (query.matmul(&key.t()?)? * self.scale)?;
        let scores = match &self.mask {
            None => scores,
            Some(mask) => scores.broadcast_add(mask)?,
        };
        // Only the slower of the two softmaxes can be differentiated.
        let probs = match self.cotangent {
            None => softmax_last_dim(&scores)?,
            Some(_) => softmax(&scores, 3)?,
        };
        let output = probs.matmul(&value)?;
        if let Some(cotangent) = &self.cotangent {
            let gradients = (&output * cotangent)?.sum_all()?.backward()?;
            for (name, input) in ["d_query", "d_key", "d_value"].into_iter().zip(&self.inputs) {
                let gradient = gradients.get(input).ok_or_else(|| Error::Msg(format!("no {name}")))?;
                self.results.push((name, gradient.clone()));
            }
        }
        self.results.push(("output", output));
        Ok(())
    }
}

impl Call for Composed {
    fn run(&mut self) -> std::result::Result<(), String> {
        self.attend().map_err(message)
    }

    fn samples(&self) -> std::result::Result<Samples, String> {
        samples(self.results.iter().map(|(name, tensor)| (*name, tensor)))
    }
}

/// Every key head for each of its query heads.
fn repeat_heads(rows: &Tensor, group: usize) -> Result<Tensor> {
    if group == 1 {
        return Ok(rows.clone());
    }
    let (batch, heads, seq, dim) = rows.dims4()?;
    let repeated = rows.unsqueeze(2)?.expand((batch, heads, group, seq, dim))?;
    repeated.reshape((batch, heads * group, seq, dim))
}

/// candle takes its number of threads from the environment, once.
fn check_threads(request: &Request) -> std::result::Result<(), String> {
    let found = candle_core::utils::get_num_threads();
    if found == request.threads {
        return Ok(());
    }
    Err(format!("candle would use {found} threads: set RAYON_NUM_THREADS={}", request.threads))
}

fn extra_mask(request: &Request) -> bool {
    matches!(request.mask, Mask::Window(_) | Mask::Lengths)
}

/// 0 where a query may attend, else −∞: `[batch or 1, 1, seq_q, seq_kv]`.
fn additive_mask(request: &Request) -> Result<Tensor> {
    let (seq_q, seq_kv) = (request.seq_q, request.seq_kv);
    let sequences = if request.mask == Mask::Lengths { request.batch } else { 1 };
    let mut mask = Vec::with_capacity(sequences * seq_q * seq_kv);
    for sequence in 0..sequences {
        for query in 0..seq_q {
            let keys = request.allowed_keys(sequence, query);
            mask.extend((0..seq_kv).map(|key| if keys.contains(&key) { 0.0 } else { f32::NEG_INFINITY }));
        }
    }
    Tensor::from_vec(mask, (sequences, 1, seq_q, seq_kv), &Device::Cpu)?.to_dtype(dtype(request))
}

fn dtype(request: &Request) -> DType {
    match request.dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::Bf16 => DType::BF16,
    }
}

fn tensor(request: &Request, name: Name, shape: [usize; 4]) -> Result<Tensor> {
    let [batch, heads, seq, dim] = shape;
    let numbers: Vec<f32> = input(request, name, &shape);
    Tensor::from_vec(numbers, (batch, heads, seq, dim), &Device::Cpu)?.to_dtype(dtype(request))
}

fn samples<'a>(
    tensors: impl Iterator<Item = (&'static str, &'a Tensor)>,
) -> std::result::Result<Samples, String> {
    let mut all = Samples::new();
    for (name, tensor) in tensors {
        let numbers = tensor.flatten_all().and_then(|flat| flat.to_dtype(DType::F32)?.to_vec1::<f32>());
        all.extend(sample(&[(name, numbers.map_err(message)?.as_slice())])?);
    }
    Ok(all)
}

fn message(error: Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_string()
}

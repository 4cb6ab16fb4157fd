//! burn on its flex backend: its own `attention` or ours, and through autodiff the gradients.

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, Device, Tensor, TensorData};

use ::regard::AttentionConfig;

use super::{Call, input, regard, sample, unsupported};
use crate::inputs::Tensor as Name;
use crate::protocol::{Dtype, Mask, Op, Request, Samples};

/// Whose attention burn computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Library {
    Burn,
    Regard,
}

struct Attention {
    library: Library,
    request: Request,
    lengths: Option<Vec<usize>>,
    inputs: [Tensor<4>; 3],
    mask: Option<Tensor<4, Bool>>,
    cotangent: Option<Tensor<4>>,
    options: AttentionModuleOptions,
    results: Vec<(&'static str, Tensor<4>)>,
}

pub(super) fn prepare(request: &Request, library: Library) -> Result<Box<dyn Call>, String> {
    if !matches!(request.op, Op::Forward | Op::Decode | Op::ForwardBackward) {
        return unsupported("burn", request);
    }
    if library == Library::Regard && request.dtype != Dtype::F32 {
        return unsupported("regard-burn", request);
    }
    if library == Library::Burn && request.heads != request.kv_heads {
        return Err("burn's attention wants a key head for every query head".into());
    }
    let backward = request.op == Op::ForwardBackward;
    let device = if backward { Device::flex().autodiff() } else { Device::flex() };
    let leaf = |name, shape| {
        let tensor = tensor(request, name, shape, &device);
        if backward { tensor.require_grad() } else { tensor }
    };
    let (query_shape, key_shape) = (request.query_shape(), request.key_shape());
    // Its causal mask counts from the last key.
    let is_causal = request.mask == Mask::Causal && request.seq_q == request.seq_kv;
    let masked = library == Library::Burn && request.mask != Mask::None && !is_causal;
    Ok(Box::new(Attention {
        library,
        request: request.clone(),
        lengths: request.key_lengths(),
        inputs: [leaf(Name::Query, query_shape), leaf(Name::Key, key_shape), leaf(Name::Value, key_shape)],
        mask: masked.then(|| forbidden(request, &device)),
        cotangent: backward.then(|| tensor(request, Name::Cotangent, query_shape, &device)),
        options: AttentionModuleOptions { is_causal, ..AttentionModuleOptions::default() },
        results: Vec::new(),
    }))
}

impl Call for Attention {
    fn run(&mut self) -> Result<(), String> {
        // Freed before the next, as by a caller that has used them.
        self.results.clear();
        let [query, key, value] = self.inputs.clone();
        let output = match self.library {
            Library::Burn => attention(query, key, value, self.mask.clone(), None, self.options),
            Library::Regard => {
                let mask = regard::mask(self.request.mask, self.lengths.as_deref());
                let config = AttentionConfig::new().with_mask(mask);
                regard_burn::attention(query, key, value, None, &config).map_err(|e| e.to_string())?
            }
        };
        if let Some(cotangent) = &self.cotangent {
            let gradients = (output.clone() * cotangent.clone()).sum().backward();
            for (name, input) in ["d_query", "d_key", "d_value"].into_iter().zip(&self.inputs) {
                self.results.push((name, input.grad(&gradients).ok_or_else(|| format!("no {name}"))?));
            }
        }
        self.results.push(("output", output));
        Ok(())
    }

    fn samples(&self) -> Result<Samples, String> {
        let mut samples = Samples::new();
        for (name, tensor) in &self.results {
            let numbers = tensor.clone().cast(DType::F32).into_data().try_to_vec::<f32>();
            let numbers = numbers.map_err(|e| format!("{e:?}"))?;
            samples.extend(sample(&[(name, numbers.as_slice())])?);
        }
        Ok(samples)
    }
}

fn tensor(request: &Request, name: Name, shape: [usize; 4], device: &Device) -> Tensor<4> {
    let numbers: Vec<f32> = input(request, name, &shape);
    let dtype = match request.dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::Bf16 => DType::BF16,
    };
    Tensor::from_data(TensorData::new(numbers, shape).convert_dtype(dtype), (device, dtype))
}

/// Where a query may not attend, `[batch, heads, seq_q, seq_kv]`.
fn forbidden(request: &Request, device: &Device) -> Tensor<4, Bool> {
    let [batch, heads, seq_q, seq_kv] = [request.batch, request.heads, request.seq_q, request.seq_kv];
    let mut mask = Vec::with_capacity(batch * heads * seq_q * seq_kv);
    for sequence in 0..batch {
        for _ in 0..heads {
            for query in 0..seq_q {
                let keys = request.allowed_keys(sequence, query);
                mask.extend((0..seq_kv).map(|key| !keys.contains(&key)));
            }
        }
    }
    Tensor::from_data(TensorData::new(mask, [batch, heads, seq_q, seq_kv]), device)
}

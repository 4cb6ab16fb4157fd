//! What a worker can compute with.

#[cfg(feature = "burn")]
mod burn;
#[cfg(feature = "candle")]
mod candle;
mod gemm;
mod memory;
mod regard;
mod statistics;

use half::{bf16, f16};

use crate::inputs::{self, Tensor};
use crate::protocol::{Parts, Request, Samples};

/// A library, or one way of calling it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Engine {
    /// This workspace's library.
    Regard,
    /// The crate gemm's matrix product, through `regard::layer::Linear`, the safe way to call it here; sgemm only.
    Gemm,
    /// Reading keys and values and no more; decode only.
    Memory,
    /// candle-nn's `attention::flash_attn` for CPUs.
    Candle,
    /// Attention of candle's tensor operations: matmul, softmax, matmul.
    CandleComposed,
    /// burn's `attention` on its flex backend, with autodiff for gradients.
    Burn,
    /// `regard_burn::attention` on the same backend, with the same autodiff.
    RegardBurn,
}

/// A call with its inputs and outputs in place.
pub(crate) trait Call: Send {
    /// Computes everything that the request asks for.
    fn run(&mut self) -> Result<(), String>;

    /// Samples of what the last [`Call::run`] computed.
    fn samples(&self) -> Result<Samples, String>;

    /// Seconds so far in each part of all calls, by name, where they are told apart.
    fn parts(&self) -> Parts {
        Parts::new()
    }
}

impl Engine {
    /// Makes inputs, and room for outputs, of a checked request.
    ///
    /// # Errors
    /// What this engine does not do.
    pub(crate) fn prepare(self, request: &Request) -> Result<Box<dyn Call>, String> {
        match self {
            Self::Regard => regard::prepare(request),
            Self::Gemm => gemm::prepare(request),
            Self::Memory => memory::prepare(request),
            #[cfg(feature = "candle")]
            Self::Candle => candle::prepare_flash(request),
            #[cfg(feature = "candle")]
            Self::CandleComposed => candle::prepare_composed(request),
            #[cfg(feature = "burn")]
            Self::Burn => burn::prepare(request, burn::Library::Burn),
            #[cfg(feature = "burn")]
            Self::RegardBurn => burn::prepare(request, burn::Library::Regard),
            #[cfg(not(feature = "candle"))]
            Self::Candle | Self::CandleComposed => not_built("candle"),
            #[cfg(not(feature = "burn"))]
            Self::Burn | Self::RegardBurn => not_built("burn"),
        }
    }

    /// Name and version.
    pub(crate) fn version(self) -> String {
        match self {
            Self::Regard => regard::version(),
            Self::Gemm => "gemm 0.19".to_string(),
            Self::Memory => "reading".to_string(),
            Self::Candle => "candle 0.11.1, flash_attn".to_string(),
            Self::CandleComposed => "candle 0.11.1, composed".to_string(),
            Self::Burn => "burn 0.22.1, flex".to_string(),
            Self::RegardBurn => format!("{} in burn 0.22.1, flex", regard::version()),
        }
    }
}

/// A storage type that inputs are rounded to.
pub(crate) trait Stored: Copy + Default + Send + Sync + 'static {
    /// The nearest, ties to even.
    fn round(number: f32) -> Self;
    /// Exactly.
    fn widen(self) -> f32;
}

impl Stored for f32 {
    fn round(number: f32) -> Self {
        number
    }
    fn widen(self) -> f32 {
        self
    }
}

impl Stored for f16 {
    fn round(number: f32) -> Self {
        Self::from_f32(number)
    }
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

impl Stored for bf16 {
    fn round(number: f32) -> Self {
        Self::from_f32(number)
    }
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

/// A whole input tensor.
fn input<T: Stored>(request: &Request, tensor: Tensor, shape: &[usize]) -> Vec<T> {
    let len: usize = shape.iter().product();
    (0..len as u64).map(|index| T::round(inputs::value(request.seed, tensor, index))).collect()
}

/// A layer's four weights (out, in) and biases: of query, key, value and output.
fn layer_parameters(request: &Request) -> [[Vec<f32>; 2]; 4] {
    let (seed, dim) = (request.seed, request.model_dim());
    let scale = (1.0 / (dim as f64).sqrt()) as f32;
    [
        (Tensor::QueryWeight, Tensor::QueryBias),
        (Tensor::KeyWeight, Tensor::KeyBias),
        (Tensor::ValueWeight, Tensor::ValueBias),
        (Tensor::OutputWeight, Tensor::OutputBias),
    ]
    .map(|(weight, bias)| {
        [inputs::values(seed, weight, 0..dim * dim, scale), inputs::values(seed, bias, 0..dim, 0.1)]
    })
}

/// Samples of tensors that are slices, by name.
fn sample<T: Stored>(tensors: &[(&str, &[T])]) -> Result<Samples, String> {
    let mut samples = Samples::new();
    for (name, tensor) in tensors {
        let numbers = inputs::sample_positions(tensor.len()).map(|at| tensor[at].widen());
        if !numbers.iter().all(|x| x.is_finite()) {
            return Err(format!("{name} is not finite"));
        }
        samples.insert((*name).to_string(), numbers.to_vec());
    }
    Ok(samples)
}

/// Runs `$prepare::<T>($request)` for the storage type of a request.
macro_rules! for_dtype {
    ($request:expr, $prepare:ident) => {
        match $request.dtype {
            crate::protocol::Dtype::F32 => $prepare::<f32>($request),
            crate::protocol::Dtype::F16 => $prepare::<half::f16>($request),
            crate::protocol::Dtype::Bf16 => $prepare::<half::bf16>($request),
        }
    };
}
use for_dtype;

#[cfg(not(all(feature = "candle", feature = "burn")))]
fn not_built<T>(feature: &str) -> Result<T, String> {
    Err(format!("built without {feature}: cargo build --release -p regard-bench --features {feature}"))
}

/// The answer to what an engine does not do.
fn unsupported<T>(engine: &str, request: &Request) -> Result<T, String> {
    Err(format!(
        "{engine} does not do {} with mask {} in {} here",
        request.op.name(),
        request.mask,
        request.dtype.name()
    ))
}

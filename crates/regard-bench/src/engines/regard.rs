//! This workspace's library: `attention_with`, `attention_backward` and `layer::MultiHeadAttention`, writing to
//! outputs that are there, with one `Workspace` for all calls.

use std::time::Instant;

use regard::layer::{ForwardPass, Linear, MultiHeadAttention, MultiHeadAttentionGradients, OptionGradients};
use regard::{
    AttentionConfig, AttentionError, AttentionGradients, AttentionOutput, BackwardInputs, Element, Isa,
    Layout, Mask, QueryPosition, TensorView, TensorViewMut, Window, Workspace, attention_backward,
    attention_with,
};

use super::statistics::prepare_statistics;
use super::{Call, Stored, for_dtype, input, layer_parameters, sample, unsupported};
use crate::inputs::Tensor;
use crate::protocol::{self, Dtype, Op, Parts, Request, Samples};

pub(super) const LAYOUT: Layout = Layout::BatchHeadSeqDim;

pub(super) fn version() -> String {
    let isa = Isa::active().map_or_else(|e| e.to_string(), |isa| isa.name().to_string());
    format!("regard {} ({isa})", env!("CARGO_PKG_VERSION"))
}

pub(super) fn prepare(request: &Request) -> Result<Box<dyn Call>, String> {
    match request.op {
        Op::Forward | Op::Decode | Op::ForwardBackward => for_dtype!(request, prepare_attention),
        Op::Statistics | Op::StatisticsReceived => for_dtype!(request, prepare_statistics),
        Op::LayerForward | Op::LayerForwardBackward if request.dtype == Dtype::F32 => {
            Ok(Box::new(LayerCall::new(request).map_err(|e| e.to_string())?))
        }
        _ => unsupported("regard", request),
    }
}

/// The library's mask for the protocol's; `lengths` are [`Request::key_lengths`].
pub(super) fn mask(kind: protocol::Mask, lengths: Option<&[usize]>) -> Mask<'_> {
    let position = QueryPosition::TopLeft;
    match kind {
        protocol::Mask::None | protocol::Mask::Lengths => Mask { key_lengths: lengths, ..Mask::default() },
        protocol::Mask::Causal => Mask::causal(position),
        protocol::Mask::Window(window) => Mask::window(Window { left: window - 1, right: 0 }, position),
    }
}

struct AttentionCall<T> {
    request: Request,
    lengths: Option<Vec<usize>>,
    query: Vec<T>,
    key: Vec<T>,
    value: Vec<T>,
    output: Vec<T>,
    gradients: Option<Gradients<T>>,
    workspace: Workspace,
}

struct Gradients<T> {
    log_sum_exp: Vec<f32>,
    d_output: Vec<T>,
    d_query: Vec<T>,
    d_key: Vec<T>,
    d_value: Vec<T>,
}

fn prepare_attention<T: Element + Stored>(request: &Request) -> Result<Box<dyn Call>, String> {
    let (query_shape, key_shape) = (request.query_shape(), request.key_shape());
    let query: Vec<T> = input(request, Tensor::Query, &query_shape);
    let key: Vec<T> = input(request, Tensor::Key, &key_shape);
    let gradients = (request.op == Op::ForwardBackward).then(|| Gradients {
        log_sum_exp: vec![0.0; query.len() / request.head_dim],
        d_output: input(request, Tensor::Cotangent, &query_shape),
        d_query: vec![T::default(); query.len()],
        d_key: vec![T::default(); key.len()],
        d_value: vec![T::default(); key.len()],
    });
    Ok(Box::new(AttentionCall {
        request: request.clone(),
        lengths: request.key_lengths(),
        value: input(request, Tensor::Value, &key_shape),
        output: vec![T::default(); query.len()],
        query,
        key,
        gradients,
        workspace: Workspace::new(),
    }))
}

impl<T: Element + Stored> AttentionCall<T> {
    fn attend(&mut self) -> Result<(), AttentionError> {
        let (query_shape, key_shape) = (self.request.query_shape(), self.request.key_shape());
        let query = TensorView::new(&self.query, query_shape, LAYOUT)?;
        let key = TensorView::new(&self.key, key_shape, LAYOUT)?;
        let value = TensorView::new(&self.value, key_shape, LAYOUT)?;
        let config = AttentionConfig::new().with_mask(mask(self.request.mask, self.lengths.as_deref()));
        let target = AttentionOutput {
            output: TensorViewMut::new(&mut self.output, query_shape, LAYOUT)?,
            log_sum_exp: self.gradients.as_mut().map(|gradients| gradients.log_sum_exp.as_mut_slice()),
        };
        attention_with(query, key, value, target, &config, &mut self.workspace)?;
        let Some(gradients) = &mut self.gradients else {
            return Ok(());
        };
        let inputs = BackwardInputs {
            output: TensorView::new(&self.output, query_shape, LAYOUT)?,
            log_sum_exp: &gradients.log_sum_exp,
            d_output: TensorView::new(&gradients.d_output, query_shape, LAYOUT)?,
            d_log_sum_exp: None,
        };
        let targets = AttentionGradients::new(
            TensorViewMut::new(&mut gradients.d_query, query_shape, LAYOUT)?,
            TensorViewMut::new(&mut gradients.d_key, key_shape, LAYOUT)?,
            TensorViewMut::new(&mut gradients.d_value, key_shape, LAYOUT)?,
        );
        attention_backward(query, key, value, inputs, targets, &config, &mut self.workspace)
    }
}

impl<T: Element + Stored> Call for AttentionCall<T> {
    fn run(&mut self) -> Result<(), String> {
        self.attend().map_err(|e| e.to_string())
    }

    fn samples(&self) -> Result<Samples, String> {
        let mut tensors = vec![("output", self.output.as_slice())];
        if let Some(gradients) = &self.gradients {
            tensors.extend([
                ("d_query", gradients.d_query.as_slice()),
                ("d_key", &gradients.d_key),
                ("d_value", &gradients.d_value),
            ]);
        }
        sample(&tensors)
    }
}

struct LayerCall {
    request: Request,
    lengths: Option<Vec<usize>>,
    layer: MultiHeadAttention,
    input: Vec<f32>,
    d_output: Option<Vec<f32>>,
    output: Vec<f32>,
    gradients: Option<MultiHeadAttentionGradients>,
    workspace: Workspace,
    /// Seconds of all calls so far in projections, in attention, and in the gradients of both.
    seconds: [f64; 3],
}

impl LayerCall {
    fn new(request: &Request) -> Result<Self, AttentionError> {
        let dim = request.model_dim();
        if request.kv_heads != request.heads {
            // The protocol's weights are square.
            let (num_heads, num_kv_heads) = (request.heads, request.kv_heads);
            return Err(AttentionError::HeadGroups { num_heads, num_kv_heads });
        }
        let linear = |[weight, bias]: [Vec<f32>; 2]| Linear::new(weight, Some(bias), dim, dim);
        let [query, key, value, output] = layer_parameters(request).map(linear);
        let shape = [request.batch, request.seq_q, dim];
        let backward = request.op == Op::LayerForwardBackward;
        Ok(Self {
            request: request.clone(),
            lengths: request.key_lengths(),
            layer: MultiHeadAttention::new(query?, key?, value?, output?, [request.heads; 2])?,
            input: input(request, Tensor::Input, &shape),
            d_output: backward.then(|| input(request, Tensor::LayerCotangent, &shape)),
            output: Vec::new(),
            gradients: None,
            workspace: Workspace::new(),
            seconds: [0.0; 3],
        })
    }

    fn pass(&mut self) -> Result<(), AttentionError> {
        let config = AttentionConfig::new().with_mask(mask(self.request.mask, self.lengths.as_deref()));
        let size = [self.request.batch, self.request.seq_q];
        // What the layer returns is its own: freed before the next, as by a caller that has used it.
        (self.output, self.gradients) = (Vec::new(), None);
        let start = Instant::now();
        let projection = self.layer.project(&self.input, size, config.parallelism)?;
        let projected = Instant::now();
        let attended = projection.attend(&config, &mut self.workspace)?;
        let done = Instant::now();
        self.output = self.layer.project_output(&attended, config.parallelism)?;
        self.seconds[0] += ((projected - start) + done.elapsed()).as_secs_f64();
        self.seconds[1] += (done - projected).as_secs_f64();
        if let Some(d_output) = &self.d_output {
            let pass = ForwardPass {
                input: &self.input,
                memory: None,
                projection: &projection,
                attended: &attended,
            };
            let (options, workspace) = (OptionGradients::default(), &mut self.workspace);
            let start = Instant::now();
            self.gradients = Some(self.layer.backward(pass, d_output, options, &config, workspace)?);
            self.seconds[2] += start.elapsed().as_secs_f64();
        }
        Ok(())
    }
}

impl Call for LayerCall {
    fn run(&mut self) -> Result<(), String> {
        self.pass().map_err(|e| e.to_string())
    }

    fn parts(&self) -> Parts {
        let names = ["projections", "attention", "gradients of both"].map(String::from);
        names.into_iter().zip(self.seconds).filter(|(_, seconds)| *seconds > 0.0).collect()
    }

    fn samples(&self) -> Result<Samples, String> {
        let mut tensors = vec![("output", self.output.as_slice())];
        if let Some(gradients) = &self.gradients {
            tensors.extend([
                ("d_input", gradients.d_input.as_slice()),
                ("d_query_weight", &gradients.query.d_weight),
                ("d_key_weight", &gradients.key.d_weight),
                ("d_value_weight", &gradients.value.d_weight),
                ("d_output_weight", &gradients.output.d_weight),
            ]);
        }
        sample(&tensors)
    }
}

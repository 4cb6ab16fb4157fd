//! The rate of the matrix product that `regard`'s layers use.

use regard::Parallelism;
use regard::layer::Linear;

use super::{Call, input, sample, unsupported};
use crate::inputs::Tensor;
use crate::protocol::{Op, Request, Samples};

struct Product {
    left: Vec<f32>,
    right: Linear,
    output: Vec<f32>,
}

pub(super) fn prepare(request: &Request) -> Result<Box<dyn Call>, String> {
    if request.op != Op::Sgemm {
        return unsupported("gemm", request);
    }
    let [rows, columns, inner] = [request.seq_q, request.seq_kv, request.head_dim];
    let right: Vec<f32> = input(request, Tensor::Key, &[inner, columns]);
    // A `Linear` multiplies by the transpose of its weight.
    let weight = (0..inner * columns).map(|at| right[at % inner * columns + at / inner]).collect();
    let right = Linear::new(weight, None, inner, columns).map_err(|e| e.to_string())?;
    let left = input(request, Tensor::Query, &[rows, inner]);
    Ok(Box::new(Product { left, right, output: vec![0.0; rows * columns] }))
}

impl Call for Product {
    fn run(&mut self) -> Result<(), String> {
        self.right.forward(&self.left, &mut self.output, Parallelism::Pool).map_err(|e| e.to_string())
    }

    fn samples(&self) -> Result<Samples, String> {
        sample(&[("output", self.output.as_slice())])
    }
}

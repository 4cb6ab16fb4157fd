//! Gradients clipped by their common length (Pascanu, Mikolov and Bengio 2013).

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// Divides all gradients by their common length over `longest` where it is longer; returns the length before.
pub(crate) fn clip<M: Module>(model: &M, gradients: &mut GradientsParams, longest: f64) -> f64 {
    let mut sum = SumOfSquares { gradients, sum: 0.0 };
    model.visit(&mut sum);
    let length = sum.sum.sqrt();
    if length > longest {
        model.visit(&mut Scale { gradients, factor: longest / length });
    }
    length
}

struct SumOfSquares<'g> {
    gradients: &'g GradientsParams,
    sum: f64,
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.sum += f64::from(gradient.square().sum().into_scalar::<f32>());
        }
    }
}

struct Scale<'g> {
    gradients: &'g mut GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, gradient.mul_scalar(self.factor));
        }
    }
}

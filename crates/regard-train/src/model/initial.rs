//! First parameters.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::random::{Purpose, rng};

/// Standard deviation of embeddings.
pub(crate) const EMBEDDING: f64 = 0.05;

/// Vectors stay what burn makes them (gains 1, biases 0 but for those of linear maps, which become 0); matrices are normal,
/// of variance 2/(rows + columns) (Glorot and Bengio 2010, equation 12) but for embeddings.
pub(crate) fn draw<M: Module>(module: M, seed: u64, device: &Device) -> M {
    module.map(&mut Draw { seed, device, path: Vec::new(), index: 0 })
}

struct Draw<'d> {
    seed: u64,
    device: &'d Device,
    path: Vec<String>,
    index: u64,
}

impl ModuleMapper for Draw<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.index += 1;
        let is = |name: &str| self.path.iter().any(|part| part == name);
        let shape = param.shape();
        let dims: Vec<usize> = shape.dims::<D>().to_vec();
        let deviation = match (D, is("words") || is("positions")) {
            (1, _) if self.path.last().is_some_and(|name| name == "bias") => 0.0,
            (1, _) => return param,
            (_, true) => EMBEDDING,
            _ => (2.0 / (dims[0] + dims[1]) as f64).sqrt(),
        };
        let mut rng = rng(self.seed, Purpose::Parameters, 0, self.index);
        let numbers: Vec<f32> =
            (0..dims.iter().product()).map(|_| (normal(&mut rng) * deviation) as f32).collect();
        let device = self.device.clone();
        param.map(|_| trainable(Tensor::from_data(TensorData::new(numbers, dims), &device)))
    }
}

/// A parameter, where gradients are taken.
pub(crate) fn trainable<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.device().is_autodiff() { tensor.require_grad() } else { tensor }
}

/// A standard normal number (Box and Muller 1958).
pub(crate) fn normal(rng: &mut fastrand::Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

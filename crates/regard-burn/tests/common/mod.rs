//! Inputs and gradients of attention calls, for every test program.
#![allow(dead_code)] // each program uses a part

use burn::tensor::{DType, Device, Tensor, TensorData};
use regard::AttentionConfig;

/// Sizes of a call: batch, query heads, key heads, query rows, keys, head_dim, value_head_dim.
pub(crate) type Sizes = [usize; 7];

/// Query, key, value and cotangent of a call, numbers of order 1 that a hash makes of their index.
pub(crate) struct Inputs {
    pub(crate) numbers: [Vec<f32>; 4],
    pub(crate) shapes: [[usize; 4]; 4],
}

impl Inputs {
    pub(crate) fn new([b, h, h_kv, s_q, s_kv, d, d_v]: Sizes) -> Self {
        let shapes = [[b, h, s_q, d], [b, h_kv, s_kv, d], [b, h_kv, s_kv, d_v], [b, h, s_q, d_v]];
        let numbers = std::array::from_fn(|i| numbers(shapes[i].iter().product(), i as u64));
        Self { numbers, shapes }
    }

    /// A tensor on the Flex device with autodiff.
    pub(crate) fn tensor(&self, i: usize, dtype: DType) -> Tensor<4> {
        tensor(self.numbers[i].clone(), self.shapes[i], dtype)
    }
}

pub(crate) fn numbers(len: usize, stream: u64) -> Vec<f32> {
    let hash = |i: usize| {
        let z =
            (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03);
        let z = (z ^ z >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (z ^ z >> 29).wrapping_mul(0x94D0_49BB_1331_11EB) >> 40
    };
    (0..len).map(|i| hash(i) as f32 / 8_388_608.0 - 1.0).collect()
}

pub(crate) fn tensor(numbers: Vec<f32>, shape: [usize; 4], dtype: DType) -> Tensor<4> {
    let device = Device::flex().autodiff();
    Tensor::from_data(TensorData::new(numbers, shape).convert_dtype(dtype), (&device, dtype))
}

/// The output of a call, then its gradients by query, key, value and bias.
pub(crate) type Results = Vec<Vec<f64>>;

/// What `attend` computes of the inputs (and a bias), with the gradients of output · cotangent.
pub(crate) fn results(
    inputs: &Inputs,
    bias: Option<&(Vec<f32>, [usize; 4])>,
    dtype: DType,
    attend: impl Fn([Tensor<4>; 3], Option<Tensor<4>>) -> Tensor<4>,
) -> Results {
    let leaves = [0, 1, 2].map(|i| inputs.tensor(i, dtype).require_grad());
    let bias = bias.map(|(bias, shape)| tensor(bias.clone(), *shape, dtype).require_grad());
    let output = attend(leaves.clone(), bias.clone());
    let gradients = (output.clone() * inputs.tensor(3, dtype)).sum().backward();
    let by = leaves.iter().chain(&bias).map(|leaf| leaf.grad(&gradients).expect("it asked for one"));
    [output].into_iter().chain(by).map(elements).collect()
}

/// The same of [`regard_burn::attention`].
pub(crate) fn ours(
    inputs: &Inputs,
    bias: Option<&(Vec<f32>, [usize; 4])>,
    config: &AttentionConfig<'_>,
    dtype: DType,
) -> Results {
    results(inputs, bias, dtype, |[query, key, value], bias| {
        regard_burn::attention(query, key, value, bias, config).unwrap()
    })
}

pub(crate) fn elements<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Asserts that two lists of tensors are equal to `bound`.
pub(crate) fn assert_close(found: &Results, expected: &Results, bound: f64, what: &str) {
    const NAMES: [&str; 5] = ["output", "d_query", "d_key", "d_value", "d_bias"];
    assert_eq!(found.len(), expected.len());
    for ((found, expected), name) in found.iter().zip(expected).zip(NAMES) {
        assert_eq!(found.len(), expected.len(), "{what}: {name}");
        let largest = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let finite = found.iter().chain(expected).all(|x| x.is_finite());
        assert!(finite && largest <= bound, "{what}: {name} differs by {largest:e}");
    }
}

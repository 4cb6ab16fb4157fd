//! The module beside regard's own layer, and what training does to it.
#![allow(non_snake_case)]

mod common;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use common::{elements, numbers};
use regard::layer::{self, Linear};
use regard::position::{RotaryPairs, RotaryPositions};
use regard::{AttentionConfig, AttentionError, Dropout, Mask, Parallelism, QueryPosition, Workspace};
use regard_burn::{Error, MultiHeadAttention, MultiHeadAttentionConfig};

/// The same layer in regard.
fn twin(module: &MultiHeadAttention) -> layer::MultiHeadAttention {
    let linear = |linear: &burn::nn::Linear| {
        let [d_input, d_output] = linear.weight.dims();
        let weight = linear.weight.val().transpose().into_data().iter::<f32>().collect();
        let bias = linear.bias.as_ref().map(|bias| bias.val().into_data().iter::<f32>().collect());
        Linear::new(weight, bias, d_input, d_output).unwrap()
    };
    let [query, key, value, output] = [&module.query, &module.key, &module.value, &module.output].map(linear);
    let heads = [module.num_heads(), module.num_kv_heads()];
    layer::MultiHeadAttention::new(query, key, value, output, heads).unwrap()
}

fn input(shape: [usize; 3], device: &Device) -> Tensor<3> {
    Tensor::from_data(TensorData::new(numbers(shape.iter().product(), 3), shape), device)
}

fn assert_close(found: Tensor<3>, expected: &[f32]) {
    let found = elements(found);
    assert_eq!(found.len(), expected.len());
    let largest = found.iter().zip(expected).map(|(a, &b)| (a - f64::from(b)).abs()).fold(0.0, f64::max);
    assert!(largest < 1e-5, "differs by {largest:e}");
}

#[test]
fn multi_head_attention__self_and_cross__equal_regards_layer() {
    let device = Device::flex().autodiff();
    let causal = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::TopLeft));
    for (num_kv_heads, bias) in [(None, true), (Some(2), false), (Some(1), true)] {
        let config = MultiHeadAttentionConfig::new(48, 4)
            .with_num_kv_heads(num_kv_heads)
            .with_input_bias(bias)
            .with_output_bias(bias);
        let module = config.init(&device).unwrap();
        let tokens = numbers(2 * 9 * 48, 3);
        let expected = twin(&module).forward(&tokens, [2, 9], &causal).unwrap();
        assert_close(module.forward(input([2, 9, 48], &device), &causal).unwrap(), &expected);

        let module = config.with_kv_model_dim(Some(20)).init(&device).unwrap();
        let memory = numbers(2 * 5 * 20, 3);
        let plain = AttentionConfig::new();
        let expected = twin(&module).forward_cross(&tokens, &memory, [2, 9, 5], &plain).unwrap();
        let (tokens, memory) = (input([2, 9, 48], &device), input([2, 5, 20], &device));
        assert_close(module.forward_cross(tokens, memory, &plain).unwrap(), &expected);
    }
}

#[test]
fn multi_head_attention__rotary__equals_regards_layer() {
    let (device, plain) = (Device::flex(), AttentionConfig::new());
    let config = MultiHeadAttentionConfig::new(32, 4).with_num_kv_heads(Some(2));
    let module = config.with_rotary_base(Some(500.0)).init(&device).unwrap();
    let interleaved = RotaryPositions::new(8, 8, 500.0, RotaryPairs::Interleaved).unwrap();
    let cases = [
        (module.clone(), RotaryPositions::new(8, 8, 500.0, RotaryPairs::HalfSplit).unwrap()),
        (module.with_rotary(Some(interleaved.clone())), interleaved),
    ];
    for (module, rotary) in cases {
        let (layer, tokens) = (twin(&module), numbers(2 * 11 * 32, 3));
        let mut projection = layer.project(&tokens, [2, 11], Parallelism::Pool).unwrap();
        projection.rotate(&rotary, [0, 0]).unwrap();
        let attended = projection.attend(&plain, &mut Workspace::new()).unwrap();
        let expected = layer.project_output(&attended, Parallelism::Pool).unwrap();
        assert_close(module.forward(input([2, 11, 32], &device), &plain).unwrap(), &expected);
    }
}

#[test]
fn multi_head_attention__dropout__drops_in_training_only() {
    let config = AttentionConfig::new();
    let training = Device::flex().autodiff();
    let module = MultiHeadAttentionConfig::new(16, 2).with_dropout(0.5).init(&training).unwrap();
    let forward = |module: &MultiHeadAttention, device: &Device, config: &AttentionConfig<'_>| {
        elements(module.forward(input([2, 20, 16], device), config).unwrap())
    };
    let first = forward(&module, &training, &config);
    assert_ne!(first, forward(&module, &training, &config), "another seed at each call");
    let seeded = config.with_dropout(Dropout::new(0.5, 7));
    assert_eq!(forward(&module, &training, &seeded), forward(&module, &training, &seeded));
    assert_ne!(first, forward(&module, &training, &seeded));

    let expected = twin(&module).forward(&numbers(2 * 20 * 16, 3), [2, 20], &config).unwrap();
    let frozen = module.clone().freeze();
    assert_close(frozen.forward(input([2, 20, 16], &training), &seeded).unwrap(), &expected);
    let valid = module.valid();
    assert_close(valid.forward(input([2, 20, 16], &Device::flex()), &seeded).unwrap(), &expected);
}

#[test]
fn multi_head_attention__every_parameter__has_a_gradient_and_a_name() {
    let device = Device::flex().autodiff();
    let module = MultiHeadAttentionConfig::new(16, 2).with_num_kv_heads(Some(1)).init(&device).unwrap();
    assert_eq!(module.num_params(), 2 * (16 * 16 + 16) + 2 * (16 * 8 + 8));
    let output = module.forward(input([1, 5, 16], &device), &AttentionConfig::new()).unwrap();
    let gradients = (output.clone() * output).sum().backward();
    for linear in [&module.query, &module.key, &module.value, &module.output] {
        let weight = elements(linear.weight.grad(&gradients).unwrap());
        assert!(weight.iter().all(|x| x.is_finite()) && weight.iter().any(|&x| x != 0.0));
        assert!(linear.bias.as_ref().unwrap().grad(&gradients).is_some());
    }
}

#[test]
fn multi_head_attention__wrong_requests__are_typed_errors() {
    let device = Device::flex();
    let refused = |config: MultiHeadAttentionConfig| config.init(&device).expect_err("should be refused");
    let divides = |size, divisor| {
        Error::Attention(AttentionError::NotDivisible { what: "model_dim by num_heads", size, divisor })
    };
    assert_eq!(refused(MultiHeadAttentionConfig::new(10, 4)), divides(10, 4));
    assert_eq!(refused(MultiHeadAttentionConfig::new(10, 0)), divides(10, 0));
    assert_eq!(refused(MultiHeadAttentionConfig::new(0, 2)), AttentionError::ZeroHeadDim.into());
    assert_eq!(
        refused(MultiHeadAttentionConfig::new(16, 4).with_num_kv_heads(Some(0))),
        AttentionError::HeadGroups { num_heads: 4, num_kv_heads: 0 }.into()
    );
    for dropout in [1.0, -0.1, f64::NAN] {
        let error = refused(MultiHeadAttentionConfig::new(16, 4).with_dropout(dropout));
        assert!(matches!(error, Error::Attention(AttentionError::InvalidNumber { .. })), "{error}");
    }
    assert!(matches!(
        refused(MultiHeadAttentionConfig::new(12, 4).with_rotary_base(Some(1e4))),
        Error::Attention(AttentionError::NotDivisible { what: "rotary_dim by 2", size: 3, divisor: 2 })
    ));
    let module = MultiHeadAttentionConfig::new(16, 4).with_rotary_base(Some(1e4)).init(&device).unwrap();
    let plain = AttentionConfig::new();
    assert_eq!(
        module.forward(input([1, 2, 12], &device), &plain).unwrap_err(),
        AttentionError::ShapeMismatch { axis: "input.model_dim", expected: 16, found: 12 }.into()
    );
    let (tokens, memory) = (input([1, 2, 16], &device), input([1, 3, 16], &device));
    assert!(matches!(
        module.forward_cross(tokens, memory, &plain).unwrap_err(),
        Error::Attention(AttentionError::ConflictingOption { .. })
    ));
}

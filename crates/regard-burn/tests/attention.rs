//! What a call does besides the right numbers: memory, who gets gradients, what is refused.
#![allow(non_snake_case)]

mod common;

use burn::backend::Flex;
use burn::tensor::module::attention as burn_attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{DType, Device, Distribution, Tensor};
use common::{Inputs, assert_close, elements, numbers, ours, results, tensor};
use regard::position::{RotaryPairs, RotaryPositions};
use regard::{AttentionConfig, AttentionError, Dropout, Layout, Mask, QueryPosition, TensorView};
use regard_burn::{Error, attention, rotate};

/// Another way for a tensor to lie in memory.
type Relaid = fn(Tensor<4>) -> Tensor<4>;

#[test]
fn attention__strided_inputs__equal_contiguous_ones() {
    let inputs = Inputs::new([2, 3, 3, 10, 10, 8, 8]);
    let config = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::TopLeft));
    let expected = ours(&inputs, None, &config, DType::F32);
    let views: [(&str, Relaid); 4] = [
        ("heads inside", |x| swapped_in_memory(x, 1, 2)),
        ("dimension outside", |x| swapped_in_memory(x, 2, 3)),
        ("flipped", |x| x.flip([2]).flip([2])),
        ("part of a larger one", |x| {
            let larger = Tensor::cat(vec![x.clone() * 2.0, x], 2);
            larger.narrow(2, 10, 10)
        }),
    ];
    for (what, view) in views {
        let found = results(&inputs, None, DType::F32, |tensors, _| {
            let [query, key, value] = tensors.map(view);
            attention(query, key, value, None, &config).unwrap()
        });
        assert_close(&found, &expected, 1e-6, what);
    }
}

/// The same tensor, two axes swapped in memory.
fn swapped_in_memory(tensor: Tensor<4>, a: usize, b: usize) -> Tensor<4> {
    let [d0, d1, d2, d3] = tensor.clone().swap_dims(a, b).dims();
    // A product makes a new contiguous tensor of the swapped one.
    let ones = Tensor::<4>::ones([d0, d1, d2, d3], &tensor.device());
    (ones * tensor.swap_dims(a, b)).swap_dims(a, b)
}

#[test]
fn attention__heads_inside_positions__output_and_gradient_lie_so_too() {
    let device = Device::flex().autodiff();
    let projected = Tensor::<4>::random([2, 9, 3, 8], Distribution::Default, &device).require_grad();
    let heads = projected.clone().swap_dims(1, 2);
    let constant = heads.clone().detach();
    let output = attention(heads, constant.clone(), constant, None, &AttentionConfig::new()).unwrap();
    let lies_in_order = |tensor: Tensor<4>| tensor.try_into_primitive::<Flex>().unwrap().is_contiguous();
    assert!(lies_in_order(output.clone().inner().swap_dims(1, 2)));
    let gradients = output.swap_dims(1, 2).reshape([18, 24]).sum().backward();
    assert!(lies_in_order(projected.grad(&gradients).unwrap()));
}

#[test]
fn attention__repeated_axis__gradient_is_summed_by_burn() {
    let inputs = Inputs::new([2, 4, 4, 6, 6, 8, 8]);
    let repeat = |x: Tensor<4>| x.narrow(1, 0, 1).expand([2, 4, 6, 8]);
    let found = results(&inputs, None, DType::F32, |[query, key, value], _| {
        attention(query, repeat(key), repeat(value), None, &AttentionConfig::new()).unwrap()
    });
    let expected = results(&inputs, None, DType::F32, |[query, key, value], _| {
        burn_attention(query, repeat(key), repeat(value), None, None, AttentionModuleOptions::default())
    });
    assert_close(&found, &expected, 1e-4, "expanded heads");
}

#[test]
fn attention__some_inputs_need_gradients__only_these_get_them() {
    let inputs = Inputs::new([1, 2, 2, 5, 6, 4, 4]);
    let (bias, shape) = (numbers(2 * 5 * 6, 8), [1, 2, 5, 6]);
    let config = AttentionConfig::new();
    let all = ours(&inputs, Some(&(bias.clone(), shape)), &config, DType::F32);
    for wanted in 0u32..16 {
        let wants = |i: u32| wanted >> i & 1 == 1;
        let leaf = |tensor: Tensor<4>, i| if wants(i) { tensor.require_grad() } else { tensor };
        let [q, k, v] = [0, 1, 2].map(|i| leaf(inputs.tensor(i, DType::F32), i as u32));
        let b = leaf(tensor(bias.clone(), shape, DType::F32), 3);
        let output = attention(q.clone(), k.clone(), v.clone(), Some(b.clone()), &config).unwrap();
        assert_eq!(elements(output.clone()), all[0], "{wanted}");
        if wanted == 0 {
            assert!(!output.is_require_grad());
            continue;
        }
        let gradients = (output * inputs.tensor(3, DType::F32)).sum().backward();
        for (i, leaf) in [q, k, v, b].into_iter().enumerate() {
            let found = leaf.grad(&gradients).map(elements);
            assert_eq!(found, wants(i as u32).then(|| all[i + 1].clone()), "{wanted} {i}");
        }
    }
}

#[test]
fn attention__without_autodiff_or_with_constants__computes_the_same() {
    let inputs = Inputs::new([1, 2, 1, 5, 6, 4, 4]);
    let config = AttentionConfig::new();
    let all = ours(&inputs, None, &config, DType::F32);
    let inner = [0, 1, 2].map(|i| inputs.tensor(i, DType::F32).inner());
    let [query, key, value] = inner.clone();
    assert_eq!(elements(attention(query, key, value, None, &config).unwrap()), all[0]);
    // Keys and values from a device without autodiff are constants.
    let [_, key, value] = inner;
    let query = inputs.tensor(0, DType::F32).require_grad();
    let output = attention(query.clone(), key, value, None, &config).unwrap();
    let gradients = (output * inputs.tensor(3, DType::F32)).sum().backward();
    assert_eq!(elements(query.grad(&gradients).unwrap()), all[1]);
}

#[test]
fn attention__one_tensor_thrice_and_two_losses__gradients_add_up() {
    let inputs = Inputs::new([2, 2, 2, 7, 7, 8, 8]);
    let by = |call: &dyn Fn(Tensor<4>) -> Tensor<4>| {
        let leaf = inputs.tensor(0, DType::F32).require_grad();
        let cotangent = inputs.tensor(3, DType::F32);
        let first = (call(leaf.clone()) * cotangent.clone()).sum();
        let second = (call(leaf.clone() * 0.5) * cotangent).sum();
        let gradients = (first + second).backward();
        elements(leaf.grad(&gradients).unwrap())
    };
    let found = by(&|x| attention(x.clone(), x.clone(), x, None, &AttentionConfig::new()).unwrap());
    let expected =
        by(&|x| burn_attention(x.clone(), x.clone(), x, None, None, AttentionModuleOptions::default()));
    assert_close(&vec![found], &vec![expected], 1e-4, "sum");
}

#[test]
fn attention__checkpointed_parents__gradients_are_those_without() {
    let inputs = Inputs::new([2, 2, 2, 9, 9, 8, 8]);
    let gradients = |device: &Device| {
        let leaves = [0, 1, 2].map(|i| {
            let data = inputs.tensor(i, DType::F32).into_data();
            Tensor::<4>::from_data(data, device).require_grad()
        });
        // Memory-bound operations, which checkpointing computes again in the backward pass.
        let [query, key, value] = leaves.clone().map(|leaf| (leaf.clone() * 2.0).tanh() + leaf);
        let output = attention(query, key, value, None, &AttentionConfig::new()).unwrap().tanh();
        let all = output.sum().backward();
        leaves.map(|leaf| elements(leaf.grad(&all).unwrap())).to_vec()
    };
    let plain = gradients(&Device::flex().autodiff());
    assert_eq!(gradients(&Device::flex().autodiff().gradient_checkpointing()), plain);
    assert!(plain.iter().flatten().any(|x| x.abs() > 1e-3));
}

#[test]
fn attention__rows_without_keys__are_zero_and_have_no_gradient() {
    let inputs = Inputs::new([2, 1, 1, 4, 5, 8, 8]);
    let keep: Vec<bool> = (0..2 * 4 * 5).map(|i| i / 5 % 4 != 1).collect(); // row 1 may see nothing
    let keep = TensorView::new(&keep, [2, 1, 4, 5], Layout::BatchHeadSeqDim).unwrap();
    let lengths = [5, 0]; // nor may the second sequence
    let mask = Mask::default().with_keep(keep).with_key_lengths(&lengths);
    for dtype in [DType::F32, DType::F64] {
        let found = ours(&inputs, None, &AttentionConfig::new().with_mask(mask), dtype);
        assert!(found.iter().flatten().all(|x| x.is_finite()), "{dtype:?}");
        let is_empty = |i: usize| i / 8 >= 4 || i / 8 == 1; // by row of output and query
        for (i, (output, d_query)) in found[0].iter().zip(&found[1]).enumerate() {
            assert_eq!(is_empty(i), *output == 0.0 && *d_query == 0.0, "{dtype:?} {i}");
        }
        for gradient in &found[2..] {
            assert!(gradient[5 * 8..].iter().all(|&x| x == 0.0), "{dtype:?}");
            assert!(gradient[..5 * 8].iter().all(|&x| x != 0.0), "{dtype:?}");
        }
    }
}

#[test]
fn attention__empty_tensors__give_empty_or_zero_outputs() {
    let config = AttentionConfig::new();
    for dtype in [DType::F32, DType::F64] {
        for (sizes, expected) in
            [([0, 2, 2, 3, 3, 4, 4], 0), ([1, 2, 2, 0, 3, 4, 4], 0), ([1, 2, 2, 3, 0, 4, 4], 24)]
        {
            let inputs = Inputs::new(sizes);
            let [query, key, value] = [0, 1, 2].map(|i| inputs.tensor(i, dtype));
            let output = elements(attention(query, key, value, None, &config).unwrap());
            assert_eq!(output, vec![0.0; expected], "{sizes:?} {dtype:?}");
        }
    }
}

#[test]
#[allow(deprecated)] // burn's smallest other device
fn attention__another_device__computes_the_same_with_burns_operations() {
    let inputs = Inputs::new([2, 4, 2, 7, 9, 8, 8]);
    let config = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::BottomRight));
    let rotary = RotaryPositions::new(8, 8, 10_000.0, RotaryPairs::HalfSplit).unwrap();
    let on = |device: Device| {
        let leaves = [0, 1, 2].map(|i| {
            Tensor::<4>::from_data(inputs.tensor(i, DType::F32).into_data(), &device).require_grad()
        });
        let [query, key, value] = leaves.clone();
        let query = rotate(query, &rotary, 3).unwrap();
        let output = attention(query, key, value, None, &config).unwrap();
        let gradients = (output.clone() * output.clone()).sum().backward();
        let by = leaves.iter().map(|leaf| leaf.grad(&gradients).unwrap());
        [output].into_iter().chain(by).map(elements).collect()
    };
    assert_close(&on(Device::ndarray().autodiff()), &on(Device::flex().autodiff()), 1e-4, "ndarray");

    let [query, key, value] = [0, 1, 2].map(|i| inputs.tensor(i, DType::F32));
    let value = Tensor::<4>::from_data(value.into_data(), &Device::ndarray());
    let error = attention(query, key, value, None, &config).unwrap_err();
    assert!(matches!(error, Error::DeviceMismatch { tensor: "value", .. }), "{error}");
}

#[test]
fn attention__wrong_requests__are_typed_errors() {
    let of = |shape| Tensor::<4>::zeros(shape, &Device::flex().autodiff());
    let call = |q, k, v, bias: Option<[usize; 4]>, config: &AttentionConfig<'_>| {
        attention(of(q), of(k), of(v), bias.map(of), config).expect_err("should be refused")
    };
    let plain = AttentionConfig::new();
    let mismatch =
        |axis, expected, found| Error::Attention(AttentionError::ShapeMismatch { axis, expected, found });
    let (q, k) = ([1, 4, 3, 8], [1, 2, 5, 8]);
    assert_eq!(call(q, [1, 2, 5, 9], k, None, &plain), mismatch("key.head_dim", 8, 9));
    assert_eq!(call(q, k, [1, 2, 6, 8], None, &plain), mismatch("value.seq_len_kv", 5, 6));
    assert_eq!(
        call(q, [1, 3, 5, 8], [1, 3, 5, 8], None, &plain),
        Error::Attention(AttentionError::HeadGroups { num_heads: 4, num_kv_heads: 3 })
    );
    assert_eq!(call(q, k, k, Some([1, 4, 3, 6]), &plain), mismatch("attention_bias.seq_len_kv", 5, 6));
    let lengths = [9];
    let mask = Mask::default().with_key_lengths(&lengths);
    assert_eq!(call(q, k, k, None, &plain.with_mask(mask)), mismatch("mask.key_lengths (at most)", 5, 9));
    assert!(matches!(
        call(q, k, k, None, &plain.with_dropout(Dropout::new(1.0, 0))),
        Error::Attention(AttentionError::InvalidNumber { .. })
    ));
    let bias = TensorView::with_strides(&[0.0], [1, 4, 3, 5], [0; 4]).unwrap();
    assert!(matches!(
        call(q, k, k, None, &plain.with_attention_bias(bias)),
        Error::Attention(AttentionError::ConflictingOption { .. })
    ));
    let wide = of(k).cast(DType::F64);
    assert_eq!(
        attention(of(q), of(k), wide, None, &plain).unwrap_err(),
        Error::DtypeMismatch { tensor: "value", expected: DType::F32, found: DType::F64 }
    );
    let other = Tensor::<4>::zeros(k, &Device::flex().autodiff().gradient_checkpointing());
    assert_eq!(
        attention(of(q), of(k), other, None, &plain).unwrap_err(),
        Error::CheckpointingMismatch { tensor: "value" }
    );
}

#[test]
fn rotate__both_pairings__equal_burns_operations_and_turn_gradients_back() {
    for (pairs, rotary_dim) in [
        (RotaryPairs::HalfSplit, 16),
        (RotaryPairs::Interleaved, 16),
        (RotaryPairs::HalfSplit, 6),
        (RotaryPairs::Interleaved, 10),
    ] {
        let rotary = RotaryPositions::new(16, rotary_dim, 10_000.0, pairs).unwrap();
        let inputs = Inputs::new([2, 3, 3, 9, 9, 16, 16]);
        let turned = |dtype, view: Relaid| {
            let leaf = inputs.tensor(0, dtype).require_grad();
            let output = rotate(view(leaf.clone()), &rotary, 100).unwrap();
            let gradients = (output.clone() * inputs.tensor(3, dtype)).sum().backward();
            vec![elements(output), elements(leaf.grad(&gradients).unwrap())]
        };
        let expected = turned(DType::F64, |x| x);
        assert_close(&turned(DType::F32, |x| x), &expected, 1e-5, "contiguous");
        assert_close(&turned(DType::F32, |x| swapped_in_memory(x, 1, 2)), &expected, 1e-5, "heads inside");
        let mut row: Vec<f32> = inputs.numbers[0][..16].to_vec();
        rotary.at(100).apply(&mut row);
        let row = row.into_iter().map(f64::from).collect();
        assert_close(&vec![expected[0][..16].to_vec()], &vec![row], 1e-6, "regard's");
    }
}

#[test]
fn rotate__wrong_requests__are_typed_errors() {
    let rotary = RotaryPositions::new(8, 8, 10_000.0, RotaryPairs::HalfSplit).unwrap();
    let of = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Default, &Device::flex());
    assert_eq!(
        rotate(of([1, 1, 2, 6]), &rotary, 0).unwrap_err(),
        Error::Attention(AttentionError::ShapeMismatch { axis: "tensor.head_dim", expected: 8, found: 6 })
    );
    assert!(matches!(
        rotate(of([1, 1, 2, 8]), &rotary, usize::MAX).unwrap_err(),
        Error::Attention(AttentionError::SizeOverflow { .. })
    ));
}

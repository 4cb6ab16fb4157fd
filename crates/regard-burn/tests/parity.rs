//! Outputs and gradients beside burn's own attention, beside the composed path in f64, and beside the textbook.
#![allow(non_snake_case)]

mod common;

use burn::tensor::module::attention as burn_attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, Device, Tensor, TensorData};
use common::{Inputs, Sizes, assert_close, numbers, ours, results};
use regard::reference::{Cotangents, Reference};
use regard::{AttentionConfig, Dropout, Layout, Mask, QueryPosition, RelativeBias, TensorView, Window};

const SHAPES: [Sizes; 6] = [
    [1, 1, 1, 1, 1, 1, 1],
    [2, 3, 3, 5, 5, 8, 8],
    [1, 2, 2, 7, 19, 16, 4],
    [2, 2, 2, 33, 33, 24, 24],
    [1, 4, 4, 130, 130, 64, 64],
    [1, 2, 2, 600, 600, 32, 32], // beyond what burn's naive path takes
];

#[test]
fn attention__options_burn_has__gradients_equal_burns() {
    for sizes in SHAPES {
        let [b, h, _, s_q, s_kv, ..] = sizes;
        let inputs = Inputs::new(sizes);
        let bias = |shape: [usize; 4]| Some((numbers(shape.iter().product(), 9), shape));
        // Its causal mask counts from the last key, and with fewer keys than rows leaves rows without any.
        let causal = Mask::causal(QueryPosition::BottomRight);
        let plain = AttentionConfig::new();
        let cases = [
            ("plain", plain, None, AttentionModuleOptions::default()),
            ("causal", plain.with_mask(causal), None, options(|o| o.is_causal = true)),
            ("scale", plain.with_softmax_scale(-0.7), None, options(|o| o.scale = Some(-0.7))),
            ("softcap", plain.with_softcap(1.5), None, options(|o| o.softcap = Some(1.5))),
            ("bias", plain, bias([b, h, s_q, s_kv]), AttentionModuleOptions::default()),
            (
                "all",
                plain.with_softcap(2.0).with_softmax_scale(0.3).with_mask(causal),
                bias([b, h, s_q, s_kv]),
                { options(|o| (o.softcap, o.scale, o.is_causal) = (Some(2.0), Some(0.3), true)) },
            ),
        ];
        for (what, config, bias, options) in cases {
            let found = ours(&inputs, bias.as_ref(), &config, DType::F32);
            let expected = results(&inputs, bias.as_ref(), DType::F32, |[query, key, value], bias| {
                burn_attention(query, key, value, None, bias, options)
            });
            assert_close(&found, &expected, 1e-4, &format!("{what} {sizes:?}"));
        }
    }
}

fn options(set: impl FnOnce(&mut AttentionModuleOptions)) -> AttentionModuleOptions {
    let mut options = AttentionModuleOptions::default();
    set(&mut options);
    options
}

#[test]
fn attention__keep_mask__gradients_equal_burns_with_the_opposite_mask() {
    let sizes = [2, 3, 3, 9, 13, 16, 16];
    let inputs = Inputs::new(sizes);
    // Every row keeps its first key: burn's answer for a row without keys is another question.
    let keep: Vec<bool> = (0..2 * 3 * 9 * 13).map(|i| i % 13 == 0 || i * 7 % 5 < 3).collect();
    let hide: Vec<bool> = keep.iter().map(|keep| !keep).collect();
    let device = Device::flex().autodiff();
    let hide = Tensor::<4, Bool>::from_data(TensorData::new(hide, [2, 3, 9, 13]), &device);
    let view = TensorView::new(&keep, [2, 3, 9, 13], Layout::BatchHeadSeqDim).unwrap();
    let config = AttentionConfig::new().with_mask(Mask::default().with_keep(view));
    let found = ours(&inputs, None, &config, DType::F32);
    let expected = results(&inputs, None, DType::F32, |[query, key, value], _| {
        burn_attention(query, key, value, Some(hide.clone()), None, AttentionModuleOptions::default())
    });
    assert_close(&found, &expected, 1e-4, "keep");
}

/// Everything that a configuration can ask for, alone and together.
fn with_each_option(sizes: Sizes, check: impl Fn(&str, &AttentionConfig<'_>)) {
    let [b, h, _, s_q, s_kv, ..] = sizes;
    let lengths: Vec<usize> = (0..b).map(|i| s_kv - i * s_kv / 3).collect();
    let offsets: Vec<i64> = (0..b).map(|i| i as i64 * 2 - 1).collect();
    let keep: Vec<bool> = (0..b * s_q * s_kv).map(|i| i * 5 % 7 != 0).collect();
    let keep = TensorView::new(&keep, [b, 1, s_q, s_kv], Layout::BatchHeadSeqDim).unwrap();
    let (slopes, sinks) = (numbers(h, 5), numbers(h, 6));
    let table = numbers(h * 8, 7);
    let relative = RelativeBias::new(&table, 4, 3);
    let window = Window { left: 3, right: 1 };
    let dropout = Dropout::new(0.3, 42);
    let plain = AttentionConfig::new();
    let mask = Mask::default();
    check("lengths", &plain.with_mask(mask.with_key_lengths(&lengths)));
    check("offsets", &plain.with_mask(Mask::causal(QueryPosition::OffsetPerSequence(&offsets))));
    check(
        "bottom right",
        &plain.with_mask(Mask::causal(QueryPosition::BottomRight).with_key_lengths(&lengths)),
    );
    check("window", &plain.with_mask(Mask::window(window, QueryPosition::Offset(2))));
    check("keep", &plain.with_mask(mask.with_keep(keep)));
    check("alibi", &plain.with_alibi_slopes(&slopes));
    check("relative", &plain.with_relative_bias(relative));
    check("sinks", &plain.with_sinks(&sinks));
    check("dropout", &plain.with_dropout(dropout));
    let whole = Mask::causal(QueryPosition::BottomRight)
        .with_window(Window { left: 9, right: 0 })
        .with_key_lengths(&lengths)
        .with_keep(keep);
    let all =
        plain.with_mask(whole).with_alibi_slopes(&slopes).with_relative_bias(relative).with_sinks(&sinks);
    check("all", &all.with_dropout(dropout).with_softcap(2.0).with_softmax_scale(0.4));
}

#[test]
fn attention__every_option_and_bias__regard_equals_burns_operations_in_f64() {
    for sizes in [[3, 4, 2, 11, 15, 8, 12], [1, 6, 1, 40, 37, 32, 32]] {
        let [b, h, _, s_q, s_kv, ..] = sizes;
        let inputs = Inputs::new(sizes);
        let biases = [None, Some([b, h, s_q, s_kv]), Some([1, h, 1, s_kv]), Some([b, 1, s_q, 1])];
        with_each_option(sizes, |what, config| {
            for shape in biases {
                let bias = shape.map(|shape| {
                    let mut bias = numbers(shape.iter().product(), 8);
                    bias[0] = f32::NEG_INFINITY;
                    (bias, shape)
                });
                let found = ours(&inputs, bias.as_ref(), config, DType::F32);
                let expected = ours(&inputs, bias.as_ref(), config, DType::F64);
                assert_close(&found, &expected, 1e-4, &format!("{what} {sizes:?}, bias {shape:?}"));
            }
        });
    }
}

#[test]
fn attention__every_option_in_f64__burns_operations_equal_the_textbook() {
    let sizes = [3, 4, 2, 11, 15, 8, 12];
    let inputs = Inputs::new(sizes);
    let [query, key, value] = [0, 1, 2]
        .map(|i| TensorView::new(&inputs.numbers[i], inputs.shapes[i], Layout::BatchHeadSeqDim).unwrap());
    with_each_option(sizes, |what, config| {
        let reference = Reference::<f64>::new(query, key, value, config).unwrap();
        let d_output = inputs.numbers[3].iter().map(|&x| f64::from(x)).collect();
        let gradients = reference.backward(&Cotangents { d_output, d_log_sum_exp: vec![] });
        let expected = vec![
            reference.forward().output,
            gradients.d_query.sum,
            gradients.d_key.sum,
            gradients.d_value.sum,
        ];
        // Arrays of a configuration are f32, and so are their products with a scale or a distance.
        assert_close(&ours(&inputs, None, config, DType::F64), &expected, 2e-6, what);
    });
}

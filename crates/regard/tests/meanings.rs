//! What NUMERICS.md promises about special inputs, a test a line, on every instruction set and both paths
//! (register tiles and row dots).
#![allow(non_snake_case)]

mod common;

use common::rows::{ROWS, each, sizes};
use common::{Inputs, Sizes, isas, window};
use regard::{
    AttentionConfig, AttentionError, Layout, Mask, QueryPosition, TensorView, TensorViewMut, attention,
    attention_scratch_bytes,
};

fn assert_empty_row(found: &(Vec<f32>, Vec<f32>), row: usize, what: &str) {
    assert!(found.0[row * 8..(row + 1) * 8].iter().all(|x| x.to_bits() == 0), "{what}: row {row} is not 0");
    assert_eq!(found.1[row], f32::NEG_INFINITY, "{what}: row {row}");
}

#[test]
fn forward__row_without_allowed_key__is_zero_and_minus_infinity() {
    each(|isa, s_q, inputs| {
        // By causality: queries before the first key.
        let mask = Mask::causal(QueryPosition::Offset(-2));
        let found = inputs.run(&AttentionConfig::new().with_isa(isa).with_mask(mask)).unwrap();
        assert_empty_row(&found, 0, "causal");
        assert_empty_row(&found, 1, "causal");
        assert!(found.1[2].is_finite());
        // By a window beyond the keys, a length of 0, a keep mask, a bias of −∞.
        let beyond = Mask::window(window(1, 1), QueryPosition::Offset(1000));
        let none = [0];
        let length = Mask::default().with_key_lengths(&none);
        let mut keep = vec![true; s_q * 40];
        keep[40..80].fill(false);
        let keep_view = TensorView::new(&keep, [1, 1, s_q, 40], Layout::BatchHeadSeqDim).unwrap();
        let kept = Mask::default().with_keep(keep_view);
        let bias: Vec<f32> = keep.iter().map(|&keep| if keep { 0.5 } else { f32::NEG_INFINITY }).collect();
        let bias_view = TensorView::new(&bias, [1, 1, s_q, 40], Layout::BatchHeadSeqDim).unwrap();
        for (what, config, empty) in [
            ("window", AttentionConfig::new().with_mask(beyond), 0..s_q),
            ("length", AttentionConfig::new().with_mask(length), 0..s_q),
            ("keep", AttentionConfig::new().with_mask(kept), 1..2),
            ("bias", AttentionConfig::new().with_attention_bias(bias_view), 1..2),
        ] {
            let found = inputs.run(&config.with_isa(isa)).unwrap();
            for row in 0..s_q {
                if empty.contains(&row) {
                    assert_empty_row(&found, row, what);
                } else {
                    assert!(found.1[row].is_finite() && found.0[row * 8].is_finite(), "{what}: row {row}");
                }
            }
        }
    });
}

#[test]
fn forward__row_without_allowed_key__is_zero_whatever_its_query_and_the_values_hold() {
    each(|isa, s_q, mut inputs| {
        let none = [0];
        for number in [f32::NAN, f32::INFINITY] {
            (0..s_q).for_each(|i| inputs.query.set([0, 0, i, 0], number));
            (0..40).for_each(|j| inputs.value.set([0, 0, j, 3], number));
            (0..40).for_each(|j| inputs.key.set([0, 0, j, 3], number));
            let keep = vec![false; 40];
            let keep = TensorView::new(&keep, [1, 1, 1, 40], Layout::BatchHeadSeqDim).unwrap();
            for mask in [Mask::default().with_key_lengths(&none), Mask::default().with_keep(keep)] {
                let found = inputs.run(&AttentionConfig::new().with_isa(isa).with_mask(mask)).unwrap();
                (0..s_q).for_each(|row| assert_empty_row(&found, row, "poisoned"));
            }
        }
    });
}

#[test]
fn forward__all_allowed_scores_minus_infinity__is_nan_and_not_masked() {
    each(|isa, _, mut inputs| {
        // q·k = −∞ for every key: −∞ from arithmetic is no mask.
        (0..40).for_each(|j| inputs.key.set([0, 0, j, 0], f32::NEG_INFINITY));
        inputs.query.set([0, 0, 1, 0], 1.0);
        let found = inputs.run(&AttentionConfig::new().with_isa(isa)).unwrap();
        assert!(found.0[8..16].iter().all(|x| x.is_nan()) && found.1[1].is_nan());
    });
}

#[test]
fn forward__nan_in_an_attended_input__comes_out_as_nan() {
    each(|isa, s_q, inputs| {
        let config = AttentionConfig::new().with_isa(isa).with_mask(Mask::causal(QueryPosition::TopLeft));
        let mut poisoned = inputs.clone();
        poisoned.query.set([0, 0, 1, 5], f32::NAN);
        let found = poisoned.run(&config).unwrap();
        for row in 0..s_q {
            assert_eq!(found.0[row * 8].is_nan(), row == 1, "query: row {row}");
            assert_eq!(found.1[row].is_nan(), row == 1, "query: row {row}");
        }
        let mut poisoned = inputs.clone();
        poisoned.key.set([0, 0, 2, 5], f32::NAN);
        let found = poisoned.run(&config).unwrap();
        for row in 0..s_q {
            assert_eq!(found.0[row * 8].is_nan(), row >= 2, "key: row {row}");
        }
        let mut poisoned = inputs.clone();
        poisoned.value.set([0, 0, 2, 5], f32::NAN);
        let found = poisoned.run(&config).unwrap();
        for (row, c) in (0..s_q).flat_map(|row| (0..8).map(move |c| (row, c))) {
            assert_eq!(found.0[row * 8 + c].is_nan(), row >= 2 && c == 5, "value: row {row}, column {c}");
        }
    });
}

#[test]
fn forward__infinity_in_an_allowed_value__makes_the_output_non_finite() {
    each(|isa, s_q, mut inputs| {
        for number in [f32::INFINITY, f32::NEG_INFINITY] {
            inputs.value.set([0, 0, 39, 2], number);
            // Key 39 is so unlikely that its probability underflows to 0.
            inputs.query.fill(|| 100.0);
            (0..16).for_each(|c| inputs.key.set([0, 0, 39, c], -100.0));
            let found = inputs.run(&AttentionConfig::new().with_isa(isa)).unwrap();
            for (row, c) in (0..s_q).flat_map(|row| (0..8).map(move |c| (row, c))) {
                assert_eq!(found.0[row * 8 + c].is_finite(), c != 2, "row {row}, column {c}");
            }
        }
    });
}

#[test]
fn forward__nan_or_infinity_where_a_query_may_not_attend__changes_no_bit() {
    each(|isa, s_q, inputs| {
        let mut keep = vec![true; s_q * 40];
        for i in 0..s_q {
            keep[i * 40 + 7] = i % 2 == 0;
            keep[i * 40 + 30] = false;
        }
        let bias: Vec<f32> = keep.iter().map(|&keep| if keep { 0.1 } else { f32::NEG_INFINITY }).collect();
        let shape = [1, 1, s_q, 40];
        let keep_view = TensorView::new(&keep, shape, Layout::BatchHeadSeqDim).unwrap();
        let bias_view = TensorView::new(&bias, shape, Layout::BatchHeadSeqDim).unwrap();
        let lengths = [39];
        let plain = AttentionConfig::new().with_isa(isa);
        let configs = [
            ("causal", plain.with_mask(Mask::causal(QueryPosition::TopLeft))),
            ("window", plain.with_mask(Mask::window(window(3, 2), QueryPosition::TopLeft))),
            ("length", plain.with_mask(Mask::default().with_key_lengths(&lengths))),
            ("keep", plain.with_mask(Mask::default().with_keep(keep_view))),
            ("bias", plain.with_attention_bias(bias_view)),
        ];
        for (what, config) in configs {
            let clean = inputs.run(&config).unwrap();
            for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
                for key in [0, 7, 30, 39] {
                    let mut poisoned = inputs.clone();
                    (0..16).for_each(|c| poisoned.key.set([0, 0, key, c], number));
                    (0..8).for_each(|c| poisoned.value.set([0, 0, key, c], number));
                    let found = poisoned.run(&config).unwrap();
                    for row in 0..s_q {
                        let may = match what {
                            "causal" => key <= row,
                            "window" => (row as i64 - 3..=row as i64 + 2).contains(&(key as i64)),
                            "length" => key < 39,
                            _ => keep[row * 40 + key],
                        };
                        let bits = |x: &[f32]| {
                            x[row * 8..row * 8 + 8].iter().map(|x| x.to_bits()).collect::<Vec<_>>()
                        };
                        let same = bits(&found.0) == bits(&clean.0)
                            && found.1[row].to_bits() == clean.1[row].to_bits();
                        assert!(may || same, "{isa} {what}: key {key} = {number} reached row {row} of {s_q}");
                    }
                }
            }
        }
    });
}

#[test]
fn softmax_scale__any_finite_number__is_used_and_others_are_refused() {
    each(|_, _, inputs| {
        for scale in [0.0, -0.0, -0.7, 1e-20, 3.0, 1.5e-7] {
            inputs.check(&AttentionConfig::new().with_softmax_scale(scale)).unwrap();
        }
        for scale in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = inputs.run(&AttentionConfig::new().with_softmax_scale(scale)).unwrap_err();
            assert!(matches!(error, AttentionError::InvalidNumber { what: "softmax_scale", .. }));
        }
    });
}

#[test]
fn forward__finite_inputs_within_the_promise__give_no_nan() {
    // |scale| · head_dim · max|q| · max|k| + max|bias| < 1e38, in every way to get there.
    for isa in isas() {
        for s_q in ROWS {
            for (q, k, scale, bias) in [
                (1e18f32, 1e18f32, 0.05f32, 0.0f32),
                (1e30, 1e-30, 0.25, 9e37),
                (1e25, 1e25, 1e-20, 0.0),
                (1e20, 1e-30, 1e30, 0.0),
                (3e-30, 3e38, 5e27, 0.0),
                (1e-38, 1e-38, 1e38, 0.0),
                (1.0, 1.0, -5e36, -4e37),
                (1e30, 1e30, 0.0, 0.0),
                (0.0, 1.0, 3e38, 0.0),
                (1e-20, 1e-20, 3e38, 0.0),
                (3e38, 1e30, 1e-45, 0.0),
                (1e38, 1e34, 1e-42, 0.0),
            ] {
                let mut inputs = Inputs::<f32, f32>::plain(sizes(s_q), 3);
                let mut sign = 1.0;
                inputs.query.fill(|| {
                    sign = -sign;
                    sign * q
                });
                let mut n = 0.0f32;
                inputs.key.fill(|| {
                    n += 1.0;
                    k * ((n % 7.0 - 3.0) / 3.0)
                });
                let mut biases = vec![bias; 40];
                biases[3] = -bias;
                let view = TensorView::new(&biases, [1, 1, 1, 40], Layout::BatchHeadSeqDim).unwrap();
                let config =
                    AttentionConfig::new().with_isa(isa).with_softmax_scale(scale).with_attention_bias(view);
                let (output, lse) = inputs.run(&config).unwrap();
                let finite = output.iter().chain(&lse).all(|x| x.is_finite());
                assert!(finite, "{isa}: q {q} k {k} scale {scale} bias {bias}: {:?}", &lse[..3]);
            }
        }
    }
}

#[test]
fn forward__empty_axes__are_fine_except_head_dim() {
    let run = |sizes: Sizes| Inputs::<f32, f32>::plain(sizes, 1).run(&AttentionConfig::new());
    let some = Sizes { batch: 2, heads: 2, kv_heads: 2, s_q: 3, s_kv: 4, d: 5, d_v: 6 };
    assert_eq!(run(Sizes { batch: 0, ..some }), Ok((vec![], vec![])));
    assert_eq!(run(Sizes { heads: 0, kv_heads: 0, ..some }), Ok((vec![], vec![])));
    assert_eq!(run(Sizes { s_q: 0, ..some }), Ok((vec![], vec![])));
    assert_eq!(run(Sizes { s_kv: 0, ..some }), Ok((vec![0.0; 72], vec![f32::NEG_INFINITY; 12])));
    let (output, lse) = run(Sizes { d_v: 0, ..some }).unwrap();
    assert!(output.is_empty() && lse.iter().all(|lse| lse.is_finite()));
    assert_eq!(run(Sizes { d: 0, ..some }), Err(AttentionError::ZeroHeadDim));
    let many = Sizes { s_q: 30, ..some };
    assert_eq!(run(Sizes { s_kv: 0, ..many }).unwrap().1, vec![f32::NEG_INFINITY; 120]);
    assert!(run(Sizes { d_v: 0, ..many }).unwrap().1.iter().all(|lse| lse.is_finite()));
}

#[test]
fn forward__mismatched_shapes__name_the_axis_before_any_write() {
    let data = vec![1.0f32; 4096];
    let view = |shape: [usize; 4]| {
        TensorView::new(&data[..shape.iter().product()], shape, Layout::BatchHeadSeqDim).unwrap()
    };
    let run = |q: [usize; 4], k: [usize; 4], v: [usize; 4], o: [usize; 4], config: AttentionConfig<'_>| {
        let mut output = vec![7.0f32; o.iter().product()];
        let target = TensorViewMut::new(&mut output, o, Layout::BatchHeadSeqDim).unwrap();
        let error = attention(view(q), view(k), view(v), target, &config).unwrap_err();
        assert!(output.iter().all(|&x| x == 7.0), "wrote before the error {error}");
        error.to_string()
    };
    let (q, k, v, o) = ([2, 4, 3, 8], [2, 2, 5, 8], [2, 2, 5, 6], [2, 4, 3, 6]);
    let plain = AttentionConfig::new();
    assert_eq!(run(q, [1, 2, 5, 8], v, o, plain), "key.batch_size: expected size 2, found 1");
    assert_eq!(run(q, k, [1, 2, 5, 6], o, plain), "value.batch_size: expected size 2, found 1");
    assert_eq!(run(q, [2, 2, 5, 7], v, o, plain), "key.head_dim: expected size 8, found 7");
    assert_eq!(run(q, k, [2, 1, 5, 6], o, plain), "value.num_kv_heads: expected size 2, found 1");
    assert_eq!(run(q, k, [2, 2, 4, 6], o, plain), "value.seq_len_kv: expected size 5, found 4");
    assert_eq!(run(q, k, v, [2, 4, 3, 5], plain), "output.value_head_dim: expected size 6, found 5");
    assert_eq!(run(q, k, v, [2, 4, 2, 6], plain), "output.seq_len_q: expected size 3, found 2");
    assert_eq!(
        run(q, [2, 3, 5, 8], [2, 3, 5, 6], o, plain),
        "num_kv_heads must divide num_heads: found 3 kv heads for 4 query heads"
    );
    let lengths = [5, 6];
    let mask = Mask::default().with_key_lengths(&lengths);
    assert_eq!(
        run(q, k, v, o, plain.with_mask(mask)),
        "mask.key_lengths (at most): expected size 5, found 6"
    );
    let lengths = [5, 5, 5];
    let mask = Mask::default().with_key_lengths(&lengths);
    assert_eq!(run(q, k, v, o, plain.with_mask(mask)), "mask.key_lengths: expected size 2, found 3");
    let mask = Mask::causal(QueryPosition::OffsetPerSequence(&[1]));
    assert_eq!(run(q, k, v, o, plain.with_mask(mask)), "mask.position: expected size 2, found 1");
    let keep = [true; 15];
    let keep = TensorView::new(&keep, [1, 3, 1, 5], Layout::BatchHeadSeqDim).unwrap();
    let mask = Mask::default().with_keep(keep);
    assert_eq!(run(q, k, v, o, plain.with_mask(mask)), "mask.keep.num_heads: expected size 4, found 3");
    let bias = [0.0; 4];
    let bias = TensorView::new(&bias, [1, 1, 1, 4], Layout::BatchHeadSeqDim).unwrap();
    let found = run(q, k, v, o, plain.with_attention_bias(bias));
    assert_eq!(found, "attention_bias.seq_len_kv: expected size 5, found 4");
}

#[test]
fn views__sizes_and_strides_that_overflow__are_typed_errors() {
    let data = [0.0f32; 8];
    let huge = usize::MAX / 2;
    for shape in [[huge, 3, 1, 1], [1, huge, huge, 1], [usize::MAX, 1, 1, 1], [1 << 32, 1 << 31, 1, 1]] {
        let error = TensorView::new(&data, shape, Layout::BatchHeadSeqDim).unwrap_err();
        assert!(!error.to_string().is_empty());
        // Stride 0 would fit the slice; the shape itself is what cannot be.
        let error = TensorView::with_strides(&data, shape, [0; 4]).unwrap_err();
        assert!(matches!(error, AttentionError::SizeOverflow { .. }), "{shape:?}: {error}");
    }
    let error = TensorView::with_strides(&data, [2, 2, 2, 2], [usize::MAX, 1, 1, 1]).unwrap_err();
    assert!(matches!(error, AttentionError::OutOfBounds { .. } | AttentionError::SizeOverflow { .. }));
    let error = TensorView::with_strides(&data, [1, 1, 3, 3], [0, 0, 3, 1]).unwrap_err();
    assert_eq!(error, AttentionError::OutOfBounds { what: "view", needed: 9, found: 8 });
    // Each view fits (stride 0), and together they ask for more rows than there is memory.
    let view = TensorView::with_strides(&data, [1 << 20, 1 << 20, 1 << 20, 1], [0; 4]);
    if let Ok(view) = view {
        let scratch = attention_scratch_bytes(view, view, view, &AttentionConfig::new());
        assert!(matches!(scratch, Err(AttentionError::SizeOverflow { .. })), "{scratch:?}");
    }
}

#[test]
fn views__stride_0__is_allowed_for_inputs_and_refused_for_outputs() {
    let row: Vec<f32> = (0..8).map(|i| i as f32 / 8.0).collect();
    let repeated = TensorView::with_strides(&row, [2, 3, 50, 8], [0, 0, 0, 1]).unwrap();
    let mut output = vec![0.0; 2 * 3 * 50 * 8];
    let target = TensorViewMut::new(&mut output, [2, 3, 50, 8], Layout::BatchHeadSeqDim).unwrap();
    attention(repeated, repeated, repeated, target, &AttentionConfig::new()).unwrap();
    for (x, expected) in output.iter().zip(row.iter().cycle()) {
        assert!((x - expected).abs() < 1e-6);
    }
    for strides in [[0, 8, 8, 1], [800, 8, 4, 1], [1, 1, 1, 1], [16, 8, 8, 2]] {
        let mut output = vec![0.0; 4000];
        let error = TensorViewMut::with_strides(&mut output, [2, 1, 2, 8], strides);
        if strides != [800, 8, 4, 1] {
            assert!(matches!(error, Err(AttentionError::OverlappingOutput { .. })), "{strides:?}");
        } else {
            assert!(error.is_err(), "{strides:?}");
        }
    }
}

#[test]
fn forward__large_finite_values__stay_finite_while_their_sum_could_be_held() {
    // Outputs are accumulated before they are divided: seq_len_kv · max|v| < 3e38 is what they can hold.
    each(|isa, _, mut inputs| {
        inputs.value.fill(|| 3e38 / 41.0);
        let (output, _) = inputs.run(&AttentionConfig::new().with_isa(isa)).unwrap();
        assert!(output.iter().all(|x| (x / (3e38 / 41.0) - 1.0).abs() < 1e-5));
    });
}

#[test]
fn views__no_elements_but_strides__are_fine() {
    let data = vec![0.5f32; 300 * 8];
    let key = TensorView::new(&data, [1, 1, 300, 8], Layout::BatchHeadSeqDim).unwrap();
    let value = TensorView::with_strides(&data[..0], [1, 1, 300, 0], [0, 0, 8, 1]).unwrap();
    for isa in isas() {
        for s_q in [3, 20] {
            let query = TensorView::new(&data[..s_q * 8], [1, 1, s_q, 8], Layout::BatchHeadSeqDim).unwrap();
            for mask in [Mask::default(), Mask::window(window(2, 0), QueryPosition::BottomRight)] {
                let (shape, strides) = ([1, 1, s_q, 0], [0, 0, usize::MAX, 1]);
                let target = TensorViewMut::with_strides(&mut [0f32; 0], shape, strides).unwrap();
                let config = AttentionConfig::new().with_isa(isa).with_mask(mask);
                attention(query, key, value, target, &config).unwrap();
            }
        }
    }
}

#[test]
fn forward__sizes_whose_scratch_overflows__are_typed_errors() {
    let data = [0.5f32];
    let view = |shape| TensorView::with_strides(&data, shape, [0; 4]).unwrap();
    for (query, key, value) in [
        ([1, 1, 1, 134_647_766_961_383_600], [1, 1, 1, 134_647_766_961_383_600], [1, 1, 1, 1]),
        ([1, 1, 1, 1], [1, 1, 1 << 56, 1], [1, 1, 1 << 56, 1]),
        ([1, 1, 1 << 56, 1], [1, 1, 1, 1], [1, 1, 1, 1]),
        ([1 << 50, 1, 1, 1], [1 << 50, 1, 1, 1], [1 << 50, 1, 1, 1]),
    ] {
        let (query, key, value) = (view(query), view(key), view(value));
        let config = AttentionConfig::new();
        match attention_scratch_bytes(query, key, value, &config) {
            Ok(bytes) => assert!(bytes < 1 << 60, "{bytes}"),
            Err(error) => assert!(matches!(error, AttentionError::SizeOverflow { .. }), "{error}"),
        }
    }
}

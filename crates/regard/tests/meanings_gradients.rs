//! What options, strides and storage types mean for gradients, and the identities that gradients obey, a test a line,
//! on every instruction set, for few query rows and for many.
#![allow(non_snake_case)]

mod common;

use common::rows::{DIM, KEYS, VALUE_DIM, assert_close, bits, each, each_grouped};
use common::{Inputs, Tensor, TestElement, window};
use regard::{
    AttentionConfig, AttentionError, AttentionGradients, BackwardInputs, Dropout, HeadBlock, Isa, Layout,
    Mask, QueryPosition, RelativeBias, TensorView, TensorViewMut, Workspace, attention_backward,
    attention_probs, bf16, f16,
};

const LAYOUT: Layout = Layout::BatchHeadSeqDim;

fn config(isa: Isa) -> AttentionConfig<'static> {
    AttentionConfig::new().with_isa(isa)
}

fn bias_view(bias: &[f32], s_q: usize) -> TensorView<'_, f32> {
    TensorView::new(bias, [1, 1, s_q, KEYS], LAYOUT).unwrap()
}

fn sum(numbers: impl Iterator<Item = f32>) -> f64 {
    numbers.map(f64::from).sum()
}

#[test]
fn softcap__gradient_of_a_saturated_score__is_zero_before_the_cap_and_not_after_it() {
    each(|isa, s_q, mut inputs| {
        // Scores of ±1e4, capped to ±1; biases come after the cap.
        inputs.query.fill(|| 50.0);
        (0..KEYS).for_each(|j| {
            (0..DIM).for_each(|c| inputs.key.set([0, 0, j, c], if j % 2 == 0 { 50.0 } else { -50.0 }));
        });
        let bias = vec![0.0; s_q * KEYS];
        let config = config(isa).with_softcap(1.0).with_attention_bias(bias_view(&bias, s_q));
        let found = inputs.found(&inputs.plain_cotangent(true), &config);
        assert!(found.d_query.iter().chain(&found.d_key).all(|x| x.to_bits() == 0), "{isa}");
        assert!(found.d_attention_bias.iter().all(|x| x.abs() > 1e-9), "{isa}");
    });
}

#[test]
fn biases__by_slope_by_table_and_by_tensor__have_the_same_gradients() {
    each_grouped(|isa, s_q, inputs| {
        let slopes = [0.5f32, -0.25, 0.0, 0.03125];
        let span = s_q.max(KEYS);
        let width = 2 * span + 1;
        let far = |distance: i64| distance.unsigned_abs() as f32;
        let bias: Vec<f32> = (0..4 * s_q * KEYS)
            .map(|at| -slopes[at / (s_q * KEYS)] * far((at % KEYS) as i64 - (at / KEYS % s_q) as i64))
            .collect();
        let table: Vec<f32> =
            (0..4 * width).map(|at| -slopes[at / width] * far((at % width) as i64 - span as i64)).collect();
        let bias = TensorView::new(&bias, [1, 4, s_q, KEYS], LAYOUT).unwrap();
        let config = config(isa).with_mask(Mask::causal(QueryPosition::TopLeft));
        let cotangent = inputs.plain_cotangent(true);
        let by_tensor = inputs.found(&cotangent, &config.with_attention_bias(bias));
        let by_slope = inputs.found(&cotangent, &config.with_alibi_slopes(&slopes));
        let by_table =
            inputs.found(&cotangent, &config.with_relative_bias(RelativeBias::new(&table, span, span)));
        for (what, found) in [("slope", &by_slope), ("table", &by_table)] {
            for ((name, found), (_, expected)) in found.all().into_iter().zip(by_tensor.all()).take(3) {
                assert_close(found, expected, 3e-6, &format!("{isa} {what} {name}"));
            }
        }
        // A distance's gradient is the sum over all pairs at that distance.
        let mut by_distance = vec![0.0f32; 4 * width];
        for (at, d_bias) in by_tensor.d_attention_bias.iter().enumerate() {
            let column = at % KEYS + span - at / KEYS % s_q;
            by_distance[at / (s_q * KEYS) * width + column] += d_bias;
        }
        assert_close(&by_table.d_relative_bias, &by_distance, 1e-5, &format!("{isa} d_relative_bias"));
    });
}

#[test]
fn attention_bias__repeated_along_axes__has_the_gradient_summed_over_them() {
    each_grouped(|isa, s_q, inputs| {
        let cotangent = inputs.plain_cotangent(true);
        let (whole, none) = ([2, 4, s_q, KEYS], vec![0.25; 8 * s_q * KEYS]);
        let run = |shape: [usize; 4]| {
            let bias = TensorView::new(&none[..shape.iter().product()], shape, LAYOUT).unwrap();
            inputs.found(&cotangent, &config(isa).with_attention_bias(bias))
        };
        let all = run(whole);
        for repeated in 1..16 {
            let shape: [usize; 4] =
                std::array::from_fn(|a| if repeated >> a & 1 == 1 { 1 } else { whole[a] });
            let found = run(shape);
            let mut expected = vec![0.0f32; shape.iter().product()];
            for (at, number) in all.d_attention_bias.iter().enumerate() {
                let index = [at / (4 * s_q * KEYS), at / (s_q * KEYS) % 4, at / KEYS % s_q, at % KEYS];
                let place = index.into_iter().zip(shape).fold(0, |p, (i, n)| p * n + i % n);
                expected[place] += number;
            }
            assert_close(&found.d_attention_bias, &expected, 2e-5, &format!("{isa} {shape:?}"));
            for ((name, found), (_, all)) in found.all().into_iter().zip(all.all()).take(3) {
                assert_eq!(bits(found), bits(all), "{isa} {shape:?} {name}");
            }
        }
    });
}

#[test]
fn relative_bias__minus_infinity__forbids_backward_as_a_keep_mask_does() {
    each(|isa, s_q, inputs| {
        let table = [f32::NEG_INFINITY, 0.5, 1.0, f32::NEG_INFINITY, -1.0];
        let finite = table.map(|number| if number == f32::NEG_INFINITY { 0.0 } else { number });
        let column = |at: usize| ((at % KEYS) as i64 - (at / KEYS) as i64).clamp(-2, 2) + 2;
        let keep: Vec<bool> = (0..s_q * KEYS).map(|at| table[column(at) as usize].is_finite()).collect();
        let keep = TensorView::new(&keep, [1, 1, s_q, KEYS], LAYOUT).unwrap();
        let cotangent = inputs.plain_cotangent(true);
        let found =
            inputs.found(&cotangent, &config(isa).with_relative_bias(RelativeBias::new(&table, 2, 2)));
        let kept = config(isa).with_mask(Mask::default().with_keep(keep));
        let kept = inputs.found(&cotangent, &kept.with_relative_bias(RelativeBias::new(&finite, 2, 2)));
        assert_eq!(found.bits(), kept.bits(), "{isa}");
        assert_eq!([found.d_relative_bias[0], found.d_relative_bias[3]].map(f32::to_bits), [0; 2], "{isa}");
        assert!(found.d_relative_bias[1] != 0.0 && found.d_relative_bias[2] != 0.0, "{isa}");
    });
}

#[test]
fn sinks__minus_infinity__changes_no_bit_of_any_gradient_and_has_none() {
    each_grouped(|isa, _, inputs| {
        let cotangent = inputs.plain_cotangent(true);
        let plain = inputs.found(&cotangent, &config(isa));
        let found = inputs.found(&cotangent, &config(isa).with_sinks(&[f32::NEG_INFINITY; 4]));
        for ((name, plain), (_, found)) in plain.all().into_iter().zip(found.all()).take(3) {
            assert_eq!(bits(plain), bits(found), "{isa} {name}");
        }
        assert_eq!(bits(&found.d_sinks), [0; 4], "{isa}");
    });
}

#[test]
fn sinks__huge__give_finite_gradients() {
    each(|isa, _, inputs| {
        let cotangent = inputs.plain_cotangent(true);
        let plain = inputs.found(&cotangent, &config(isa));
        for sink in [80.0f32, 1e30, f32::MAX, -80.0, -1e30, f32::MIN] {
            let found = inputs.found(&cotangent, &config(isa).with_sinks(&[sink]));
            assert!(found.all().iter().all(|(_, x)| x.iter().all(|x| x.is_finite())), "{isa} {sink}");
            if sink > 0.0 {
                // The log-sum-exp knows nothing of the sink; its gradient goes on.
                assert!(found.d_value.iter().all(|x| x.abs() < 1e-30), "{isa} {sink}");
                assert!(found.d_query.iter().any(|x| x.abs() > 1e-4), "{isa} {sink}");
            } else {
                for ((name, plain), (_, found)) in plain.all().into_iter().zip(found.all()).take(3) {
                    assert_eq!(bits(plain), bits(found), "{isa} {sink} {name}");
                }
            }
            assert!(found.d_sinks[0].abs() < 1e-20, "{isa} {sink}: {}", found.d_sinks[0]);
        }
    });
}

#[test]
fn sinks__gradient__is_minus_the_share_of_the_sink_times_output_and_its_gradient() {
    each_grouped(|isa, s_q, inputs| {
        let sinks = [0.5, 3.0, -2.0, 6.0];
        let config = config(isa).with_sinks(&sinks).with_mask(Mask::causal(QueryPosition::Offset(-1)));
        let cotangent = inputs.plain_cotangent(false);
        let (output, log_sum_exp) = inputs.run(&config).unwrap();
        let d_output = cotangent.d_output.numbers();
        let mut expected = [0.0f64; 4];
        for row in (0..8 * s_q).filter(|&row| log_sum_exp[row].is_finite()) {
            let sink = f64::from(sinks[row / s_q % 4]);
            let share = 1.0 / (1.0 + (f64::from(log_sum_exp[row]) - sink).exp());
            let columns = row * VALUE_DIM..(row + 1) * VALUE_DIM;
            expected[row / s_q % 4] -= share * sum(columns.map(|c| output[c] * d_output[c]));
        }
        let found = inputs.found(&cotangent, &config);
        assert_close(&found.d_sinks, &expected.map(|x| x as f32), 1e-5, &format!("{isa}"));
    });
}

#[test]
fn dropout__backward__drops_what_keeps_says() {
    each_grouped(|isa, s_q, inputs| {
        let dropout = Dropout::new(0.4, 19);
        let mask = Mask::causal(QueryPosition::BottomRight);
        let config = config(isa).with_mask(mask).with_dropout(dropout);
        let cotangent = inputs.plain_cotangent(false);
        let found = inputs.found(&cotangent, &config);
        let (_, log_sum_exp) = inputs.run(&config).unwrap();
        // d_value from explicit probabilities and choices.
        let mut expected = vec![0.0f32; found.d_value.len()];
        let d_output = cotangent.d_output.numbers();
        for (b, h) in (0..2).flat_map(|b| (0..4).map(move |h| (b, h))) {
            let mut probs = vec![0.0; s_q * KEYS];
            let at = HeadBlock { batch: b, head: h, rows: 0..s_q, keys: 0..KEYS };
            let (query, key) = (inputs.query.view(), inputs.key.view());
            attention_probs(query, key, &log_sum_exp, &at, &config, &mut probs).unwrap();
            for (i, j) in (0..s_q).flat_map(|i| (0..KEYS).map(move |j| (i, j))) {
                if dropout.keeps([b, h], i as i64 + KEYS as i64 - s_q as i64, j) {
                    for c in 0..VALUE_DIM {
                        let d_output = d_output[((b * 4 + h) * s_q + i) * VALUE_DIM + c];
                        expected[((b * 2 + h / 2) * KEYS + j) * VALUE_DIM + c] +=
                            probs[i * KEYS + j] / 0.6 * d_output;
                    }
                }
            }
        }
        assert_close(&found.d_value, &expected, 1e-5, &format!("{isa}"));
        let plain = inputs.found(&cotangent, &AttentionConfig::new().with_isa(isa).with_mask(mask));
        let none = inputs.found(&cotangent, &config.with_dropout(Dropout::new(0.0, 19)));
        assert_eq!(none.bits(), plain.bits(), "{isa}: rate 0");
    });
}

#[test]
fn dropout__row_computed_alone__has_the_same_gradient() {
    each(|isa, s_q, inputs| {
        let config = config(isa).with_dropout(Dropout::new(0.5, 4)).with_sinks(&[0.1]);
        let cotangent = inputs.plain_cotangent(true);
        let whole = inputs.found(&cotangent, &config);
        for i in [0, 1, s_q - 1] {
            let mut one = Inputs::<f32, f32>::plain(common::Sizes { s_q: 1, ..common::rows::sizes(1) }, 0);
            (one.key, one.value) = (inputs.key.clone(), inputs.value.clone());
            (0..DIM).for_each(|c| one.query.set([0, 0, 0, c], inputs.query.view().at([0, 0, i, c])));
            let mut alone = one.plain_cotangent(true);
            let d_output = &cotangent.d_output;
            (0..VALUE_DIM).for_each(|c| alone.d_output.set([0, 0, 0, c], d_output.view().at([0, 0, i, c])));
            alone.d_log_sum_exp.as_mut().unwrap()[0] = cotangent.d_log_sum_exp.as_ref().unwrap()[i];
            let mask = Mask::default().with_position(QueryPosition::Offset(i as i64));
            let found = one.found(&alone, &config.with_mask(mask));
            assert_close(&found.d_query, &whole.d_query[i * DIM..(i + 1) * DIM], 1e-5, &format!("{isa} {i}"));
        }
    });
}

#[test]
fn strides__of_0__are_fine_for_inputs_whose_gradients_are_not_summed() {
    each_grouped(|isa, s_q, inputs| {
        // Two sequences that share everything, by stride and by copy.
        let repeat = |tensor: &Tensor<f32>| {
            let mut copy = tensor.clone();
            let half = tensor.buffer.data().len() / 2;
            copy.buffer.data_mut().copy_within(..half, half);
            copy
        };
        let mut copied = inputs.clone();
        (copied.query, copied.key, copied.value) =
            (repeat(&inputs.query), repeat(&inputs.key), repeat(&inputs.value));
        let mut cotangent = inputs.plain_cotangent(false);
        cotangent.d_output = repeat(&cotangent.d_output);
        let expected = copied.found(&cotangent, &config(isa));
        let mut shared = copied.clone();
        for tensor in [&mut shared.query, &mut shared.key, &mut shared.value, &mut cotangent.d_output] {
            tensor.strides[0] = 0;
        }
        assert_eq!(shared.found(&cotangent, &config(isa)).bits(), expected.bits(), "{isa} {s_q}");
        assert_eq!(expected.d_key.len(), 2 * 2 * KEYS * DIM);
    });
}

#[test]
fn gradients__overlapping_in_memory__cannot_be_asked_for() {
    let mut data = vec![7.0f32; 400];
    for strides in [[0, 16, 4, 1], [0, 0, 0, 0], [16, 8, 1, 1], [200, 40, 4, 2], [16, 16, 4, 1]] {
        let error = TensorViewMut::with_strides(&mut data, [2, 4, 4, 4], strides).unwrap_err();
        assert_eq!(error, AttentionError::OverlappingOutput { strides });
    }
    assert!(data.iter().all(|&x| x == 7.0));
}

/// Gradients of f32 tensors, stored as `T`.
fn narrow_gradients<T: TestElement>(
    inputs: &Inputs<f32, f32>,
    cotangent: &common::gradients::Cotangent<f32>,
    config: &AttentionConfig<'_>,
) -> [Vec<f32>; 3] {
    let (output, log_sum_exp) = inputs.run_stored(config, &mut Workspace::new()).unwrap();
    let [mut d_query, mut d_key, mut d_value] = [inputs.query.shape, inputs.key.shape, inputs.value.shape]
        .map(|shape| Tensor::<T>::unfilled(shape, &common::Memory::PLAIN));
    let back = BackwardInputs {
        output: output.view(),
        log_sum_exp: &log_sum_exp,
        d_output: cotangent.d_output.view(),
        d_log_sum_exp: None,
    };
    let gradients = AttentionGradients::new(d_query.view_mut(), d_key.view_mut(), d_value.view_mut());
    let (query, key, value) = (inputs.query.view(), inputs.key.view(), inputs.value.view());
    attention_backward(query, key, value, back, gradients, config, &mut Workspace::new()).unwrap();
    assert!(d_query.is_intact() && d_key.is_intact() && d_value.is_intact());
    [d_query.numbers(), d_key.numbers(), d_value.numbers()]
}

#[test]
fn gradients__stored_in_16_bits__are_those_in_f32_rounded_once() {
    each_grouped(|isa, _, inputs| {
        let config = config(isa).with_mask(Mask::causal(QueryPosition::BottomRight));
        let cotangent = inputs.plain_cotangent(false);
        let wide = inputs.found(&cotangent, &config);
        let wide = [&wide.d_query, &wide.d_key, &wide.d_value];
        let halves = narrow_gradients::<f16>(&inputs, &cotangent, &config);
        let brains = narrow_gradients::<bf16>(&inputs, &cotangent, &config);
        for ((wide, half), brain) in wide.into_iter().zip(halves).zip(brains) {
            let rounded: Vec<f32> = wide.iter().map(|&x| f16::from_f32(x).to_f32()).collect();
            assert_eq!(bits(&half), bits(&rounded), "{isa} f16");
            let rounded: Vec<f32> = wide.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
            assert_eq!(bits(&brain), bits(&rounded), "{isa} bf16");
        }
    });
}

#[test]
fn gradients__of_a_rows_scores__sum_to_zero_or_to_that_of_its_log_sum_exp() {
    each(|isa, s_q, inputs| {
        let bias: Vec<f32> = (0..s_q * KEYS).map(|i| (i % 11) as f32 * 0.1).collect();
        let config = config(isa).with_attention_bias(bias_view(&bias, s_q));
        let config = config.with_mask(Mask::window(window(9, 4), QueryPosition::TopLeft));
        for with_lse in [false, true] {
            let cotangent = inputs.plain_cotangent(with_lse);
            let found = inputs.found(&cotangent, &config);
            for (i, row) in found.d_attention_bias.chunks_exact(KEYS).enumerate() {
                let expected = cotangent.d_log_sum_exp.as_ref().map_or(0.0, |d_lse| f64::from(d_lse[i]));
                let found = sum(row.iter().copied());
                assert!((found - expected).abs() < 2e-6, "{isa} row {i}: {found} {expected}");
            }
        }
    });
}

/// A score is q·k: stretching all queries or all keys stretches it alike.
#[test]
fn gradients__of_queries_and_of_keys__weigh_the_same_in_each_group() {
    each_grouped(|isa, s_q, inputs| {
        let (slopes, sinks) = ([0.1, 0.2, 0.3, 0.4], [0.5; 4]);
        let config = config(isa).with_softcap(3.0).with_alibi_slopes(&slopes).with_sinks(&sinks);
        let config = config.with_mask(Mask::causal(QueryPosition::BottomRight));
        let found = inputs.found(&inputs.plain_cotangent(true), &config.with_dropout(Dropout::new(0.2, 1)));
        let weight = |gradient: &[f32], tensor: &Tensor<f32>, group: usize, groups: usize| {
            let len = gradient.len() / groups;
            let pairs = gradient.iter().copied().zip(tensor.numbers()).skip(group * len).take(len);
            sum(pairs.map(|(gradient, number)| gradient * number))
        };
        for group in 0..4 {
            let query = weight(&found.d_query, &inputs.query, group, 4);
            let key = weight(&found.d_key, &inputs.key, group, 4);
            assert!((query - key).abs() < 1e-4 * (1.0 + query.abs()), "{isa} of {s_q}: {query} {key}");
        }
    });
}

#[test]
fn grouped_heads__are_repeated_key_heads_with_summed_gradients() {
    each_grouped(|isa, _, inputs| {
        let config = config(isa).with_mask(Mask::causal(QueryPosition::BottomRight));
        let cotangent = inputs.plain_cotangent(true);
        let grouped = inputs.found(&cotangent, &config);
        let mut repeated = inputs.clone();
        for (tensor, of) in [(&mut repeated.key, &inputs.key), (&mut repeated.value, &inputs.value)] {
            let [b, h, s, d] = of.shape;
            *tensor = Tensor::unfilled([b, 2 * h, s, d], &common::Memory::PLAIN);
            for at in 0..2 * b * h * s * d {
                let index = [at / (2 * h * s * d), at / (s * d) % (2 * h), at / d % s, at % d];
                tensor.set(index, of.view().at([index[0], index[1] / 2, index[2], index[3]]));
            }
        }
        let found = repeated.found(&cotangent, &config);
        assert_eq!(bits(&found.d_query), bits(&grouped.d_query), "{isa}");
        let pairs = [(&found.d_key, &grouped.d_key, DIM), (&found.d_value, &grouped.d_value, VALUE_DIM)];
        for (found, grouped, d) in pairs {
            let len = KEYS * d;
            let both =
                |at: usize| found[at / len * 2 * len + at % len] + found[(at / len * 2 + 1) * len + at % len];
            let summed: Vec<f32> = (0..grouped.len()).map(both).collect();
            assert_close(&summed, grouped, 1e-5, &format!("{isa}"));
        }
    });
}

#[test]
fn masks__that_say_the_same__give_the_same_bits() {
    each_grouped(|isa, s_q, inputs| {
        let cotangent = inputs.plain_cotangent(true);
        let run = |mask: Mask<'_>| inputs.found(&cotangent, &config(isa).with_mask(mask)).bits();
        let none = run(Mask::default());
        for wide in [KEYS.max(s_q), usize::MAX] {
            assert_eq!(run(Mask::window(window(wide, wide), QueryPosition::TopLeft)), none, "{isa} {wide}");
        }
        assert_eq!(run(Mask::causal(QueryPosition::Offset(KEYS as i64))), none, "{isa}: nothing to hide");
        assert_eq!(run(Mask::default().with_key_lengths(&[KEYS])), none, "{isa}: whole sequences");
        let causal = run(Mask::causal(QueryPosition::TopLeft));
        let left = Mask::window(window(usize::MAX, 0), QueryPosition::TopLeft);
        assert_eq!(run(left), causal, "{isa}: a window to the left");
        let keep: Vec<bool> = (0..s_q * KEYS).map(|at| at % KEYS <= at / KEYS).collect();
        let keep = TensorView::new(&keep, [1, 1, s_q, KEYS], LAYOUT).unwrap();
        assert_eq!(run(Mask::default().with_keep(keep)), causal, "{isa}: the same as a keep mask");
    });
}

#[test]
fn keys__in_another_order__have_their_gradients_in_that_order() {
    each(|isa, _, inputs| {
        let cotangent = inputs.plain_cotangent(true);
        let found = inputs.found(&cotangent, &config(isa));
        let place = |j: usize| (j * 17 + 5) % KEYS;
        let mut permuted = inputs.clone();
        for j in 0..KEYS {
            (0..DIM).for_each(|c| permuted.key.set([0, 0, place(j), c], inputs.key.view().at([0, 0, j, c])));
            (0..VALUE_DIM)
                .for_each(|c| permuted.value.set([0, 0, place(j), c], inputs.value.view().at([0, 0, j, c])));
        }
        let moved = permuted.found(&cotangent, &config(isa));
        assert_close(&moved.d_query, &found.d_query, 1e-5, &format!("{isa} d_query"));
        for j in 0..KEYS {
            let row = |numbers: &[f32], j: usize, d: usize| numbers[j * d..(j + 1) * d].to_vec();
            let pairs = [(&moved.d_key, &found.d_key, DIM), (&moved.d_value, &found.d_value, VALUE_DIM)];
            for (moved, found, d) in pairs {
                assert_close(&row(moved, place(j), d), &row(found, j, d), 1e-5, &format!("{isa} key {j}"));
            }
        }
    });
}

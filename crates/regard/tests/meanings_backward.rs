//! What special inputs do to gradients, a test a line, on every instruction set, for few query rows and for many.
#![allow(non_snake_case)]

mod common;

use common::gradients::{Cotangent, Found};
use common::rows::{DIM, KEYS, ROWS, VALUE_DIM, bits, each, sizes};
use common::{Inputs, Sizes, isas, window};
use regard::{
    AttentionConfig, AttentionError, AttentionGradients, BackwardInputs, Isa, Layout, Mask, QueryPosition,
    RelativeBias, TensorView, TensorViewMut, Workspace, attention_backward, attention_backward_scratch_bytes,
};

fn config(isa: Isa) -> AttentionConfig<'static> {
    AttentionConfig::new().with_isa(isa)
}

/// Poisons the query and the cotangents of one row of the first head.
fn poison_row(
    (inputs, cotangent): (&Inputs<f32, f32>, &Cotangent<f32>),
    row: usize,
    number: f32,
) -> (Inputs<f32, f32>, Cotangent<f32>) {
    let (mut inputs, mut cotangent) = (inputs.clone(), cotangent.clone());
    (0..DIM).for_each(|c| inputs.query.set([0, 0, row, c], number));
    (0..VALUE_DIM).for_each(|c| cotangent.d_output.set([0, 0, row, c], number));
    cotangent.d_log_sum_exp.as_mut().unwrap()[row] = number;
    (inputs, cotangent)
}

fn poison_key(inputs: &Inputs<f32, f32>, key: usize, number: f32) -> Inputs<f32, f32> {
    let mut inputs = inputs.clone();
    (0..DIM).for_each(|c| inputs.key.set([0, 0, key, c], number));
    (0..VALUE_DIM).for_each(|c| inputs.value.set([0, 0, key, c], number));
    inputs
}

fn row(numbers: &[f32], row: usize, len: usize) -> &[f32] {
    &numbers[row * len..(row + 1) * len]
}

fn same(found: &Found, other: &Found, what: &str) {
    for ((name, found), (_, other)) in found.all().into_iter().zip(other.all()) {
        assert_eq!(bits(found), bits(other), "{what}: {name}");
    }
}

/// Runs a test with each way to forbid a key, and with what it leaves: `may(row, key)`.
fn each_mask(isa: Isa, s_q: usize, test: impl Fn(&str, &AttentionConfig<'_>, &dyn Fn(usize, usize) -> bool)) {
    // Row 1 may attend to nothing, no row to key 30, every other row to key 7.
    let keep: Vec<bool> = (0..s_q * KEYS)
        .map(|at| (at / KEYS, at % KEYS))
        .map(|(i, j)| i != 1 && j != 30 && (j != 7 || i % 2 == 0))
        .collect();
    let bias: Vec<f32> = keep.iter().map(|&keep| if keep { 0.1 } else { f32::NEG_INFINITY }).collect();
    let shape = [1, 1, s_q, KEYS];
    let keep_view = TensorView::new(&keep, shape, Layout::BatchHeadSeqDim).unwrap();
    let bias_view = TensorView::new(&bias, shape, Layout::BatchHeadSeqDim).unwrap();
    let (lengths, table) = ([35], [f32::NEG_INFINITY, 0.5, 1.0, f32::NEG_INFINITY, -1.0]);
    let relative = RelativeBias::new(&table, 2, 2);
    let plain = config(isa);
    test("causal", &plain.with_mask(Mask::causal(QueryPosition::Offset(-2))), &|i, j| j + 2 <= i);
    let near = Mask::window(window(3, 2), QueryPosition::Offset(-4));
    test("window", &plain.with_mask(near), &|i, j| i <= j + 7 && j + 2 <= i);
    test("length", &plain.with_mask(Mask::default().with_key_lengths(&lengths)), &|_, j| j < 35);
    test("keep", &plain.with_mask(Mask::default().with_keep(keep_view)), &|i, j| keep[i * KEYS + j]);
    test("bias", &plain.with_attention_bias(bias_view), &|i, j| keep[i * KEYS + j]);
    let by_distance = |i: usize, j: usize| j + 1 == i || j == i || j > i + 1;
    test("relative bias", &plain.with_relative_bias(relative), &by_distance);
}

#[test]
fn backward__row_without_allowed_key__gives_plus_zero_whatever_it_holds() {
    each(|isa, s_q, inputs| {
        let cotangent = inputs.plain_cotangent(true);
        each_mask(isa, s_q, |mask, plain, may| {
            for sinks in [None, Some([0.5]), Some([f32::NEG_INFINITY])] {
                let config = sinks.as_ref().map_or(*plain, |sinks| plain.with_sinks(sinks));
                let clean = inputs.found(&cotangent, &config);
                for i in (0..s_q).filter(|&i| !(0..KEYS).any(|j| may(i, j))) {
                    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                        let (inputs, cotangent) = poison_row((&inputs, &cotangent), i, number);
                        let found = inputs.found(&cotangent, &config);
                        let what = format!("{isa} {mask} {sinks:?}: row {i} is {number}");
                        let d_query = row(&found.d_query, i, DIM);
                        assert!(d_query.iter().all(|x| x.to_bits() == 0), "{what}: {d_query:?}");
                        same(&found, &clean, &what);
                        if mask == "bias" {
                            let d_bias = row(&found.d_attention_bias, i, KEYS);
                            assert!(d_bias.iter().all(|x| x.to_bits() == 0), "{what}: {d_bias:?}");
                        }
                    }
                }
            }
        });
    });
}

#[test]
fn backward__no_row_with_an_allowed_key__gives_plus_zero_everywhere() {
    each(|isa, s_q, inputs| {
        let mut cotangent = inputs.plain_cotangent(true);
        let mut inputs = inputs;
        inputs.query.fill(|| f32::NAN);
        inputs.key.fill(|| f32::INFINITY);
        inputs.value.fill(|| f32::NAN);
        cotangent.d_output.fill(|| f32::NAN);
        let (none, table) = ([0], [f32::NEG_INFINITY]);
        let keep = [false];
        let keep = TensorView::new(&keep, [1; 4], Layout::BatchHeadSeqDim).unwrap();
        let beyond = Mask::window(window(1, 1), QueryPosition::Offset(1000));
        let plain = config(isa).with_sinks(&[1.0]);
        for (what, config) in [
            ("length", plain.with_mask(Mask::default().with_key_lengths(&none))),
            ("keep", plain.with_mask(Mask::default().with_keep(keep))),
            ("window", plain.with_mask(beyond)),
            ("causal", plain.with_mask(Mask::causal(QueryPosition::Offset(i64::MIN)))),
            ("relative bias", plain.with_relative_bias(RelativeBias::new(&table, 0, 0))),
        ] {
            let found = inputs.found(&cotangent, &config);
            assert!(found.bits().iter().all(|&bits| bits == 0), "{isa} {s_q} {what}");
        }
    });
}

#[test]
fn backward__nan_or_infinity_where_a_query_may_not_attend__changes_no_bit() {
    each(|isa, s_q, inputs| {
        let cotangent = inputs.plain_cotangent(true);
        each_mask(isa, s_q, |mask, config, may| {
            let clean = inputs.found(&cotangent, config);
            for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
                for key in [0, 7, 30, 39] {
                    let found = poison_key(&inputs, key, number).found(&cotangent, config);
                    let what = format!("{isa} {mask} of {s_q} rows: key {key} is {number}");
                    for i in (0..s_q).filter(|&i| !may(i, key)) {
                        let d_query = [&found, &clean].map(|found| bits(row(&found.d_query, i, DIM)));
                        assert_eq!(d_query[0], d_query[1], "{what}, d_query {i}");
                        if mask == "bias" {
                            let d_bias =
                                [&found, &clean].map(|found| bits(row(&found.d_attention_bias, i, KEYS)));
                            assert_eq!(d_bias[0], d_bias[1], "{what}, d_attention_bias {i}");
                        }
                    }
                    // Keys that no query attends to together with it.
                    for j in (0..KEYS).filter(|&j| !(0..s_q).any(|i| may(i, key) && may(i, j))) {
                        let d_key = [&found, &clean].map(|found| bits(row(&found.d_key, j, DIM)));
                        assert_eq!(d_key[0], d_key[1], "{what}, d_key {j}");
                        let d_value = [&found, &clean].map(|found| bits(row(&found.d_value, j, VALUE_DIM)));
                        assert_eq!(d_value[0], d_value[1], "{what}, d_value {j}");
                    }
                }
            }
        });
    });
}

#[test]
fn backward__nan_or_infinity_in_a_row__reaches_no_key_that_it_may_not_attend_to() {
    each(|isa, s_q, inputs| {
        let cotangent = inputs.plain_cotangent(true);
        each_mask(isa, s_q, |mask, config, may| {
            let clean = inputs.found(&cotangent, config);
            for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in [0, 2, s_q - 1] {
                    let (inputs, cotangent) = poison_row((&inputs, &cotangent), at, number);
                    let found = inputs.found(&cotangent, config);
                    let what = format!("{isa} {mask} of {s_q} rows: row {at} is {number}");
                    for i in (0..s_q).filter(|&i| i != at) {
                        let d_query = [&found, &clean].map(|found| bits(row(&found.d_query, i, DIM)));
                        assert_eq!(d_query[0], d_query[1], "{what}, d_query {i}");
                    }
                    for j in (0..KEYS).filter(|&j| !may(at, j)) {
                        let d_key = [&found, &clean].map(|found| bits(row(&found.d_key, j, DIM)));
                        assert_eq!(d_key[0], d_key[1], "{what}, d_key {j}");
                        let d_value = [&found, &clean].map(|found| bits(row(&found.d_value, j, VALUE_DIM)));
                        assert_eq!(d_value[0], d_value[1], "{what}, d_value {j}");
                    }
                }
            }
        });
    });
}

/// Products too small for f32 have a sign: a sum over selected rows must come out as the sum over all of them.
#[test]
fn backward__nan_in_the_last_row__leaves_the_sign_of_other_keys_zeros() {
    each(|isa, s_q, mut inputs| {
        let (mut cotangent, mut neighbour) = (inputs.plain_cotangent(false), inputs.plain_cotangent(false));
        cotangent.d_output.fill(|| -1e-30);
        (0..VALUE_DIM).for_each(|c| cotangent.d_output.set([0, 0, s_q - 1, c], 1.0));
        inputs.query.fill(|| 1.0);
        // Score −80 of a key against 0 of all others: a probability of 2e-35.
        (0..KEYS).for_each(|j| (0..DIM).for_each(|c| inputs.key.set([0, 0, j, c], 0.0)));
        (0..DIM).for_each(|c| inputs.key.set([0, 0, 3, c], -20.0));
        let keep: Vec<bool> = (0..s_q * KEYS).map(|at| at / KEYS != s_q - 1 || at % KEYS == 5).collect();
        let keep = TensorView::new(&keep, [1, 1, s_q, KEYS], Layout::BatchHeadSeqDim).unwrap();
        let config = config(isa).with_mask(Mask::default().with_keep(keep));
        let clean = inputs.found(&cotangent, &config);
        neighbour.d_output = cotangent.d_output.clone();
        (0..VALUE_DIM).for_each(|c| neighbour.d_output.set([0, 0, s_q - 1, c], f32::NAN));
        let found = inputs.found(&neighbour, &config);
        for j in (0..KEYS).filter(|&j| j != 5) {
            let d_value = [&found, &clean].map(|found| row(&found.d_value, j, VALUE_DIM));
            assert_eq!(bits(d_value[0]), bits(d_value[1]), "{isa} key {j}: {d_value:?}");
        }
    });
}

#[test]
fn backward__nan_in_an_attended_input__comes_out_as_nan_in_the_gradients_it_enters_and_only_there() {
    each(|isa, s_q, inputs| {
        let config = config(isa).with_mask(Mask::causal(QueryPosition::TopLeft));
        let cotangent = inputs.plain_cotangent(true);
        let clean = inputs.found(&cotangent, &config);
        // Whether each number is NaN; where it is not, it is what it was.
        let check = |what: &str, found: &Found, nan: [&dyn Fn(usize, usize) -> bool; 3]| {
            let dims = [("d_query", DIM), ("d_key", DIM), ("d_value", VALUE_DIM)];
            let pairs = found.all().into_iter().zip(clean.all()).zip(dims.into_iter().zip(nan));
            for (((_, found), (_, clean)), ((name, dim), nan)) in pairs {
                for (at, (x, clean)) in found.iter().zip(clean).enumerate() {
                    let (row, c) = (at / dim, at % dim);
                    assert_eq!(x.is_nan(), nan(row, c), "{isa} {what}: {name} at {row}, {c} is {x}");
                    assert!(
                        x.is_nan() || x.to_bits() == clean.to_bits(),
                        "{isa} {what}: {name} at {row}, {c}"
                    );
                }
            }
        };
        let mut poisoned = inputs.clone();
        poisoned.query.set([0, 0, 1, 5], f32::NAN);
        let found = poisoned.found(&cotangent, &config);
        check("query", &found, [&|i, _| i == 1, &|j, _| j <= 1, &|j, _| j <= 1]);

        let mut poisoned = inputs.clone();
        poisoned.key.set([0, 0, 2, 5], f32::NAN);
        let found = poisoned.found(&cotangent, &config);
        check("key", &found, [&|i, _| i >= 2, &|j, _| j < s_q, &|j, _| j < s_q]);

        let mut poisoned = inputs.clone();
        poisoned.value.set([0, 0, 2, 5], f32::NAN);
        let found = poisoned.found(&cotangent, &config);
        check("value", &found, [&|i, _| i >= 2, &|j, _| j < s_q, &|_, _| false]);

        let mut poisoned = cotangent.clone();
        poisoned.d_output.set([0, 0, 1, 5], f32::NAN);
        let found = inputs.found(&poisoned, &config);
        check("d_output", &found, [&|i, _| i == 1, &|j, _| j <= 1, &|j, c| j <= 1 && c == 5]);

        let mut poisoned = cotangent.clone();
        poisoned.d_log_sum_exp.as_mut().unwrap()[1] = f32::NAN;
        let found = inputs.found(&poisoned, &config);
        check("d_log_sum_exp", &found, [&|i, _| i == 1, &|j, _| j <= 1, &|_, _| false]);
    });
}

#[test]
fn backward__nan_in_an_attended_input__comes_out_in_the_gradients_of_its_biases_and_sinks() {
    each(|isa, s_q, inputs| {
        let bias = vec![0.25; s_q * KEYS];
        let bias = TensorView::new(&bias, [1, 1, s_q, KEYS], Layout::BatchHeadSeqDim).unwrap();
        let table = [0.5; 2 * KEYS + 1];
        let config = config(isa).with_mask(Mask::causal(QueryPosition::TopLeft)).with_sinks(&[1.0]);
        let config =
            config.with_attention_bias(bias).with_relative_bias(RelativeBias::new(&table, KEYS, KEYS));
        let cotangent = inputs.plain_cotangent(true);
        let mut poisoned = inputs.clone();
        poisoned.query.set([0, 0, 1, 5], f32::NAN);
        let found = poisoned.found(&cotangent, &config);
        for (at, x) in found.d_attention_bias.iter().enumerate() {
            assert_eq!(x.is_nan(), at / KEYS == 1 && at % KEYS <= 1, "{isa} bias at {at}: {x}");
        }
        for (at, x) in found.d_relative_bias.iter().enumerate() {
            assert_eq!(x.is_nan(), at == KEYS || at == KEYS - 1, "{isa} distance {at} − {KEYS}: {x}");
        }
        assert!(found.d_sinks[0].is_nan());
    });
}

#[test]
fn backward__every_allowed_score_minus_infinity__is_nan_and_not_masked() {
    each(|isa, _, mut inputs| {
        (0..KEYS).for_each(|j| inputs.key.set([0, 0, j, 0], f32::NEG_INFINITY));
        inputs.query.set([0, 0, 1, 0], 1.0);
        let found = inputs.found(&inputs.plain_cotangent(false), &config(isa));
        assert!(row(&found.d_query, 1, DIM).iter().all(|x| x.is_nan()), "{isa}");
        assert!(found.d_value.iter().all(|x| x.is_nan()), "{isa}");
    });
}

#[test]
fn softmax_scale__any_finite_number__is_used_backward_and_others_are_refused() {
    each(|isa, _, inputs| {
        let cotangent = inputs.plain_cotangent(true);
        for scale in [0.0, -0.0, -0.7, 1e-20, 3.0, 1.5e-7] {
            let config = config(isa).with_softmax_scale(scale);
            inputs.check_gradients(&cotangent, &config).unwrap();
            if scale == 0.0 {
                let found = inputs.found(&cotangent, &config);
                assert!(found.d_query.iter().chain(&found.d_key).all(|x| x.to_bits() == 0), "{isa} {scale}");
            }
        }
        for scale in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let config = config(isa).with_softmax_scale(scale);
            let error = inputs.gradients(&cotangent, &config, &mut Workspace::new()).unwrap_err();
            assert!(matches!(error, AttentionError::InvalidNumber { what: "softmax_scale", .. }));
        }
    });
}

/// |scale|·head_dim·max|q|·max|k| + max|bias| < 1e38 in every way to get there, and gradients that f32 can hold.
#[test]
fn backward__finite_inputs_within_the_promise__give_no_nan() {
    for isa in isas() {
        for s_q in ROWS {
            for (q, k, scale, bias) in [
                (1e18f32, 1e18f32, 0.05f32, 0.0f32),
                (1e30, 1e-30, 0.25, 9e37),
                (1e25, 1e25, 1e-20, 0.0),
                (1e20, 1e-30, 1e30, 0.0),
                (3e-30, 3e35, 5e2, 0.0),
                (1e-38, 1e-38, 1e38, 0.0),
                (1.0, 1.0, -5e36, -4e37),
                (1e30, 1e30, 0.0, 0.0),
                (0.0, 1.0, 3e38, 0.0),
                (1e-20, 1e-20, 3e38, 0.0),
                (3e38, 1e30, 1e-45, 0.0),
                (1e30, 3e38, 1e-45, 0.0),
                (1e38, 1e34, 1e-42, 0.0),
                (3e38, 3e38, 0.0, 0.0),
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
                let mut biases = vec![bias; KEYS];
                biases[3] = -bias;
                let view = TensorView::new(&biases, [1, 1, 1, KEYS], Layout::BatchHeadSeqDim).unwrap();
                let config = config(isa).with_softmax_scale(scale).with_attention_bias(view);
                let (config, cotangent) = (config.with_sinks(&[0.5]), inputs.plain_cotangent(true));
                let found = inputs.found(&cotangent, &config);
                let truth = inputs.reference_gradients::<f64>(&cotangent, &config);
                let truths = [&truth.d_query, &truth.d_key, &truth.d_value, &truth.d_attention_bias];
                for ((name, found), truth) in found.all().into_iter().zip(truths) {
                    for ((&x, &r), &terms) in found.iter().zip(&truth.sum).zip(&truth.terms) {
                        // Some of these gradients are themselves beyond f32.
                        let fits = x.is_finite() || terms > 1e37;
                        assert!(fits, "{isa}: q {q} k {k} scale {scale} bias {bias}: {name} {x} {r} {terms}");
                    }
                }
            }
        }
    }
}

#[test]
fn backward__empty_axes__give_zero_gradients_of_what_there_is() {
    let some = Sizes { batch: 2, heads: 4, kv_heads: 2, s_q: 3, s_kv: 4, d: 5, d_v: 6 };
    for isa in isas() {
        for sizes in [
            Sizes { batch: 0, ..some },
            Sizes { heads: 0, kv_heads: 0, ..some },
            Sizes { s_q: 0, ..some },
            Sizes { s_kv: 0, ..some },
            Sizes { d_v: 0, ..some },
            Sizes { s_q: 0, s_kv: 0, ..some },
            Sizes { s_kv: 0, s_q: 30, ..some },
            Sizes { s_q: 0, s_kv: 300, ..some },
            Sizes { d_v: 0, s_q: 30, s_kv: 300, ..some },
            Sizes { heads: 0, ..some },
        ] {
            let inputs = Inputs::<f32, f32>::plain(sizes, 1);
            let sinks = vec![0.5; sizes.heads];
            let table = vec![0.25; sizes.heads * 3];
            let bias = vec![0.5; sizes.s_kv];
            let bias = TensorView::new(&bias, [1, 1, 1, sizes.s_kv], Layout::BatchHeadSeqDim).unwrap();
            let config = config(isa).with_sinks(&sinks).with_relative_bias(RelativeBias::new(&table, 1, 1));
            let found = inputs.found(&inputs.plain_cotangent(false), &config.with_attention_bias(bias));
            assert_eq!(found.d_query.len(), sizes.batch * sizes.heads * sizes.s_q * sizes.d, "{sizes:?}");
            assert!(found.bits().iter().all(|&bits| bits == 0), "{isa} {sizes:?}");
        }
        let none = Inputs::<f32, f32>::plain(Sizes { d: 0, ..some }, 1);
        let result = none.gradients(&none.plain_cotangent(false), &config(isa), &mut Workspace::new());
        assert_eq!(result.unwrap_err(), AttentionError::ZeroHeadDim);
    }
}

#[test]
fn backward__no_sequences_or_heads_however_long__need_no_memory() {
    for (batch, heads, rows) in [(0, 4, 1 << 40), (1 << 40, 0, 1), (0, 0, 5)] {
        let view = |d| TensorView::<f32>::new(&[], [batch, heads, rows, d], Layout::BatchHeadSeqDim).unwrap();
        let (mut d_query, mut d_key, mut d_value) = ([0.0f32; 0], [0.0f32; 0], [0.0f32; 0]);
        let output = view(6);
        let inputs = BackwardInputs { output, log_sum_exp: &[], d_output: output, d_log_sum_exp: None };
        let mut none = [&mut d_query, &mut d_key, &mut d_value].map(|data| &mut data[..]).into_iter();
        let mut target = |d| {
            let shape = [batch, heads, rows, d];
            TensorViewMut::new(none.next().unwrap(), shape, Layout::BatchHeadSeqDim).unwrap()
        };
        let gradients = AttentionGradients::new(target(8), target(8), target(6));
        let config = AttentionConfig::new();
        let bytes = attention_backward_scratch_bytes(view(8), view(8), view(6), inputs, &config);
        assert_eq!(bytes, Ok(0), "{batch} {heads} {rows}");
        let mut workspace = Workspace::new();
        let result =
            attention_backward(view(8), view(8), view(6), inputs, gradients, &config, &mut workspace);
        assert_eq!(result, Ok(()), "{batch} {heads} {rows}");
    }
}

#[test]
fn backward__keys_beyond_a_sequences_length__have_zero_gradients() {
    for isa in isas() {
        for s_q in ROWS {
            let inputs = Inputs::<f32, f32>::plain(Sizes { batch: 3, s_kv: 300, ..sizes(s_q) }, 8);
            let mut poisoned = inputs.clone();
            let lengths = [129, 0, 300];
            for (b, &length) in lengths.iter().enumerate() {
                for (j, c) in (length..300).flat_map(|j| (0..DIM).map(move |c| (j, c))) {
                    poisoned.key.set([b, 0, j, c], f32::NAN);
                    poisoned.value.set([b, 0, j, c % VALUE_DIM], f32::INFINITY);
                }
            }
            let config = config(isa).with_mask(Mask::default().with_key_lengths(&lengths));
            let cotangent = inputs.plain_cotangent(true);
            let found = poisoned.found(&cotangent, &config);
            same(&found, &inputs.found(&cotangent, &config), &format!("{isa} {s_q}"));
            for (b, j) in (0..3).flat_map(|b| (0..300).map(move |j| (b, j))) {
                let numbers =
                    [row(&found.d_key, b * 300 + j, DIM), row(&found.d_value, b * 300 + j, VALUE_DIM)];
                let zero = numbers.concat().iter().all(|x| x.to_bits() == 0);
                assert_eq!(zero, j >= lengths[b], "{isa}: key {b} {j}");
            }
        }
    }
}

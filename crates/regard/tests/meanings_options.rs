//! What caps, biases, sinks and dropout mean, a test a line, on every instruction set and both paths (register tiles
//! and row dots).
#![allow(non_snake_case)]

mod common;

use common::rows::{DIM, KEYS, VALUE_DIM, assert_close, bits, each, each_grouped, run_bits};
use common::{Inputs, threads, window};
use regard::{
    AttentionConfig, Dropout, DropoutOrigin, HeadBlock, Isa, Layout, Mask, QueryPosition, RelativeBias,
    TensorView, attention_probs,
};

fn config(isa: Isa) -> AttentionConfig<'static> {
    AttentionConfig::new().with_isa(isa)
}

/// scale·q·k of row `i` and key `j` of the first head.
fn product(inputs: &Inputs<f32, f32>, i: usize, j: usize, scale: f64) -> f64 {
    let (query, key) = (inputs.query.numbers(), inputs.key.numbers());
    let terms = (0..DIM).map(|c| f64::from(query[i * DIM + c]) * f64::from(key[j * DIM + c]));
    scale * terms.sum::<f64>()
}

fn keep_view(keep: &[bool], s_q: usize) -> TensorView<'_, bool> {
    TensorView::new(keep, [1, 1, s_q, KEYS], Layout::BatchHeadSeqDim).unwrap()
}

fn bias_view(bias: &[f32], s_q: usize) -> TensorView<'_, f32> {
    TensorView::new(bias, [1, 1, s_q, KEYS], Layout::BatchHeadSeqDim).unwrap()
}

/// A value for each key that has 1 at the key's own place: outputs are then the probabilities themselves.
fn with_identity_values(inputs: &Inputs<f32, f32>) -> Inputs<f32, f32> {
    let [batch, _, s_q, d] = inputs.query.shape;
    let [_, kv_heads, s_kv, _] = inputs.key.shape;
    let sizes = common::Sizes { batch, heads: inputs.query.shape[1], kv_heads, s_q, s_kv, d, d_v: s_kv };
    let mut whole = Inputs::plain(sizes, 0);
    (whole.query, whole.key) = (inputs.query.clone(), inputs.key.clone());
    let mut at = 0;
    whole.value.fill(|| {
        at += 1;
        f32::from(u8::from((at - 1) / s_kv % s_kv == (at - 1) % s_kv))
    });
    whole
}

#[test]
fn scores__scale_then_cap_then_biases_then_mask__in_this_order() {
    each(|isa, s_q, inputs| {
        let (cap, scale, slope) = (2.0f64, -1.7f64, 0.75f64);
        let slopes = [slope as f32];
        let table = [0.5, -3.0, 2.0, 40.0]; // distances −1 (and before), 0, 1, 2 (and after)
        let bias: Vec<f32> = (0..s_q * KEYS).map(|i| (i % 7) as f32 - 3.0).collect();
        for key in [0, 1, 2, 9, 39] {
            // One key alone: the log-sum-exp is its score.
            let keep: Vec<bool> = (0..s_q * KEYS).map(|i| i % KEYS == key).collect();
            let mask = Mask::default().with_keep(keep_view(&keep, s_q));
            let mask = mask.with_position(QueryPosition::Offset(1));
            let config =
                config(isa).with_mask(mask).with_softcap(cap as f32).with_softmax_scale(scale as f32);
            let config = config.with_alibi_slopes(&slopes).with_attention_bias(bias_view(&bias, s_q));
            let config = config.with_relative_bias(RelativeBias::new(&table, 1, 2));
            let (output, log_sum_exp) = inputs.run(&config).unwrap();
            for i in 0..s_q {
                let distance = key as i64 - (i as i64 + 1);
                let capped = cap * (product(&inputs, i, key, f64::from(scale as f32)) / cap).tanh();
                let biases = -slope * distance.unsigned_abs() as f64
                    + f64::from(table[(distance.clamp(-1, 2) + 1) as usize])
                    + f64::from(bias[i * KEYS + key]);
                let found = f64::from(log_sum_exp[i]);
                assert!(
                    (found - (capped + biases)).abs() < 2e-5 * (1.0 + biases.abs()),
                    "{isa} row {i} key {key}: {found}, {capped} + {biases}"
                );
                let value = &inputs.value.numbers()[key * VALUE_DIM..][..VALUE_DIM];
                assert_eq!(output[i * VALUE_DIM..][..VALUE_DIM], *value, "{isa} row {i}: probability 1");
            }
        }
    });
}

#[test]
fn biases__by_slope_by_table_and_by_tensor__are_the_same_numbers() {
    each_grouped(|isa, s_q, inputs| {
        let slopes = [0.5f32, -0.25, 0.0, 0.03125]; // powers of two: products are exact
        let offset = 5;
        let span = s_q.max(KEYS) + offset;
        let distance = |i: usize, j: usize| (j as i64 - (i + offset) as i64).unsigned_abs() as f32;
        let bias: Vec<f32> = (0..4 * s_q * KEYS)
            .map(|at| -slopes[at / (s_q * KEYS)] * distance(at / KEYS % s_q, at % KEYS))
            .collect();
        let table: Vec<f32> = (0..4 * (2 * span + 1))
            .map(|at| {
                let column = (at % (2 * span + 1)) as i64 - span as i64;
                -slopes[at / (2 * span + 1)] * column.unsigned_abs() as f32
            })
            .collect();
        let bias = TensorView::new(&bias, [1, 4, s_q, KEYS], Layout::BatchHeadSeqDim).unwrap();
        for causal in [false, true] {
            let mask = Mask { causal, position: QueryPosition::Offset(offset as i64), ..Mask::default() };
            let config = config(isa).with_mask(mask);
            let by_tensor = inputs.run(&config.with_attention_bias(bias)).unwrap();
            let by_slope = inputs.run(&config.with_alibi_slopes(&slopes)).unwrap();
            let by_table = inputs.run(&config.with_relative_bias(RelativeBias::new(&table, span, span)));
            let by_table = by_table.unwrap();
            for (what, found) in [("slope", by_slope), ("table", by_table)] {
                assert_close(&found.0, &by_tensor.0, 1e-6, &format!("{isa} {what}"));
                assert_close(&found.1, &by_tensor.1, 1e-6, &format!("{isa} {what}"));
            }
        }
    });
}

#[test]
fn biases__by_distance__count_from_each_sequences_own_last_key() {
    each_grouped(|isa, s_q, inputs| {
        let (lengths, slopes) = ([17, 31], [0.5, 0.25, 2.0, 0.125]);
        let offsets = lengths.map(|length| length as i64 - s_q as i64);
        let [own, given] =
            [QueryPosition::BottomRight, QueryPosition::OffsetPerSequence(&offsets)].map(|position| {
                let mask = Mask::default().with_position(position).with_key_lengths(&lengths);
                run_bits(&inputs, &config(isa).with_mask(mask).with_alibi_slopes(&slopes))
            });
        assert_eq!(own, given, "{isa}");
        let padded = Mask::default().with_position(QueryPosition::Offset(KEYS as i64 - s_q as i64));
        let padded = config(isa).with_mask(padded.with_key_lengths(&lengths)).with_alibi_slopes(&slopes);
        assert_ne!(run_bits(&inputs, &padded), own, "{isa}: the padded length");
    });
}

#[test]
fn relative_bias__minus_infinity__forbids_as_a_keep_mask_does_whatever_the_key_holds() {
    each(|isa, s_q, inputs| {
        let infinity = f32::NEG_INFINITY;
        // Distances −2 (and before) … 2 (and after).
        for table in [[infinity, 0.5, 1.0, infinity, -1.0], [0.1, 0.2, infinity, 0.3, infinity]] {
            let forbids =
                |i: usize, j: usize| table[((j as i64 - i as i64).clamp(-2, 2) + 2) as usize] == infinity;
            let finite = table.map(|number| if number == infinity { 0.0 } else { number });
            let keep: Vec<bool> = (0..s_q * KEYS).map(|at| !forbids(at / KEYS, at % KEYS)).collect();
            let mask = Mask::default().with_keep(keep_view(&keep, s_q));
            let kept = config(isa).with_mask(mask).with_relative_bias(RelativeBias::new(&finite, 2, 2));
            let forbidden = config(isa).with_relative_bias(RelativeBias::new(&table, 2, 2));
            let clean = run_bits(&inputs, &forbidden);
            assert_eq!(clean, run_bits(&inputs, &kept), "{isa}");
            for (key, number) in [(2, f32::NAN), (2, f32::INFINITY), (20, f32::NEG_INFINITY), (39, f32::NAN)]
            {
                let mut poisoned = inputs.clone();
                (0..DIM).for_each(|c| poisoned.key.set([0, 0, key, c], number));
                (0..VALUE_DIM).for_each(|c| poisoned.value.set([0, 0, key, c], number));
                let found = run_bits(&poisoned, &forbidden);
                for i in (0..s_q).filter(|&i| forbids(i, key)) {
                    let row = i * VALUE_DIM..(i + 1) * VALUE_DIM;
                    assert_eq!(found.0[row.clone()], clean.0[row], "{isa} key {key} row {i}");
                    assert_eq!(found.1[i], clean.1[i], "{isa} key {key} row {i}");
                }
            }
        }
    });
}

#[test]
fn biases__nan__comes_out_where_the_key_is_allowed_and_only_there() {
    each(|isa, s_q, inputs| {
        let mut bias = vec![0.5; s_q * KEYS];
        bias[KEYS + 1] = f32::NAN; // row 1 may attend to key 1
        bias[2] = f32::NAN; // row 0 may not attend to key 2
        let mask = Mask::causal(QueryPosition::TopLeft);
        let (output, log_sum_exp) =
            inputs.run(&config(isa).with_mask(mask).with_attention_bias(bias_view(&bias, s_q))).unwrap();
        // A table's NaN at distance −2 and before: rows from 2 on have such keys.
        let table = [f32::NAN, 0.0, 0.0, 0.0];
        let by_table =
            inputs.run(&config(isa).with_mask(mask).with_relative_bias(RelativeBias::new(&table, 2, 1)));
        let by_table = by_table.unwrap();
        for i in 0..s_q {
            assert_eq!(output[i * VALUE_DIM].is_nan(), i == 1, "{isa} row {i}");
            assert_eq!(log_sum_exp[i].is_nan(), i == 1, "{isa} row {i}");
            assert_eq!(by_table.1[i].is_nan(), i >= 2, "{isa} row {i}");
        }
    });
}

#[test]
fn sinks__take_a_share_of_the_denominator_and_are_not_in_the_log_sum_exp() {
    each_grouped(|isa, s_q, inputs| {
        let sinks = [0.0, 2.5, -3.0, f32::NEG_INFINITY];
        let slopes = [0.3, 0.2, 0.1, 0.4];
        let plain = config(isa);
        // Neither scaled nor capped nor biased: the share depends on the log-sum-exp and on the sink alone.
        for config in [
            plain,
            plain.with_softmax_scale(-0.2),
            plain.with_softcap(0.5),
            plain.with_alibi_slopes(&slopes),
            plain.with_mask(Mask::causal(QueryPosition::Offset(-1))),
        ] {
            let (alone, alone_lse) = inputs.run(&config).unwrap();
            let (output, log_sum_exp) = inputs.run(&config.with_sinks(&sinks)).unwrap();
            assert_eq!(bits(&log_sum_exp), bits(&alone_lse), "{isa}");
            for (at, (&x, &alone)) in output.iter().zip(&alone).enumerate() {
                let row = at / VALUE_DIM;
                let sink = f64::from(sinks[row / s_q % 4]);
                let share = 1.0 / (1.0 + (sink - f64::from(log_sum_exp[row])).exp());
                let expected =
                    if log_sum_exp[row] == f32::NEG_INFINITY { 0.0 } else { f64::from(alone) * share };
                assert!((f64::from(x) - expected).abs() < 1e-6, "{isa} row {row}: {x} {expected}");
                assert!(sink.is_finite() || x.to_bits() == alone.to_bits(), "{isa}: −∞ is no sink");
            }
        }
    });
}

#[test]
fn sinks__huge__give_finite_outputs_and_leave_all_or_nothing() {
    each(|isa, _, inputs| {
        let (alone, alone_lse) = inputs.run(&config(isa)).unwrap();
        for sink in [80.0f32, 1e30, f32::MAX, -80.0, -1e30, f32::MIN] {
            let (output, log_sum_exp) = inputs.run(&config(isa).with_sinks(&[sink])).unwrap();
            assert_eq!(bits(&log_sum_exp), bits(&alone_lse), "{isa} {sink}");
            match sink > 0.0 {
                true => assert!(output.iter().all(|x| x.abs() < 1e-30), "{isa} {sink}"),
                false => assert_eq!(bits(&output), bits(&alone), "{isa} {sink}"),
            }
        }
    });
}

#[test]
fn sinks__row_without_allowed_key__is_zero_all_the_same() {
    each(|isa, _, inputs| {
        let mask = Mask::causal(QueryPosition::Offset(-2));
        for sink in [0.0, 80.0, f32::MIN, f32::NEG_INFINITY] {
            let (output, log_sum_exp) = inputs.run(&config(isa).with_mask(mask).with_sinks(&[sink])).unwrap();
            assert!(output[..2 * VALUE_DIM].iter().all(|x| x.to_bits() == 0), "{isa} {sink}");
            assert_eq!(log_sum_exp[..2], [f32::NEG_INFINITY; 2], "{isa} {sink}");
        }
    });
}

#[test]
fn options__by_head__belong_to_query_heads_and_not_to_key_heads() {
    each_grouped(|isa, s_q, inputs| {
        let (slopes, sinks, table) = ([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0]);
        let all = config(isa).with_alibi_slopes(&slopes).with_sinks(&sinks);
        let all = run_bits(&inputs, &all.with_relative_bias(RelativeBias::new(&table, 0, 0)));
        for head in 0..4 {
            let (slopes, sinks, table) = ([slopes[head]; 4], [sinks[head]; 4], [table[head]; 4]);
            let same = config(isa).with_alibi_slopes(&slopes).with_sinks(&sinks);
            let same = run_bits(&inputs, &same.with_relative_bias(RelativeBias::new(&table, 0, 0)));
            for batch in 0..2 {
                let rows = (batch * 4 + head) * s_q..(batch * 4 + head + 1) * s_q;
                let outputs = rows.start * VALUE_DIM..rows.end * VALUE_DIM;
                assert_eq!(same.0[outputs.clone()], all.0[outputs], "{isa} head {head}");
                assert_eq!(same.1[rows.clone()], all.1[rows], "{isa} head {head}");
            }
        }
    });
}

#[test]
fn dropout__drops_what_keeps_says__and_divides_the_rest_by_what_is_left() {
    each_grouped(|isa, s_q, inputs| {
        let inputs = with_identity_values(&inputs);
        let mask = Mask::causal(QueryPosition::BottomRight);
        let plain = config(isa).with_mask(mask);
        let (probs, plain_lse) = inputs.run(&plain).unwrap();
        for rate in [0.1f32, 0.5, 0.9] {
            let dropout = Dropout::new(rate, 77);
            let config = plain.with_dropout(dropout).with_parallelism(threads(3));
            let (dropped, log_sum_exp) = inputs.run(&config).unwrap();
            assert_eq!(bits(&log_sum_exp), bits(&plain_lse), "{isa} {rate}");
            for (at, (&x, &p)) in dropped.iter().zip(&probs).enumerate() {
                let (row, key) = (at / KEYS, at % KEYS);
                let position = (row % s_q) as i64 + KEYS as i64 - s_q as i64;
                let kept = dropout.keeps([row / (4 * s_q), row / s_q % 4], position, key);
                let expected = if kept { p / (1.0 - rate) } else { 0.0 };
                assert!(
                    (x - expected).abs() <= 1e-6 * expected,
                    "{isa} {rate} row {row} key {key}: {x} {expected}"
                );
            }
            let at = HeadBlock { batch: 1, head: 2, rows: 0..s_q, keys: 0..KEYS };
            let [mut with, mut without] = [vec![0.0; s_q * KEYS], vec![0.0; s_q * KEYS]];
            let (query, key) = (inputs.query.view(), inputs.key.view());
            attention_probs(query, key, &log_sum_exp, &at, &config, &mut with).unwrap();
            attention_probs(query, key, &log_sum_exp, &at, &plain, &mut without).unwrap();
            assert_eq!(bits(&with), bits(&without), "{isa}: probabilities on demand are undropped");
        }
    });
}

#[test]
fn dropout__rate_0__changes_no_bit() {
    each_grouped(|isa, _, inputs| {
        let plain = run_bits(&inputs, &config(isa));
        assert_eq!(run_bits(&inputs, &config(isa).with_dropout(Dropout::new(0.0, 5))), plain, "{isa}");
    });
}

#[test]
fn dropout__same_row_computed_in_another_call__drops_the_same() {
    each_grouped(|isa, s_q, inputs| {
        let inputs = with_identity_values(&inputs);
        let dropout = Dropout::new(0.4, 3);
        let whole = inputs.run(&config(isa).with_dropout(dropout)).unwrap();
        let dropped_of = |output: &[f32]| output.iter().map(|x| *x == 0.0).collect::<Vec<_>>();
        for (batch, head, i, first_key) in [(0, 0, 0, 0), (0, 3, 2, 13), (1, 2, s_q - 1, 0), (1, 1, 1, 39)] {
            let keys = KEYS - first_key;
            let sizes =
                common::Sizes { batch: 1, heads: 1, kv_heads: 1, s_q: 1, s_kv: keys, d: DIM, d_v: keys };
            let mut one = Inputs::<f32, f32>::plain(sizes, 0);
            for c in 0..DIM {
                let query = inputs.query.view().at([batch, head, i, c]);
                one.query.set([0, 0, 0, c], query);
                for j in 0..keys {
                    one.key.set([0, 0, j, c], inputs.key.view().at([batch, head / 2, first_key + j, c]));
                }
            }
            let one = with_identity_values(&one);
            let origin = DropoutOrigin { sequence: batch as u64, head: head as u64, key: first_key as i64 };
            let mask = Mask::default().with_position(QueryPosition::Offset(i as i64 - first_key as i64));
            let config = config(isa).with_mask(mask).with_dropout(dropout.with_origin(origin));
            let (alone, _) = one.run(&config).unwrap();
            let row = ((batch * 4 + head) * s_q + i) * KEYS;
            let expected = dropped_of(&whole.0[row + first_key..row + KEYS]);
            assert_eq!(dropped_of(&alone), expected, "{isa} {batch} {head} {i}");
            assert!(first_key == 39 || (expected.contains(&true) && expected.contains(&false)));
        }
    });
}

#[test]
fn softcap__huge__is_as_if_there_were_none_and_tiny__makes_all_probabilities_alike() {
    each(|isa, _, inputs| {
        let (plain, lse) = inputs.run(&config(isa)).unwrap();
        let (output, capped_lse) = inputs.run(&config(isa).with_softcap(1e6)).unwrap();
        assert_close(&output, &plain, 1e-5, "huge");
        assert_close(&capped_lse, &lse, 1e-5, "huge");
        let (_, lse) = inputs.run(&config(isa).with_softcap(1e-30)).unwrap();
        assert_close(&lse, &vec![(KEYS as f32).ln(); lse.len()], 1e-6, "tiny");
        for cap in [f32::MIN_POSITIVE, f32::MAX] {
            let (output, lse) = inputs.run(&config(isa).with_softcap(cap)).unwrap();
            assert!(output.iter().chain(&lse).all(|x| x.is_finite()), "{isa} cap {cap}");
        }
    });
}

#[test]
fn options__all_at_once_with_a_window_and_odd_sizes__meet_the_accuracy_rule() {
    each_grouped(|isa, s_q, inputs| {
        let (slopes, sinks, table) = ([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0], [0.5; 4 * 11]);
        let bias: Vec<f32> = (0..s_q * KEYS).map(|i| (i % 5) as f32).collect();
        let mask = Mask::window(window(9, 4), QueryPosition::BottomRight).with_key_lengths(&[37, 12]);
        let config =
            config(isa).with_mask(mask).with_softcap(1.5).with_alibi_slopes(&slopes).with_sinks(&sinks);
        let config =
            config.with_relative_bias(RelativeBias::new(&table, 4, 6)).with_dropout(Dropout::new(0.3, 2));
        inputs.check(&config.with_attention_bias(bias_view(&bias, s_q))).unwrap();
    });
}

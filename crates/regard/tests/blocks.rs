//! Attention in parts equals attention in one piece: keys split at random places and merged, sequences packed one
//! after the other; forward and backward, with every option.
#![allow(non_snake_case)]

mod common;

use common::gradients::{Cotangent, Found};
use common::options::Options;
use common::{Inputs, Memory, Sizes, Tensor, isas, normal, threads, window};
use fastrand::Rng;
use rayon::prelude::*;
use regard::{
    AttentionConfig, AttentionError, AttentionGradients, AttentionOutput, BackwardInputs, DropoutOrigin,
    Layout, Mask, PackedBatch, PackedLengths, Partial, QueryPosition, TensorView, TensorViewMut, Workspace,
    attention_backward, attention_packed, attention_packed_backward, attention_with, merge_partials,
};

const LAYOUT: Layout = Layout::BatchHeadSeqDim;

fn close(what: &str, found: &[f32], expected: &[f32]) {
    let size = expected.iter().fold(1.0f32, |a, b| a.max(b.abs()));
    for (i, (&a, &b)) in found.iter().zip(expected).enumerate() {
        assert!(a == b || (a - b).abs() <= 3e-6 * size, "{what}[{i}]: in parts {a}, whole {b}");
    }
}

/// Rows `first..first + len` of every head of a contiguous tensor.
fn rows(data: &[f32], shape: [usize; 4], first: usize, len: usize) -> TensorView<'_, f32> {
    let [b, h, s, d] = shape;
    let strides = [h * s * d, s * d, d, 1];
    let data = if len * b * h * d == 0 { &[] } else { &data[first * d..] };
    TensorView::with_strides(data, [b, h, len, d], strides).unwrap()
}

fn rows_mut(data: &mut [f32], shape: [usize; 4], first: usize, len: usize) -> TensorViewMut<'_, f32> {
    let [b, h, s, d] = shape;
    let strides = [h * s * d, s * d, d, 1];
    let data = if len * b * h * d == 0 { &mut [] } else { &mut data[first * d..] };
    TensorViewMut::with_strides(data, [b, h, len, d], strides).unwrap()
}

#[test]
fn blocks__keys_split_at_random_places__merge_to_the_whole_forward_and_backward() {
    (0..300u64).into_par_iter().for_each(|seed| {
        let mut rng = Rng::with_seed(seed);
        let (s_q, s_kv) = (rng.usize(1..60), rng.usize(0..400));
        let group = rng.usize(1..3);
        let sizes = Sizes { batch: 2, heads: 2 * group, kv_heads: 2, s_q, s_kv, d: 8, d_v: rng.usize(1..20) };
        let inputs = Inputs::<f32, f32>::new(sizes, [Memory::PLAIN; 4], 1.0, &mut rng);
        let cotangent = inputs.cotangent(rng.bool(), &Memory::PLAIN, &mut rng);
        let options = Options::random(sizes.heads, &mut rng);
        let mut mask = Mask { causal: rng.bool(), ..Mask::default() };
        mask.position = QueryPosition::Offset(rng.i64(-10..300));
        if rng.bool() {
            mask = mask.with_window(window(rng.usize(..100), rng.usize(..100)));
        }
        let config = options.apply(AttentionConfig::new().with_mask(mask));
        let isa = isas()[seed as usize % isas().len()];
        let config = config.with_isa(isa);
        let whole = inputs.run(&config).unwrap();
        let whole_gradients = inputs.gradients(&cotangent, &config, &mut Workspace::new()).unwrap();

        let mut cuts: Vec<usize> = (0..rng.usize(..4)).map(|_| rng.usize(..=s_kv)).collect();
        cuts.extend([0, s_kv]);
        cuts.sort_unstable();
        let (merged, merged_lse) = merged(&inputs, &config, &cuts);
        close(&format!("seed {seed} output"), &merged, &whole.0);
        close(&format!("seed {seed} log_sum_exp"), &merged_lse, &whole.1);
        let found = block_gradients(&inputs, &cotangent, &config, (&merged, &merged_lse), &cuts);
        for ((name, found), (_, whole)) in found.all().into_iter().zip(whole_gradients.all()) {
            if !name.starts_with("d_relative") && name != "d_sinks" {
                close(&format!("seed {seed} {name}"), found, whole);
            }
        }
    });
}

/// Forward over parts of the keys, each with an f32 output and without sinks, and the merge.
fn merged(inputs: &Inputs<f32, f32>, config: &AttentionConfig<'_>, cuts: &[usize]) -> (Vec<f32>, Vec<f32>) {
    let [b, h, s_q, _] = inputs.query.shape;
    let shape = [b, h, s_q, inputs.value.shape[3]];
    let (len, num_rows) = (shape.iter().product::<usize>(), b * h * s_q);
    let mut parts = vec![];
    for pair in cuts.windows(2) {
        let (mut output, mut lse) = (vec![f32::NAN; len], vec![f32::NAN; num_rows]);
        let target = AttentionOutput {
            output: TensorViewMut::new(&mut output, shape, LAYOUT).unwrap(),
            log_sum_exp: Some(&mut lse),
        };
        let mut config = config.for_block(0, pair[0]).unwrap();
        config.sinks = None;
        let key = rows(inputs.key.buffer.data(), inputs.key.shape, pair[0], pair[1] - pair[0]);
        let value = rows(inputs.value.buffer.data(), inputs.value.shape, pair[0], pair[1] - pair[0]);
        attention_with(inputs.query.view(), key, value, target, &config, &mut Workspace::new()).unwrap();
        parts.push((output, lse));
    }
    let partials: Vec<Partial<'_>> = parts
        .iter()
        .map(|(output, log_sum_exp)| Partial {
            output: TensorView::new(output, shape, LAYOUT).unwrap(),
            log_sum_exp,
        })
        .collect();
    let (mut output, mut lse) = (vec![f32::NAN; len], vec![f32::NAN; num_rows]);
    let target = AttentionOutput {
        output: TensorViewMut::new(&mut output, shape, LAYOUT).unwrap(),
        log_sum_exp: Some(&mut lse),
    };
    merge_partials(&partials, target, config.sinks).unwrap();
    (output, lse)
}

/// Backward over parts of the keys; d_query is summed over them.
fn block_gradients(
    inputs: &Inputs<f32, f32>,
    cotangent: &Cotangent<f32>,
    config: &AttentionConfig<'_>,
    (output, log_sum_exp): (&[f32], &[f32]),
    cuts: &[usize],
) -> Found {
    let [b, h, s_q, _] = inputs.query.shape;
    let shape = [b, h, s_q, inputs.value.shape[3]];
    let mut d_query = vec![0.0; inputs.query.numbers().len()];
    let mut d_key = vec![f32::NAN; inputs.key.numbers().len()];
    let mut d_value = vec![f32::NAN; inputs.value.numbers().len()];
    for pair in cuts.windows(2) {
        let (first, len) = (pair[0], pair[1] - pair[0]);
        let mut part = vec![f32::NAN; d_query.len()];
        let key = rows(inputs.key.buffer.data(), inputs.key.shape, first, len);
        let value = rows(inputs.value.buffer.data(), inputs.value.shape, first, len);
        let gradients = AttentionGradients::new(
            TensorViewMut::new(&mut part, inputs.query.shape, LAYOUT).unwrap(),
            rows_mut(&mut d_key, inputs.key.shape, first, len),
            rows_mut(&mut d_value, inputs.value.shape, first, len),
        );
        let backward = BackwardInputs {
            output: TensorView::new(output, shape, LAYOUT).unwrap(),
            log_sum_exp,
            d_output: cotangent.d_output.view(),
            d_log_sum_exp: cotangent.d_log_sum_exp.as_deref(),
        };
        let config = config.for_block(0, first).unwrap();
        attention_backward(
            inputs.query.view(),
            key,
            value,
            backward,
            gradients,
            &config,
            &mut Workspace::new(),
        )
        .unwrap();
        d_query.iter_mut().zip(&part).for_each(|(sum, part)| *sum += part);
    }
    Found { d_query, d_key, d_value, d_attention_bias: vec![], d_relative_bias: vec![], d_sinks: vec![] }
}

/// A packed batch equals its sequences alone, bit for bit, for any number of threads.
#[test]
fn packed__any_lengths__equal_their_sequences_alone_bit_for_bit() {
    (0..200u64).into_par_iter().for_each(|seed| {
        let mut rng = Rng::with_seed(seed);
        let group = rng.usize(1..3);
        let sizes = |s_q, s_kv| Sizes { batch: 1, heads: 2 * group, kv_heads: 2, s_q, s_kv, d: 8, d_v: 16 };
        let number = rng.usize(1..6);
        let same = rng.bool();
        let lens: Vec<[usize; 2]> = (0..number)
            .map(|_| {
                let s_q = [0, 1, 3, 9, 40, 130][rng.usize(..6)];
                [s_q, if same { s_q } else { rng.usize(..300) }]
            })
            .collect();
        let cumulative = |axis: usize| -> Vec<usize> {
            std::iter::once(0)
                .chain(lens.iter().scan(0, |sum, len| {
                    *sum += len[axis];
                    Some(*sum)
                }))
                .collect()
        };
        let (query_ends, key_ends) = (cumulative(0), cumulative(1));
        let (all_q, all_kv) = (query_ends[number], key_ends[number]);
        let (max_q, max_kv) =
            (lens.iter().map(|l| l[0]).max().unwrap(), lens.iter().map(|l| l[1]).max().unwrap());
        let inputs = Inputs::<f32, f32>::new(sizes(all_q, all_kv), [Memory::PLAIN; 4], 1.0, &mut rng);
        let cotangent = inputs.cotangent(rng.bool(), &Memory::PLAIN, &mut rng);
        let options = Options::random(2 * group, &mut rng);
        let offsets: Vec<i64> = (0..number).map(|_| rng.i64(-5..60)).collect();
        let position =
            [QueryPosition::TopLeft, QueryPosition::BottomRight, QueryPosition::OffsetPerSequence(&offsets)]
                [rng.usize(..3)];
        let bias_shape = [[1, number][rng.usize(..2)], [1, 2 * group][rng.usize(..2)], max_q, max_kv];
        let bias: Vec<f32> = (0..bias_shape.iter().product()).map(|_| normal(&mut rng)).collect();
        let keep: Vec<bool> = bias.iter().map(|_| rng.u8(..5) > 0).collect();
        let mut mask = Mask { causal: rng.bool(), position, ..Mask::default() };
        if rng.bool() {
            mask = mask.with_keep(TensorView::new(&keep, bias_shape, LAYOUT).unwrap());
        }
        let mut config = options.apply(AttentionConfig::new().with_mask(mask));
        let with_bias = rng.bool();
        if with_bias {
            config = config.with_attention_bias(TensorView::new(&bias, bias_shape, LAYOUT).unwrap());
        }
        let config = config.with_isa(isas()[seed as usize % isas().len()]);
        let shape = [1, 2 * group, all_q, 16];
        let batch = PackedBatch {
            query: inputs.query.view(),
            key: inputs.key.view(),
            value: inputs.value.view(),
            lengths: PackedLengths { query: &query_ends, key: &key_ends },
        };
        let run = |config: &AttentionConfig<'_>| {
            let mut output = Tensor::<f32>::unfilled(shape, &Memory::PLAIN);
            let mut lse = vec![f32::NAN; 2 * group * all_q];
            let mut workspace = Workspace::new();
            let target = AttentionOutput { output: output.view_mut(), log_sum_exp: Some(&mut lse) };
            attention_packed(batch, target, config, &mut workspace).unwrap();
            let mut gradients = [inputs.query.shape, inputs.key.shape, inputs.value.shape]
                .map(|shape| Tensor::<f32>::unfilled(shape, &Memory::PLAIN));
            let backward = BackwardInputs {
                output: output.view(),
                log_sum_exp: &lse,
                d_output: cotangent.d_output.view(),
                d_log_sum_exp: cotangent.d_log_sum_exp.as_deref(),
            };
            let (mut d_bias, mut d_sinks) = (vec![f32::NAN; bias.len()], vec![f32::NAN; 2 * group]);
            let mut d_relative = vec![f32::NAN; config.relative_bias.map_or(0, |bias| bias.table.len())];
            let [d_query, d_key, d_value] = &mut gradients;
            let mut targets =
                AttentionGradients::new(d_query.view_mut(), d_key.view_mut(), d_value.view_mut());
            targets.d_attention_bias =
                with_bias.then(|| TensorViewMut::new(&mut d_bias, bias_shape, LAYOUT).unwrap());
            targets.d_sinks = config.sinks.map(|_| &mut d_sinks[..]);
            targets.d_relative_bias = config.relative_bias.map(|_| &mut d_relative[..]);
            attention_packed_backward(batch, backward, targets, config, &mut workspace).unwrap();
            assert!(gradients.iter().all(Tensor::is_intact) && output.is_intact());
            (output, lse, gradients, d_bias, d_relative, d_sinks)
        };
        let (output, lse, gradients, d_bias, d_relative, d_sinks) = run(&config);
        for n in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            let again = pool.install(|| run(&config.with_parallelism(threads(n))));
            assert_eq!(bits(&again.0.numbers()), bits(&output.numbers()), "seed {seed}, {n} threads");
            for (a, b) in again.2.iter().zip(&gradients) {
                assert_eq!(bits(&a.numbers()), bits(&b.numbers()), "seed {seed}, {n} threads");
            }
            assert_eq!(
                (bits(&again.3), bits(&again.4), bits(&again.5)),
                (bits(&d_bias), bits(&d_relative), bits(&d_sinks))
            );
        }

        let (mut bias_sum, mut relative_sum, mut sinks_sum) =
            (vec![0.0; bias.len()], vec![0.0; d_relative.len()], vec![0.0; 2 * group]);
        for (i, &[s_q, s_kv]) in lens.iter().enumerate() {
            // The sequence alone, with its own part of every option.
            let copy = |from: &Tensor<f32>, first: usize, len: usize| {
                let view = rows(from.buffer.data(), from.shape, first, len);
                let [b, h, s, d] = view.shape();
                let mut numbers = (0..b * h * s * d).map(|n| view.at([0, n / (s * d), n / d % s, n % d]));
                Tensor::<f32>::new(view.shape(), &Memory::PLAIN, || numbers.next().unwrap())
            };
            let (q, k) = (query_ends[i], key_ends[i]);
            let alone = Inputs {
                query: copy(&inputs.query, q, s_q),
                key: copy(&inputs.key, k, s_kv),
                value: copy(&inputs.value, k, s_kv),
                output_memory: Memory::PLAIN,
            };
            let cotangent = Cotangent {
                d_output: copy(&cotangent.d_output, q, s_q),
                d_log_sum_exp: cotangent.d_log_sum_exp.as_ref().map(|numbers| {
                    numbers.chunks(all_q.max(1)).flat_map(|head| head[q..q + s_q].to_vec()).collect()
                }),
            };
            let strides = [bias_shape[1] * max_q * max_kv, max_q * max_kv, max_kv, 1];
            let at = if bias_shape[0] == 1 { 0 } else { i * strides[0] };
            let own = [1, bias_shape[1], s_q, s_kv];
            let empty = own.contains(&0);
            let mut config = config;
            config.mask.keep = config.mask.keep.map(|_| {
                TensorView::with_strides(if empty { &[] } else { &keep[at..] }, own, strides).unwrap()
            });
            config.attention_bias = config.attention_bias.map(|_| {
                TensorView::with_strides(if empty { &[] } else { &bias[at..] }, own, strides).unwrap()
            });
            if let QueryPosition::OffsetPerSequence(_) = config.mask.position {
                config.mask.position = QueryPosition::Offset(offsets[i]);
            }
            config.dropout = config
                .dropout
                .map(|d| d.with_origin(DropoutOrigin { sequence: i as u64, ..DropoutOrigin::default() }));
            let found = alone.run(&config).unwrap();
            let expected = copy(&output, q, s_q).numbers();
            assert_eq!(bits(&found.0), bits(&expected), "seed {seed}, sequence {i} of {lens:?}");
            let expected: Vec<f32> =
                lse.chunks(all_q.max(1)).flat_map(|head| head[q..q + s_q].to_vec()).collect();
            assert_eq!(bits(&found.1), bits(&expected), "seed {seed}, sequence {i} of {lens:?}");
            let found = alone.gradients(&cotangent, &config, &mut Workspace::new()).unwrap();
            for (whole, found, first, len) in [
                (&gradients[0], &found.d_query, q, s_q),
                (&gradients[1], &found.d_key, k, s_kv),
                (&gradients[2], &found.d_value, k, s_kv),
            ] {
                let expected = copy(whole, first, len).numbers();
                assert_eq!(bits(found), bits(&expected), "seed {seed}, sequence {i} of {lens:?}");
            }
            for (n, &number) in found.d_attention_bias.iter().enumerate() {
                let [_, _, r, c] = own;
                bias_sum[at + n / (r * c) * strides[1] + n / c % r * max_kv + n % c] += number;
            }
            relative_sum.iter_mut().zip(&found.d_relative_bias).for_each(|(sum, number)| *sum += number);
            sinks_sum.iter_mut().zip(&found.d_sinks).for_each(|(sum, number)| *sum += number);
        }
        if with_bias {
            close(&format!("seed {seed} d_attention_bias"), &d_bias, &bias_sum);
        }
        close(&format!("seed {seed} d_relative_bias"), &d_relative, &relative_sum);
        if config.sinks.is_some() {
            close(&format!("seed {seed} d_sinks"), &d_sinks, &sinks_sum);
        }
    });
}

/// Bits with all NaN alike.
fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

#[test]
fn packed__lengths_that_do_not_fit__are_typed_errors() {
    let data = vec![1.0f32; 6 * 2];
    let view = TensorView::new(&data, [1, 1, 6, 2], LAYOUT).unwrap();
    let run = |query: &[usize], key: &[usize], config: &AttentionConfig<'_>| {
        let mut output = vec![7.0f32; 12];
        let lengths = PackedLengths { query, key };
        let batch = PackedBatch { query: view, key: view, value: view, lengths };
        let target = TensorViewMut::new(&mut output, [1, 1, 6, 2], LAYOUT).unwrap();
        let target = AttentionOutput { output: target, log_sum_exp: None };
        let result = attention_packed(batch, target, config, &mut Workspace::new());
        assert!(result.is_ok() || output.iter().all(|&x| x == 7.0), "wrote before an error");
        result
    };
    let plain = AttentionConfig::new();
    let wrong = |what, index, found| Err(AttentionError::CumulativeLengths { what, index, found, rows: 6 });
    assert_eq!(run(&[0, 2, 6], &[0, 3, 6], &plain), Ok(()));
    assert_eq!(run(&[], &[], &plain), wrong("lengths.query", 0, 0));
    assert_eq!(run(&[1, 6], &[0, 6], &plain), wrong("lengths.query", 0, 1));
    assert_eq!(run(&[0, 4, 3, 6], &[0, 1, 2, 6], &plain), wrong("lengths.query", 2, 3));
    assert_eq!(run(&[0, 5], &[0, 6], &plain), wrong("lengths.query", 1, 5));
    assert_eq!(run(&[0, 6], &[0, 7], &plain), wrong("lengths.key", 1, 7));
    assert_eq!(run(&[0, usize::MAX], &[0, 6], &plain), wrong("lengths.query", 1, usize::MAX));
    assert!(matches!(run(&[0, 6], &[0, 3, 6], &plain), Err(AttentionError::ShapeMismatch { .. })));
    let lengths = [6];
    let padded = plain.with_mask(Mask::default().with_key_lengths(&lengths));
    assert!(matches!(run(&[0, 6], &[0, 6], &padded), Err(AttentionError::ConflictingOption { .. })));
}

#[test]
fn merge__parts_without_allowed_keys_or_with_nan__are_safe() {
    let shape = [1, 1, 1, 2];
    let part = |output: &'static [f32; 2], lse: &'static [f32; 1]| Partial {
        output: TensorView::new(output, shape, LAYOUT).unwrap(),
        log_sum_exp: lse,
    };
    let merge = |parts: &[Partial<'_>], sinks: Option<&[f32]>| {
        let (mut output, mut lse) = ([7.0f32; 2], [7.0f32; 1]);
        let target = AttentionOutput {
            output: TensorViewMut::new(&mut output, shape, LAYOUT).unwrap(),
            log_sum_exp: Some(&mut lse),
        };
        merge_partials(parts, target, sinks).unwrap();
        (output, lse[0])
    };
    let nothing = part(&[f32::NAN, f32::INFINITY], &[f32::NEG_INFINITY]);
    let some = part(&[3.0, -1.0], &[2.5]);
    assert_eq!(merge(&[], None), ([0.0, 0.0], f32::NEG_INFINITY));
    assert_eq!(merge(&[nothing, nothing], None), ([0.0, 0.0], f32::NEG_INFINITY));
    assert_eq!(merge(&[nothing, nothing], Some(&[1.0])), ([0.0, 0.0], f32::NEG_INFINITY));
    assert_eq!(merge(&[nothing, some], None), ([3.0, -1.0], 2.5));
    assert_eq!(merge(&[some, nothing], Some(&[f32::NEG_INFINITY])), ([3.0, -1.0], 2.5));
    let (halved, lse) = merge(&[some], Some(&[2.5]));
    assert_eq!((halved, lse), ([1.5, -0.5], 2.5), "a sink as heavy as all keys takes half");
    let (output, lse) = merge(&[some, part(&[1.0, 1.0], &[f32::NAN])], None);
    assert!(lse.is_nan() && output.iter().all(|x| x.is_nan()));
    let far = merge(&[part(&[1.0, 0.0], &[-3e38]), part(&[0.0, 1.0], &[3e38])], None);
    assert_eq!(far, ([0.0, 1.0], 3e38));
}

#[test]
fn for_block__whole_without_one_offset__is_refused() {
    let config = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::BottomRight));
    assert_eq!(config.for_block(0, 5).unwrap_err(), AttentionError::BlockPosition);
    let config = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::Offset(i64::MIN)));
    assert_eq!(config.for_block(0, 5).unwrap_err(), AttentionError::BlockPosition);
    assert_eq!(AttentionConfig::new().for_block(usize::MAX, 0).unwrap_err(), AttentionError::BlockPosition);
    let config = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::TopLeft));
    assert_eq!(config.for_block(7, 5).unwrap().mask.position, QueryPosition::Offset(2));
}

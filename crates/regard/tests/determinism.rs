//! One result, whatever the threads, the neighbours, the memory and the place in a batch.
#![allow(non_snake_case)]

mod common;

use common::gradients::Cotangent;
use common::options::Options;
use common::{Inputs, Memory, Sizes, Tensor, isas, threads, window};
use fastrand::Rng;
use regard::{AttentionConfig, Isa, Layout, Mask, Parallelism, QueryPosition, TensorView, Workspace};

/// Shapes that take every path: tiles, row dots, key splits, several waves.
const SHAPES: [Sizes; 8] = [
    Sizes { batch: 1, heads: 3, kv_heads: 3, s_q: 150, s_kv: 150, d: 64, d_v: 64 },
    Sizes { batch: 2, heads: 4, kv_heads: 2, s_q: 61, s_kv: 200, d: 40, d_v: 24 },
    Sizes { batch: 1, heads: 1, kv_heads: 1, s_q: 1, s_kv: 5000, d: 128, d_v: 128 },
    Sizes { batch: 1, heads: 8, kv_heads: 2, s_q: 1, s_kv: 3000, d: 64, d_v: 64 },
    Sizes { batch: 1, heads: 2, kv_heads: 2, s_q: 97, s_kv: 4200, d: 16, d_v: 8 },
    Sizes { batch: 2, heads: 2, kv_heads: 1, s_q: 3, s_kv: 33, d: 7, d_v: 5 },
    Sizes { batch: 3, heads: 6, kv_heads: 6, s_q: 129, s_kv: 400, d: 32, d_v: 32 },
    Sizes { batch: 1, heads: 16, kv_heads: 16, s_q: 20, s_kv: 2100, d: 64, d_v: 64 },
];

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// The shapes above and random ones, 40 in all; every second one with options.
fn forty_shapes() -> impl Iterator<Item = (u64, Sizes)> {
    let random = |seed: u64| {
        let mut rng = Rng::with_seed(seed);
        let kv_heads = rng.usize(1..4);
        let dims = [8, 16, 24, 33, 64];
        Sizes {
            batch: rng.usize(1..3),
            heads: kv_heads * rng.usize(1..4),
            kv_heads,
            s_q: rng.usize(1..200),
            s_kv: rng.usize(100..1200),
            d: dims[rng.usize(..5)],
            d_v: dims[rng.usize(..5)],
        }
    };
    (0..40).map(move |n| (n, SHAPES.get(n as usize).copied().unwrap_or_else(|| random(n))))
}

/// `REGARD_REPEATS` sets the number of repeats (1 unless set; CI runs 20).
#[test]
fn forward_and_backward__1_2_3_4_7_threads_and_repeats__give_the_same_bits() {
    let repeats: usize = std::env::var("REGARD_REPEATS").map_or(1, |n| n.parse().unwrap());
    let pools = [1, 2, 3, 4, 7].map(|n| (n, rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap()));
    for (seed, sizes) in forty_shapes() {
        let mut rng = Rng::with_seed(seed);
        let inputs = Inputs::<f32, f32>::plain(sizes, seed);
        let cotangent = inputs.cotangent(true, &Memory::PLAIN, &mut rng);
        let options = if seed % 2 == 0 { Options::default() } else { Options::random(sizes.heads, &mut rng) };
        let mask = match seed % 3 {
            0 => Mask::default(),
            1 => Mask::causal(QueryPosition::BottomRight),
            _ => Mask::causal(QueryPosition::BottomRight).with_window(window(500, 9)),
        };
        for isa in isas() {
            let config = options.apply(AttentionConfig::new().with_isa(isa).with_mask(mask));
            let run = |config: &AttentionConfig<'_>, workspace: &mut Workspace| {
                let (output, lse) = inputs.run_in(config, workspace).unwrap();
                let gradients = inputs.gradients(&cotangent, config, workspace).unwrap();
                (bits(&output), bits(&lse), gradients.bits())
            };
            let alone = run(&config.with_parallelism(Parallelism::Sequential), &mut Workspace::new());
            for (n, pool) in &pools {
                let mut workspace = Workspace::new();
                for _ in 0..repeats {
                    let config = config.with_parallelism(threads(*n));
                    let found = pool.install(|| run(&config, &mut workspace));
                    assert_eq!(found.0, alone.0, "output on {isa}, {n} threads, {sizes:?}");
                    assert_eq!(found.1, alone.1, "log_sum_exp on {isa}, {n} threads, {sizes:?}");
                    assert_eq!(found.2, alone.2, "gradients on {isa}, {n} threads, {sizes:?}");
                }
            }
        }
    }
    println!(
        "COUNT: 40 shapes, 1, 2, 3, 4 and 7 threads, {repeats} repeats, forward and backward on {:?}",
        isas()
    );
}

#[test]
fn backward__batch_and_head_neighbours_memory_and_padding__change_no_bit() {
    for (seed, sizes) in forty_shapes().step_by(3) {
        let mut rng = Rng::with_seed(seed);
        let inputs = Inputs::<f32, f32>::plain(sizes, seed);
        let cotangent = inputs.cotangent(true, &Memory::PLAIN, &mut rng);
        let isa = isas()[seed as usize % isas().len()];
        let config = AttentionConfig::new().with_isa(isa).with_mask(Mask::causal(QueryPosition::BottomRight));
        let together = inputs.gradients(&cotangent, &config, &mut Workspace::new()).unwrap();

        // The same tensors elsewhere in memory, with gaps and other strides.
        let moved = |plain: &Tensor<f32>, rng: &mut Rng| {
            let mut numbers = plain.numbers().into_iter();
            Tensor::new(plain.shape, &Memory::random(rng), || numbers.next().unwrap())
        };
        let elsewhere = Inputs {
            query: moved(&inputs.query, &mut rng),
            key: moved(&inputs.key, &mut rng),
            value: moved(&inputs.value, &mut rng),
            output_memory: Memory::random(&mut rng),
        };
        let mut cotangent_elsewhere = cotangent.clone();
        cotangent_elsewhere.d_output = moved(&cotangent.d_output, &mut rng);
        let found = elsewhere.gradients(&cotangent_elsewhere, &config, &mut Workspace::new()).unwrap();
        assert_eq!(found.bits(), together.bits(), "{isa} {sizes:?}: memory");

        // Each key head alone.
        let group = sizes.heads / sizes.kv_heads;
        for (b, kv) in (0..sizes.batch).flat_map(|b| (0..sizes.kv_heads).map(move |kv| (b, kv))) {
            let part = |from: &Tensor<f32>, heads: usize, first: usize| {
                let [_, all, s, d] = from.shape;
                let start = (b * all + first) * s * d;
                let mut numbers = from.numbers()[start..start + heads * s * d].to_vec().into_iter();
                Tensor::<f32>::new([1, heads, s, d], &Memory::PLAIN, || numbers.next().unwrap())
            };
            let alone = Inputs {
                query: part(&inputs.query, group, kv * group),
                key: part(&inputs.key, 1, kv),
                value: part(&inputs.value, 1, kv),
                output_memory: Memory::PLAIN,
            };
            let rows =
                (b * sizes.heads + kv * group) * sizes.s_q..(b * sizes.heads + (kv + 1) * group) * sizes.s_q;
            let own = Cotangent {
                d_output: part(&cotangent.d_output, group, kv * group),
                d_log_sum_exp: cotangent.d_log_sum_exp.as_ref().map(|all| all[rows.clone()].to_vec()),
            };
            let found = alone.gradients(&own, &config, &mut Workspace::new()).unwrap();
            let keys = (b * sizes.kv_heads + kv) * sizes.s_kv..(b * sizes.kv_heads + kv + 1) * sizes.s_kv;
            let (d, d_v) = (sizes.d, sizes.d_v);
            for (found, all, range) in [
                (&found.d_query, &together.d_query, rows.start * d..rows.end * d),
                (&found.d_key, &together.d_key, keys.start * d..keys.end * d),
                (&found.d_value, &together.d_value, keys.start * d_v..keys.end * d_v),
            ] {
                assert_eq!(bits(found), bits(&all[range]), "{isa} {sizes:?}: batch {b}, kv head {kv}");
            }
        }

        // Keys that are padding: NaN in them, and gradient 0 for them.
        let extra = 700;
        let pad = |plain: &Tensor<f32>| {
            let [b, h, s, d] = plain.shape;
            let mut padded = Tensor::<f32>::new([b, h, s + extra, d], &Memory::PLAIN, || f32::NAN);
            for (i, number) in plain.numbers().into_iter().enumerate() {
                padded.set([i / (h * s * d), i / (s * d) % h, i / d % s, i % d], number);
            }
            padded
        };
        let padded = Inputs { key: pad(&inputs.key), value: pad(&inputs.value), ..inputs.clone() };
        let lengths = [sizes.s_kv];
        let mask = Mask::causal(QueryPosition::BottomRight).with_key_lengths(&lengths);
        let found = padded.gradients(&cotangent, &config.with_mask(mask), &mut Workspace::new()).unwrap();
        assert_eq!(bits(&found.d_query), bits(&together.d_query), "{isa} {sizes:?}: padding");
        for (found, all, dim) in
            [(&found.d_key, &together.d_key, sizes.d), (&found.d_value, &together.d_value, sizes.d_v)]
        {
            let heads = found.chunks((sizes.s_kv + extra) * dim).zip(all.chunks(sizes.s_kv * dim));
            for (found, all) in heads {
                assert_eq!(bits(&found[..sizes.s_kv * dim]), bits(all), "{isa} {sizes:?}: padding");
                assert!(
                    found[sizes.s_kv * dim..].iter().all(|x| x.to_bits() == 0),
                    "{isa} {sizes:?}: padding"
                );
            }
        }
    }
}

#[test]
fn forward__batch_and_head_neighbours__change_no_bit() {
    for sizes in SHAPES {
        let inputs = Inputs::<f32, f32>::plain(sizes, 2);
        let (s_q, d_v) = (sizes.s_q, sizes.d_v);
        for isa in isas() {
            let config =
                AttentionConfig::new().with_isa(isa).with_mask(Mask::causal(QueryPosition::BottomRight));
            let (together, together_lse) = inputs.run(&config).unwrap();
            let group = sizes.heads / sizes.kv_heads;
            for (b, kv) in (0..sizes.batch).flat_map(|b| (0..sizes.kv_heads).map(move |kv| (b, kv))) {
                let one = Sizes { batch: 1, heads: group, kv_heads: 1, ..sizes };
                let mut alone = Inputs::<f32, f32>::plain(one, 0);
                let copy = |from: &Tensor<f32>, heads: usize, first: usize| {
                    let len = heads * from.shape[2] * from.shape[3];
                    let start = (b * from.shape[1] + first) * from.shape[2] * from.shape[3];
                    from.numbers()[start..start + len].to_vec()
                };
                for (to, from, heads, first) in [
                    (&mut alone.query, &inputs.query, group, kv * group),
                    (&mut alone.key, &inputs.key, 1, kv),
                    (&mut alone.value, &inputs.value, 1, kv),
                ] {
                    to.buffer.data_mut().copy_from_slice(&copy(from, heads, first));
                }
                let (found, found_lse) = alone.run(&config).unwrap();
                let rows = (b * sizes.heads + kv * group) * s_q..(b * sizes.heads + (kv + 1) * group) * s_q;
                let expected = &together[rows.start * d_v..rows.end * d_v];
                assert_eq!(bits(&found), bits(expected), "{isa} {sizes:?} batch {b} kv head {kv}");
                assert_eq!(bits(&found_lse), bits(&together_lse[rows]), "{isa} {sizes:?}");
            }
        }
    }
}

#[test]
fn forward__padding_strides_and_alignment__change_no_bit() {
    for sizes in SHAPES {
        let plain = Inputs::<f32, f32>::plain(sizes, 3);
        let mut rng = Rng::with_seed(3);
        for isa in isas() {
            let config =
                AttentionConfig::new().with_isa(isa).with_mask(Mask::causal(QueryPosition::BottomRight));
            let expected = plain.run(&config).unwrap();
            for _ in 0..4 {
                let mut moved = plain.clone();
                for (moved, plain) in [
                    (&mut moved.query, &plain.query),
                    (&mut moved.key, &plain.key),
                    (&mut moved.value, &plain.value),
                ] {
                    let mut numbers = plain.numbers().into_iter();
                    *moved = Tensor::new(plain.shape, &Memory::random(&mut rng), || numbers.next().unwrap());
                }
                moved.output_memory = Memory::random(&mut rng);
                let found = moved.run(&config).unwrap();
                assert_eq!(bits(&found.0), bits(&expected.0), "{isa} {sizes:?}");
                assert_eq!(bits(&found.1), bits(&expected.1), "{isa} {sizes:?}");
            }
            // More keys after each sequence's own length.
            let padded_keys = sizes.s_kv + 1500;
            let mut padded = plain.clone();
            for (padded, plain) in [(&mut padded.key, &plain.key), (&mut padded.value, &plain.value)] {
                let [b, h, s, d] = plain.shape;
                *padded = Tensor::new([b, h, padded_keys, d], &Memory::PLAIN, || f32::NAN);
                for (i, number) in plain.numbers().into_iter().enumerate() {
                    padded.set([i / (h * s * d), i / (s * d) % h, i / d % s, i % d], number);
                }
            }
            let lengths = [sizes.s_kv];
            let mask = Mask::causal(QueryPosition::BottomRight).with_key_lengths(&lengths);
            let found = padded.run(&config.with_mask(mask)).unwrap();
            assert_eq!(bits(&found.0), bits(&expected.0), "{isa} {sizes:?}, padded");
            assert_eq!(bits(&found.1), bits(&expected.1), "{isa} {sizes:?}, padded");
        }
    }
}

#[test]
fn forward__other_layout__changes_no_bit() {
    let (h, s, d) = (3, 50, 16);
    let mut rng = Rng::with_seed(9);
    let data: Vec<f32> = (0..h * s * d).map(|_| rng.f32()).collect();
    let mut swapped = vec![0.0; data.len()];
    for (i, &number) in data.iter().enumerate() {
        let (head, row, c) = (i / (s * d), i / d % s, i % d);
        swapped[(row * h + head) * d + c] = number;
    }
    for isa in isas() {
        let run = |data: &[f32], layout: Layout| {
            let view = TensorView::new(data, [1, h, s, d], layout).unwrap();
            let mut output = vec![0.0; data.len()];
            let target =
                regard::TensorViewMut::new(&mut output, [1, h, s, d], Layout::BatchHeadSeqDim).unwrap();
            regard::attention(view, view, view, target, &AttentionConfig::new().with_isa(isa)).unwrap();
            bits(&output)
        };
        assert_eq!(run(&data, Layout::BatchHeadSeqDim), run(&swapped, Layout::BatchSeqHeadDim), "{isa}");
    }
}

#[test]
fn isa__forced_by_configuration__is_used_or_refused() {
    let inputs = Inputs::<f32, f32>::plain(SHAPES[5], 4);
    for isa in [Isa::Scalar, Isa::Neon, Isa::Avx2, Isa::Avx512] {
        let result = inputs.run(&AttentionConfig::new().with_isa(isa));
        match result {
            Ok(_) => assert!(isa.is_available()),
            Err(error) => {
                assert!(!isa.is_available());
                assert!(matches!(error, regard::AttentionError::UnavailableIsa { .. }), "{error}");
            }
        }
    }
    assert!("avx3".parse::<Isa>().is_err());
    assert_eq!("scalar".parse::<Isa>(), Ok(Isa::Scalar));
}

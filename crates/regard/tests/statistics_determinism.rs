//! One answer, whatever the threads, the neighbours, the memory and the padding.
#![allow(non_snake_case)]

mod common;

use common::options::Options;
use common::statistics::{Wanted, statistics_bits};
use common::{Inputs, Memory, Sizes, Tensor, isas, threads, window};
use fastrand::Rng;
use regard::{AttentionConfig, Mask, Parallelism, QueryPosition, Workspace};

/// Shapes that take every path: tiles in waves and by whole heads, row dots, split keys, several blocks of a thumbnail.
const SHAPES: [Sizes; 7] = [
    Sizes { batch: 1, heads: 3, kv_heads: 3, s_q: 150, s_kv: 150, d: 64, d_v: 64 },
    Sizes { batch: 2, heads: 4, kv_heads: 2, s_q: 61, s_kv: 200, d: 40, d_v: 24 },
    Sizes { batch: 1, heads: 8, kv_heads: 2, s_q: 1, s_kv: 3000, d: 64, d_v: 64 },
    Sizes { batch: 1, heads: 2, kv_heads: 2, s_q: 97, s_kv: 4200, d: 16, d_v: 8 },
    Sizes { batch: 2, heads: 2, kv_heads: 1, s_q: 3, s_kv: 33, d: 7, d_v: 5 },
    Sizes { batch: 3, heads: 6, kv_heads: 6, s_q: 129, s_kv: 400, d: 32, d_v: 32 },
    Sizes { batch: 1, heads: 1, kv_heads: 1, s_q: 700, s_kv: 700, d: 8, d_v: 8 },
];

#[test]
fn statistics__1_2_3_4_7_threads_and_repeats__give_the_same_bits() {
    let repeats: usize = std::env::var("REGARD_REPEATS").map_or(1, |n| n.parse().unwrap());
    let pools = [1, 2, 3, 4, 7].map(|n| (n, rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap()));
    for (seed, sizes) in (0..).zip(SHAPES) {
        let mut rng = Rng::with_seed(seed);
        let inputs = Inputs::<f32, f32>::plain(sizes, seed);
        let wanted = Wanted::for_sizes(sizes, seed);
        let options = Options::random(sizes.heads, &mut rng);
        let masks = [
            Mask::default(),
            Mask::causal(QueryPosition::BottomRight),
            Mask::causal(QueryPosition::BottomRight).with_window(window(500, 9)),
        ];
        for (isa, mask) in isas().into_iter().flat_map(|isa| masks.map(|mask| (isa, mask))) {
            for config in [AttentionConfig::new(), options.apply(AttentionConfig::new())] {
                let config = config.with_isa(isa).with_mask(mask);
                let run = |config: &AttentionConfig<'_>, workspace: &mut Workspace| {
                    let found = inputs.run_statistics(&wanted.request(), config, workspace).unwrap();
                    (found.0.numbers(), statistics_bits(&found.1))
                };
                let alone = run(&config.with_parallelism(Parallelism::Sequential), &mut Workspace::new());
                for (n, pool) in &pools {
                    let mut workspace = Workspace::new();
                    for _ in 0..repeats {
                        let config = config.with_parallelism(threads(*n));
                        let found = pool.install(|| run(&config, &mut workspace));
                        assert!(found == alone, "{isa}, {n} threads, {sizes:?} {mask:?}");
                    }
                }
            }
        }
    }
    println!("COUNT: {} shapes, 1, 2, 3, 4 and 7 threads, {repeats} repeats on {:?}", SHAPES.len(), isas());
}

#[test]
fn statistics__batch_and_head_neighbours_memory_and_padding__change_no_bit() {
    for (seed, sizes) in (0..).zip(SHAPES) {
        let mut rng = Rng::with_seed(seed);
        let inputs = Inputs::<f32, f32>::plain(sizes, seed);
        let wanted = Wanted::for_sizes(sizes, seed);
        for isa in isas() {
            let config =
                AttentionConfig::new().with_isa(isa).with_mask(Mask::causal(QueryPosition::BottomRight));
            let together = statistics_bits(&inputs.statistics(&wanted.request(), &config));

            // The same tensors elsewhere in memory, with gaps and other strides.
            let mut moved = |plain: &Tensor<f32>| {
                let mut numbers = plain.numbers().into_iter();
                Tensor::new(plain.shape, &Memory::random(&mut rng), || numbers.next().unwrap())
            };
            let elsewhere = Inputs { query: moved(&inputs.query), key: moved(&inputs.key), ..inputs.clone() };
            let found = statistics_bits(&elsewhere.statistics(&wanted.request(), &config));
            assert!(found == together, "{isa} {sizes:?}: memory");

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
                let keys = b * sizes.s_kv..(b + 1) * sizes.s_kv;
                let own = Wanted {
                    members: wanted.members[keys.clone()].to_vec(),
                    token_ids: wanted.token_ids[keys].to_vec(),
                    ..wanted.clone()
                };
                let found = statistics_bits(&alone.statistics(&own.request(), &config));
                for (array, (found, all)) in found.iter().zip(&together).enumerate() {
                    let first = b * sizes.heads + kv * group;
                    let len = all.len() / (sizes.batch * sizes.heads);
                    let expected = &all[first * len..(first + group) * len];
                    assert!(found == expected, "{isa} {sizes:?}: array {array}, batch {b}, kv head {kv}");
                }
            }

            // Keys that are padding: NaN in them, of any token and set, and nothing for them.
            let extra = 700;
            let [b, h, s, d] = inputs.key.shape;
            let mut key = Tensor::<f32>::new([b, h, s + extra, d], &Memory::PLAIN, || f32::NAN);
            for (i, number) in inputs.key.numbers().into_iter().enumerate() {
                key.set([i / (h * s * d), i / (s * d) % h, i / d % s, i % d], number);
            }
            let pad = |numbers: &[u32]| -> Vec<u32> {
                let rows = numbers.chunks(s).map(|row| [row, &vec![1; extra]].concat());
                rows.flatten().collect()
            };
            let padded =
                Wanted { members: pad(&wanted.members), token_ids: pad(&wanted.token_ids), ..wanted.clone() };
            let lengths = [s];
            let mask = Mask::causal(QueryPosition::BottomRight).with_key_lengths(&lengths);
            let inputs = Inputs { key, ..inputs.clone() };
            let mut found = inputs.statistics(&padded.request(), &config.with_mask(mask));
            assert!(found.received.chunks(s + extra).all(|keys| keys[s..].iter().all(|x| x.to_bits() == 0)));
            assert!(found.visible_queries.chunks(s + extra).all(|keys| keys[s..] == [0; 700]));
            found.received = found.received.chunks(s + extra).flat_map(|keys| keys[..s].to_vec()).collect();
            found.visible_queries =
                found.visible_queries.chunks(s + extra).flat_map(|keys| keys[..s].to_vec()).collect();
            assert!(statistics_bits(&found) == together, "{isa} {sizes:?}: padding");
        }
    }
}

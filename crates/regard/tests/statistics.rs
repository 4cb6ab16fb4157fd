//! What each head attends to: every number against its definition, on every path and with every option.
#![allow(non_snake_case)]

mod common;

use common::cases::{Case, setting};
use common::statistics::Wanted;
use common::{Inputs, Sizes, TestElement, grid_masks};
use fastrand::Rng;
use regard::{AttentionConfig, Mask, QueryPosition, bf16, f16};

/// Around vectors, strips, blocks of rows and blocks of keys.
const LENGTHS: [usize; 13] = [0, 1, 2, 7, 8, 9, 17, 31, 95, 97, 127, 129, 131];

#[test]
fn statistics__awkward_lengths__agree_with_the_reference() {
    let (mut cases, mut worst) = (0, 0.0f64);
    for (s_q, s_kv) in LENGTHS.into_iter().flat_map(|s_q| LENGTHS.map(|s_kv| (s_q, s_kv))) {
        let sizes = Sizes { batch: 1, heads: 2, kv_heads: 1, s_q, s_kv, d: 5, d_v: 3 };
        let inputs = Inputs::<f32, f32>::plain(sizes, cases);
        for (name, mask) in grid_masks() {
            cases += 1;
            let wanted = Wanted::for_sizes(sizes, cases);
            let share = inputs.check_statistics(&wanted, &AttentionConfig::new().with_mask(mask));
            worst = worst.max(share.unwrap_or_else(|e| panic!("{s_q} × {s_kv}, {name}: {e}\n{wanted:?}")));
        }
    }
    println!("COUNT: {cases} cases, worst {:.0} % of the allowed error", 100.0 * worst);
}

fn random<Q: TestElement, KV: TestElement>(seed: u64) -> f64 {
    let mut rng = Rng::with_seed(seed);
    let case = Case::<Q, KV>::random(&mut rng);
    let [batch, _, s_kv, _] = case.inputs.key.shape;
    let wanted = Wanted::all([batch, s_kv], &mut rng);
    let share = case.with_config(|config| case.inputs.check_statistics(&wanted, config));
    share.unwrap_or_else(|e| panic!("seed {seed}: {e}\n{}\n{wanted:?}", case.description()))
}

/// `REGARD_RANDOM_CASES` sets the number of cases, `REGARD_RANDOM_SEED` the first.
#[test]
fn statistics__random_cases_with_every_option__agree_with_the_reference() {
    let (count, first) = (setting("REGARD_RANDOM_CASES", 400), setting("REGARD_RANDOM_SEED", 0u64));
    let mut worst = 0.0f64;
    for seed in first..first + count {
        worst = worst.max(match seed % 4 {
            0 | 1 => random::<f32, f32>(seed),
            2 => random::<f16, f16>(seed),
            _ => random::<f32, bf16>(seed),
        });
    }
    println!("COUNT: {count} cases, worst {:.0} % of the allowed error", 100.0 * worst);
}

#[test]
fn statistics__keys_that_are_split_and_merged__agree_with_the_reference() {
    let sizes = |heads, kv_heads, s_q, s_kv, d| Sizes { batch: 1, heads, kv_heads, s_q, s_kv, d, d_v: 8 };
    for (seed, sizes) in [
        sizes(8, 2, 1, 3000, 16),
        sizes(1, 1, 3, 5000, 24),
        sizes(2, 2, 97, 4200, 16),
        sizes(4, 1, 40, 2100, 8),
        sizes(1, 1, 700, 2050, 8),
    ]
    .into_iter()
    .enumerate()
    {
        let inputs = Inputs::<f32, f32>::plain(sizes, seed as u64);
        let wanted = Wanted::for_sizes(sizes, seed as u64);
        let lengths = [sizes.s_kv - 100];
        for mask in [
            Mask::default(),
            Mask::causal(QueryPosition::BottomRight).with_key_lengths(&lengths),
            Mask::window(common::window(1500, 0), QueryPosition::BottomRight),
        ] {
            let share = inputs.check_statistics(&wanted, &AttentionConfig::new().with_mask(mask));
            share.unwrap_or_else(|e| panic!("{sizes:?} {mask:?}: {e}"));
        }
    }
}

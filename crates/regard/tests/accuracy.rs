//! Every kernel path against the f64 reference, by the accuracy rule, with poison around the buffers.
#![allow(non_snake_case)]

mod common;

use common::cases::{Case, setting};
use common::{Inputs, Sizes, TestElement, cancelled_heads, grid_masks, isas};
use fastrand::Rng;
use rayon::prelude::*;
use regard::{AttentionConfig, Mask, Parallelism, QueryPosition, bf16, f16};

#[test]
fn forward__exhaustive_small_grid__meets_the_accuracy_rule() {
    let (mut cases, mut worst) = (0, 0.0f64);
    for s_q in 0..=17 {
        for s_kv in 0..=17 {
            for d in 1..=9 {
                let sizes = Sizes { batch: 1, heads: 2, kv_heads: 1, s_q, s_kv, d, d_v: d * 3 % 10 };
                let inputs = Inputs::<f32, f32>::plain(sizes, (s_q * 1000 + s_kv * 10 + d) as u64);
                for (name, mask) in grid_masks() {
                    let config = AttentionConfig::new().with_mask(mask);
                    let share = inputs.check(&config.with_parallelism(Parallelism::Sequential));
                    worst = worst.max(share.unwrap_or_else(|e| panic!("{name}, {sizes:?}: {e}")));
                    cases += 1;
                }
            }
        }
    }
    assert_eq!(cases, 18 * 18 * 9 * 4);
    let share = worst * 100.0;
    println!(
        "COUNT: {cases} small cases on {:?}, worst {share:.0} % of the rule, {}",
        isas(),
        cancelled_heads()
    );
}

/// `REGARD_RANDOM_CASES` sets the number (400 unless set; CI runs 4,000), `REGARD_RANDOM_SEED` the first seed.
#[test]
fn forward__random_middle_cases__meet_the_accuracy_rule() {
    let (cases, first): (u64, u64) = (setting("REGARD_RANDOM_CASES", 400), setting("REGARD_RANDOM_SEED", 0));
    let shares = (first..first + cases).into_par_iter().map(|seed| {
        let share = random_case(seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        (share, seed)
    });
    let (worst, seed) = shares.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default();
    let share = worst * 100.0;
    println!(
        "COUNT: {cases} random cases on {:?}, worst {share:.0} % (seed {seed}), {}",
        isas(),
        cancelled_heads()
    );
}

fn random_case(seed: u64) -> Result<f64, String> {
    let mut rng = Rng::with_seed(seed);
    match rng.u8(..8) {
        0 => typed_case::<f16, f16>(&mut rng),
        1 => typed_case::<bf16, bf16>(&mut rng),
        2 => typed_case::<f32, f16>(&mut rng),
        3 => typed_case::<f32, bf16>(&mut rng),
        _ => typed_case::<f32, f32>(&mut rng),
    }
}

fn typed_case<Q: TestElement, KV: TestElement>(rng: &mut Rng) -> Result<f64, String> {
    let case = Case::<Q, KV>::random(rng);
    case.with_config(|config| case.inputs.check(config).map_err(|e| format!("{}: {e}", case.description())))
}

/// Long enough for key splits and for many blocks; every head_dim that a register tile treats differently.
#[test]
fn forward__long_sequences__meet_the_accuracy_rule() {
    for (s_q, s_kv, d, group) in [
        (1, 9000, 64, 1),
        (1, 4097, 128, 4),
        (3, 5000, 40, 2),
        (97, 4100, 32, 1),
        (20, 6000, 24, 1),
        (700, 701, 16, 1),
    ] {
        let sizes = Sizes { batch: 1, heads: group, kv_heads: 1, s_q, s_kv, d, d_v: d };
        let inputs = Inputs::<f32, f32>::plain(sizes, 5);
        for mask in [Mask::default(), Mask::causal(QueryPosition::BottomRight)] {
            let share = inputs.check(&AttentionConfig::new().with_mask(mask));
            share.unwrap_or_else(|e| panic!("{sizes:?}: {e}"));
        }
    }
}

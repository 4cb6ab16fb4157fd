//! Gradients of every kernel path against the f64 reference, by the accuracy rule, with poison around the buffers.
#![allow(non_snake_case)]

mod common;

use common::cases::{Case, setting};
use common::{Inputs, Memory, Sizes, TestElement, cancelled_heads, grid_masks, isas};
use fastrand::Rng;
use rayon::prelude::*;
use regard::{AttentionConfig, Mask, Parallelism, QueryPosition, Workspace, bf16, f16};

#[test]
fn backward__exhaustive_small_grid__meets_the_accuracy_rule() {
    let (mut cases, mut worst) = (0, 0.0f64);
    for s_q in 0..=17 {
        for s_kv in 0..=17 {
            for d in 1..=9 {
                let sizes = Sizes { batch: 1, heads: 2, kv_heads: 1, s_q, s_kv, d, d_v: d * 3 % 10 };
                let seed = (s_q * 1000 + s_kv * 10 + d) as u64;
                let inputs = Inputs::<f32, f32>::plain(sizes, seed);
                let cotangent = inputs.cotangent(d % 2 == 0, &Memory::PLAIN, &mut Rng::with_seed(seed + 1));
                for (name, mask) in grid_masks() {
                    let config = AttentionConfig::new().with_mask(mask);
                    let config = config.with_parallelism(Parallelism::Sequential);
                    let share = inputs.check_gradients(&cotangent, &config);
                    worst = worst.max(share.unwrap_or_else(|e| panic!("{name}, {sizes:?}: {e}")));
                    cases += 1;
                }
            }
        }
    }
    assert_eq!(cases, 18 * 18 * 9 * 4);
    let share = worst * 100.0;
    println!("COUNT: {cases} small gradients on {:?}, worst {share:.0} %, {}", isas(), cancelled_heads());
}

/// `REGARD_RANDOM_CASES` sets the number (400 unless set; CI runs 4,000), `REGARD_RANDOM_SEED` the first seed.
#[test]
fn backward__random_middle_cases__meet_the_accuracy_rule() {
    let (cases, first): (u64, u64) = (setting("REGARD_RANDOM_CASES", 400), setting("REGARD_RANDOM_SEED", 0));
    let shares = (first..first + cases).into_par_iter().map(|seed| {
        let share = random_case(seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        (share, seed)
    });
    let (worst, seed) = shares.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default();
    let share = worst * 100.0;
    println!(
        "COUNT: {cases} random gradients on {:?}, worst {share:.0} % (seed {seed}), {}",
        isas(),
        cancelled_heads()
    );
}

fn random_case(seed: u64) -> Result<f64, String> {
    let mut rng = Rng::with_seed(seed ^ 0x9e37_79b9_7f4a_7c15);
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
    let cotangent = case.inputs.cotangent(rng.bool(), &Memory::random(rng), rng);
    case.with_config(|config| {
        case.inputs.check_gradients(&cotangent, config).map_err(|e| format!("{}: {e}", case.description()))
    })
}

/// Several key blocks and partitions, several waves, and every head_dim that a tile treats differently.
#[test]
fn backward__long_sequences__meet_the_accuracy_rule() {
    for (s_q, s_kv, d, group) in
        [(1, 1500, 64, 1), (3, 1100, 40, 2), (97, 1300, 32, 1), (700, 701, 16, 1), (1300, 90, 24, 1)]
    {
        let sizes = Sizes { batch: 1, heads: group, kv_heads: 1, s_q, s_kv, d, d_v: d };
        let inputs = Inputs::<f32, f32>::plain(sizes, 5);
        let cotangent = inputs.cotangent(true, &Memory::PLAIN, &mut Rng::with_seed(6));
        for mask in [Mask::default(), Mask::causal(QueryPosition::BottomRight)] {
            let share = inputs.check_gradients(&cotangent, &AttentionConfig::new().with_mask(mask));
            share.unwrap_or_else(|e| panic!("{sizes:?}: {e}"));
        }
    }
}

/// Found by fuzzing: no sequences, and a length for each of them.
#[test]
fn backward__no_sequences_with_key_lengths__writes_nothing_and_is_fine() {
    let sizes = Sizes { batch: 0, heads: 2, kv_heads: 1, s_q: 3, s_kv: 5, d: 4, d_v: 4 };
    let inputs = Inputs::<f32, f32>::plain(sizes, 1);
    let cotangent = inputs.cotangent(true, &Memory::PLAIN, &mut Rng::with_seed(1));
    for lengths in [&[][..], &[4]] {
        let config = AttentionConfig::new().with_mask(Mask::default().with_key_lengths(lengths));
        let found = inputs.gradients(&cotangent, &config, &mut Workspace::new()).unwrap();
        assert!(found.bits().is_empty());
    }
}

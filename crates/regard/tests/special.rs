//! Random calls full of special values: NaN, ±∞ and −0 in every input, extreme offsets and windows, empty
//! sequences beside long ones, masks that forbid whole rows; on both paths, with and without split keys.
#![allow(non_snake_case)]

mod common;

use common::special::{SPECIAL, bits, pick, special_case};
use common::{Inputs, isas, threads};
use fastrand::Rng;
use rayon::prelude::*;
use regard::{AttentionConfig, HeadBlock, attention_probs, reference::Reference};

/// `REGARD_SPECIAL_CASES` sets the number (600 unless set).
#[test]
fn forward__special_values_everywhere__agree_with_the_reference_and_stay_where_they_may_attend() {
    let cases: u64 = std::env::var("REGARD_SPECIAL_CASES").map_or(600, |n| n.parse().unwrap());
    let counts = (0..cases).into_par_iter().map(|seed| {
        let mut rng = Rng::with_seed(seed);
        isas().into_iter().map(|isa| special_case(seed, isa, &mut rng, check)).sum::<usize>()
    });
    let special: usize = counts.sum();
    println!("COUNT: {cases} special cases on {:?}, {special} rows empty, NaN or infinite", isas());
    assert!(special > cases as usize);
}

fn check(inputs: &Inputs<f32, f32>, config: &AttentionConfig<'_>, what: &str, rng: &mut Rng) -> usize {
    let [batch, heads, s_q, _] = inputs.query.shape;
    let [_, kv_heads, s_kv, d_v] = inputs.value.shape;
    let views = (inputs.query.view(), inputs.key.view(), inputs.value.view());
    let reference = Reference::<f64>::new(views.0, views.1, views.2, config).unwrap();
    let found = inputs.run(config).unwrap();
    let shared = inputs.run(&config.with_parallelism(threads(3))).unwrap();
    assert_eq!(bits(&found.0), bits(&shared.0), "{what}: threads");
    assert_eq!(bits(&found.1), bits(&shared.1), "{what}: threads");

    // One key and its value replaced by a special value: rows that may not attend to it stay as they are.
    let mut poisoned = inputs.clone();
    let at = (s_kv > 0).then(|| (rng.usize(..batch), rng.usize(..kv_heads), rng.usize(..s_kv)));
    if let Some((b, h, j)) = at {
        let number = pick(&SPECIAL[..3], rng);
        (0..inputs.key.shape[3]).for_each(|c| poisoned.key.set([b, h, j, c], number));
        (0..d_v).for_each(|c| poisoned.value.set([b, h, j, c], number));
    }
    let moved = poisoned.run(config).unwrap();

    let mut special = 0;
    for index in 0..batch * heads * s_q {
        let [b, h, i] = [index / (heads * s_q), index / s_q % heads, index % s_q];
        let truth = reference.row([b, h, i]).unwrap();
        // A probability that f32 cannot hold times ∞ is NaN.
        let underflows = truth.probs.iter().zip(&truth.allowed).any(|(&p, &allowed)| allowed && p < 1e-37);
        let (output, lse) = (&found.0[index * d_v..(index + 1) * d_v], found.1[index]);
        special += usize::from(!truth.log_sum_exp.is_finite() || truth.output.iter().any(|x| !x.is_finite()));
        for (&x, &r) in output.iter().chain([&lse]).zip(truth.output.iter().chain([&truth.log_sum_exp])) {
            let x = f64::from(x);
            let same = if r.is_finite() {
                (x - r).abs() < 1e-4 * (1.0 + r.abs())
            } else {
                x == r || x.is_nan() && (r.is_nan() || underflows)
            };
            assert!(same, "{what}: row {b} {h} {i}: {x} {r}");
        }
        if truth.log_sum_exp == f64::NEG_INFINITY {
            assert!(output.iter().all(|x| x.to_bits() == 0), "{what}: empty row {b} {h} {i}: {output:?}");
        }
        if let Some((batch, kv_head, j)) = at
            && !(b == batch && h / (heads / kv_heads) == kv_head && truth.allowed[j])
        {
            let moved = (&moved.0[index * d_v..(index + 1) * d_v], moved.1[index]);
            assert_eq!(bits(moved.0), bits(output), "{what}: key {j} reached row {b} {h} {i}");
            assert_eq!(bits(&[moved.1]), bits(&[lse]), "{what}: key {j} reached row {b} {h} {i}");
        }
        if rng.u8(..16) == 0 {
            let mut probs = vec![7.0; s_kv];
            let rows = HeadBlock { batch: b, head: h, rows: i..i + 1, keys: 0..s_kv };
            attention_probs(views.0, views.1, &found.1, &rows, config, &mut probs).unwrap();
            for (j, (&p, &r)) in probs.iter().zip(&truth.probs).enumerate() {
                let same = (f64::from(p) - r).abs() < 1e-5 || p.is_nan() && r.is_nan();
                assert!(same, "{what}: row {b} {h} {i}, key {j}: {p} {r}");
            }
        }
    }
    special
}

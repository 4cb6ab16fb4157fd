//! Random calls full of special values: NaN, ±∞ and −0 in every input, extreme offsets and windows, empty
//! sequences beside long ones, masks that forbid whole rows; on both paths, with and without split keys.
#![allow(non_snake_case)]

mod common;

use common::options::Options;
use common::{Inputs, Sizes, isas, normal, threads, window};
use fastrand::Rng;
use rayon::prelude::*;
use regard::{
    AttentionConfig, HeadBlock, Isa, Layout, Mask, Parallelism, QueryPosition, TensorView, attention_probs,
    reference::Reference,
};

const SPECIAL: [f32; 5] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0];

/// Bits with all NaN alike.
fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

fn pick<T: Copy>(from: &[T], rng: &mut Rng) -> T {
    from[rng.usize(..from.len())]
}

fn sizes(rng: &mut Rng) -> Sizes {
    let (kv_heads, group) = (rng.usize(1..3), pick(&[1, 1, 2, 3], rng));
    // Every sixth case is long enough for its keys to be split.
    let (s_q, s_kv) = if rng.u8(..6) == 0 {
        (pick(&[1, 2, 3, 9, 13], rng), rng.usize(1500..4500))
    } else {
        (pick(&[0, 1, 2, 3, 8, 9, 40, 97, 100], rng), pick(&[0, 1, 2, 31, 33, 127, 128, 129, 200, 300], rng))
    };
    let (d, d_v) = (pick(&[1, 2, 3, 8, 16, 17], rng), pick(&[0, 1, 2, 8, 16, 19, 32], rng));
    Sizes { batch: rng.usize(1..4), heads: kv_heads * group, kv_heads, s_q, s_kv, d, d_v }
}

/// `REGARD_SPECIAL_CASES` sets the number (600 unless set).
#[test]
fn forward__special_values_everywhere__agree_with_the_reference_and_stay_where_they_may_attend() {
    let cases: u64 = std::env::var("REGARD_SPECIAL_CASES").map_or(600, |n| n.parse().unwrap());
    let counts = (0..cases).into_par_iter().map(|seed| {
        let mut rng = Rng::with_seed(seed);
        isas().into_iter().map(|isa| special_case(seed, isa, &mut rng)).sum::<usize>()
    });
    let special: usize = counts.sum();
    println!("COUNT: {cases} special cases on {:?}, {special} rows empty, NaN or infinite", isas());
    assert!(special > cases as usize);
}

fn special_case(seed: u64, isa: Isa, rng: &mut Rng) -> usize {
    let sizes = sizes(rng);
    let Sizes { batch, heads, kv_heads, s_q, s_kv, d, d_v } = sizes;
    let mut inputs = Inputs::<f32, f32>::new(sizes, [common::Memory::PLAIN; 4], 1.0, rng);
    for (tensor, len) in [
        (&mut inputs.query, batch * heads * s_q * d),
        (&mut inputs.key, batch * kv_heads * s_kv * d),
        (&mut inputs.value, batch * kv_heads * s_kv * d_v),
    ] {
        for _ in 0..if len == 0 || rng.bool() { 0 } else { rng.usize(..4) } {
            tensor.buffer.data_mut()[rng.usize(..len)] = pick(&SPECIAL, rng);
        }
    }
    let near = -60..s_kv as i64 + 60;
    let offsets: Vec<i64> = (0..batch)
        .map(|_| {
            if rng.bool() {
                pick(&[i64::MIN, i64::MAX, -(s_q as i64), s_kv as i64], rng)
            } else {
                rng.i64(near.clone())
            }
        })
        .collect();
    let lengths: Vec<usize> =
        (0..batch).map(|_| if rng.bool() { pick(&[0, s_kv], rng) } else { rng.usize(..=s_kv) }).collect();
    let position = match rng.u8(..4) {
        0 => QueryPosition::TopLeft,
        1 => QueryPosition::BottomRight,
        2 => QueryPosition::Offset(offsets[0]),
        _ => QueryPosition::OffsetPerSequence(&offsets),
    };
    let mut mask = Mask { causal: rng.bool(), position, ..Mask::default() };
    if rng.u8(..3) == 0 {
        let reach = |rng: &mut Rng| {
            if rng.bool() { pick(&[0, usize::MAX / 2, usize::MAX], rng) } else { rng.usize(..200) }
        };
        mask = mask.with_window(window(reach(rng), reach(rng)));
    }
    if rng.bool() {
        mask = mask.with_key_lengths(&lengths);
    }
    let shape = [batch, heads, s_q, s_kv].map(|size| if rng.bool() { 1 } else { size });
    let len = shape.iter().product::<usize>();
    let kept = pick(&[1, 2, 9], rng);
    let keep: Vec<bool> = (0..len).map(|_| rng.u8(..10) < kept).collect();
    if rng.u8(..3) == 0 {
        mask = mask.with_keep(TensorView::new(&keep, shape, Layout::BatchHeadSeqDim).unwrap());
    }
    let mut bias: Vec<f32> =
        (0..len).map(|_| if rng.u8(..6) == 0 { f32::NEG_INFINITY } else { normal(rng) }).collect();
    if len > 0 && rng.bool() {
        bias[rng.usize(..len)] = pick(&SPECIAL[..2], rng);
    }
    let mut options = if rng.bool() { Options::random(heads, rng) } else { Options::default() };
    if offsets.iter().any(|offset| offset.unsigned_abs() > 1 << 24) {
        options.alibi = None; // such distances are rounded, and cancel against each other
    }
    let mut config = options.apply(AttentionConfig::new().with_isa(isa).with_mask(mask));
    if rng.u8(..3) == 0 {
        config = config.with_attention_bias(TensorView::new(&bias, shape, Layout::BatchHeadSeqDim).unwrap());
    }
    if rng.u8(..4) == 0 {
        config = config.with_softmax_scale(pick(&[0.0, -0.0, -0.3, 1.0], rng));
    }
    let what = format!(
        "seed {seed} {isa} {sizes:?} {:?} {:?} {:?} {options:?}",
        mask.position, mask.window, mask.key_lengths
    );
    check(&inputs, &config.with_parallelism(Parallelism::Sequential), &what, rng)
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

//! The random calls of `special.rs` backward: NaN, ±∞ and −0 in every input and in what the loss gives back. Where
//! the textbook's gradients are NaN or infinite the kernel's are not finite, everywhere else they are, and close;
//! and what a key or a row holds stays with those that may attend to it.
#![allow(non_snake_case)]

mod common;

use common::gradients::{Cotangent, Found};
use common::special::{SPECIAL, bits, pick, special_case};
use common::{Inputs, Memory, Tensor, isas, threads};
use fastrand::Rng;
use rayon::prelude::*;
use regard::{AttentionConfig, Workspace, reference::Reference};

/// `REGARD_SPECIAL_CASES` sets the number (400 unless set), `REGARD_SPECIAL_SEED` the first seed.
#[test]
fn backward__special_values_everywhere__agree_with_the_reference_and_stay_where_they_may_attend() {
    let cases: u64 = common::cases::setting("REGARD_SPECIAL_CASES", 400);
    let first: u64 = common::cases::setting("REGARD_SPECIAL_SEED", 0);
    let counts = (first..first + cases).into_par_iter().map(|seed| {
        let mut rng = Rng::with_seed(seed ^ 0x5bd1_e995);
        isas().into_iter().map(|isa| special_case(seed, isa, &mut rng, check)).sum::<usize>()
    });
    let special: usize = counts.sum();
    println!("COUNT: {cases} special gradients on {:?}, {special} numbers NaN or infinite", isas());
    assert!(special > cases as usize);
}

fn sprinkle(numbers: &mut [f32], rng: &mut Rng) {
    for _ in 0..if numbers.is_empty() || rng.bool() { 0 } else { rng.usize(..4) } {
        let len = numbers.len();
        numbers[rng.usize(..len)] = pick(&SPECIAL, rng);
    }
}

fn check(inputs: &Inputs<f32, f32>, config: &AttentionConfig<'_>, what: &str, rng: &mut Rng) -> usize {
    let mut cotangent = inputs.cotangent(rng.bool(), &Memory::PLAIN, rng);
    sprinkle(cotangent.d_output.buffer.data_mut(), rng);
    if let Some(d_log_sum_exp) = &mut cotangent.d_log_sum_exp {
        sprinkle(d_log_sum_exp, rng);
    }
    let mut workspace = Workspace::new();
    let found = inputs.gradients(&cotangent, config, &mut workspace).unwrap();
    let shared = config.with_parallelism(threads(3));
    let shared = inputs.gradients(&cotangent, &shared, &mut workspace).unwrap();
    for ((name, found), (_, shared)) in found.all().into_iter().zip(shared.all()) {
        assert_eq!(bits(found), bits(shared), "{what}: {name}, threads");
    }
    let special = compare(inputs, &cotangent, config, (&found, what));
    key_stays(inputs, &cotangent, config, (&found, what), rng);
    row_stays(inputs, &cotangent, config, (&found, what), rng);
    special
}

fn compare(
    inputs: &Inputs<f32, f32>,
    cotangent: &Cotangent<f32>,
    config: &AttentionConfig<'_>,
    (found, what): (&Found, &str),
) -> usize {
    let truth = inputs.reference_gradients::<f64>(cotangent, config);
    let truths = [
        &truth.d_query,
        &truth.d_key,
        &truth.d_value,
        &truth.d_attention_bias,
        &truth.d_relative_bias,
        &truth.d_sinks,
    ];
    // The slope of a cap, 1 − tanh², is a difference of numbers near 1 where scores are far beyond it.
    let floor = if config.softcap.is_some() { 0.1 } else { 1e-2 };
    let mut special = 0;
    for ((name, found), truth) in found.all().into_iter().zip(truths) {
        assert_eq!(found.len(), truth.sum.len(), "{what}: {name}");
        for (i, (&x, &r)) in found.iter().zip(&truth.sum).enumerate() {
            let terms = truth.all_terms[i];
            let same = match r.is_finite() {
                true => x.is_finite() && (f64::from(x) - r).abs() <= 1e-4 * (floor + terms),
                false => !x.is_finite(),
            };
            assert!(same, "{what}: {name} at {i}: {x} {r}, terms {terms}");
            special += usize::from(!r.is_finite());
        }
    }
    special
}

/// Which keys each row of one key head's queries may attend to, `[group · seq_len_q][seq_len_kv]`.
fn allowed(
    inputs: &Inputs<f32, f32>,
    config: &AttentionConfig<'_>,
    (batch, kv_head): (usize, usize),
) -> Vec<Vec<bool>> {
    let views = (inputs.query.view(), inputs.key.view(), inputs.value.view());
    let reference = Reference::<f64>::new(views.0, views.1, views.2, config).unwrap();
    let [_, heads, s_q, _] = inputs.query.shape;
    let group = heads / inputs.key.shape[1];
    let heads = kv_head * group..(kv_head + 1) * group;
    let rows = heads.flat_map(|head| (0..s_q).map(move |i| [batch, head, i]));
    rows.map(|at| reference.row(at).unwrap().allowed).collect()
}

/// Asserts that a row of a gradient is the same in `found` and `moved`.
fn same_row(names: (&str, &str), (found, moved): (&[f32], &[f32]), row: usize, len: usize) {
    let row = row * len..(row + 1) * len;
    assert_eq!(bits(&found[row.clone()]), bits(&moved[row]), "{}: {}", names.0, names.1);
}

/// A special value in one key and its value stays with the rows that may attend to it, and with the keys that these
/// may attend to as well.
fn key_stays(
    inputs: &Inputs<f32, f32>,
    cotangent: &Cotangent<f32>,
    config: &AttentionConfig<'_>,
    (found, what): (&Found, &str),
    rng: &mut Rng,
) {
    let [batch_size, heads, s_q, d] = inputs.query.shape;
    let [_, kv_heads, s_kv, d_v] = inputs.value.shape;
    if s_kv == 0 {
        return;
    }
    let (batch, kv_head, key) = (rng.usize(..batch_size), rng.usize(..kv_heads), rng.usize(..s_kv));
    let mut poisoned = inputs.clone();
    let number = pick(&SPECIAL[..3], rng);
    (0..d).for_each(|c| poisoned.key.set([batch, kv_head, key, c], number));
    (0..d_v).for_each(|c| poisoned.value.set([batch, kv_head, key, c], number));
    let moved = poisoned.gradients(cotangent, config, &mut Workspace::new()).unwrap();
    let allowed = allowed(inputs, config, (batch, kv_head));
    let group = heads / kv_heads;
    for index in 0..batch_size * heads * s_q {
        let (b, h, i) = (index / (heads * s_q), index / s_q % heads, index % s_q);
        if !(b == batch && h / group == kv_head && allowed[h % group * s_q + i][key]) {
            let name = format!("d_query row {b} {h} {i}, key {batch} {kv_head} {key} is {number}");
            same_row((what, &name), (&found.d_query, &moved.d_query), index, d);
        }
    }
    for index in 0..batch_size * kv_heads * s_kv {
        let (b, h, j) = (index / (kv_heads * s_kv), index / s_kv % kv_heads, index % s_kv);
        let together = (b, h) == (batch, kv_head) && allowed.iter().any(|row| row[key] && row[j]);
        if !together {
            let name = format!("key {b} {h} {j}, key {batch} {kv_head} {key} is {number}");
            same_row((what, &format!("d_key of {name}")), (&found.d_key, &moved.d_key), index, d);
            same_row((what, &format!("d_value of {name}")), (&found.d_value, &moved.d_value), index, d_v);
        }
    }
}

/// Special values in one row's query and cotangents stay with it and with the keys that it may attend to.
fn row_stays(
    inputs: &Inputs<f32, f32>,
    cotangent: &Cotangent<f32>,
    config: &AttentionConfig<'_>,
    (found, what): (&Found, &str),
    rng: &mut Rng,
) {
    let [batch_size, heads, s_q, d] = inputs.query.shape;
    let [_, kv_heads, s_kv, d_v] = inputs.value.shape;
    if s_q == 0 {
        return;
    }
    let (batch, head, row) = (rng.usize(..batch_size), rng.usize(..heads), rng.usize(..s_q));
    let number = pick(&SPECIAL[..3], rng);
    let (mut poisoned, mut cotangent) = (inputs.clone(), cotangent.clone());
    let set = |tensor: &mut Tensor<f32>, len| {
        (0..len).for_each(|c| tensor.set([batch, head, row, c], number));
    };
    set(&mut poisoned.query, d);
    set(&mut cotangent.d_output, d_v);
    let poisoned_index = (batch * heads + head) * s_q + row;
    if let Some(d_log_sum_exp) = &mut cotangent.d_log_sum_exp {
        d_log_sum_exp[poisoned_index] = number;
    }
    let moved = poisoned.gradients(&cotangent, config, &mut Workspace::new()).unwrap();
    let group = heads / kv_heads;
    let allowed = &allowed(inputs, config, (batch, head / group))[head % group * s_q + row];
    let what = &format!("{what}: row {batch} {head} {row} is {number}");
    for index in (0..batch_size * heads * s_q).filter(|&index| index != poisoned_index) {
        same_row((what, &format!("d_query {index}")), (&found.d_query, &moved.d_query), index, d);
    }
    for index in 0..batch_size * kv_heads * s_kv {
        let at = (index / (kv_heads * s_kv), index / s_kv % kv_heads);
        if at != (batch, head / group) || !allowed[index % s_kv] {
            same_row((what, &format!("d_key {index}")), (&found.d_key, &moved.d_key), index, d);
            same_row((what, &format!("d_value {index}")), (&found.d_value, &moved.d_value), index, d_v);
        }
    }
    for h in (0..found.d_sinks.len()).filter(|&h| h != head || !allowed.contains(&true)) {
        same_row((what, &format!("d_sinks of head {h}")), (&found.d_sinks, &moved.d_sinks), h, 1);
    }
    if !allowed.contains(&true) {
        let query_row = poisoned_index * d..(poisoned_index + 1) * d;
        assert!(moved.d_query[query_row].iter().all(|x| x.to_bits() == 0), "{what}: empty row");
        for ((name, found), (_, moved)) in found.all().into_iter().zip(moved.all()) {
            assert_eq!(bits(found), bits(moved), "{what}: empty row, {name}");
        }
    }
}

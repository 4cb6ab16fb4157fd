//! Probabilities on demand equal the reference's, wherever they are asked for.
#![allow(non_snake_case)]

mod common;

use common::{Inputs, Memory, Sizes, isas, window};
use fastrand::Rng;
use regard::{
    AttentionConfig, AttentionError, HeadBlock, Mask, QueryPosition, TensorView, attention_probs,
    reference::Reference,
};

#[test]
fn attention_probs__any_head_and_rows__equal_the_reference() {
    let mut rng = Rng::with_seed(8);
    for (s_q, s_kv, d) in [(1, 1, 1), (12, 12, 32), (37, 301, 20), (200, 130, 64)] {
        let sizes = Sizes { batch: 2, heads: 4, kv_heads: 2, s_q, s_kv, d, d_v: 3 };
        let memory = std::array::from_fn(|_| Memory::random(&mut rng));
        let inputs = Inputs::<f32, f32>::new(sizes, memory, 2.0, &mut rng);
        let keep: Vec<bool> = (0..s_kv).map(|_| rng.u8(..4) > 0).collect();
        let keep = TensorView::new(&keep, [1, 1, 1, s_kv], regard::Layout::BatchHeadSeqDim).unwrap();
        let lengths = [s_kv, s_kv / 2];
        let banded = Mask::causal(QueryPosition::BottomRight).with_window(window(20, 0));
        for mask in [Mask::default(), banded, banded.with_keep(keep), banded.with_key_lengths(&lengths)] {
            for isa in isas() {
                let config = AttentionConfig::new().with_mask(mask).with_isa(isa);
                let (_, lse) = inputs.run(&config).unwrap();
                let (query, key, value) = (inputs.query.view(), inputs.key.view(), inputs.value.view());
                let reference = Reference::<f64>::new(query, key, value, &config).unwrap();
                for (batch, head) in [(0, 0), (1, 3), (1, 0)] {
                    let first = rng.usize(..s_q);
                    let rows = first..rng.usize(first..=s_q);
                    let first = if rng.bool() { 0 } else { rng.usize(..s_kv) };
                    let keys = first..if first == 0 && rng.bool() { s_kv } else { rng.usize(first..=s_kv) };
                    let at = HeadBlock { batch, head, rows: rows.clone(), keys: keys.clone() };
                    let mut probs = vec![f32::NAN; rows.len() * keys.len()];
                    attention_probs(query, key, &lse, &at, &config, &mut probs).unwrap();
                    for (row, probs) in rows.zip(probs.chunks_exact(keys.len().max(1))) {
                        let truth = reference.row([batch, head, row]).unwrap().probs;
                        for (j, (&p, &r)) in probs.iter().zip(&truth[keys.clone()]).enumerate() {
                            assert!(
                                (f64::from(p) - r).abs() < 1e-5,
                                "{isa} {sizes:?} row {row} key {j}: {p} {r}"
                            );
                            assert_eq!(r == 0.0, p == 0.0, "{isa} row {row} key {j}: {p} {r}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn attention_probs__any_number_of_threads__give_the_same_bits() {
    let sizes = Sizes { batch: 1, heads: 2, kv_heads: 1, s_q: 301, s_kv: 517, d: 48, d_v: 2 };
    let inputs = Inputs::<f32, f32>::plain(sizes, 5);
    let sinks = [0.5, -1.0];
    for isa in isas() {
        let config = AttentionConfig::new()
            .with_mask(Mask::causal(QueryPosition::BottomRight))
            .with_sinks(&sinks)
            .with_isa(isa);
        let (_, lse) = inputs.run(&config).unwrap();
        for keys in [0..517, 3..500] {
            let at = HeadBlock { batch: 0, head: 1, rows: 2..299, keys };
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let (query, key) = (inputs.query.view(), inputs.key.view());
                let mut probs = vec![f32::NAN; at.rows.len() * at.keys.len()];
                pool.install(|| attention_probs(query, key, &lse, &at, &config, &mut probs).unwrap());
                probs.iter().map(|prob| prob.to_bits()).collect::<Vec<_>>()
            };
            let one = on(1);
            assert!(one.iter().all(|&bits| f32::from_bits(bits) <= 1.0), "each is written");
            for threads in [2, 3, 7] {
                assert!(on(threads) == one, "{isa} {threads} {at:?}");
            }
        }
    }
}

#[test]
fn attention_probs__outside_the_call__is_a_typed_error() {
    let sizes = Sizes { batch: 1, heads: 2, kv_heads: 2, s_q: 3, s_kv: 4, d: 2, d_v: 2 };
    let inputs = Inputs::<f32, f32>::plain(sizes, 1);
    let mut probs = vec![0.0; 8];
    let mut run = |batch, head, rows, keys, lse: &[f32]| {
        let at = HeadBlock { batch, head, rows, keys };
        let config = AttentionConfig::new();
        attention_probs(inputs.query.view(), inputs.key.view(), lse, &at, &config, &mut probs).unwrap_err()
    };
    let lse = [0.0; 6];
    let beyond = |what, needed, found| AttentionError::OutOfBounds { what, needed, found };
    assert_eq!(run(1, 0, 0..2, 0..4, &lse), beyond("block.batch", 2, 1));
    assert_eq!(run(0, 2, 0..2, 0..4, &lse), beyond("block.head", 3, 2));
    assert_eq!(run(0, 0, 2..4, 0..4, &lse), beyond("block.rows", 4, 3));
    assert_eq!(run(0, 0, 0..2, 1..5, &lse), beyond("block.keys", 5, 4));
    let wrong = AttentionError::ShapeMismatch { axis: "log_sum_exp.len", expected: 6, found: 5 };
    assert_eq!(run(0, 0, 0..2, 0..4, &lse[..5]), wrong);
    let wrong = AttentionError::ShapeMismatch { axis: "probs.len", expected: 4, found: 8 };
    assert_eq!(run(0, 0, 0..1, 0..4, &lse), wrong);
}

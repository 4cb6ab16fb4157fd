//! What heads hand on when they are changed, against dense arithmetic in f64.

use regard::layer::{Linear, MultiHeadAttention, Projection};
use regard::reference::Reference;
use regard::{AttentionConfig, Mask, Parallelism, QueryPosition, Workspace};

use super::*;
use crate::observer::{AttentionObserver, LayerAttention};

const TOKENS: usize = 9;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const DIM: usize = 5;

/// Numbers between −1 and 1 that repeat after a long while.
fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
}

fn layer() -> MultiHeadAttention {
    let model_dim = HEADS * DIM;
    let linear = |rows: usize, columns: usize, seed| {
        Linear::new(numbers(rows * columns, seed), None, columns, rows).unwrap()
    };
    let parts = [HEADS * DIM, KV_HEADS * DIM, KV_HEADS * DIM];
    let [query, key, value] = [0, 1, 2].map(|i| linear(parts[i], model_dim, i));
    MultiHeadAttention::new(query, key, value, linear(model_dim, model_dim, 3), [HEADS, KV_HEADS]).unwrap()
}

fn config(causal: bool) -> AttentionConfig<'static> {
    let config = AttentionConfig::new().with_softmax_scale(0.3);
    if causal { config.with_mask(Mask::causal(QueryPosition::TopLeft)) } else { config }
}

fn attended(projection: &Projection, causal: bool) -> Attended {
    projection.attend(&config(causal), &mut Workspace::new()).unwrap()
}

fn project(layer: &MultiHeadAttention, seed: usize) -> Projection {
    let input = numbers(TOKENS * layer.model_dim(), seed);
    layer.project(&input, [1, TOKENS], Parallelism::Sequential).unwrap()
}

fn pattern(layer: &MultiHeadAttention, projection: &Projection, causal: bool, head: usize) -> Pattern {
    let attended = attended(projection, causal);
    let mut nobody = NoObserver;
    let mut keeper = Keeper::new(1, &|_| true, &mut nobody);
    let seen = LayerAttention {
        layer: 0,
        input: &[],
        query: projection.query(),
        key: projection.key(),
        value: projection.value(),
        output: attended.view(),
        log_sum_exp: attended.log_sum_exp(),
        output_projection: layer.output_projection(),
        config: config(causal),
    };
    keeper.layer(&seen).unwrap();
    Patterns::of(keeper).get(HeadId { layer: 0, head }).unwrap()
}

/// Changes head 2 of the layer and compares its slot with `expected`; the others' must not change.
fn check(change: Change, causal: bool, tolerance: f64, expected: impl Fn(usize, usize) -> f64) {
    let layer = layer();
    let projection = project(&layer, 10);
    let attended = attended(&projection, causal);
    let id = HeadId { layer: 0, head: 2 };
    let interventions = Interventions::new().with(id, change);
    let changed = interventions.change(0, &attended, &projection.value()).unwrap().unwrap();
    assert!(interventions.change(1, &attended, &projection.value()).unwrap().is_none(), "another layer");
    for (i, (&found, &plain)) in changed.iter().zip(attended.output()).enumerate() {
        let (row, head, element) = (i / (HEADS * DIM), i / DIM % HEADS, i % DIM);
        if head == 2 {
            let expected = expected(row, element);
            assert!((f64::from(found) - expected).abs() <= tolerance, "{row} {element}: {found} {expected}");
        } else {
            assert_eq!(found.to_bits(), plain.to_bits());
        }
    }
}

fn reference(projection: &Projection, causal: bool) -> Reference<'static, f64> {
    let (query, key, value) = (projection.query(), projection.key(), projection.value());
    Reference::new(query, key, value, &config(causal)).unwrap()
}

#[test]
fn zero__one_head__leaves_the_others_bits() {
    check(Change::Zero, true, 0.0, |_, _| 0.0);
}

#[test]
fn mean__one_head__is_the_mean_of_its_dense_rows() {
    for causal in [false, true] {
        let projection = project(&layer(), 10);
        let dense = reference(&projection, causal);
        let rows: Vec<Vec<f64>> = (0..TOKENS).map(|row| dense.row([0, 2, row]).unwrap().output).collect();
        check(Change::Mean, causal, 1e-6, |_, element| {
            rows.iter().map(|row| row[element]).sum::<f64>() / TOKENS as f64
        });
    }
}

#[test]
fn frozen__pattern_of_another_run__is_its_dense_probabilities_times_our_values() {
    for causal in [false, true] {
        let layer = layer();
        let (ours, other) = (project(&layer, 10), project(&layer, 20));
        let (values, probs) = (reference(&ours, causal).value, reference(&other, causal));
        // Heads 2 and 3 read key head 1.
        let value = |key: usize, element: usize| values[(TOKENS + key) * DIM + element];
        check(Change::Frozen(pattern(&layer, &other, causal, 2)), causal, 1e-5, |row, element| {
            let probs = probs.row([0, 2, row]).unwrap().probs;
            (0..TOKENS).map(|key| probs[key] * value(key, element)).sum()
        });
    }
}

#[test]
fn kept__probabilities__are_those_of_the_run() {
    let layer = layer();
    for causal in [false, true] {
        let projection = project(&layer, 10);
        let kept = pattern(&layer, &projection, causal, 3);
        let dense = reference(&projection, causal).row([0, 3, 5]).unwrap().probs;
        let mut probs = [0.0; TOKENS];
        kept.layer.probs(3, 5..6, &mut probs).unwrap();
        for (found, expected) in probs.iter().zip(dense) {
            assert!((f64::from(*found) - expected).abs() < 1e-6);
        }
    }
}

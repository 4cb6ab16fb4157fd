//! Positions that are added to scores: T5's buckets and ALiBi's slopes against their published numbers.
#![allow(non_snake_case)]

use fastrand::Rng;
use regard::position::{RelativePositionBuckets, alibi_slopes};
use regard::{AttentionConfig, AttentionError, Layout, RelativeBias, TensorView, TensorViewMut, attention};
use regard_testkit::{Golden, assert_close};

/// The buckets of `bidirectional.32.128` and the like.
fn buckets(name: &str) -> RelativePositionBuckets {
    let parts: Vec<&str> = name.split('.').collect();
    let (num_buckets, max_distance) = (parts[1].parse().unwrap(), parts[2].parse().unwrap());
    match parts[0] {
        "bidirectional" => RelativePositionBuckets::bidirectional(num_buckets, max_distance).unwrap(),
        "causal" => RelativePositionBuckets::causal(num_buckets, max_distance).unwrap(),
        other => panic!("{other}"),
    }
}

const NAMES: [&str; 7] = [
    "bidirectional.32.128",
    "causal.32.128",
    "bidirectional.4.3",
    "bidirectional.6.100",
    "causal.2.2",
    "causal.7.50",
    "bidirectional.64.1000",
];

fn random(rng: &mut Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| 2.0 * rng.f32() - 1.0).collect()
}

#[test]
fn relative_buckets__near_and_far_distances__agree_with_hugging_face() {
    let golden = Golden::open("position/t5.safetensors");
    let distances = golden.numbers("distances");
    for name in NAMES {
        let buckets = buckets(name);
        let found: Vec<f64> = distances.iter().map(|&x| buckets.bucket(x as i64) as f64).collect();
        assert_eq!(found, golden.numbers(name), "{name}");
    }
}

#[test]
fn relative_buckets__beyond_the_reach__are_the_ends() {
    for name in NAMES {
        let buckets = buckets(name);
        let (left, right) = (buckets.left() as i64, buckets.right() as i64);
        for far in (1..3000).chain([1 << 20, 1 << 40, i64::MAX - left.max(right)]) {
            assert_eq!(buckets.bucket(-left - far), buckets.bucket(-left), "{name}: {far} beyond {left}");
            assert_eq!(buckets.bucket(right + far), buckets.bucket(right), "{name}: {far} beyond {right}");
        }
        assert_eq!(buckets.bucket(i64::MIN), buckets.bucket(-left), "{name}");
        assert_eq!(buckets.bucket(i64::MAX), buckets.bucket(right), "{name}");
        // Not farther than needed.
        assert_ne!(buckets.bucket(-left + 1), buckets.bucket(-left), "{name}");
        assert!(right == 0 || buckets.bucket(right - 1) != buckets.bucket(right), "{name}");
        assert!((-left..=right).all(|x| buckets.bucket(x) < buckets.num_buckets()), "{name}");
    }
    let t5 = RelativePositionBuckets::bidirectional(32, 128).unwrap();
    assert_eq!((t5.left(), t5.right()), (91, 91));
}

#[test]
fn relative_bias__table_of_a_t5_layer__is_its_bias() {
    let golden = Golden::open("position/t5.safetensors");
    for name in ["bidirectional.8.20", "causal.8.20"] {
        let form = name.split('.').next().unwrap();
        let buckets = buckets(name);
        let table = buckets.table(&golden.f32s(&format!("{form}.embedding")), 3).unwrap();
        let relative = RelativeBias::new(&table, buckets.left(), buckets.right());
        let dense = golden.f32s(&format!("{form}.bias")); // [3 heads, 5 queries, 40 keys]
        let width = buckets.left() + 1 + buckets.right();
        for (index, &expected) in dense.iter().enumerate() {
            let (head, query, key) = (index / 200, index / 40 % 5, index % 40);
            let distance = key as i64 - (query as i64 + 30);
            let column = distance.clamp(-(buckets.left() as i64), buckets.right() as i64);
            let column = (column + buckets.left() as i64) as usize;
            assert_eq!(
                table[head * width + column],
                expected,
                "{name}: head {head}, query {query}, key {key}"
            );
        }
        let layout = Layout::BatchHeadSeqDim;
        let mut rng = Rng::with_seed(6);
        let [query, key, value] = [5, 40, 40].map(|len| random(&mut rng, 3 * len * 8));
        let attend = |config: AttentionConfig<'_>| {
            let mut output = vec![0.0; 3 * 5 * 8];
            let [view, key, value] = [(&query, 5), (&key, 40), (&value, 40)]
                .map(|(data, len)| TensorView::new(data, [1, 3, len, 8], layout).unwrap());
            let target = TensorViewMut::new(&mut output, [1, 3, 5, 8], layout).unwrap();
            attention(view, key, value, target, &config).unwrap();
            output
        };
        let mask = regard::Mask::default().with_position(regard::QueryPosition::Offset(30));
        let plain = AttentionConfig::new().with_softmax_scale(1.0).with_mask(mask);
        let expected = plain.with_attention_bias(TensorView::new(&dense, [1, 3, 5, 40], layout).unwrap());
        let expected: Vec<f64> = attend(expected).into_iter().map(f64::from).collect();
        assert_close(name, &attend(plain.with_relative_bias(relative)), &expected, 1e-6);
    }
}

#[test]
fn relative_bias__gradient_of_the_embedding__is_the_transpose_of_the_table() {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let mut rng = Rng::with_seed(7);
    for (name, heads) in NAMES.into_iter().flat_map(|name| [(name, 1), (name, 3)]) {
        let buckets = buckets(name);
        let embedding = random(&mut rng, buckets.num_buckets() * heads);
        let table = buckets.table(&embedding, heads).unwrap();
        let d_table = random(&mut rng, table.len());
        let d_embedding = buckets.embedding_gradient(&d_table, heads).unwrap();
        let (forward, backward) = (dot(&table, &d_table), dot(&embedding, &d_embedding));
        assert!((forward - backward).abs() < 1e-6 * table.len() as f64, "{name}: {forward} {backward}");
        for (i, &found) in d_embedding.iter().enumerate() {
            let mut one = vec![0.0; embedding.len()];
            one[i] = 1.0;
            let expected = dot(&buckets.table(&one, heads).unwrap(), &d_table);
            assert_eq!(found, expected as f32, "{name}: element {i}");
        }
    }
}

#[test]
fn relative_buckets__sizes_without_a_meaning__are_typed_errors() {
    let bidirectional = |n, max| RelativePositionBuckets::bidirectional(n, max).unwrap_err();
    let causal = |n, max| RelativePositionBuckets::causal(n, max).unwrap_err();
    for n in [0, 1, 2, 3, 5, 33, usize::MAX] {
        let error =
            AttentionError::InvalidSize { what: "num_buckets", expected: "an even number from 4", found: n };
        assert_eq!(bidirectional(n, 128), error);
    }
    assert_eq!(causal(0, 128).to_string(), "num_buckets: expected at least 2, found 0");
    assert_eq!(causal(1, 128).to_string(), "num_buckets: expected at least 2, found 1");
    for max_distance in [0, 1, 8] {
        let error = bidirectional(32, max_distance);
        assert!(matches!(error, AttentionError::InvalidSize { what: "max_distance", .. }), "{error}");
        assert!(matches!(causal(16, max_distance), AttentionError::InvalidSize { what: "max_distance", .. }));
    }
    assert!(RelativePositionBuckets::bidirectional(32, 9).is_ok());
    // Two huge sizes whose quotient is 1 in floating point.
    assert!(matches!(causal(1 << 62, (1 << 61) + 1), AttentionError::InvalidSize { .. }));
}

#[test]
fn relative_bias__wrong_and_huge_sizes__are_typed_errors() {
    let t5 = RelativePositionBuckets::bidirectional(32, 128).unwrap();
    let error = t5.table(&[0.0; 63], 2).unwrap_err();
    assert_eq!(error, AttentionError::ShapeMismatch { axis: "embedding.len", expected: 64, found: 63 });
    let error = t5.embedding_gradient(&[0.0; 182], 1).unwrap_err();
    assert_eq!(error, AttentionError::ShapeMismatch { axis: "d_table.len", expected: 183, found: 182 });
    assert_eq!(t5.table(&[], 0), Ok(vec![]));
    assert_eq!(t5.embedding_gradient(&[], 0), Ok(vec![]));
    let overflow = |what| AttentionError::SizeOverflow { what };
    assert_eq!(t5.table(&[], usize::MAX / 8), Err(overflow("embedding")));
    assert_eq!(t5.embedding_gradient(&[], usize::MAX / 8), Err(overflow("relative_bias.table")));
    // Distances are told apart up to more than 2^50: no memory holds the table, and no loop may count it.
    let wide = RelativePositionBuckets::bidirectional(64, 1 << 62).unwrap();
    assert!(wide.left() > 1 << 50);
    assert!(matches!(wide.table(&[0.0; 64], 1), Err(AttentionError::AllocationFailed { .. })));
    assert_eq!(wide.table(&[], 0), Ok(vec![]));
    assert_eq!(wide.table(&[0.0; 64 * 16], 16), Err(overflow("relative_bias.table")));
    let many = RelativePositionBuckets::causal(usize::MAX, usize::MAX).unwrap();
    assert_eq!(many.table(&[], 3), Err(overflow("embedding")));
    assert!(many.bucket(i64::MIN) < usize::MAX);
}

#[test]
fn alibi__heads_of_any_number__have_the_published_slopes() {
    let golden = Golden::open("position/alibi.safetensors");
    for num_heads in (1..=20).chain([32, 48]) {
        let expected = golden.numbers(&format!("heads.{num_heads}"));
        let expected: Vec<f32> = expected.into_iter().map(|slope| slope as f32).collect();
        assert_eq!(alibi_slopes(num_heads).unwrap(), expected, "{num_heads} heads");
    }
    assert_eq!(alibi_slopes(0), Ok(vec![]));
    let huge = alibi_slopes(usize::MAX).unwrap_err();
    assert_eq!(huge, AttentionError::AllocationFailed { bytes: usize::MAX });
}

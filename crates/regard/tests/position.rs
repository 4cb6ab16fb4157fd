//! Positions against Hugging Face's and the papers' numbers, their gradients, and what they refuse.
#![allow(non_snake_case)]

use fastrand::Rng;
use regard::AttentionError;
use regard::position::{
    LearnedPositions, Llama3Scaling, RotaryPairs, RotaryPositions, RotaryScaling, Rotation,
    SinusoidalPositions, YarnScaling,
};
use regard_testkit::{Golden, assert_close};

const PAIRS: [(&str, RotaryPairs); 2] =
    [("half_split", RotaryPairs::HalfSplit), ("interleaved", RotaryPairs::Interleaved)];

/// The cases of `golden/position/rotary.safetensors`: name, base, rotary dimension, scaling.
fn scalings() -> Vec<(&'static str, f32, usize, RotaryScaling)> {
    let partial = YarnScaling {
        beta_fast: 16.0,
        beta_slow: 2.0,
        attention_factor: Some(0.75),
        ..YarnScaling::new(40.0, 4096)
    };
    let untruncated = YarnScaling { truncate: false, ..YarnScaling::new(32.0, 4096) };
    let ten = 10_000.0;
    vec![
        ("none", ten, 32, RotaryScaling::None),
        ("linear", ten, 32, RotaryScaling::Linear { factor: 2.5 }),
        ("ntk_aware", ten, 32, RotaryScaling::NtkAware { factor: 4.0 }),
        ("dynamic_short", ten, 32, dynamic(2.0, 2048, 100)),
        ("dynamic_long", ten, 32, dynamic(2.0, 2048, 10_000)),
        ("yarn", ten, 32, RotaryScaling::Yarn(YarnScaling::new(4.0, 2048))),
        ("yarn_partial", ten, 24, RotaryScaling::Yarn(partial)),
        ("yarn_untruncated", 150_000.0, 32, RotaryScaling::Yarn(untruncated)),
        ("yarn_shrunk", ten, 32, RotaryScaling::Yarn(YarnScaling::new(0.5, 64))),
        ("llama3", 500_000.0, 32, RotaryScaling::Llama3(Llama3Scaling::new(8.0, 8192))),
    ]
}

fn dynamic(factor: f64, original_max_positions: usize, seq_len: usize) -> RotaryScaling {
    RotaryScaling::DynamicNtk { factor, original_max_positions, seq_len }
}

fn rotary(rotary_dim: usize, base: f32, pairs: RotaryPairs, scaling: RotaryScaling) -> RotaryPositions {
    RotaryPositions::new(32, rotary_dim, base, pairs).unwrap().with_scaling(scaling).unwrap()
}

fn random_row(rng: &mut Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| 2.0 * rng.f32() - 1.0).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

#[test]
fn rotary__both_pairings_and_an_offset__agree_with_the_formula() {
    let golden = Golden::open("layer/rotary.safetensors");
    let input = golden.f32s("input");
    for (name, pairs) in PAIRS {
        let rotary = RotaryPositions::new(8, 8, 10_000.0, pairs).unwrap();
        for offset in [0, 100] {
            let mut rows = input.clone();
            rows.chunks_exact_mut(8).enumerate().for_each(|(p, row)| rotary.at(p + offset).apply(row));
            let expected = golden.numbers(&format!("{name}.offset{offset}"));
            assert_close(&format!("{name} at {offset}"), &rows, &expected, 1e-6);
        }
    }
}

#[test]
fn rotary__every_scaling_up_to_a_million_positions__agrees_with_hugging_face() {
    let golden = Golden::open("position/rotary.safetensors");
    let (input, positions) = (golden.f32s("input"), golden.numbers("positions"));
    let (mut worst_frequency, mut worst) = (0.0f64, 0.0f64);
    for (name, base, rotary_dim, scaling) in scalings() {
        for (form, pairs) in PAIRS {
            let rotary = rotary(rotary_dim, base, pairs, scaling);
            let expected = golden.numbers(&format!("{name}.frequencies"));
            assert_eq!(rotary.frequencies().len(), expected.len(), "{name}");
            for (i, (found, expected)) in rotary.frequencies().iter().zip(&expected).enumerate() {
                let error = (found / expected - 1.0).abs();
                assert!(error < 1e-14, "{name}: pair {i}: {found:e}, expected {expected:e}");
                worst_frequency = worst_frequency.max(error);
            }
            let factor = golden.numbers(&format!("{name}.attention_factor"))[0];
            assert!((rotary.attention_factor() - factor).abs() < 1e-15, "{name}: {factor}");
            let mut rows = input.clone();
            for (row, &position) in rows.chunks_exact_mut(32).zip(&positions) {
                rotary.at(position as usize).apply(row);
            }
            let expected = golden.numbers(&format!("{name}.{form}"));
            worst = worst.max(assert_close(&format!("{name} {form}"), &rows, &expected, 5e-7));
        }
    }
    println!("frequencies within {worst_frequency:.1e} (relative), rows within {worst:.1e}");
}

#[test]
fn rotary__scores_in_every_scaling__depend_on_the_distance_alone() {
    let mut rng = Rng::with_seed(3);
    for (name, base, rotary_dim, scaling) in scalings() {
        for (form, pairs) in PAIRS {
            let rotary = rotary(rotary_dim, base, pairs, scaling);
            let (query, key) = (random_row(&mut rng, 32), random_row(&mut rng, 32));
            let at = |position: usize, row: &[f32]| {
                let mut row = row.to_vec();
                rotary.at(position).apply(&mut row);
                row
            };
            let score = |first: usize| dot(&at(first + 3, &query), &at(first, &key));
            for first in [1000, 1_000_000] {
                let (near, far) = (score(2), score(first));
                assert!((near - far).abs() < 1e-5, "{name} {form}: {near} {far}");
            }
            assert!((score(2) - dot(&at(4, &query), &at(2, &key))).abs() > 1e-3, "{name} {form}: distance 2");
            let turned = at(77, &query);
            assert_eq!(turned[rotary_dim..], query[rotary_dim..], "{name} {form}");
            let (turned, query) = (&turned[..rotary_dim], &query[..rotary_dim]);
            let growth = (dot(turned, turned) / dot(query, query)).sqrt();
            assert!((growth - rotary.attention_factor()).abs() < 1e-6, "{name} {form}: {growth}");
        }
    }
}

#[test]
fn rotary__scaling_set_twice__is_the_last_one() {
    for (name, base, rotary_dim, scaling) in scalings() {
        let plain = RotaryPositions::new(32, rotary_dim, base, RotaryPairs::HalfSplit).unwrap();
        let scaled = plain.clone().with_scaling(scaling).unwrap();
        let changed = !["none", "dynamic_short"].contains(&name);
        assert_eq!(scaled != plain, changed, "{name}");
        let again = scaled.clone().with_scaling(RotaryScaling::Linear { factor: 3.0 }).unwrap();
        assert_eq!(again.with_scaling(scaling).unwrap(), scaled, "{name}");
        assert_eq!(scaled.with_scaling(RotaryScaling::None).unwrap(), plain, "{name}");
    }
}

#[test]
fn rotation__backward__is_the_transpose_and_the_derivative() {
    let mut rng = Rng::with_seed(4);
    for (name, base, rotary_dim, scaling) in scalings() {
        for (form, pairs) in PAIRS {
            let rotation = rotary(rotary_dim, base, pairs, scaling).at(rng.usize(..100_000));
            let (row, d_output) = (random_row(&mut rng, 32), random_row(&mut rng, 32));
            let apply = |row: &[f32]| {
                let mut row = row.to_vec();
                rotation.apply(&mut row);
                row
            };
            let mut d_row = d_output.clone();
            rotation.apply_backward(&mut d_row);
            let (forward, backward) = (dot(&apply(&row), &d_output), dot(&row, &d_row));
            assert!((forward - backward).abs() < 1e-6, "{name} {form}: {forward} {backward}");
            for i in 0..32 {
                let moved = |by: f32| {
                    let mut row = row.clone();
                    row[i] += by;
                    dot(&apply(&row), &d_output)
                };
                // The map is linear, so the step may be large.
                let difference = (moved(1.0) - moved(-1.0)) / 2.0;
                let found = d_row[i];
                assert!((difference - f64::from(found)).abs() < 1e-6, "{name} {form}: {i}: {difference}");
            }
        }
    }
}

#[test]
fn rotation__from_cosines_and_sines__is_the_rotation_of_the_position() {
    for (_, pairs) in PAIRS {
        let rotary = RotaryPositions::new(10, 6, 10_000.0, pairs).unwrap();
        let angles: Vec<f64> = rotary.frequencies().iter().map(|frequency| 12.0 * frequency).collect();
        let (cos, sin): (Vec<f32>, Vec<f32>) =
            angles.iter().map(|a| (a.cos() as f32, a.sin() as f32)).unzip();
        assert_eq!(Rotation::new(10, pairs, &cos, &sin).unwrap(), rotary.at(12));
    }
}

#[test]
fn rotary__sizes_and_numbers_that_make_no_rotation__are_typed_errors() {
    let new = |head_dim, rotary_dim, base| {
        RotaryPositions::new(head_dim, rotary_dim, base, RotaryPairs::HalfSplit).unwrap_err()
    };
    assert!(matches!(new(16, 7, 1e4), AttentionError::NotDivisible { size: 7, divisor: 2, .. }));
    assert!(matches!(new(16, 18, 1e4), AttentionError::OutOfBounds { needed: 18, found: 16, .. }));
    assert_eq!(new(16, 0, 1e4).to_string(), "rotary_dim: expected at least 2, found 0");
    for base in [f32::NAN, f32::INFINITY, 0.0, -1.0] {
        assert!(matches!(new(16, 16, base), AttentionError::InvalidNumber { .. }), "{base}");
    }
    let huge = usize::MAX - 1;
    assert!(matches!(new(huge, huge, 1e4), AttentionError::AllocationFailed { .. }));

    let rotation = |cos: &[f32], sin: &[f32]| Rotation::new(4, RotaryPairs::HalfSplit, cos, sin).unwrap_err();
    assert!(matches!(rotation(&[1.0], &[]), AttentionError::ShapeMismatch { axis: "sin.len", .. }));
    assert!(matches!(rotation(&[], &[]), AttentionError::InvalidSize { .. }));
    assert!(matches!(
        rotation(&[1.0; 3], &[0.0; 3]),
        AttentionError::OutOfBounds { needed: 6, found: 4, .. }
    ));
}

#[test]
fn rotary__hostile_scalings__are_typed_errors() {
    let plain = RotaryPositions::new(16, 16, 10_000.0, RotaryPairs::HalfSplit).unwrap();
    let refused = |scaling: RotaryScaling| plain.clone().with_scaling(scaling).unwrap_err();
    let yarn = YarnScaling::new(4.0, 2048);
    let llama = Llama3Scaling::new(8.0, 8192);
    for bad in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
        for scaling in [
            RotaryScaling::Linear { factor: bad },
            RotaryScaling::NtkAware { factor: bad },
            dynamic(bad, 16, 32),
            RotaryScaling::Yarn(YarnScaling { factor: bad, ..yarn }),
            RotaryScaling::Yarn(YarnScaling { beta_fast: bad, ..yarn }),
            RotaryScaling::Yarn(YarnScaling { beta_slow: bad, ..yarn }),
            RotaryScaling::Yarn(YarnScaling { attention_factor: Some(bad), ..yarn }),
            RotaryScaling::Llama3(Llama3Scaling { factor: bad, ..llama }),
            RotaryScaling::Llama3(Llama3Scaling { low_frequency_factor: bad, ..llama }),
            RotaryScaling::Llama3(Llama3Scaling { high_frequency_factor: bad, ..llama }),
        ] {
            assert!(matches!(refused(scaling), AttentionError::InvalidNumber { .. }), "{scaling:?}");
        }
    }
    for scaling in [
        RotaryScaling::NtkAware { factor: 1e300 },
        dynamic(1e300, 1, usize::MAX),
        RotaryScaling::Yarn(YarnScaling { beta_fast: 0.5, ..yarn }),
        RotaryScaling::Yarn(YarnScaling { attention_factor: Some(1e39), ..yarn }),
        RotaryScaling::Llama3(Llama3Scaling { high_frequency_factor: 1.0, ..llama }),
        // Angles that are no numbers.
        RotaryScaling::Linear { factor: 1e-300 },
        RotaryScaling::Yarn(YarnScaling { factor: 1e-300, ..yarn }),
        RotaryScaling::Llama3(Llama3Scaling { factor: 1e-300, ..llama }),
    ] {
        assert!(matches!(refused(scaling), AttentionError::InvalidNumber { .. }), "{scaling:?}");
    }
    for scaling in
        [RotaryScaling::Yarn(YarnScaling::new(4.0, 0)), RotaryScaling::Llama3(Llama3Scaling::new(8.0, 0))]
    {
        let error = refused(scaling).to_string();
        assert_eq!(error, "original_max_positions: expected at least 1, found 0");
    }
    let base_one = RotaryPositions::new(16, 16, 1.0, RotaryPairs::HalfSplit).unwrap();
    let error = base_one.with_scaling(RotaryScaling::Yarn(yarn)).unwrap_err();
    assert_eq!(error.to_string(), "rotary base (above 1, for YaRN): expected a finite number, found 1");
    let one_pair = RotaryPositions::new(16, 2, 10_000.0, RotaryPairs::HalfSplit).unwrap();
    let error = one_pair.with_scaling(RotaryScaling::NtkAware { factor: 2.0 }).unwrap_err();
    assert_eq!(error.to_string(), "rotary_dim: expected at least 4, for NTK-aware scaling, found 2");
}

#[test]
fn rotary__extreme_but_allowed_numbers__rotate_without_nan() {
    for scaling in [
        RotaryScaling::Linear { factor: 1e300 },
        RotaryScaling::Linear { factor: 1e-200 },
        RotaryScaling::NtkAware { factor: 1e-30 },
        RotaryScaling::Yarn(YarnScaling::new(1e300, usize::MAX)),
        RotaryScaling::Yarn(YarnScaling { beta_fast: 1.0, ..YarnScaling::new(2.0, 1) }),
        RotaryScaling::Llama3(Llama3Scaling::new(1e-30, 1)),
    ] {
        for base in [1.1, 10_000.0, f32::MAX] {
            let rotary = rotary(32, base, RotaryPairs::Interleaved, scaling);
            let mut row = vec![1.0; 32];
            rotary.at(usize::MAX).apply(&mut row);
            assert!(row.iter().all(|x| x.is_finite()), "{scaling:?}, base {base}: {row:?}");
        }
    }
}

#[test]
fn sinusoidal__formula_of_the_paper__agrees() {
    let golden = Golden::open("layer/sinusoidal.safetensors");
    let [positions, model_dim] = golden.shape("positions")[..] else { panic!("two axes") };
    let mut rows = vec![0.0; positions * model_dim];
    SinusoidalPositions::new(model_dim).add_to(&mut rows, [1, positions], 0).unwrap();
    assert_close("sinusoidal", &rows, &golden.numbers("positions"), 1e-7);
}

#[test]
fn learned__position_beyond_the_table__is_an_error() {
    let learned = LearnedPositions::new(vec![1.0; 4 * 3], 4, 3).unwrap();
    let mut rows = vec![0.5; 2 * 3 * 3];
    learned.add_to(&mut rows, [2, 3], 1).unwrap();
    assert!(rows.iter().all(|&x| x == 1.5));
    let error = learned.add_to(&mut rows, [2, 3], 2).unwrap_err();
    assert_eq!(error, AttentionError::OutOfBounds { what: "positions", needed: 5, found: 4 });
}

#[test]
fn learned__gradient__is_the_transpose_and_accumulates() {
    let mut rng = Rng::with_seed(5);
    let [batch, seq, model_dim, first, num_positions] = [3, 4, 5, 2, 7];
    let learned =
        LearnedPositions::new(random_row(&mut rng, num_positions * model_dim), num_positions, model_dim);
    let learned = learned.unwrap();
    let d_embeddings = random_row(&mut rng, batch * seq * model_dim);
    let mut added = vec![0.0; d_embeddings.len()];
    learned.add_to(&mut added, [batch, seq], first).unwrap();
    let mut d_table = vec![0.0; num_positions * model_dim];
    learned.add_gradient(&d_embeddings, [batch, seq], first, &mut d_table).unwrap();
    let (forward, backward) = (dot(&added, &d_embeddings), dot(learned.table(), &d_table));
    assert!((forward - backward).abs() < 1e-6, "{forward} {backward}");
    for (i, &found) in d_table.iter().enumerate() {
        // What the table's element is added to, by adding it.
        let mut one = learned.clone();
        one.table_mut().fill(0.0);
        one.table_mut()[i] = 1.0;
        let mut reached = vec![0.0; d_embeddings.len()];
        one.add_to(&mut reached, [batch, seq], first).unwrap();
        assert_eq!(found, dot(&reached, &d_embeddings) as f32, "element {i}");
    }
    let once = d_table.clone();
    learned.add_gradient(&d_embeddings, [batch, seq], first, &mut d_table).unwrap();
    for (i, (twice, once)) in d_table.iter().zip(&once).enumerate() {
        assert!((twice - 2.0 * once).abs() <= 2.0 * f32::EPSILON * once.abs(), "element {i}: {twice} {once}");
    }
}

#[test]
fn learned__gradient_of_wrong_sizes__is_an_error_and_writes_nothing() {
    let learned = LearnedPositions::new(vec![1.0; 4 * 3], 4, 3).unwrap();
    let mut d_table = vec![7.0; 12];
    let mut add = |d_embeddings: &[f32], size: [usize; 2], first: usize| {
        learned.add_gradient(d_embeddings, size, first, &mut d_table)
    };
    assert!(matches!(
        add(&[1.0; 18], [2, 3], 2),
        Err(AttentionError::OutOfBounds { needed: 5, found: 4, .. })
    ));
    assert!(matches!(add(&[1.0; 18], [2, 3], usize::MAX), Err(AttentionError::OutOfBounds { .. })));
    assert!(matches!(add(&[1.0; 17], [2, 3], 0), Err(AttentionError::ShapeMismatch { found: 17, .. })));
    assert!(matches!(add(&[], [usize::MAX, 3], 0), Err(AttentionError::SizeOverflow { .. })));
    assert_eq!(add(&[], [0, 3], 0), Ok(()));
    assert_eq!(d_table, [7.0; 12]);
    let error = learned.add_gradient(&[1.0; 3], [1, 1], 0, &mut d_table[..11]).unwrap_err();
    assert_eq!(error, AttentionError::ShapeMismatch { axis: "d_table.len", expected: 12, found: 11 });
}

//! Gradients of one projection against sums in f64, and their bits.
#![allow(non_snake_case)]

use fastrand::Rng;
use regard::layer::{Linear, LinearGradients};
use regard::{AttentionError, Parallelism};
use regard_testkit::assert_close;

fn random(rng: &mut Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.f32() * 2.0 - 1.0).collect()
}

fn linear(rng: &mut Rng, inputs: usize, outputs: usize, has_bias: bool) -> Linear {
    let weight = random(rng, inputs * outputs);
    Linear::new(weight, has_bias.then(|| random(rng, outputs)), inputs, outputs).unwrap()
}

fn bits<'a>(numbers: impl IntoIterator<Item = &'a f32>) -> Vec<u32> {
    numbers.into_iter().map(|x| x.to_bits()).collect()
}

/// Rows enough that the sum over them is taken in several blocks, and biases of several blocks too.
#[test]
fn linear_backward__thread_counts__give_the_same_bits() {
    let mut rng = Rng::with_seed(7);
    for (rows, in_features, out_features) in [(3000, 70, 33), (5, 300, 700), (700, 1, 600), (1, 900, 900)] {
        let linear = linear(&mut rng, in_features, out_features, true);
        let (input, d_output) = (random(&mut rng, rows * in_features), random(&mut rng, rows * out_features));
        let all = |parallelism| {
            let mut found =
                [input.len(), in_features * out_features, out_features].map(|len| vec![f32::NAN; len]);
            let [d_input, d_weight, d_bias] = &mut found;
            let gradients =
                LinearGradients { d_input: Some(d_input), d_weight: Some(d_weight), d_bias: Some(d_bias) };
            linear.backward(&input, &d_output, gradients, parallelism).unwrap();
            found
        };
        let alone = all(Parallelism::Sequential);
        for threads in [2, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool.install(|| all(Parallelism::Pool));
            assert!(bits(found.iter().flatten()) == bits(alone.iter().flatten()), "{threads} threads");
        }

        let wide = |numbers: &[f32], i: usize| f64::from(numbers[i]);
        let product = |count: usize, term: &dyn Fn(usize) -> f64| (0..count).map(term).sum::<f64>();
        let expected: [Vec<f64>; 3] = [
            (0..input.len())
                .map(|at| {
                    let (row, i) = (at / in_features, at % in_features);
                    product(out_features, &|o| {
                        wide(&d_output, row * out_features + o) * wide(linear.weight(), o * in_features + i)
                    })
                })
                .collect(),
            (0..in_features * out_features)
                .map(|at| {
                    let (o, i) = (at / in_features, at % in_features);
                    product(rows, &|row| {
                        wide(&d_output, row * out_features + o) * wide(&input, row * in_features + i)
                    })
                })
                .collect(),
            (0..out_features)
                .map(|o| product(rows, &|row| wide(&d_output, row * out_features + o)))
                .collect(),
        ];
        for ((name, found), expected) in ["d_input", "d_weight", "d_bias"].iter().zip(&alone).zip(&expected) {
            let largest = expected.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
            assert_close(&format!("{name} of {rows} rows"), found, expected, 2e-6 * largest);
        }
    }
}

/// A sum in f32 would be off by parts in a thousand here, and stop growing at 2²⁴ rows.
#[test]
fn linear_backward__a_million_rows__give_the_bias_gradient_to_its_last_bit() {
    const ROWS: usize = 1 << 20;
    let linear = Linear::new(vec![1.0; 3], Some(vec![0.0; 3]), 1, 3).unwrap();
    let (input, d_output) = (vec![0.0; ROWS], [0.1, 1.0, 1e-3].repeat(ROWS));
    let mut d_bias = [0.0; 3];
    let gradients = LinearGradients { d_bias: Some(&mut d_bias), ..LinearGradients::default() };
    linear.backward(&input, &d_output, gradients, Parallelism::Pool).unwrap();
    for (found, number) in d_bias.into_iter().zip([0.1f32, 1.0, 1e-3]) {
        assert_eq!(found, number * ROWS as f32); // a power of two: exact
    }
}

#[test]
fn linear_backward__gradients_not_asked_for__are_not_needed_and_others_are_overwritten() {
    let mut rng = Rng::with_seed(8);
    let linear = linear(&mut rng, 4, 3, false);
    let (input, d_output) = (random(&mut rng, 2 * 4), random(&mut rng, 2 * 3));
    let run = |gradients: LinearGradients<'_>| {
        linear.backward(&input, &d_output, gradients, Parallelism::Sequential)
    };
    let (mut first, mut again) = ([0.0; 12], [7.0; 12]);
    run(LinearGradients { d_weight: Some(&mut first), ..LinearGradients::default() }).unwrap();
    run(LinearGradients { d_weight: Some(&mut again), ..LinearGradients::default() }).unwrap();
    assert_eq!(first, again);
    let error =
        run(LinearGradients { d_bias: Some(&mut [0.0; 3]), ..LinearGradients::default() }).unwrap_err();
    assert_eq!(error, AttentionError::MissingOption { option: "bias" });
}

#[test]
fn linear_backward__lengths_that_do_not_fit__are_typed_errors() {
    let linear = linear(&mut Rng::with_seed(11), 4, 3, true);
    let run = |input: &[f32], d_output: &[f32], d_weight: &mut [f32]| {
        let gradients = LinearGradients { d_weight: Some(d_weight), ..LinearGradients::default() };
        linear.backward(input, d_output, gradients, Parallelism::Sequential).unwrap_err().to_string()
    };
    assert_eq!(run(&[0.0; 7], &[0.0; 3], &mut [0.0; 12]), "linear.input.len: expected size 4, found 7");
    assert_eq!(run(&[0.0; 8], &[0.0; 5], &mut [0.0; 12]), "linear.d_output.len: expected size 6, found 5");
    assert_eq!(run(&[0.0; 8], &[0.0; 6], &mut [0.0; 11]), "linear.d_weight.len: expected size 12, found 11");
}

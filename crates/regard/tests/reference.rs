//! The textbook's own gradients: against dual numbers carried through its forward pass, and against differences.
#![allow(non_snake_case)]

mod common;

use std::cmp::Ordering;
use std::ops::{Add, Div, Mul, Sub};

use common::cases::{Case, setting};
use common::{Memory, Sizes};
use fastrand::Rng;
use rayon::prelude::*;
use regard::reference::{Cotangents, Gradient, Real, Reference, ReferenceGradients, ReferenceOutput};

/// A number and its derivative by one input.
#[derive(Debug, Clone, Copy)]
struct Dual {
    value: f64,
    derivative: f64,
}

fn dual(value: f64, derivative: f64) -> Dual {
    Dual { value, derivative }
}

impl PartialEq for Dual {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialOrd for Dual {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl Add for Dual {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        dual(self.value + other.value, self.derivative + other.derivative)
    }
}

impl Sub for Dual {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        dual(self.value - other.value, self.derivative - other.derivative)
    }
}

impl Mul for Dual {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        dual(self.value * other.value, self.derivative * other.value + self.value * other.derivative)
    }
}

impl Div for Dual {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        let value = self.value / other.value;
        dual(value, (self.derivative - value * other.derivative) / other.value)
    }
}

impl Real for Dual {
    fn from_f64(number: f64) -> Self {
        dual(number, 0.0)
    }
    fn to_f64(self) -> f64 {
        self.value
    }
    fn exp(self) -> Self {
        let exp = self.value.exp();
        dual(exp, exp * self.derivative)
    }
    fn ln(self) -> Self {
        dual(self.value.ln(), self.derivative / self.value)
    }
    fn tanh(self) -> Self {
        // 1/cosh²: 1 − tanh² would lose what is left where tanh is nearly 1.
        dual(self.value.tanh(), self.derivative / self.value.cosh().powi(2))
    }
}

/// The inputs that have a gradient, in the order of [`gradients`].
const INPUTS: [&str; 6] = ["query", "key", "value", "attention_bias", "relative_bias", "sinks"];

fn inputs<'r, R>(reference: &'r mut Reference<'_, R>) -> [&'r mut Vec<R>; 6] {
    let Reference { query, key, value, attention_bias, relative_bias, sinks, .. } = reference;
    [query, key, value, attention_bias, relative_bias, sinks]
}

fn gradients(all: &ReferenceGradients<f64>) -> [&Gradient<f64>; 6] {
    [&all.d_query, &all.d_key, &all.d_value, &all.d_attention_bias, &all.d_relative_bias, &all.d_sinks]
}

/// Σ output·d_output + Σ log_sum_exp·d_log_sum_exp over the rows that have one, in any number type.
fn loss<R: Real>(forward: &ReferenceOutput<R>, cotangents: &Cotangents<f64>) -> R {
    let outputs = forward.output.iter().zip(&cotangents.d_output);
    let lses = forward.log_sum_exp.iter().zip(&cotangents.d_log_sum_exp);
    let terms = outputs.chain(lses).filter(|(number, _)| number.to_f64().is_finite());
    terms.fold(R::from_f64(0.0), |sum, (&number, &cotangent)| sum + number * R::from_f64(cotangent))
}

fn small_case(rng: &mut Rng) -> (Case<f32, f32>, Cotangents<f64>) {
    let kv_heads = rng.usize(1..3);
    let sizes = Sizes {
        batch: rng.usize(1..3),
        heads: kv_heads * rng.usize(1..3),
        kv_heads,
        s_q: rng.usize(1..7),
        s_kv: rng.usize(1..9),
        d: rng.usize(1..6),
        d_v: rng.usize(..6),
    };
    let case = Case::<f32, f32>::of_sizes(sizes, 16, rng);
    let cotangent = case.inputs.cotangent(rng.u8(..3) > 0, &Memory::PLAIN, rng);
    let wide = |numbers: Vec<f32>| numbers.into_iter().map(f64::from).collect();
    let d_output = wide(cotangent.d_output.numbers());
    (case, Cotangents { d_output, d_log_sum_exp: wide(cotangent.d_log_sum_exp.unwrap_or_default()) })
}

/// `REGARD_DUAL_CASES` sets the number (60 unless set).
#[test]
fn reference__gradients_of_random_small_calls__equal_the_derivatives_of_dual_numbers() {
    let cases: u64 = setting("REGARD_DUAL_CASES", 60);
    let counts = (0..cases).into_par_iter().map(|seed| {
        let mut rng = Rng::with_seed(seed);
        let (case, cotangents) = small_case(&mut rng);
        let what = case.description();
        let views = (case.inputs.query.view(), case.inputs.key.view(), case.inputs.value.view());
        case.with_config(|config| {
            let all = Reference::<f64>::new(views.0, views.1, views.2, config).unwrap().backward(&cotangents);
            let mut reference = Reference::<Dual>::new(views.0, views.1, views.2, config).unwrap();
            let mut counts = [0usize; 6];
            for (tensor, gradient) in gradients(&all).into_iter().enumerate() {
                let len = gradient.sum.len();
                assert_eq!(inputs(&mut reference)[tensor].len(), len);
                // Most numbers of a table are for distances that do not occur.
                let mut occurring: Vec<usize> = (0..len).filter(|&i| gradient.terms[i] > 0.0).collect();
                rng.shuffle(&mut occurring);
                occurring.truncate(8);
                occurring.extend((0..len.min(4)).map(|_| rng.usize(..len)));
                for index in occurring {
                    inputs(&mut reference)[tensor][index].derivative = 1.0;
                    let derivative = loss(&reference.forward(), &cotangents).derivative;
                    inputs(&mut reference)[tensor][index].derivative = 0.0;
                    let difference = (gradient.sum[index] - derivative).abs();
                    assert!(
                        difference <= 1e-12 * gradient.terms[index],
                        "seed {seed}: {} at {index}: {} by backward, {derivative} by dual numbers; {what}",
                        INPUTS[tensor],
                        gradient.sum[index]
                    );
                    counts[tensor] += usize::from(derivative != 0.0);
                }
            }
            counts
        })
    });
    let counts = counts.reduce(|| [0; 6], |a, b| std::array::from_fn(|i| a[i] + b[i]));
    println!("COUNT: {cases} calls against dual numbers; derivatives other than 0 of {INPUTS:?}: {counts:?}");
    assert!(counts.into_iter().all(|count| count > 0));
}

/// What dual numbers assume of the arithmetic, differences of the loss itself do not.
#[test]
fn reference__gradients_of_some_small_calls__equal_central_differences() {
    for seed in 1000..1010 {
        let mut rng = Rng::with_seed(seed);
        let (case, cotangents) = small_case(&mut rng);
        let views = (case.inputs.query.view(), case.inputs.key.view(), case.inputs.value.view());
        case.with_config(|config| {
            let mut reference = Reference::<f64>::new(views.0, views.1, views.2, config).unwrap();
            let all = reference.backward(&cotangents);
            for (tensor, gradient) in gradients(&all).into_iter().enumerate() {
                for (index, &expected) in gradient.sum.iter().enumerate().take(40) {
                    let number = inputs(&mut reference)[tensor][index];
                    let mut at = |number: f64| {
                        inputs(&mut reference)[tensor][index] = number;
                        loss(&reference.forward(), &cotangents)
                    };
                    let found = (at(number + 1e-6) - at(number - 1e-6)) / 2e-6;
                    at(number);
                    assert!(
                        (found - expected).abs() <= 1e-5 + 1e-3 * expected.abs(),
                        "seed {seed}: {} at {index}: {expected} by backward, {found} by differences; {}",
                        INPUTS[tensor],
                        case.description()
                    );
                }
            }
        });
    }
}

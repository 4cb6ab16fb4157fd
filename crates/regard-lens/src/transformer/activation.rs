//! The nonlinearity between the two halves of a feed-forward network.

use rayon::prelude::*;

/// Elements that one task works on; a multiple of any cache line, small enough to share a short text.
const CHUNK: usize = 8192;

/// A function applied to each number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// x·Φ(x), Φ the normal distribution (Hendrycks and Gimpel 2016, equation 1).
    Gelu,
    /// Its approximation by tanh (ibid., section 2).
    GeluTanh,
    /// max(x, 0).
    Relu,
    /// x / (1 + e^−x) (Elfwing et al. 2017, equation 3; Swish-1).
    Silu,
}

impl Activation {
    /// The names that a configuration may use.
    pub(crate) const NAMES: [&str; 6] = ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish"];

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        match name {
            "gelu" => Some(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Some(Self::GeluTanh),
            "relu" => Some(Self::Relu),
            "silu" | "swish" => Some(Self::Silu),
            _ => None,
        }
    }

    /// Applies the function to every number, in the current rayon pool.
    pub(super) fn apply(self, numbers: &mut [f32]) {
        let function: fn(f32) -> f32 = match self {
            Self::Gelu => gelu,
            Self::GeluTanh => gelu_tanh,
            Self::Relu => relu,
            Self::Silu => silu,
        };
        numbers.par_chunks_mut(CHUNK).for_each(|chunk| chunk.iter_mut().for_each(|x| *x = function(*x)));
    }
}

fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    0.5 * x * (1.0 + libm::tanhf(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))
}

/// Not `max`, which would turn NaN into 0.
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

fn silu(x: f32) -> f32 {
    x / (1.0 + (-x).exp())
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn activation__known_points__match_the_definitions() {
        // At 1 and −2, computed in f64 from the formulae above.
        for (activation, at_one, at_minus_two) in [
            (Activation::Gelu, 0.841_344_8, -0.045_500_26),
            (Activation::GeluTanh, 0.841_192, -0.045_402_3),
            (Activation::Relu, 1.0, 0.0),
            (Activation::Silu, 0.731_058_6, -0.238_405_84),
        ] {
            let mut numbers = [1.0, -2.0, 0.0, f32::NAN];
            activation.apply(&mut numbers);
            assert!((numbers[0] - at_one).abs() < 1e-6, "{activation:?}: {}", numbers[0]);
            assert!((numbers[1] - at_minus_two).abs() < 1e-6, "{activation:?}: {}", numbers[1]);
            assert_eq!(numbers[2], 0.0);
            assert!(numbers[3].is_nan());
        }
    }
}

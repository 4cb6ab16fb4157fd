//! The hyperbolic tangent of the softcap.
//!
//! Near 0 an odd polynomial (Cephes `tanhf`, Moshier 1984–2000: coefficients for |x| < 0.625), so that small
//! scores keep their relative accuracy; beyond it 1 − 2/(e^2|x| + 1), by way of the kernels' exponential.

use std::f32::consts::LOG2_E;

use pulp::Simd;

use super::exp::exp2_nonpositive;
use super::tile::{load, store};

const COEFFICIENTS: [f32; 5] =
    [-3.333_328e-1, 1.333_144_2e-1, -5.373_971_5e-2, 2.063_909e-2, -5.704_988_7e-3];

/// Where the polynomial ends.
const SMALL: f32 = 0.625;

/// tanh(x); ±∞ gives ±1, NaN stays NaN.
#[inline(always)]
pub(super) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (one, zero) = (simd.splat_f32s(1.0), simd.splat_f32s(0.0));
    let square = simd.mul_f32s(x, x);
    let mut sum = simd.splat_f32s(COEFFICIENTS[4]);
    for coefficient in COEFFICIENTS.into_iter().rev().skip(1) {
        sum = simd.mul_add_e_f32s(sum, square, simd.splat_f32s(coefficient));
    }
    let small = simd.mul_add_e_f32s(simd.mul_f32s(sum, square), x, x);

    let size = simd.abs_f32s(x);
    // (1 − e) / (1 + e) with e = e^(−2|x|) ≤ 0.29: nothing cancels badly, nothing overflows.
    let e = exp2_nonpositive(simd, simd.mul_f32s(size, simd.splat_f32s(-2.0 * LOG2_E)));
    let large = simd.div_f32s(simd.sub_f32s(one, e), simd.add_f32s(one, e));
    let large = simd.select_f32s(simd.less_than_f32s(x, zero), simd.neg_f32s(large), large);
    // NaN is not less than anything and takes the large branch, where it stays NaN.
    simd.select_f32s(simd.less_than_f32s(size, simd.splat_f32s(SMALL)), small, large)
}

/// `score = cap · tanh(score / cap)`, in place.
#[inline(always)]
pub(super) fn cap_scores<S: Simd>(simd: S, cap: f32, scores: &mut [f32]) {
    let lanes = S::F32_LANES;
    let (cap_vector, inverse) = (simd.splat_f32s(cap), simd.splat_f32s(1.0 / cap));
    let capped = |score: S::f32s| simd.mul_f32s(cap_vector, tanh(simd, simd.mul_f32s(score, inverse)));
    let whole = scores.len() / lanes * lanes;
    for at in (0..whole).step_by(lanes) {
        // SAFETY: at + lanes ≤ whole ≤ scores.len().
        unsafe {
            let at = scores.as_mut_ptr().add(at);
            store(simd, at, capped(load(simd, at)));
        }
    }
    let rest = &mut scores[whole..];
    if !rest.is_empty() {
        simd.partial_store_f32s(rest, capped(simd.partial_load_f32s(rest)));
    }
}

/// The derivative of the cap at each of the uncapped `scores`: 1 − tanh²(score / cap), as 4e/(1 + e)² with
/// e = e^(−2|score / cap|), which cancels nothing where the cap is nearly reached.
#[inline(always)]
pub(super) fn cap_slopes<S: Simd>(simd: S, cap: f32, scores: &[f32], slopes: &mut [f32]) {
    let lanes = S::F32_LANES;
    assert!(scores.len() == slopes.len() && scores.len().is_multiple_of(lanes));
    let (one, four) = (simd.splat_f32s(1.0), simd.splat_f32s(4.0));
    let inverse = simd.splat_f32s(1.0 / cap);
    for at in (0..scores.len()).step_by(lanes) {
        // SAFETY: at + lanes ≤ the length of both (asserted).
        unsafe {
            let size = simd.abs_f32s(simd.mul_f32s(load(simd, scores.as_ptr().add(at)), inverse));
            let e = exp2_nonpositive(simd, simd.mul_f32s(size, simd.splat_f32s(-2.0 * LOG2_E)));
            let sum = simd.add_f32s(one, e);
            let slope = simd.div_f32s(simd.mul_f32s(four, e), simd.mul_f32s(sum, sum));
            store(simd, slopes.as_mut_ptr().add(at), slope);
        }
    }
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use super::*;
    use crate::kernel::Isa;
    use crate::kernel::dispatch::{SimdTask, run};

    struct Map<'a>(&'a mut [f32]);

    impl SimdTask for Map<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd, const MR: usize>(self, simd: S) {
            cap_scores(simd, 1.0, self.0);
        }
    }

    #[test]
    fn tanh__special_values_and_tails__are_right() {
        for isa in Isa::available() {
            for len in 0..40 {
                let mut numbers = vec![f32::NAN; len];
                run(isa, Map(&mut numbers));
                assert!(numbers.iter().all(|x| x.is_nan()), "{isa}");
            }
            let mut numbers = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, 1e-30, 1e-45];
            run(isa, Map(&mut numbers));
            assert_eq!(numbers, [0.0, -0.0, 1.0, -1.0, 1.0, -1.0, 1e-30, 1e-45], "{isa}");
        }
    }

    #[test]
    fn tanh__sweep_of_arguments__stays_within_three_ulp() {
        for isa in Isa::available() {
            let (mut worst, mut worst_at) = (0.0f64, 0.0f32);
            for sign in [0, 1u32 << 31] {
                let xs: Vec<f32> =
                    (0..0x4180_0000u32).step_by(1009).map(|b| f32::from_bits(b | sign)).collect();
                let mut found = xs.clone();
                run(isa, Map(&mut found));
                for (&x, &found) in xs.iter().zip(&found) {
                    let truth = f64::from(x).tanh();
                    let ulp = (truth.abs().log2().floor() - 23.0).max(-149.0).exp2();
                    let error = (f64::from(found) - truth).abs() / ulp;
                    if error > worst {
                        (worst, worst_at) = (error, x);
                    }
                }
            }
            println!("tanh on {isa}: worst error {worst:.3} ULP at {worst_at:e}");
            assert!(worst <= 3.0, "{isa}: {worst} ULP at {worst_at:e}");
        }
    }
}

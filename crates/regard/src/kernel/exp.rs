//! 2 to a power that is not positive: the exponential of the softmax.
//!
//! Scores carry a factor log₂e, so that e^(score − max) is 2^x with x ≤ 0. With n = x rounded and f = x − n in
//! [−½, ½], 2^x = 2^n · 2^f. Rounding and the scaling by 2^n come from one addition: x + 1.5·2²³ + 127 has
//! n + 127 in its low mantissa bits, which shifted left by 23 are the bits of 2^n. 2^f is a polynomial of
//! degree 6, fitted for the least greatest relative error (2.0e-9) with f(0) = 1. The measured error of the
//! whole is in NUMERICS.md.

use pulp::Simd;

const COEFFICIENTS: [f32; 6] =
    [std::f32::consts::LN_2, 0.240_226_48, 0.055_503_324, 0.009_618_437, 0.001_339_887_4, 0.000_153_533_62];

/// 1.5·2²³: adding it rounds to an integer, kept in the low mantissa bits; + 127 is the exponent's bias.
const ROUND: f32 = 12_582_912.0 + 127.0;

/// Below this the result is 0; between here and −126 it is within [0, 2⁻¹²⁶].
pub(super) const LOWEST: f32 = -127.0;

/// 2^x for x ≤ 0, −∞ or NaN: within 2 ULP of the truth where the result is at least 2⁻¹²⁶; 2^0 = 1;
/// 2^−∞ = 0; NaN stays NaN.
#[inline(always)]
pub(super) fn exp2_nonpositive<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let round = simd.splat_f32s(ROUND);
    let lowest = simd.splat_f32s(LOWEST);
    // A comparison and not a maximum: with NaN it is false, so NaN passes through on every instruction set.
    let x = simd.select_f32s(simd.less_than_f32s(x, lowest), lowest, x);
    let shifted = simd.add_f32s(x, round);
    let fraction = simd.sub_f32s(x, simd.sub_f32s(shifted, round));
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let power = simd.transmute_f32s_u32s(bits);
    let mut sum = simd.splat_f32s(COEFFICIENTS[5]);
    for coefficient in COEFFICIENTS.into_iter().rev().skip(1) {
        sum = simd.mul_add_e_f32s(sum, fraction, simd.splat_f32s(coefficient));
    }
    let sum = simd.mul_add_e_f32s(sum, fraction, simd.splat_f32s(1.0));
    simd.mul_f32s(sum, power)
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use super::*;
    use crate::kernel::Isa;
    use crate::kernel::dispatch::{SimdTask, run};

    struct Sweep<'a> {
        xs: &'a [f32],
        results: &'a mut [f32],
    }

    impl SimdTask for Sweep<'_> {
        type Output = ();
        fn run<S: Simd, const MR: usize>(self, simd: S) {
            for (x, result) in self.xs.iter().zip(self.results) {
                *result = simd.reduce_max_f32s(exp2_nonpositive(simd, simd.splat_f32s(*x)));
            }
        }
    }

    fn exp2(isa: Isa, xs: &[f32]) -> Vec<f32> {
        let mut results = vec![0.0; xs.len()];
        run(isa, Sweep { xs, results: &mut results });
        results
    }

    #[test]
    fn exp2__special_values__are_exact() {
        for isa in Isa::available() {
            let xs = [0.0, -0.0, f32::NEG_INFINITY, -1.0, -126.0, -127.0, -150.0, f32::MIN];
            let want = [1.0, 1.0, 0.0, 0.5, f32::MIN_POSITIVE, 0.0, 0.0, 0.0];
            assert_eq!(exp2(isa, &xs), want, "{isa}");
            let nans = [f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)];
            assert!(exp2(isa, &nans).iter().all(|p| p.is_nan()), "{isa}");
        }
    }

    /// Every `REGARD_EXP_STRIDE`-th of the 1.12 thousand million arguments in [−127, −0]; 1 for all of them.
    #[test]
    fn exp2__sweep_of_arguments__stays_within_two_ulp() {
        let stride: u32 = std::env::var("REGARD_EXP_STRIDE").map_or(997, |s| s.parse().unwrap());
        let (first, last) = ((-0.0f32).to_bits(), LOWEST.to_bits());
        for isa in Isa::available() {
            let (mut worst, mut worst_at) = (0.0f64, 0.0f32);
            let mut bits = first;
            while bits <= last {
                let xs: Vec<f32> = (0..65_536)
                    .map_while(|i: u32| bits.checked_add(i.checked_mul(stride)?).filter(|&b| b <= last))
                    .map(f32::from_bits)
                    .collect();
                for (x, found) in xs.iter().zip(exp2(isa, &xs)) {
                    let truth = f64::from(*x).exp2();
                    if truth < f64::from(f32::MIN_POSITIVE) {
                        assert!((0.0..=f32::MIN_POSITIVE).contains(&found), "{isa}: 2^{x} = {found}");
                        continue;
                    }
                    let ulp = (truth.log2().floor() - 23.0).exp2();
                    let error = (f64::from(found) - truth).abs() / ulp;
                    if error > worst {
                        (worst, worst_at) = (error, *x);
                    }
                }
                match bits.checked_add(stride.saturating_mul(65_536)) {
                    Some(next) => bits = next,
                    None => break,
                }
            }
            println!("exp2 on {isa}: worst error {worst:.3} ULP at {worst_at:e}, every {stride}th argument");
            assert!(worst <= 2.0, "{isa}: {worst} ULP at {worst_at}");
        }
    }
}

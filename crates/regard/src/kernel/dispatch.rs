//! The one place that turns an [`Isa`] into machine code.

use pulp::{Simd, WithSimd};

use super::isa::Isa;

/// A computation written once over a SIMD token and a register tile of `MR` rows × 2 vectors.
pub(super) trait SimdTask {
    type Output;
    fn run<S: Simd, const MR: usize>(self, simd: S) -> Self::Output;
}

struct WithTile<T, const MR: usize>(T);

impl<T: SimdTask, const MR: usize> WithSimd for WithTile<T, MR> {
    type Output = T::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> T::Output {
        self.0.run::<S, MR>(simd)
    }
}

/// Runs `task` on `isa`; on the scalar path if this machine does not have it.
///
/// 16 vector registers hold 6 × 2 accumulators, two vectors and a broadcast; 32 hold 12 × 2.
pub(super) fn run<T: SimdTask>(isa: Isa, task: T) -> T::Output {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            if let Some(simd) = pulp::x86::V3::try_new() {
                return Simd::vectorize(simd, WithTile::<T, 6>(task));
            }
        }
        #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
        Isa::Avx512 => {
            if let Some(simd) = pulp::x86::V4::try_new() {
                return Simd::vectorize(simd, WithTile::<T, 12>(task));
            }
        }
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => {
            if let Some(simd) = pulp::aarch64::Neon::try_new() {
                return Simd::vectorize(simd, WithTile::<T, 8>(task));
            }
        }
        _ => {}
    }
    Simd::vectorize(pulp::Scalar::new(), WithTile::<T, 6>(task))
}

//! Storage types: what a tensor may hold. Arithmetic is always in f32.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// A storage type of queries, keys, values and outputs: `f32`, [`half::f16`] or [`half::bf16`].
///
/// Sealed: kernels widen to f32, compute there, and round once on the way out.
pub trait Element: sealed::Sealed + Copy + Default + Send + Sync + 'static {
    /// The name used in messages and reports.
    const NAME: &'static str;

    /// Widens one element, exactly.
    fn to_f32(self) -> f32;

    /// Rounds one number to the nearest element, ties to even.
    fn from_f32(number: f32) -> Self;

    /// Widens `source` into `target`, exactly; both have the same length.
    ///
    /// # Panics
    /// If the lengths differ.
    fn widen(source: &[Self], target: &mut [f32]);

    /// Rounds `source` into `target` as [`Self::from_f32`] does; both have the same length.
    ///
    /// # Panics
    /// If the lengths differ.
    fn narrow(source: &[f32], target: &mut [Self]);

    /// The slice itself if it already holds f32.
    fn as_f32_slice(_slice: &[Self]) -> Option<&[f32]> {
        None
    }
}

impl Element for f32 {
    const NAME: &'static str = "f32";

    fn to_f32(self) -> f32 {
        self
    }
    fn from_f32(number: f32) -> Self {
        number
    }
    fn widen(source: &[Self], target: &mut [f32]) {
        target.copy_from_slice(source);
    }
    fn narrow(source: &[f32], target: &mut [Self]) {
        target.copy_from_slice(source);
    }
    fn as_f32_slice(slice: &[Self]) -> Option<&[f32]> {
        Some(slice)
    }
}

impl Element for f16 {
    const NAME: &'static str = "f16";

    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
    fn from_f32(number: f32) -> Self {
        f16::from_f32(number)
    }
    fn widen(source: &[Self], target: &mut [f32]) {
        source.convert_to_f32_slice(target);
    }
    fn narrow(source: &[f32], target: &mut [Self]) {
        target.convert_from_f32_slice(source);
    }
}

impl Element for bf16 {
    const NAME: &'static str = "bf16";

    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }
    fn from_f32(number: f32) -> Self {
        bf16::from_f32(number)
    }
    fn widen(source: &[Self], target: &mut [f32]) {
        assert_eq!(source.len(), target.len(), "widen: lengths differ");
        for (wide, narrow) in target.iter_mut().zip(source) {
            *wide = f32::from_bits(u32::from(narrow.to_bits()) << 16);
        }
    }
    fn narrow(source: &[f32], target: &mut [Self]) {
        assert_eq!(source.len(), target.len(), "narrow: lengths differ");
        for (narrow, wide) in target.iter_mut().zip(source) {
            *narrow = bf16::from_f32(*wide);
        }
    }
}

use std::ops::{Add, Div, Mul, Sub};

/// A number type that the textbook can be worked in: `f64`, `f32` for the naive comparison, or one that carries
/// derivatives along.
pub trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Send
    + 'static
{
    /// The number of a given f64, rounded.
    fn from_f64(number: f64) -> Self;
    /// The number widened.
    fn to_f64(self) -> f64;
    /// e to the power of the number.
    fn exp(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh(self) -> Self;
}

macro_rules! real {
    ($type:ty) => {
        impl Real for $type {
            fn from_f64(number: f64) -> Self {
                number as $type
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn exp(self) -> Self {
                <$type>::exp(self)
            }
            fn ln(self) -> Self {
                <$type>::ln(self)
            }
            fn tanh(self) -> Self {
                <$type>::tanh(self)
            }
        }
    };
}
real!(f32);
real!(f64);

//! What every configuration's fields are held to.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::error::LensError;
use crate::transformer::Activation;

/// The largest sizes of any model: products of two of them are far from overflow, and what is larger than its
/// weights is found when the tensors are read.
pub(super) const MODEL_DIMS: RangeInclusive<u64> = 1..=65_536;
pub(super) const LAYERS: RangeInclusive<u64> = 1..=1024;
pub(super) const HEADS: RangeInclusive<u64> = 1..=1024;
pub(super) const FEED_FORWARD_DIMS: RangeInclusive<u64> = 1..=1 << 20;
pub(super) const VOCABULARIES: RangeInclusive<u64> = 1..=1 << 24;
/// Rows of a table of positions.
pub(super) const POSITIONS: RangeInclusive<u64> = 1..=1 << 20;

/// A configuration being checked; `path` is named in errors.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) path: &'a Path,
}

impl Fields<'_> {
    /// The JSON file as `T`.
    pub(super) fn parse<'de, T: serde::Deserialize<'de>>(&self, json: &'de [u8]) -> Result<T, LensError> {
        serde_json::from_slice(json).map_err(|source| LensError::Json { path: self.path.to_owned(), source })
    }

    /// The error that a field is not what can be run.
    pub(super) fn refuse(
        &self,
        field: &'static str,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> LensError {
        LensError::Config {
            path: self.path.to_owned(),
            field,
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// A size within bounds.
    pub(super) fn size(
        &self,
        field: &'static str,
        value: u64,
        allowed: RangeInclusive<u64>,
    ) -> Result<usize, LensError> {
        match usize::try_from(value) {
            Ok(size) if allowed.contains(&value) => Ok(size),
            _ => Err(self.refuse(field, format!("{} to {}", allowed.start(), allowed.end()), value)),
        }
    }

    /// What is added where a norm divides.
    pub(super) fn eps(&self, field: &'static str, eps: f64) -> Result<f64, LensError> {
        if eps.is_finite() && eps >= 0.0 {
            Ok(eps)
        } else {
            Err(self.refuse(field, "a finite number, not negative", eps))
        }
    }

    /// An activation by name.
    pub(super) fn activation(&self, field: &'static str, name: &str) -> Result<Activation, LensError> {
        Activation::by_name(name)
            .ok_or_else(|| self.refuse(field, format!("one of {:?}", Activation::NAMES), format!("{name:?}")))
    }

    /// Refuses a size that does not split evenly among heads.
    pub(super) fn divisible(
        &self,
        (field, size): (&'static str, usize),
        (by, parts): (&'static str, usize),
    ) -> Result<(), LensError> {
        if size.is_multiple_of(parts) {
            Ok(())
        } else {
            Err(self.refuse(field, format!("a multiple of {by} ({parts})"), size))
        }
    }
}

//! Terms that depend on the distance of query and key, added to scores without a tensor of scores' size.

use crate::error::AttentionError;
use crate::shape::{AttentionShape, expect};
use crate::view::checked_product;

/// A bias for each head and each distance of key and query: key j of a query at position p gets element
/// `[head][left + clamp(j − p, −left, right)]`.
///
/// What T5 (Raffel et al. 2020, §2.1) and others learn by distance; beyond either end the end's number counts.
/// An element of −∞ forbids its keys as a mask does.
///
/// ```
/// use regard::RelativeBias;
/// let table = [-1.0, 0.0, -1.0]; // one head: the key before, the query's own, and the key after
/// let bias = RelativeBias::new(&table, 1, 1);
/// assert_eq!((bias.left, bias.right), (1, 1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RelativeBias<'a> {
    /// `[num_heads, left + 1 + right]`, row-major.
    pub table: &'a [f32],
    /// Distances before the query that have a number of their own.
    pub left: usize,
    /// Distances after the query that have a number of their own.
    pub right: usize,
}

impl<'a> RelativeBias<'a> {
    /// A table `[num_heads, left + 1 + right]`; its length is checked by the call that uses it.
    pub fn new(table: &'a [f32], left: usize, right: usize) -> Self {
        Self { table, left, right }
    }

    /// Numbers of one head.
    pub(crate) fn width(&self) -> usize {
        self.left + 1 + self.right
    }

    /// Column of key `key` for a query at `position`.
    pub(crate) fn column(&self, key: usize, position: i128) -> usize {
        let distance = key as i128 - position;
        (distance.clamp(-(self.left as i128), self.right as i128) + self.left as i128) as usize
    }

    /// The number for key `key` of `head`, for a query at `position`.
    pub(crate) fn at(&self, head: usize, key: usize, position: i128) -> f32 {
        self.table[head * self.width() + self.column(key, position)]
    }

    pub(crate) fn check(&self, shape: &AttentionShape) -> Result<(), AttentionError> {
        let width = self.left.checked_add(self.right).and_then(|sum| sum.checked_add(1));
        let width = width.ok_or(AttentionError::SizeOverflow { what: "relative_bias" })?;
        let needed = checked_product(&[shape.num_heads, width], "relative_bias")?;
        expect("relative_bias.table.len", needed, self.table.len())
    }
}

//! Which keys a query may attend to.

use std::ops::Range;

use crate::error::AttentionError;
use crate::shape::{AttentionShape, expect};
use crate::view::TensorView;

/// Where query row `i` stands among the keys: at position `i + offset`, which may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryPosition<'a> {
    /// Offset 0: the first query is level with the first key.
    TopLeft,
    /// The last query is level with the last key of its own sequence, padding not counted.
    BottomRight,
    /// One offset for all sequences, in keys.
    Offset(i64),
    /// One offset for each sequence of the batch, in keys.
    OffsetPerSequence(&'a [i64]),
}

/// How far a query at position p sees: keys j with p − left ≤ j ≤ p + right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Keys before the query's own position.
    pub left: usize,
    /// Keys after the query's own position.
    pub right: usize,
}

/// The keys that each query may attend to: everything that all of its parts allow.
///
/// The default allows every key. A query that may attend to nothing gets output 0 and `log_sum_exp` −∞.
///
/// ```
/// use regard::{Mask, QueryPosition, Window};
/// let lengths = [7, 4];
/// let mask = Mask::causal(QueryPosition::BottomRight)
///     .with_window(Window { left: 256, right: 0 })
///     .with_key_lengths(&lengths);
/// assert!(mask.causal);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Mask<'a> {
    /// A query at position p sees only keys j ≤ p.
    pub causal: bool,
    /// A query sees only keys near its own position.
    pub window: Option<Window>,
    /// Where queries stand; matters to `causal` and `window`, and to what depends on distance (ALiBi, relative
    /// bias, dropout).
    pub position: QueryPosition<'a>,
    /// Valid keys of each sequence, `[batch_size]` (or one for all); later ones are padding.
    pub key_lengths: Option<&'a [usize]>,
    /// `true` = may attend. Shape `[batch_size, num_heads, seq_len_q, seq_len_kv]`; axes of size 1 are repeated.
    pub keep: Option<TensorView<'a, bool>>,
}

impl Default for Mask<'_> {
    fn default() -> Self {
        Self { causal: false, window: None, position: QueryPosition::TopLeft, key_lengths: None, keep: None }
    }
}

impl<'a> Mask<'a> {
    /// A query attends to keys at or before its own position.
    pub fn causal(position: QueryPosition<'a>) -> Self {
        Self { causal: true, position, ..Self::default() }
    }

    /// A query attends to keys in a window around its own position.
    pub fn window(window: Window, position: QueryPosition<'a>) -> Self {
        Self { window: Some(window), position, ..Self::default() }
    }

    /// Adds a window.
    pub fn with_window(self, window: Window) -> Self {
        Self { window: Some(window), ..self }
    }

    /// Sets where queries stand.
    pub fn with_position(self, position: QueryPosition<'a>) -> Self {
        Self { position, ..self }
    }

    /// Adds the number of valid keys of each sequence.
    pub fn with_key_lengths(self, key_lengths: &'a [usize]) -> Self {
        Self { key_lengths: Some(key_lengths), ..self }
    }

    /// Adds a boolean mask: `true` = may attend.
    pub fn with_keep(self, keep: TensorView<'a, bool>) -> Self {
        Self { keep: Some(keep), ..self }
    }
}

/// A mask checked against a shape, with broadcasting done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckedMask<'a> {
    mask: Mask<'a>,
    seq_len_q: usize,
    seq_len_kv: usize,
    pub(crate) keep: Option<TensorView<'a, bool>>,
}

impl<'a> CheckedMask<'a> {
    pub(crate) fn new(mask: &Mask<'a>, shape: &AttentionShape) -> Result<Self, AttentionError> {
        if let Some(lengths) = mask.key_lengths {
            if lengths.len() != 1 {
                expect("mask.key_lengths", shape.batch_size, lengths.len())?;
            }
            if let Some(&found) = lengths.iter().find(|&&length| length > shape.seq_len_kv) {
                let (axis, expected) = ("mask.key_lengths (at most)", shape.seq_len_kv);
                return Err(AttentionError::ShapeMismatch { axis, expected, found });
            }
        }
        if let QueryPosition::OffsetPerSequence(offsets) = mask.position {
            expect("mask.position", shape.batch_size, offsets.len())?;
        }
        let axes =
            ["mask.keep.batch_size", "mask.keep.num_heads", "mask.keep.seq_len_q", "mask.keep.seq_len_kv"];
        let keep = mask.keep.map(|keep| keep.broadcast_to(shape.scores(), axes)).transpose()?;
        Ok(Self { mask: *mask, seq_len_q: shape.seq_len_q, seq_len_kv: shape.seq_len_kv, keep })
    }

    /// The mask of one sequence of a packed batch, which has no key lengths; see
    /// [`CheckedConfig::for_sequence`](crate::config::CheckedConfig).
    pub(crate) fn for_sequence(&self, sequence: usize, lens: [usize; 2]) -> Self {
        let mut mask = self.mask;
        if let QueryPosition::OffsetPerSequence(offsets) = mask.position {
            mask.position = QueryPosition::Offset(offsets[sequence]);
        }
        let keep = self.keep.map(|keep| keep.sequence(sequence, lens));
        Self { mask, seq_len_q: lens[0], seq_len_kv: lens[1], keep }
    }

    /// Valid keys of one sequence.
    pub(crate) fn key_len(&self, batch: usize) -> usize {
        match self.mask.key_lengths {
            None => self.seq_len_kv,
            Some([length]) => *length,
            Some(lengths) => lengths[batch],
        }
    }

    /// Valid keys of the longest sequence.
    pub(crate) fn longest_key_len(&self, batch_size: usize) -> usize {
        match self.mask.key_lengths {
            None => self.seq_len_kv,
            // One length for all of no sequences is nobody's.
            Some(lengths) => lengths.iter().take(batch_size.max(1)).copied().max().unwrap_or(0),
        }
    }

    /// Where query row `row` stands among the keys.
    pub(crate) fn position(&self, batch: usize, row: usize) -> i128 {
        let offset = match self.mask.position {
            QueryPosition::TopLeft => 0,
            QueryPosition::BottomRight => self.key_len(batch) as i64 - self.seq_len_q as i64,
            QueryPosition::Offset(offset) => offset,
            QueryPosition::OffsetPerSequence(offsets) => offsets[batch],
        };
        i128::from(offset) + row as i128
    }

    /// The keys that causality, window and length allow for query row `row`; they are always adjacent.
    pub(crate) fn key_range(&self, batch: usize, row: usize) -> Range<usize> {
        let key_len = self.key_len(batch);
        if !self.mask.causal && self.mask.window.is_none() {
            return 0..key_len;
        }
        let position = self.position(batch, row);
        let (mut first, mut end) = (0i128, key_len as i128);
        if self.mask.causal {
            end = end.min(position + 1);
        }
        if let Some(Window { left, right }) = self.mask.window {
            first = first.max(position - left as i128);
            end = end.min(position + right as i128 + 1);
        }
        let first = first.min(key_len as i128) as usize;
        first..(end.max(first as i128) as usize)
    }
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use super::*;
    use crate::view::Layout;

    #[test]
    fn mask__builders__set_their_part_and_keep_the_rest() {
        let (window, lengths, keep) = (Window { left: 3, right: 1 }, [5, 6], [true, false]);
        let keep = TensorView::new(&keep, [1, 1, 1, 2], Layout::BatchHeadSeqDim).unwrap();
        let whole = Mask::causal(QueryPosition::Offset(4))
            .with_window(window)
            .with_key_lengths(&lengths)
            .with_keep(keep);
        assert!(whole.causal && whole.keep.is_some());
        assert_eq!((whole.window, whole.key_lengths), (Some(window), Some(&lengths[..])));
        assert_eq!(whole.position, QueryPosition::Offset(4));
        let moved = whole.with_position(QueryPosition::BottomRight);
        assert!(moved.causal && moved.keep.is_some());
        assert_eq!((moved.window, moved.key_lengths), (Some(window), Some(&lengths[..])));
        assert_eq!(moved.position, QueryPosition::BottomRight);
        let alone = Mask::window(window, QueryPosition::Offset(-2));
        assert!(!alone.causal && alone.keep.is_none() && alone.key_lengths.is_none());
        assert_eq!((alone.window, alone.position), (Some(window), QueryPosition::Offset(-2)));
    }

    /// What a mask allows, by its definition, for every row of a few sequences.
    #[test]
    fn checked_mask__key_range_and_lengths__follow_the_definition() {
        let shape = AttentionShape::new([2, 1, 4, 1], [2, 1, 6, 1], [2, 1, 6, 1]).unwrap();
        let (lengths, offsets) = ([6, 3], [1, -1]);
        for position in
            [QueryPosition::TopLeft, QueryPosition::BottomRight, QueryPosition::OffsetPerSequence(&offsets)]
        {
            for (causal, window) in [(false, None), (true, None), (false, Some(Window { left: 1, right: 2 }))]
            {
                let mask = Mask { causal, window, ..Mask::default() }
                    .with_position(position)
                    .with_key_lengths(&lengths);
                let checked = CheckedMask::new(&mask, &shape).unwrap();
                assert_eq!(checked.longest_key_len(2), 6);
                for (batch, row) in (0..2).flat_map(|batch| (0..4).map(move |row| (batch, row))) {
                    let length = lengths[batch];
                    assert_eq!(checked.key_len(batch), length);
                    let offset = match position {
                        QueryPosition::TopLeft => 0,
                        QueryPosition::BottomRight => length as i64 - 4,
                        _ => offsets[batch],
                    };
                    let p = row as i64 + offset;
                    assert_eq!(checked.position(batch, row), i128::from(p));
                    let allowed: Vec<usize> = (0..length)
                        .filter(|&j| !causal || j as i64 <= p)
                        .filter(|&j| {
                            window.is_none_or(|w| {
                                (p - w.left as i64..=p + w.right as i64).contains(&(j as i64))
                            })
                        })
                        .collect();
                    assert_eq!(
                        checked.key_range(batch, row).collect::<Vec<_>>(),
                        allowed,
                        "{mask:?} {batch} {row}"
                    );
                }
            }
        }
    }
}

//! Where each token of a sequence occurs, so that rows meet equal tokens without comparing all pairs.

use std::ops::Range;

use super::super::scratch::filled;
use crate::error::AttentionError;
use crate::mask::CheckedMask;
use crate::shape::AttentionShape;

/// The keys of every sequence sorted by their token.
pub(super) struct TokenPositions {
    seq_len: usize,
    /// `[batch_size, seq_len_kv]`: keys by token, then by position.
    pub(super) order: Vec<u32>,
    /// `[batch_size, seq_len_kv]`: for each key, from where to where in `order` its token's keys are.
    ranges: Vec<[u32; 2]>,
}

impl TokenPositions {
    /// Bytes held, and while it is made.
    pub(super) fn bytes(shape: &AttentionShape) -> usize {
        let keys = shape.batch_size.saturating_mul(shape.seq_len_kv);
        keys.saturating_mul(12).saturating_add(shape.seq_len_kv.saturating_mul(8))
    }

    pub(super) fn new(
        shape: &AttentionShape,
        mask: &CheckedMask<'_>,
        token_ids: &[u32],
    ) -> Result<Self, AttentionError> {
        let seq_len = shape.seq_len_kv;
        let mut order = filled(token_ids.len(), 0u32)?;
        let mut ranges = filled(token_ids.len(), [0u32; 2])?;
        let mut sorted = filled(seq_len, 0u64)?;
        for batch in 0..shape.batch_size {
            let own = batch * seq_len..batch * seq_len + mask.key_len(batch);
            let (token_ids, order, ranges) =
                (&token_ids[own.clone()], &mut order[own.clone()], &mut ranges[own]);
            let sorted = &mut sorted[..token_ids.len()];
            for ((place, &token), position) in sorted.iter_mut().zip(token_ids).zip(0u64..) {
                *place = u64::from(token) << 32 | position;
            }
            sorted.sort_unstable();
            let mut start = 0;
            for run in sorted.chunk_by(|a, b| a >> 32 == b >> 32) {
                let end = start + run.len();
                for (place, &entry) in order[start..end].iter_mut().zip(run) {
                    *place = entry as u32; // the position
                    ranges[entry as u32 as usize] = [start as u32, end as u32];
                }
                start = end;
            }
        }
        Ok(Self { seq_len, order, ranges })
    }

    /// Where in `order` the keys with the token of the key at `position` are; nowhere where there is no key.
    pub(super) fn copies(&self, batch: usize, position: i64, key_len: usize) -> Range<usize> {
        match usize::try_from(position) {
            Ok(position) if position < key_len => {
                let first = batch * self.seq_len;
                let [start, end] = self.ranges[first + position];
                first + start as usize..first + end as usize
            }
            _ => 0..0,
        }
    }
}

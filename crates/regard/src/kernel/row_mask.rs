//! The mask and the bias of one attention row, applied to a block of its scores.

use std::f32::consts::LOG2_E;
use std::ops::Range;

use crate::config::CheckedConfig;
use crate::shape::AttentionShape;

/// One attention row: where it is, and the keys that causality, window and lengths leave it.
#[derive(Debug, Clone, Default)]
pub(super) struct RowMask {
    pub(super) batch: usize,
    /// Query head.
    pub(super) head: usize,
    /// Query row.
    pub(super) row: usize,
    pub(super) keys: Range<usize>,
}

impl RowMask {
    /// Row `row` (counted over the group) of a key head, its keys cut to `keys`.
    pub(super) fn new(
        (shape, config): (&AttentionShape, &CheckedConfig<'_>),
        (batch, kv_head): (usize, usize),
        row: usize,
        keys: &Range<usize>,
    ) -> Self {
        let head = kv_head * shape.group_size() + row / shape.seq_len_q;
        let row = row % shape.seq_len_q;
        let range = config.mask.key_range(batch, row);
        let start = range.start.clamp(keys.start, keys.end);
        Self { batch, head, row, keys: start..range.end.clamp(start, keys.end) }
    }

    /// Adds the bias to the scores of keys `first..`, and sets those of keys it may not attend to to −∞.
    ///
    /// Scores come with log₂e in them unless there is a bias: what cancels does so in natural units, and log₂e
    /// multiplies the sum.
    #[inline(always)]
    pub(super) fn apply(&self, config: &CheckedConfig<'_>, first: usize, scores: &mut [f32]) {
        let end = first + scores.len();
        let from = self.keys.start.clamp(first, end) - first;
        let to = self.keys.end.clamp(first + from, end) - first;
        scores[..from].fill(f32::NEG_INFINITY);
        scores[to..].fill(f32::NEG_INFINITY);
        let scores = &mut scores[from..to];
        if scores.is_empty() {
            return;
        }
        if let Some(bias) = &config.bias {
            let start = bias.offset([self.batch, self.head, self.row, first + from]);
            let add = |score: &mut f32, bias: f32| {
                let forbidden = bias == f32::NEG_INFINITY;
                *score = if forbidden { f32::NEG_INFINITY } else { (*score + bias) * LOG2_E };
            };
            match bias.strides()[3] {
                0 => scores.iter_mut().for_each(|score| add(score, bias.data()[start])),
                1 => scores.iter_mut().zip(&bias.data()[start..]).for_each(|(score, &bias)| add(score, bias)),
                stride => (scores.iter_mut().enumerate())
                    .for_each(|(j, score)| add(score, bias.data()[start + j * stride])),
            }
        }
        if let Some(keep) = &config.mask.keep {
            let start = keep.offset([self.batch, self.head, self.row, first + from]);
            let select = |score: &mut f32, keep: bool| *score = if keep { *score } else { f32::NEG_INFINITY };
            match keep.strides()[3] {
                0 => scores.iter_mut().for_each(|score| select(score, keep.data()[start])),
                1 => scores
                    .iter_mut()
                    .zip(&keep.data()[start..])
                    .for_each(|(score, &keep)| select(score, keep)),
                stride => (scores.iter_mut().enumerate())
                    .for_each(|(j, score)| select(score, keep.data()[start + j * stride])),
            }
        }
    }

    /// Whether the row may attend to key `key`.
    pub(super) fn allows(&self, config: &CheckedConfig<'_>, key: usize) -> bool {
        let at = [self.batch, self.head, self.row, key];
        self.keys.contains(&key)
            && config.mask.keep.is_none_or(|keep| keep.at(at))
            && config.bias.is_none_or(|bias| bias.at(at) != f32::NEG_INFINITY)
    }

    /// Whether the row may attend to any key.
    pub(super) fn allows_any(&self, config: &CheckedConfig<'_>) -> bool {
        self.keys.clone().any(|key| self.allows(config, key))
    }
}

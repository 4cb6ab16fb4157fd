//! The mask, the cap and the biases of one attention row, applied to a block of its scores.

use std::f32::consts::LOG2_E;
use std::ops::Range;

use pulp::Simd;

use super::plan::BLOCK_Q;
use super::tanh::cap_scores;
use crate::config::CheckedConfig;
use crate::dropout::DropoutRow;
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
    /// Where the row stands among the keys; what depends on distance counts from here.
    position: i128,
    dropout: DropoutRow,
}

/// Room for the masks of a block of rows.
pub(super) type Masks = [RowMask; BLOCK_Q];

/// Room for the masks of some rows.
pub(super) fn room_for_masks<const N: usize>() -> [RowMask; N] {
    std::array::from_fn(|_| RowMask::default())
}

/// The masks of rows `rows` (counted over the group) of a key head, their keys cut to `keys`.
pub(super) fn row_masks<'m>(
    (shape, config): (&AttentionShape, &CheckedConfig<'_>),
    (batch, kv_head): (usize, usize),
    rows: Range<usize>,
    keys: &Range<usize>,
    room: &'m mut [RowMask],
) -> &'m [RowMask] {
    let masks = &mut room[..rows.len()];
    let seq_len = shape.seq_len_q.max(1);
    // Counted on, and not divided for every row: where sequences are short that shows.
    let mut row = rows.start % seq_len;
    let mut head = kv_head * shape.group_size() + rows.start / seq_len;
    for mask in masks.iter_mut() {
        *mask = RowMask::at(config, [batch, head, row], keys);
        row += 1;
        if row == seq_len {
            row = 0;
            head += 1;
        }
    }
    masks
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
        Self::at(config, [batch, head, row % shape.seq_len_q], keys)
    }

    /// Row `[batch, query head, query row]`, its keys cut to `keys`.
    #[inline]
    fn at(config: &CheckedConfig<'_>, [batch, head, row]: [usize; 3], keys: &Range<usize>) -> Self {
        let range = config.mask.key_range(batch, row);
        let start = range.start.clamp(keys.start, keys.end);
        let position = config.mask.position(batch, row);
        let dropout = config.dropout.map_or(DropoutRow::default(), |d| d.row([batch, head], position));
        Self { batch, head, row, keys: start..range.end.clamp(start, keys.end), position, dropout }
    }

    /// Turns scaled products of keys `first..` into scores in units of log₂: caps them, adds the biases, and sets
    /// those of keys the row may not attend to to −∞.
    ///
    /// They come with log₂e in them unless there is a cap or a bias (`ScaleParts`): what cancels does so in natural
    /// units, and log₂e multiplies the sum.
    #[inline(always)]
    pub(super) fn apply<S: Simd>(
        &self,
        simd: S,
        config: &CheckedConfig<'_>,
        first: usize,
        scores: &mut [f32],
    ) {
        if let Some(cap) = config.softcap {
            cap_scores(simd, cap, scores);
        }
        self.apply_to_capped(config, first, scores);
    }

    /// [`Self::apply`] without the cap.
    #[inline(always)]
    pub(super) fn apply_to_capped(&self, config: &CheckedConfig<'_>, first: usize, scores: &mut [f32]) {
        let (from, to) = self.inside(first, scores.len());
        scores[..from].fill(f32::NEG_INFINITY);
        scores[to..].fill(f32::NEG_INFINITY);
        if from == to {
            return;
        }
        let scores = &mut scores[from..to];
        let first = first + from;
        if config.alibi_slopes.is_some() || config.relative_bias.is_some() {
            self.add_distance_biases(config, first, scores);
        }
        if config.bias.is_some() {
            self.add_bias(config, first, scores);
        }
        if let Some(bias) = &config.relative_bias {
            // After everything that is added: −∞ + ∞ is no longer −∞.
            for (j, score) in scores.iter_mut().enumerate() {
                if bias.at(self.head, first + j, self.position) == f32::NEG_INFINITY {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
        if config.softcap.is_some() || config.has_bias() {
            scores.iter_mut().for_each(|score| *score *= LOG2_E);
        }
        self.for_kept(config, first, scores, f32::NEG_INFINITY);
    }

    /// Sets the numbers of keys `first..` to 0 where the row may not attend to the key.
    #[inline(always)]
    pub(super) fn clear(&self, config: &CheckedConfig<'_>, first: usize, numbers: &mut [f32]) {
        let (from, to) = self.inside(first, numbers.len());
        numbers[..from].fill(0.0);
        numbers[to..].fill(0.0);
        let (first, numbers) = (first + from, &mut numbers[from..to]);
        if numbers.is_empty() {
            return;
        }
        if config.bias.is_some() || config.relative_bias.is_some() {
            for (j, number) in numbers.iter_mut().enumerate() {
                if self.is_forbidden(config, first + j) {
                    *number = 0.0;
                }
            }
        }
        self.for_kept(config, first, numbers, 0.0);
    }

    /// Multiplies what belongs to keys `first..` with 0 where dropout drops it, else with 1/(1 − rate).
    #[inline(always)]
    pub(super) fn drop(&self, first: usize, numbers: &mut [f32]) {
        self.dropout.apply(first, numbers);
    }

    /// Where the row stands among the keys.
    pub(super) fn position(&self) -> i128 {
        self.position
    }

    /// Whether the row's range holds all of `keys`.
    pub(super) fn covers(&self, keys: &Range<usize>) -> bool {
        self.keys.start <= keys.start && keys.end <= self.keys.end
    }

    /// Which of `len` numbers from key `first` on are inside the row's keys.
    #[inline(always)]
    fn inside(&self, first: usize, len: usize) -> (usize, usize) {
        let end = first + len;
        let from = self.keys.start.clamp(first, end) - first;
        (from, self.keys.end.clamp(first + from, end) - first)
    }

    /// ALiBi and the relative bias.
    #[inline(always)]
    fn add_distance_biases(&self, config: &CheckedConfig<'_>, first: usize, scores: &mut [f32]) {
        if let Some(slopes) = config.alibi_slopes {
            let slope = slopes[self.head];
            // Distances are exact integers, then rounded once.
            match i32::try_from(self.position - first as i128) {
                Ok(distance) if distance.unsigned_abs() < 1 << 30 => {
                    for (j, score) in scores.iter_mut().enumerate() {
                        *score -= slope * (distance - j as i32).abs() as f32;
                    }
                }
                _ => {
                    for (j, score) in scores.iter_mut().enumerate() {
                        let distance = (self.position - (first + j) as i128).unsigned_abs() as f32;
                        *score -= slope * distance;
                    }
                }
            }
        }
        if let Some(bias) = &config.relative_bias {
            let table = &bias.table[self.head * bias.width()..][..bias.width()];
            for (j, score) in scores.iter_mut().enumerate() {
                *score += table[bias.column(first + j, self.position)];
            }
        }
    }

    /// The additive bias.
    #[inline(always)]
    fn add_bias(&self, config: &CheckedConfig<'_>, first: usize, scores: &mut [f32]) {
        let Some(bias) = &config.bias else { return };
        let start = bias.offset([self.batch, self.head, self.row, first]);
        let add = |score: &mut f32, bias: f32| {
            let forbidden = bias == f32::NEG_INFINITY;
            *score = if forbidden { f32::NEG_INFINITY } else { *score + bias };
        };
        match bias.strides()[3] {
            0 => scores.iter_mut().for_each(|score| add(score, bias.data()[start])),
            1 => scores.iter_mut().zip(&bias.data()[start..]).for_each(|(score, &bias)| add(score, bias)),
            stride => (scores.iter_mut().enumerate())
                .for_each(|(j, score)| add(score, bias.data()[start + j * stride])),
        }
    }

    /// Replaces the numbers of keys `first..` that the keep mask leaves out.
    #[inline(always)]
    fn for_kept(&self, config: &CheckedConfig<'_>, first: usize, numbers: &mut [f32], otherwise: f32) {
        let Some(keep) = &config.mask.keep else { return };
        let start = keep.offset([self.batch, self.head, self.row, first]);
        let select = |number: &mut f32, keep: bool| *number = if keep { *number } else { otherwise };
        match keep.strides()[3] {
            0 => numbers.iter_mut().for_each(|number| select(number, keep.data()[start])),
            1 => {
                numbers.iter_mut().zip(&keep.data()[start..]).for_each(|(number, &keep)| select(number, keep))
            }
            stride => (numbers.iter_mut().enumerate())
                .for_each(|(j, number)| select(number, keep.data()[start + j * stride])),
        }
    }

    /// Whether a bias of −∞ forbids key `key`.
    fn is_forbidden(&self, config: &CheckedConfig<'_>, key: usize) -> bool {
        let bias = config.bias.map(|bias| bias.at([self.batch, self.head, self.row, key]));
        let relative = config.relative_bias.map(|bias| bias.at(self.head, key, self.position));
        bias == Some(f32::NEG_INFINITY) || relative == Some(f32::NEG_INFINITY)
    }

    /// Whether the row may attend to key `key`.
    pub(super) fn allows(&self, config: &CheckedConfig<'_>, key: usize) -> bool {
        let at = [self.batch, self.head, self.row, key];
        self.keys.contains(&key)
            && config.mask.keep.is_none_or(|keep| keep.at(at))
            && !self.is_forbidden(config, key)
    }

    /// Whether the row may attend to any key.
    pub(super) fn allows_any(&self, config: &CheckedConfig<'_>) -> bool {
        self.keys.clone().any(|key| self.allows(config, key))
    }
}

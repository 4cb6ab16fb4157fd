//! Sizes of a backward call, and how its memory is cut.
//!
//! As in the forward plan, what decides an order of additions depends on a sequence's own lengths alone: key
//! blocks, row blocks of 96 within each query head, and at most four partitions of the keys, each with a d_query
//! of its own that are added in order.

use std::ops::Range;

use super::super::pack::{PACK_ROWS, strip_len};
use super::super::plan::{BLOCK_KV, BLOCK_Q, MAX_TILE_ROWS};
use crate::error::AttentionError;
use crate::shape::AttentionShape;

/// From one row of probabilities to the next: whole blocks of keys, and room for the last strip of them.
pub(super) const STRIDE: usize = BLOCK_KV + MAX_TILE_ROWS;

/// The most partitions of a sequence's keys.
const MAX_PARTITIONS: usize = 4;

/// Keys that are worth a partition of their own.
const MIN_PARTITION_KEYS: usize = 256;

/// Packed memory kept at once, in f32, where more than one head fits.
const WAVE_LEN: usize = 1 << 22;

/// Packed memory of a head that a worker takes whole, in f32.
const HEAD_LEN: usize = 1 << 18;

/// Into how many partitions a sequence's keys are cut.
pub(super) fn num_partitions(key_len: usize) -> usize {
    (key_len / MIN_PARTITION_KEYS).clamp(1, MAX_PARTITIONS)
}

/// The key blocks of one partition.
pub(super) fn partition_blocks(key_len: usize, partition: usize) -> Range<usize> {
    let (blocks, parts) = (key_len.div_ceil(BLOCK_KV), num_partitions(key_len));
    partition * blocks / parts..(partition + 1) * blocks / parts
}

/// What is read in place and needs no packed copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct InPlace {
    pub(super) queries: bool,
    pub(super) keys: bool,
    pub(super) d_outputs: bool,
}

/// Sizes of one backward call.
#[derive(Debug, Clone)]
pub(super) struct GradientPlan {
    pub(super) lanes: usize,
    pub(super) tile_rows: usize,
    pub(super) head_dim: usize,
    pub(super) value_dim: usize,
    /// head_dim and value_head_dim rounded up to whole vectors.
    pub(super) padded_head_dim: usize,
    pub(super) padded_value_dim: usize,
    pub(super) group_size: usize,
    /// Query rows of one head, and the same rounded up to whole tiles.
    pub(super) rows: usize,
    pub(super) padded_rows: usize,
    /// Keys of one head, rounded up to whole blocks.
    pub(super) padded_keys: usize,
    /// Partitions of the longest sequence.
    pub(super) partitions: usize,
    pub(super) in_place: InPlace,
    pub(super) softcap: bool,
}

/// Elements of each part of the packed memory of one key head.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadLens {
    pub(super) key_panels: usize,
    pub(super) value_panels: usize,
    pub(super) key_rows: usize,
    pub(super) query_strips: usize,
    pub(super) d_output_strips: usize,
    pub(super) query_rows: usize,
    pub(super) d_output_rows: usize,
    /// Two numbers a row: what its score gradients are measured from, and its log-sum-exp times log₂e.
    pub(super) row_terms: usize,
    /// One partition's d_query.
    pub(super) d_query_part: usize,
}

impl GradientPlan {
    pub(super) fn new(
        shape: &AttentionShape,
        (lanes, tile_rows): (usize, usize),
        longest_key_len: usize,
        mut in_place: InPlace,
        softcap: bool,
    ) -> Result<Self, AttentionError> {
        // Everything below is a product of these, each with room to spare.
        let rows = shape.group_size().max(1).checked_mul(shape.seq_len_q.saturating_add(BLOCK_Q));
        let overflow = AttentionError::SizeOverflow { what: "scratch" };
        let dims = [shape.head_dim, shape.value_head_dim, 4 * MAX_TILE_ROWS];
        let dims = dims.into_iter().try_fold(0usize, |sum, dim| sum.checked_add(dim));
        let fits = |rows: usize, dims: usize| {
            rows.checked_mul(dims).and_then(|len| len.checked_mul(16 * size_of::<f32>())).is_some()
        };
        let (Some(rows), Some(dims)) = (rows, dims) else { return Err(overflow) };
        if !fits(rows, dims) || !fits(shape.seq_len_kv.saturating_add(4 * BLOCK_KV), dims) {
            return Err(overflow);
        }
        let padded_head_dim = shape.head_dim.next_multiple_of(lanes);
        let padded_value_dim = shape.value_head_dim.next_multiple_of(lanes);
        in_place.queries &= padded_head_dim == shape.head_dim;
        in_place.keys &= padded_head_dim == shape.head_dim;
        in_place.d_outputs &= padded_value_dim == shape.value_head_dim;
        Ok(Self {
            lanes,
            tile_rows,
            head_dim: shape.head_dim,
            value_dim: shape.value_head_dim,
            padded_head_dim,
            padded_value_dim,
            group_size: shape.group_size(),
            rows: shape.seq_len_q,
            padded_rows: shape.seq_len_q.next_multiple_of(tile_rows),
            padded_keys: shape.seq_len_kv.next_multiple_of(BLOCK_KV),
            partitions: num_partitions(longest_key_len),
            in_place,
            softcap,
        })
    }

    /// Vectors of keys in one panel, in elements.
    pub(super) fn panel_width(&self) -> usize {
        2 * self.lanes
    }

    /// Row blocks of one query head.
    pub(super) fn row_blocks(&self) -> usize {
        self.rows.div_ceil(BLOCK_Q)
    }

    /// Keys of a block, rounded up to whole strips.
    fn strip_keys(&self) -> usize {
        BLOCK_KV.next_multiple_of(self.tile_rows)
    }

    pub(super) fn lens(&self) -> HeadLens {
        let rows = self.group_size * self.padded_rows;
        let unless = |in_place: bool, len: usize| if in_place { 0 } else { len };
        HeadLens {
            key_panels: self.padded_keys * self.head_dim,
            value_panels: self.padded_keys * self.value_dim,
            key_rows: unless(self.in_place.keys, self.padded_keys * self.padded_head_dim),
            query_strips: rows / self.tile_rows * strip_len(self.head_dim, self.tile_rows),
            d_output_strips: rows / self.tile_rows * strip_len(self.value_dim, self.tile_rows),
            query_rows: unless(self.in_place.queries, rows * self.padded_head_dim),
            d_output_rows: unless(self.in_place.d_outputs, rows * self.padded_value_dim),
            row_terms: 2 * rows,
            d_query_part: rows * self.padded_head_dim,
        }
    }

    /// Whether workers take whole heads: there are enough for all of them, and a packed one stays in cache.
    pub(super) fn by_head(&self, num_heads: usize, workers: usize) -> bool {
        let enough = workers == 1 || num_heads >= 4 * workers;
        enough && num_heads > 0 && self.lens().total(self.partitions).is_some_and(|len| len <= HEAD_LEN)
    }

    /// How many key heads are worked on at once.
    pub(super) fn heads_per_wave(&self, num_heads: usize) -> usize {
        (WAVE_LEN / self.lens().total(self.partitions).unwrap_or(usize::MAX).max(1))
            .clamp(1, num_heads.max(1))
    }

    /// Elements of one worker's scratch.
    pub(super) fn worker_len(&self) -> usize {
        self.worker_lens().iter().sum()
    }

    fn worker_lens(&self) -> [usize; 7] {
        let block = BLOCK_Q * STRIDE;
        let dims = self.padded_head_dim.max(self.padded_value_dim);
        let slopes = if self.softcap { block } else { 0 };
        let (d_key, d_value) =
            (self.strip_keys() * self.padded_head_dim, self.strip_keys() * self.padded_value_dim);
        let d_query = BLOCK_Q * self.padded_head_dim;
        [block, block, slopes, d_key, d_value, d_query, PACK_ROWS * dims].map(|len| len.next_multiple_of(16))
    }
}

impl HeadLens {
    /// All parts together, with `partitions` of d_query.
    pub(super) fn total(&self, partitions: usize) -> Option<usize> {
        let parts = [
            self.key_panels,
            self.value_panels,
            self.key_rows,
            self.query_strips,
            self.d_output_strips,
            self.query_rows,
            self.d_output_rows,
            self.row_terms,
            self.d_query_part.checked_mul(partitions)?,
        ];
        parts.into_iter().try_fold(0usize, |sum, part| sum.checked_add(part))
    }
}

/// One worker's scratch.
pub(super) struct GradientScratch<'a> {
    /// Probabilities of a row block against a key block, `[rows][STRIDE]`.
    pub(super) probs: &'a mut [f32],
    /// Gradients of their scores, likewise.
    pub(super) d_scores: &'a mut [f32],
    /// Derivatives of the cap, likewise; empty without one.
    pub(super) slopes: &'a mut [f32],
    /// d_key of a key block, `[keys][padded_head_dim]`.
    pub(super) d_key: &'a mut [f32],
    /// d_value of a key block, `[keys][padded_value_dim]`.
    pub(super) d_value: &'a mut [f32],
    /// d_query of a row block, `[rows][padded_head_dim]`.
    pub(super) d_query: &'a mut [f32],
    /// As many rows as are packed together, two at least.
    pub(super) rows: &'a mut [f32],
}

impl<'a> GradientScratch<'a> {
    pub(super) fn new(plan: &GradientPlan, all: &'a mut [f32]) -> Self {
        let [probs, d_scores, slopes, d_key, d_value, d_query, _] = plan.worker_lens();
        let (probs, all) = all.split_at_mut(probs);
        let (d_scores, all) = all.split_at_mut(d_scores);
        let (slopes, all) = all.split_at_mut(slopes);
        let (d_key, all) = all.split_at_mut(d_key);
        let (d_value, all) = all.split_at_mut(d_value);
        let (d_query, rows) = all.split_at_mut(d_query);
        Self { probs, d_scores, slopes, d_key, d_value, d_query, rows }
    }
}

//! Tile sizes, and how a call is cut into pieces.
//!
//! Whatever decides the order of additions inside a row (key blocks, key splits, which path) depends on that
//! sequence's own lengths and the options alone. How many heads are packed at once, and who works on which
//! piece, may look at everything: it changes no bit.

use std::ops::Range;

use crate::mask::CheckedMask;
use crate::shape::AttentionShape;

/// Keys of one block; blocks start at multiples of it.
pub(super) const BLOCK_KV: usize = 128;

/// Query rows of one block: a multiple of every tile's rows (6, 8, 12).
pub(super) const BLOCK_Q: usize = 96;

/// The most rows of any register tile, and a multiple of every vector length.
pub(super) const MAX_TILE_ROWS: usize = 16;

/// Up to this many query rows for a key head, keys are read in place by row dots: packing them for so few
/// rows costs more than it saves.
pub(super) const MAX_DOT_ROWS: usize = 8;

/// The most parts that the keys of one sequence are split into.
pub(super) const MAX_KEY_SPLITS: usize = 32;

/// Keys that are worth a split of their own.
const MIN_SPLIT_KEYS: usize = 1024;

/// Packed keys and values kept at once, in f32, where more than one head fits.
const WAVE_LEN: usize = 1 << 20;

/// Packed keys and values of a head that a worker takes whole, in f32: larger heads are few and long, and a worker
/// that is slower than the others would end with a whole one too many.
const HEAD_LEN: usize = 1 << 14;

/// A piece of work: some query rows of one key head against some of its keys.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) batch: usize,
    pub(super) kv_head: usize,
    /// Rows of the key head: row `g · seq_len_q + i` is query row i of the g-th query head of the group.
    pub(super) rows: Range<usize>,
    /// Keys, cut at multiples of `BLOCK_KV`.
    pub(super) keys: Range<usize>,
    /// Where the head's packed keys are, counted within the wave.
    pub(super) packed: usize,
    /// Which partial result this is, if the keys are split.
    pub(super) partial: Option<usize>,
}

/// Rows whose keys were split, to be merged from `num_parts` partial results that start at `first_partial`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Merge {
    pub(super) batch: usize,
    pub(super) kv_head: usize,
    pub(super) rows: Range<usize>,
    pub(super) first_partial: usize,
    pub(super) num_parts: usize,
}

/// How one call is cut.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Query rows that share a key head: group_size · seq_len_q.
    pub(super) rows_per_kv_head: usize,
    /// Whether keys are read by row dots.
    pub(super) dots: bool,
    /// Rows of the register tile.
    pub(super) tile_rows: usize,
    pub(super) head_dim: usize,
    /// head_dim rounded up to whole vectors.
    pub(super) padded_head_dim: usize,
    /// value_head_dim rounded up to whole vectors.
    pub(super) padded_value_dim: usize,
    /// Whether values are widened or padded into scratch before use.
    pub(super) pack_values: bool,
    /// Keys of one head, rounded up to whole blocks.
    pub(super) padded_keys: usize,
}

impl Plan {
    pub(super) fn new(shape: &AttentionShape, lanes: usize, tile_rows: usize, values_in_place: bool) -> Self {
        assert!(MAX_TILE_ROWS.is_multiple_of(lanes) && tile_rows <= MAX_TILE_ROWS);
        assert!(BLOCK_Q.is_multiple_of(tile_rows) && BLOCK_KV.is_multiple_of(2 * lanes));
        let rows_per_kv_head = shape.group_size() * shape.seq_len_q;
        Self {
            rows_per_kv_head,
            dots: rows_per_kv_head <= MAX_DOT_ROWS,
            tile_rows,
            head_dim: shape.head_dim,
            padded_head_dim: shape.head_dim.next_multiple_of(lanes),
            padded_value_dim: shape.value_head_dim.next_multiple_of(lanes),
            pack_values: !(values_in_place && shape.value_head_dim.is_multiple_of(lanes)),
            padded_keys: shape.seq_len_kv.next_multiple_of(BLOCK_KV),
        }
    }

    /// Rows of one piece.
    pub(super) fn block_rows(&self) -> usize {
        if self.dots { MAX_DOT_ROWS } else { BLOCK_Q }
    }

    /// Into how many parts the keys of a sequence are split: enough pieces for many threads where there are
    /// few query rows, by that sequence's lengths alone.
    pub(super) fn key_splits(&self, key_len: usize) -> usize {
        let row_blocks = self.rows_per_kv_head.div_ceil(self.block_rows()).max(1);
        (key_len / MIN_SPLIT_KEYS).clamp(1, (MAX_KEY_SPLITS / row_blocks).max(1))
    }

    /// f32 elements of one head's packed keys.
    pub(super) fn packed_keys_len(&self) -> usize {
        if self.dots { 0 } else { self.padded_keys * self.head_dim }
    }

    /// f32 elements of one head's packed values.
    pub(super) fn packed_values_len(&self) -> usize {
        if self.dots || !self.pack_values { 0 } else { self.padded_keys * self.padded_value_dim }
    }

    /// Rows that a partial result has room for.
    pub(super) fn partial_rows(&self) -> usize {
        self.block_rows().min(self.rows_per_kv_head)
    }

    /// f32 elements of one partial result: output rows, then each row's maximum and sum.
    pub(super) fn partial_len(&self) -> usize {
        self.partial_rows() * (self.padded_value_dim + 2)
    }

    /// Whether workers take whole heads: there are enough for all of them, and a packed one stays in cache.
    pub(super) fn by_head(&self, num_heads: usize, workers: usize, splits: usize) -> bool {
        let enough = workers == 1 || num_heads >= 4 * workers;
        let len = self.packed_keys_len() + self.packed_values_len();
        enough && !self.dots && splits == 1 && len <= HEAD_LEN
    }

    /// How many key heads are worked on at once.
    pub(super) fn heads_per_wave(&self, splits: usize) -> usize {
        let partials =
            if splits > 1 { self.rows_per_kv_head * splits * (self.padded_value_dim + 2) } else { 0 };
        let per_head = self.packed_keys_len() + self.packed_values_len() + partials;
        (WAVE_LEN / per_head.max(1)).max(1)
    }

    /// The pieces of key heads `heads` (counted over the batch), the heaviest first, and the merges that
    /// follow them.
    pub(super) fn cut(
        &self,
        shape: &AttentionShape,
        mask: &CheckedMask<'_>,
        heads: Range<usize>,
        (pieces, merges): (&mut Vec<Piece>, &mut Vec<Merge>),
    ) {
        pieces.clear();
        merges.clear();
        let mut num_partials = 0;
        for head in heads.clone() {
            let (batch, kv_head) = (head / shape.num_kv_heads, head % shape.num_kv_heads);
            let key_len = mask.key_len(batch);
            let num_blocks = key_len.div_ceil(BLOCK_KV);
            let splits = self.key_splits(key_len);
            // Later rows see more keys under a causal mask, so they go first.
            for first in (0..self.rows_per_kv_head).step_by(self.block_rows()).rev() {
                let rows = first..(first + self.block_rows()).min(self.rows_per_kv_head);
                let first_partial = num_partials;
                for split in 0..splits {
                    let block = |split: usize| (split * num_blocks / splits * BLOCK_KV).min(key_len);
                    let keys = block(split)..if split + 1 == splits { key_len } else { block(split + 1) };
                    let partial = (splits > 1).then_some(num_partials);
                    num_partials += usize::from(splits > 1);
                    let (rows, packed) = (rows.clone(), head - heads.start);
                    pieces.push(Piece { batch, kv_head, rows, keys, packed, partial });
                }
                if splits > 1 {
                    merges.push(Merge { batch, kv_head, rows, first_partial, num_parts: splits });
                }
            }
        }
    }
}

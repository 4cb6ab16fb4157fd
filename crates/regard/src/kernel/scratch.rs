//! Memory that a call works in, kept between calls by whoever calls often.

use super::pack::{PACK_ROWS, strip_len};
use super::plan::{BLOCK_KV, BLOCK_Q, MAX_DOT_ROWS, MAX_TILE_ROWS, Merge, Piece, Plan};
use crate::error::AttentionError;

/// Scratch memory of attention calls, grown as needed and reused.
///
/// A call without one allocates and frees; a loop of similar calls with one allocates only the first time.
/// (From a thread that is not one of the rayon pool's, handing out work makes rayon allocate a little.)
#[derive(Debug, Default)]
pub struct Workspace {
    numbers: Vec<f32>,
    pieces: Vec<Piece>,
    merges: Vec<Merge>,
    /// For calls that run several at once.
    children: Vec<Workspace>,
}

/// `len` zeros, or an error where memory is short.
pub(crate) fn zeroed(len: usize) -> Result<Vec<f32>, AttentionError> {
    let mut numbers = Vec::new();
    grow(&mut numbers, len)?;
    Ok(numbers)
}

/// `len` times the same, or an error where memory is short.
pub(crate) fn filled<T: Copy>(len: usize, value: T) -> Result<Vec<T>, AttentionError> {
    filled_with(len, || value)
}

/// `len` new things, or an error where memory is short.
pub(crate) fn filled_with<T>(len: usize, new: impl FnMut() -> T) -> Result<Vec<T>, AttentionError> {
    let mut all = Vec::new();
    let failed = |_| AttentionError::AllocationFailed { bytes: len.saturating_mul(size_of::<T>()) };
    all.try_reserve_exact(len).map_err(failed)?;
    all.resize_with(len, new);
    Ok(all)
}

fn grow(numbers: &mut Vec<f32>, len: usize) -> Result<(), AttentionError> {
    if numbers.len() < len {
        let failed = |_| AttentionError::AllocationFailed { bytes: len.saturating_mul(size_of::<f32>()) };
        if numbers.capacity() < len {
            *numbers = Vec::new(); // nothing in it is worth a copy, and old and new need not live together
        }
        numbers.try_reserve_exact(len - numbers.len()).map_err(failed)?;
        numbers.resize(len, 0.0);
    }
    Ok(())
}

/// f32 in a cache line.
pub(super) const LINE: usize = 16;

impl Workspace {
    /// An empty workspace; the first call fills it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes it holds.
    pub fn size_bytes(&self) -> usize {
        self.numbers.capacity() * size_of::<f32>()
            + self.pieces.capacity() * size_of::<Piece>()
            + self.merges.capacity() * size_of::<Merge>()
            + self.children.iter().map(Self::size_bytes).sum::<usize>()
    }

    /// `count` workspaces for calls that run at the same time.
    pub(crate) fn children(&mut self, count: usize) -> &mut [Self] {
        if self.children.len() < count {
            self.children.resize_with(count, Self::default);
        }
        &mut self.children[..count]
    }

    /// `len` numbers that start on a cache line, and empty lists with room for the pieces.
    pub(super) fn reserve(
        &mut self,
        len: usize,
        (num_pieces, num_merges): (usize, usize),
    ) -> Result<Reserved<'_>, AttentionError> {
        let total = len.checked_add(LINE).ok_or(AttentionError::SizeOverflow { what: "scratch" })?;
        grow(&mut self.numbers, total)?;
        self.pieces.clear();
        self.merges.clear();
        let bytes = num_pieces.saturating_mul(size_of::<Piece>());
        self.pieces.try_reserve(num_pieces).map_err(|_| AttentionError::AllocationFailed { bytes })?;
        let bytes = num_merges.saturating_mul(size_of::<Merge>());
        self.merges.try_reserve(num_merges).map_err(|_| AttentionError::AllocationFailed { bytes })?;
        let skip = self.numbers.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        let numbers = &mut self.numbers[skip..skip + len];
        Ok(Reserved { numbers, pieces: &mut self.pieces, merges: &mut self.merges })
    }
}

/// What a call borrows of a workspace.
pub(super) struct Reserved<'a> {
    pub(super) numbers: &'a mut [f32],
    pub(super) pieces: &'a mut Vec<Piece>,
    pub(super) merges: &'a mut Vec<Merge>,
}

/// One worker's own scratch, cut from the workspace.
pub(super) struct WorkerScratch<'a> {
    /// Output rows of a piece, `[rows][padded_value_dim]`.
    pub(super) output: &'a mut [f32],
    /// Scores, then exponentials, of one strip, `[rows][BLOCK_KV]`.
    pub(super) scores: &'a mut [f32],
    /// As many rows in f32 as are packed together.
    pub(super) row: &'a mut [f32],
    /// Queries: strips as in `pack.rs`, or rows `[padded_head_dim]` for row dots.
    pub(super) query: &'a mut [f32],
    /// A block of keys, then of values, widened; for row dots.
    pub(super) tile: &'a mut [f32],
}

/// Lengths of the parts of a `WorkerScratch`, each rounded up to a cache line.
fn part_lens(plan: &Plan) -> [usize; 5] {
    let output = plan.block_rows().next_multiple_of(plan.tile_rows) * plan.padded_value_dim;
    let scores = MAX_TILE_ROWS * BLOCK_KV;
    let row = (PACK_ROWS * plan.head_dim).max(plan.padded_value_dim);
    let (query, tile) = if plan.dots {
        let tile = BLOCK_KV * (plan.padded_head_dim + plan.padded_value_dim);
        (MAX_DOT_ROWS * plan.padded_head_dim, tile)
    } else {
        (BLOCK_Q / plan.tile_rows * strip_len(plan.head_dim, plan.tile_rows), 0)
    };
    [output, scores, row, query, tile].map(|len| len.next_multiple_of(LINE))
}

impl<'a> WorkerScratch<'a> {
    /// Elements that one worker needs.
    pub(super) fn len(plan: &Plan) -> usize {
        part_lens(plan).iter().sum()
    }

    pub(super) fn new(plan: &Plan, all: &'a mut [f32]) -> Self {
        let [output, scores, row, query, _] = part_lens(plan);
        let (output, all) = all.split_at_mut(output);
        let (scores, all) = all.split_at_mut(scores);
        let (row, all) = all.split_at_mut(row);
        let (query, tile) = all.split_at_mut(query);
        Self { output, scores, row, query, tile }
    }
}

use crate::attention::{AttentionOutput, attention_with};
use crate::config::AttentionConfig;
use crate::error::AttentionError;
use crate::kernel::{Workspace, zeroed};
use crate::position::{RotaryPositions, Rotation};
use crate::shape::expect;
use crate::view::{Layout, TensorView, TensorViewMut, checked_product};

/// Where rows of every head lie: heads side by side in a longer row of each position.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slab {
    start: usize,
    /// Batch, heads, sequence, elements of a head.
    shape: [usize; 4],
    strides: [usize; 4],
}

impl Slab {
    /// Heads from element `start` on, in rows of `row_len`.
    pub(super) fn new(start: usize, shape: [usize; 4], row_len: usize) -> Self {
        let [_, _, seq, dim] = shape;
        Self { start, shape, strides: [seq * row_len, dim, row_len, 1] }
    }

    /// Turns the row of every head by its position; the first is at position `first`.
    fn turn(
        &self,
        data: &mut [f32],
        (rotary, first): (&RotaryPositions, usize),
        turn: impl Fn(&Rotation, &mut [f32]),
    ) {
        let [batches, heads, seq, dim] = self.shape;
        for position in 0..seq {
            let rotation = rotary.at(first.saturating_add(position));
            for (batch, head) in (0..batches).flat_map(|b| (0..heads).map(move |h| (b, h))) {
                let at = batch * self.strides[0] + head * self.strides[1] + position * self.strides[2];
                turn(&rotation, &mut data[self.start + at..][..dim]);
            }
        }
    }
}

/// Queries, keys and values of every head, as the projections wrote them: no copy lies between them and the
/// kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    data: Vec<f32>,
    query: Slab,
    key: Slab,
    value: Slab,
    /// The rotations of queries and keys so far, with their first positions.
    rotations: Vec<(RotaryPositions, [usize; 2])>,
}

impl Projection {
    pub(super) fn new(data: Vec<f32>, [query, key, value]: [Slab; 3]) -> Self {
        Self { data, query, key, value, rotations: Vec::new() }
    }

    /// `[batch_size, num_heads, seq_len_q, head_dim]`.
    pub fn query(&self) -> TensorView<'_, f32> {
        self.view(&self.query)
    }

    /// `[batch_size, num_kv_heads, seq_len_kv, head_dim]`.
    pub fn key(&self) -> TensorView<'_, f32> {
        self.view(&self.key)
    }

    /// `[batch_size, num_kv_heads, seq_len_kv, value_head_dim]`.
    pub fn value(&self) -> TensorView<'_, f32> {
        self.view(&self.value)
    }

    fn view(&self, slab: &Slab) -> TensorView<'_, f32> {
        let empty = slab.shape.contains(&0);
        let data = if empty { &[] } else { &self.data[slab.start..] };
        TensorView::with_strides(data, slab.shape, slab.strides).expect("a projection holds its own slabs")
    }

    /// Rotates queries and keys by their positions; the first query is at position `first[0]`, the first key
    /// at `first[1]`. The backward pass turns their gradients back.
    ///
    /// # Errors
    /// [`AttentionError::ShapeMismatch`] if the rotation is for another head_dim.
    pub fn rotate(&mut self, rotary: &RotaryPositions, first: [usize; 2]) -> Result<(), AttentionError> {
        expect("rotary.head_dim", rotary.head_dim(), self.query.shape[3])?;
        for (slab, first) in [&self.query, &self.key].into_iter().zip(first) {
            slab.turn(&mut self.data, (rotary, first), Rotation::apply);
        }
        self.rotations.push((rotary.clone(), first));
        Ok(())
    }

    /// Turns the gradients of rotated queries and keys into those of the rows before; both are contiguous,
    /// `[batch_size, seq_len, heads, head_dim]`.
    pub(super) fn rotate_backward(&self, d_query: &mut [f32], d_key: &mut [f32]) {
        let parts = [(&self.query, d_query), (&self.key, d_key)];
        for (part, (slab, d_rows)) in parts.into_iter().enumerate() {
            let contiguous = Slab::new(0, slab.shape, slab.shape[1] * slab.shape[3]);
            for (rotary, first) in self.rotations.iter().rev() {
                contiguous.turn(d_rows, (rotary, first[part]), Rotation::apply_backward);
            }
        }
    }

    /// Second step: attention of every head, heads side by side in each row.
    ///
    /// # Errors
    /// [`AttentionError`] of the call.
    pub fn attend(
        &self,
        config: &AttentionConfig<'_>,
        workspace: &mut Workspace,
    ) -> Result<Attended, AttentionError> {
        let [batch, heads, seq, _] = self.query.shape;
        let shape = [batch, heads, seq, self.value.shape[3]];
        let mut output = zeroed(checked_product(&shape, "output")?)?;
        let mut log_sum_exp = zeroed(checked_product(&[batch, heads, seq], "log_sum_exp")?)?;
        let target = AttentionOutput {
            output: TensorViewMut::new(&mut output, shape, Layout::BatchSeqHeadDim)?,
            log_sum_exp: Some(&mut log_sum_exp),
        };
        attention_with(self.query(), self.key(), self.value(), target, config, workspace)?;
        Ok(Attended { output, log_sum_exp, shape })
    }
}

/// What the heads computed, before the output projection.
#[derive(Debug, Clone, PartialEq)]
pub struct Attended {
    output: Vec<f32>,
    log_sum_exp: Vec<f32>,
    shape: [usize; 4],
}

impl Attended {
    /// `[batch_size, seq_len_q, num_heads, value_head_dim]`, contiguous.
    pub fn output(&self) -> &[f32] {
        &self.output
    }

    /// `[batch_size, num_heads, seq_len_q]`.
    pub fn log_sum_exp(&self) -> &[f32] {
        &self.log_sum_exp
    }

    /// The output as `[batch_size, num_heads, seq_len_q, value_head_dim]`.
    pub fn view(&self) -> TensorView<'_, f32> {
        TensorView::new(&self.output, self.shape, Layout::BatchSeqHeadDim).expect("output has its own shape")
    }
}

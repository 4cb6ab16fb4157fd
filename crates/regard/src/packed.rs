//! Batches of sequences of different lengths, packed one after the other without padding.

use rayon::prelude::*;

use crate::attention::{AttentionOutput, checked_isa};
use crate::config::{AttentionConfig, CheckedConfig};
use crate::element::Element;
use crate::error::AttentionError;
use crate::gradients::{
    AttentionGradients, BackwardInputs, check_bias_gradients, check_gradients, check_outputs,
};
use crate::kernel::{
    BackwardCall, BiasGradients, ForwardCall, GradientSinks, Isa, Queue, RowNumbers, SharedOutput,
    ShiftedRows, Workspace,
};
use crate::shape::{AttentionShape, expect};
use crate::view::TensorView;

/// Where each sequence of a packed batch starts and ends: cumulative lengths, from 0 to the rows of the tensor.
///
/// ```
/// use regard::PackedLengths;
/// // Three sequences of 3, 0 and 5 positions attending to themselves.
/// let lengths = PackedLengths::new(&[0, 3, 3, 8]);
/// assert_eq!(lengths.num_sequences(), 3);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedLengths<'a> {
    /// `[num_sequences + 1]`, in query rows.
    pub query: &'a [usize],
    /// `[num_sequences + 1]`, in keys.
    pub key: &'a [usize],
}

impl<'a> PackedLengths<'a> {
    /// Sequences that attend to themselves.
    pub fn new(lengths: &'a [usize]) -> Self {
        Self { query: lengths, key: lengths }
    }

    /// How many sequences there are.
    pub fn num_sequences(&self) -> usize {
        self.query.len().saturating_sub(1)
    }

    fn check(&self, query_rows: usize, keys: usize) -> Result<(), AttentionError> {
        expect("lengths.key.len", self.query.len(), self.key.len())?;
        for (what, lengths, rows) in
            [("lengths.query", self.query, query_rows), ("lengths.key", self.key, keys)]
        {
            let wrong = |index: usize, found| AttentionError::CumulativeLengths { what, index, found, rows };
            let (Some(&first), Some(&last)) = (lengths.first(), lengths.last()) else {
                return Err(wrong(0, 0));
            };
            if first != 0 {
                return Err(wrong(0, first));
            }
            if let Some(index) = lengths.windows(2).position(|pair| pair[1] < pair[0]) {
                return Err(wrong(index + 1, lengths[index + 1]));
            }
            if last != rows {
                return Err(wrong(lengths.len() - 1, last));
            }
        }
        Ok(())
    }

    fn longest(lengths: &[usize]) -> usize {
        lengths.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }

    fn sequence(&self, index: usize) -> PackedSequence {
        let (query, key) = (self.query[index], self.key[index]);
        PackedSequence {
            index,
            first_query: query,
            first_key: key,
            lens: [self.query[index + 1] - query, self.key[index + 1] - key],
        }
    }
}

/// Queries, keys and values of a packed batch.
#[derive(Debug, Clone, Copy)]
pub struct PackedBatch<'a, Q, KV> {
    /// `[1, num_heads, all query rows, head_dim]`.
    pub query: TensorView<'a, Q>,
    /// `[1, num_kv_heads, all keys, head_dim]`.
    pub key: TensorView<'a, KV>,
    /// `[1, num_kv_heads, all keys, value_head_dim]`.
    pub value: TensorView<'a, KV>,
    /// Where sequences start and end.
    pub lengths: PackedLengths<'a>,
}

/// One sequence of a packed batch.
#[derive(Debug, Clone, Copy)]
struct PackedSequence {
    index: usize,
    first_query: usize,
    first_key: usize,
    /// Query rows and keys.
    lens: [usize; 2],
}

/// A packed call, checked.
struct PackedCall<'a> {
    /// As a batch padded to the longest sequence.
    shape: AttentionShape,
    config: CheckedConfig<'a>,
    lengths: PackedLengths<'a>,
    isa: Isa,
    num_workers: usize,
}

impl<Q: Element, KV: Element> PackedBatch<'_, Q, KV> {
    fn shapes(&self) -> [[usize; 4]; 3] {
        [self.query.shape(), self.key.shape(), self.value.shape()]
    }
}

impl<'a> PackedCall<'a> {
    fn new<Q: Element, KV: Element>(
        batch: &PackedBatch<'a, Q, KV>,
        config: &AttentionConfig<'a>,
    ) -> Result<Self, AttentionError> {
        let (lengths, [query, key, value]) = (batch.lengths, batch.shapes());
        for (axis, shape) in
            [("query.batch_size", query), ("key.batch_size", key), ("value.batch_size", value)]
        {
            expect(axis, 1, shape[0])?;
        }
        expect("value.seq_len_kv", key[2], value[2])?;
        lengths.check(query[2], key[2])?;
        let isa = checked_isa(config)?;
        if config.mask.key_lengths.is_some() {
            let (what, with) = ("mask.key_lengths", "the lengths of a packed batch");
            return Err(AttentionError::ConflictingOption { what, with });
        }
        let sizes = (PackedLengths::longest(lengths.query), PackedLengths::longest(lengths.key));
        let padded = |[_, heads, _, dim]: [usize; 4], rows| [lengths.num_sequences(), heads, rows, dim];
        let shape =
            AttentionShape::new(padded(query, sizes.0), padded(key, sizes.1), padded(value, sizes.1))?;
        let num_workers = config.parallelism.num_workers();
        Ok(Self { shape, config: config.check(&shape)?, lengths, isa, num_workers })
    }

    fn sequence_shape(&self, [seq_len_q, seq_len_kv]: [usize; 2]) -> AttentionShape {
        AttentionShape { batch_size: 1, seq_len_q, seq_len_kv, ..self.shape }
    }

    fn cost(&self, index: usize) -> usize {
        let [rows, keys] = self.lengths.sequence(index).lens;
        rows.saturating_mul(keys)
    }

    /// Runs every sequence once: those that are more than a worker's share one at a time with all workers, the
    /// others side by side, each on one worker. Which is which changes no bit.
    fn for_each(
        &self,
        workspace: &mut Workspace,
        run: impl Fn(PackedSequence, usize, &mut Workspace) -> Result<(), AttentionError> + Sync,
    ) -> Result<(), AttentionError> {
        let all = 0..self.lengths.num_sequences();
        let total = all.clone().fold(0usize, |sum, index| sum.saturating_add(self.cost(index)));
        let workers = self.num_workers.max(1);
        let is_large = |index: &usize| self.cost(*index).saturating_mul(workers) > total || workers == 1;
        for index in all.clone().filter(is_large) {
            run(self.lengths.sequence(index), workers, workspace)?;
        }
        if workers == 1 {
            return Ok(());
        }
        let queue = Queue::new(all.filter(|index| !is_large(index)));
        workspace.children(workers).par_iter_mut().try_for_each(|workspace| {
            while let Some(index) = queue.take() {
                run(self.lengths.sequence(index), 1, workspace)?;
            }
            Ok(())
        })
    }
}

/// [`attention_with`](crate::attention_with) for a packed batch: sequences of different lengths one after the other
/// along the sequence axis, without padding between them.
///
/// Each sequence attends to its own keys alone. Options mean for each what they mean for a batch padded to the
/// longest sequence: positions count from each sequence's start, `BottomRight` and `OffsetPerSequence` are by
/// sequence, keep mask and additive bias have the shape `[num_sequences, num_heads, longest query, longest key]`
/// with axes of size 1 repeated. Key lengths are not taken: the cumulative lengths say it. A sequence's bits do
/// not depend on its place in the batch.
///
/// # Shapes
/// As [`PackedBatch`] says; output `[1, num_heads, all query rows, value_head_dim]`, log-sum-exp
/// `[num_heads, all query rows]`.
///
/// # Errors
/// [`AttentionError`], before anything is written, except that [`AttentionError::AllocationFailed`] may come after
/// some sequences are done.
///
/// ```
/// use regard::{
///     AttentionConfig, AttentionOutput, Layout, PackedBatch, PackedLengths, TensorView, TensorViewMut, Workspace,
///     attention_packed,
/// };
/// let data: Vec<f32> = (0..5 * 2).map(|i| i as f32).collect();
/// let view = TensorView::new(&data, [1, 1, 5, 2], Layout::BatchHeadSeqDim)?;
/// let mut output = [0.0f32; 10];
/// let target = AttentionOutput {
///     output: TensorViewMut::new(&mut output, [1, 1, 5, 2], Layout::BatchHeadSeqDim)?,
///     log_sum_exp: None,
/// };
/// // One sequence of a single position, one of four.
/// let batch = PackedBatch { query: view, key: view, value: view, lengths: PackedLengths::new(&[0, 1, 5]) };
/// attention_packed(batch, target, &AttentionConfig::new(), &mut Workspace::new())?;
/// assert_eq!(output[..2], data[..2]); // alone, it sees itself
/// # Ok::<(), regard::AttentionError>(())
/// ```
pub fn attention_packed<Q: Element, KV: Element, O: Element>(
    batch: PackedBatch<'_, Q, KV>,
    target: AttentionOutput<'_, O>,
    config: &AttentionConfig<'_>,
    workspace: &mut Workspace,
) -> Result<(), AttentionError> {
    let call = PackedCall::new(&batch, config)?;
    let PackedBatch { query, key, value, .. } = batch;
    let AttentionOutput { mut output, log_sum_exp } = target;
    let num_rows = check_outputs(query.shape(), value.shape(), output.shape())?;
    if let Some(log_sum_exp) = &log_sum_exp {
        expect("log_sum_exp.len", num_rows, log_sum_exp.len())?;
    }
    let sink = SharedOutput::new(&mut output, log_sum_exp);
    call.for_each(workspace, |sequence, num_workers, workspace| {
        let [rows, keys] = sequence.lens;
        let forward = ForwardCall {
            shape: call.sequence_shape(sequence.lens),
            config: call.config.for_sequence(sequence.index, sequence.lens),
            query: &query.rows(sequence.first_query, rows),
            key: &key.rows(sequence.first_key, keys),
            value: &value.rows(sequence.first_key, keys),
            isa: call.isa,
            num_workers,
        };
        forward.run(&ShiftedRows { sink: &sink, first: sequence.first_query }, workspace)
    })
}

/// [`attention_backward`](crate::attention_backward) for a packed batch; see [`attention_packed`].
///
/// # Errors
/// As for [`attention_packed`].
pub fn attention_packed_backward<Q: Element, KV: Element, O: Element, DQ: Element, DKV: Element>(
    batch: PackedBatch<'_, Q, KV>,
    inputs: BackwardInputs<'_, O>,
    gradients: AttentionGradients<'_, DQ, DKV>,
    config: &AttentionConfig<'_>,
    workspace: &mut Workspace,
) -> Result<(), AttentionError> {
    let call = PackedCall::new(&batch, config)?;
    let PackedBatch { query, key, value, .. } = batch;
    let num_rows = check_outputs(query.shape(), value.shape(), inputs.output.shape())?;
    inputs.check(num_rows)?;
    check_gradients(batch.shapes(), &gradients)?;
    check_bias_gradients(&gradients, config)?;
    let AttentionGradients {
        mut d_query,
        mut d_key,
        mut d_value,
        d_attention_bias,
        d_relative_bias,
        d_sinks,
    } = gradients;
    let mut biases = BiasGradients { d_attention_bias, d_relative_bias };
    biases.clear();
    let mut d_sinks = d_sinks;
    if let Some(d_sinks) = &mut d_sinks {
        d_sinks.fill(0.0);
    }
    let (d_query, d_key, d_value) = (
        SharedOutput::new(&mut d_query, None),
        SharedOutput::new(&mut d_key, None),
        SharedOutput::new(&mut d_value, None),
    );
    let run = |sequence: PackedSequence,
               num_workers,
               sums: (BiasGradients<'_>, Option<&mut [f32]>),
               workspace: &mut Workspace| {
        let ([rows, keys], first) = (sequence.lens, sequence.first_query);
        let numbers = |numbers| RowNumbers { numbers, rows_per_head: query.shape()[2], first };
        let backward = BackwardCall {
            shape: call.sequence_shape(sequence.lens),
            config: call.config.for_sequence(sequence.index, sequence.lens),
            query: &query.rows(first, rows),
            key: &key.rows(sequence.first_key, keys),
            value: &value.rows(sequence.first_key, keys),
            output: &inputs.output.rows(first, rows),
            d_output: &inputs.d_output.rows(first, rows),
            log_sum_exp: numbers(inputs.log_sum_exp),
            d_log_sum_exp: inputs.d_log_sum_exp.map(numbers),
            isa: call.isa,
            num_workers,
        };
        let sinks = GradientSinks {
            d_query: &ShiftedRows { sink: &d_query, first },
            d_key: &ShiftedRows { sink: &d_key, first: sequence.first_key },
            d_value: &ShiftedRows { sink: &d_value, first: sequence.first_key },
            biases: sums.0,
            d_sinks: sums.1,
        };
        backward.run(sinks, workspace)
    };
    if biases.is_empty() && d_sinks.is_none() {
        return call.for_each(workspace, |sequence, num_workers, workspace| {
            run(sequence, num_workers, (BiasGradients::default(), None), workspace)
        });
    }
    // What sequences share is summed in their order.
    for index in 0..batch.lengths.num_sequences() {
        let sums = (biases.sequence(index), d_sinks.as_deref_mut());
        run(batch.lengths.sequence(index), call.num_workers, sums, workspace)?;
    }
    Ok(())
}

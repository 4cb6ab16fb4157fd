//! The textbook: attention in three loops, the oracle of every test.
//!
//! Nothing here is fast, blocked or clever, and nothing here shares arithmetic with the kernels: the mask is read
//! from its definition, every score of a row exists at once, and the arithmetic is that of the type chosen.
//! In f64 it is the truth that kernels are measured against; in f32 it is the "naive implementation in the
//! same precision" of the accuracy rule (NUMERICS.md); over dual numbers its forward pass checks its gradients.

mod backward;
mod forward;
mod real;
mod statistics;

pub use backward::{Cotangents, Gradient, ReferenceGradients};
pub use forward::{ReferenceOutput, ReferenceRow};
pub use real::Real;
pub use statistics::ReferenceRowStatistics;

use crate::config::AttentionConfig;
use crate::element::Element;
use crate::error::AttentionError;
use crate::mask::{Mask, QueryPosition};
use crate::shape::AttentionShape;
use crate::view::TensorView;

/// An attention call by the textbook: its inputs widened to a number type, and what follows from them.
///
/// ```
/// use regard::{AttentionConfig, Layout, TensorView, reference::Reference};
/// let data = [1.0f32, 0.0, 0.0, 1.0]; // two positions, one head, head_dim 2
/// let view = TensorView::new(&data, [1, 1, 2, 2], Layout::BatchHeadSeqDim)?;
/// let reference = Reference::<f64>::new(view, view, view, &AttentionConfig::new())?;
/// let e = (1.0 / 2f64.sqrt()).exp();
/// assert!((reference.forward().output[0] - e / (e + 1.0)).abs() < 1e-7);
/// # Ok::<(), regard::AttentionError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Reference<'a, R> {
    shape: AttentionShape,
    config: AttentionConfig<'a>,
    scale: R,
    bias_shape: [usize; 4],
    /// `[batch_size, num_heads, seq_len_q, head_dim]`, contiguous.
    pub query: Vec<R>,
    /// `[batch_size, num_kv_heads, seq_len_kv, head_dim]`, contiguous.
    pub key: Vec<R>,
    /// `[batch_size, num_kv_heads, seq_len_kv, value_head_dim]`, contiguous.
    pub value: Vec<R>,
    /// The additive bias in its own shape, contiguous; empty if there is none.
    pub attention_bias: Vec<R>,
    /// The table of the relative bias; empty if there is none.
    pub relative_bias: Vec<R>,
    /// `[num_heads]`; empty if there are none.
    pub sinks: Vec<R>,
}

impl<'a, R: Real> Reference<'a, R> {
    /// Widens the inputs of a call.
    ///
    /// # Errors
    /// As for [`crate::attention`].
    pub fn new<Q: Element, KV: Element>(
        query: TensorView<'_, Q>,
        key: TensorView<'_, KV>,
        value: TensorView<'_, KV>,
        config: &AttentionConfig<'a>,
    ) -> Result<Self, AttentionError> {
        let shape = AttentionShape::new(query.shape(), key.shape(), value.shape())?;
        let scale = wide(config.check(&shape)?.scale);
        let bias = config.attention_bias;
        Ok(Self {
            shape,
            config: *config,
            scale,
            bias_shape: bias.map_or([0; 4], |bias| bias.shape()),
            query: widened(&query),
            key: widened(&key),
            value: widened(&value),
            attention_bias: bias.map_or(vec![], |bias| widened(&bias)),
            relative_bias: config.relative_bias.map_or(vec![], |bias| numbers(bias.table)),
            sinks: config.sinks.map_or(vec![], numbers),
        })
    }

    /// The sizes of the call.
    pub fn shape(&self) -> AttentionShape {
        self.shape
    }

    fn query_row(&self, [batch, head, i]: [usize; 3]) -> usize {
        (batch * self.shape.num_heads + head) * self.shape.seq_len_q + i
    }

    fn key_row(&self, [batch, head, _]: [usize; 3], j: usize) -> usize {
        let kv_head = head / self.shape.group_size();
        (batch * self.shape.num_kv_heads + kv_head) * self.shape.seq_len_kv + j
    }

    /// Where the additive bias of a score is, in its own shape.
    fn bias_index(&self, [batch, head, i]: [usize; 3], j: usize) -> usize {
        let index = [batch, head, i, j].into_iter().zip(self.bias_shape);
        index.fold(0, |at, (i, size)| at * size + if size == 1 { 0 } else { i })
    }

    /// Where the relative bias of a score is: its distance, no further than the table goes.
    fn relative_index(&self, at: [usize; 3], j: usize) -> Option<usize> {
        let bias = self.config.relative_bias?;
        let distance = j as i128 - self.position(at);
        let column = distance.max(-(bias.left as i128)).min(bias.right as i128) + bias.left as i128;
        Some(at[1] * (bias.left + 1 + bias.right) + column as usize)
    }

    /// The position of a query: its row + the offset.
    fn position(&self, [batch, _, i]: [usize; 3]) -> i128 {
        let offset = match self.config.mask.position {
            QueryPosition::TopLeft => 0,
            QueryPosition::BottomRight => self.key_len(batch) as i128 - self.shape.seq_len_q as i128,
            QueryPosition::Offset(offset) => i128::from(offset),
            QueryPosition::OffsetPerSequence(offsets) => i128::from(offsets[batch]),
        };
        i as i128 + offset
    }

    fn key_len(&self, batch: usize) -> usize {
        match self.config.mask.key_lengths {
            None => self.shape.seq_len_kv,
            Some(lengths) => lengths[if lengths.len() == 1 { 0 } else { batch }],
        }
    }

    /// The mask by its definition: causal is j ≤ p; a window is p − left ≤ j ≤ p + right; j must be inside the
    /// sequence and kept.
    fn is_allowed(&self, at: [usize; 3], j: usize) -> bool {
        let Mask { causal, window, keep, .. } = self.config.mask;
        let (p, key) = (self.position(at), j as i128);
        let in_sequence = j < self.key_len(at[0]);
        let causal = !causal || key <= p;
        let window = window.is_none_or(|w| p - w.left as i128 <= key && key <= p + w.right as i128);
        let kept = keep.is_none_or(|keep| {
            let (index, shape) = ([at[0], at[1], at[2], j], keep.shape());
            keep.at(std::array::from_fn(|axis| if shape[axis] == 1 { 0 } else { index[axis] }))
        });
        in_sequence && causal && window && kept
    }

    /// What dropout multiplies a probability with.
    fn dropout_multiplier(&self, at: [usize; 3], j: usize) -> R {
        let Some(dropout) = self.config.dropout else { return R::from_f64(1.0) };
        let kept = dropout.keeps([at[0], at[1]], self.position(at) as i64, j);
        R::from_f64(if kept { 1.0 / (1.0 - f64::from(dropout.rate)) } else { 0.0 })
    }
}

fn wide<R: Real>(number: f32) -> R {
    R::from_f64(f64::from(number))
}

fn numbers<R: Real>(narrow: &[f32]) -> Vec<R> {
    narrow.iter().map(|&number| wide(number)).collect()
}

fn widened<R: Real, T: Element>(view: &TensorView<'_, T>) -> Vec<R> {
    let [b, h, s, d] = view.shape();
    let index = |i: usize| [i / (h * s * d), i / (s * d) % h, i / d % s, i % d];
    (0..b * h * s * d).map(|i| wide(view.at(index(i)).to_f32())).collect()
}

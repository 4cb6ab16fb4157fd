//! The queries and keys of layers, kept so that their attention can be read again when the model has run.

use std::ops::Range;
use std::sync::Arc;

use regard::{
    AttentionConfig, HeadBlock, Layout, Mask, QueryPosition, TensorView, TensorViewMut, attention,
    attention_probs,
};

use crate::error::LensError;
use crate::observer::{AttentionObserver, LayerAttention};
use crate::transformer::zeros;

/// The most that is kept of one run.
const MAX_KEPT_BYTES: u64 = 2 << 30;

/// Queries, keys and log-sum-exps of a layer: any of its probabilities follow from them, in O(seq_len) memory.
#[derive(Debug)]
pub(crate) struct KeptLayer {
    /// `[1, num_heads, seq_len, head_dim]`, contiguous.
    query: Vec<f32>,
    /// `[1, num_kv_heads, seq_len, head_dim]`, contiguous.
    key: Vec<f32>,
    log_sum_exp: Vec<f32>,
    query_shape: [usize; 4],
    key_shape: [usize; 4],
    config: AttentionConfig<'static>,
}

impl KeptLayer {
    fn of(attention: &LayerAttention<'_>) -> Result<Self, LensError> {
        // A layer of a model has a scale and may be causal; it has no other option.
        let mut config = AttentionConfig::new();
        if attention.config.mask.causal {
            config = config.with_mask(Mask::causal(QueryPosition::TopLeft));
        }
        config.softmax_scale = attention.config.softmax_scale;
        Ok(Self {
            query: contiguous(&attention.query)?,
            key: contiguous(&attention.key)?,
            log_sum_exp: attention.log_sum_exp.to_vec(),
            query_shape: attention.query.shape(),
            key_shape: attention.key.shape(),
            config,
        })
    }

    /// Number of tokens.
    pub(crate) fn seq_len(&self) -> usize {
        self.query_shape[2]
    }

    /// Number of query heads.
    pub(crate) fn num_heads(&self) -> usize {
        self.query_shape[1]
    }

    /// As [`LayerAttention::probs`].
    pub(crate) fn probs(&self, head: usize, rows: Range<usize>, probs: &mut [f32]) -> Result<(), LensError> {
        let query = TensorView::new(&self.query, self.query_shape, Layout::BatchHeadSeqDim)?;
        let key = TensorView::new(&self.key, self.key_shape, Layout::BatchHeadSeqDim)?;
        let at = HeadBlock { batch: 0, head, rows, keys: 0..self.seq_len() };
        attention_probs(query, key, &self.log_sum_exp, &at, &self.config, probs)?;
        Ok(())
    }

    /// One head's output, `[seq_len, value_head_dim]`, with this attention and other values
    /// `[1, num_kv_heads, seq_len, value_head_dim]`.
    pub(crate) fn attend(&self, head: usize, value: &TensorView<'_, f32>) -> Result<Vec<f32>, LensError> {
        let [_, kv_heads, seq_len, value_dim] = value.shape();
        let [_, heads, _, dim] = self.query_shape;
        let kv_head = head / (heads / kv_heads);
        let of_head = |data, head: usize| -> Result<TensorView<'_, f32>, LensError> {
            let rows: &[f32] = data;
            let rows = &rows[head * seq_len * dim..][..seq_len * dim];
            Ok(TensorView::new(rows, [1, 1, seq_len, dim], Layout::BatchHeadSeqDim)?)
        };
        let mut values = zeros(seq_len * value_dim)?;
        for (i, number) in values.iter_mut().enumerate() {
            *number = value.at([0, kv_head, i / value_dim, i % value_dim]);
        }
        let shape = [1, 1, seq_len, value_dim];
        let mut output = zeros(values.len())?;
        attention(
            of_head(&self.query, head)?,
            of_head(&self.key, kv_head)?,
            TensorView::new(&values, shape, Layout::BatchHeadSeqDim)?,
            TensorViewMut::new(&mut output, shape, Layout::BatchHeadSeqDim)?,
            &self.config,
        )?;
        Ok(output)
    }
}

/// An observer that keeps layers, and lets another one look as well.
pub(crate) struct Keeper<'a> {
    layers: usize,
    wanted: &'a dyn Fn(usize) -> bool,
    beside: &'a mut dyn AttentionObserver,
    /// One for each layer of the model; `None` where it is not wanted.
    pub(crate) kept: Vec<Option<Arc<KeptLayer>>>,
}

impl<'a> Keeper<'a> {
    /// Keeps those of `layers` layers that are wanted.
    pub(crate) fn new(
        layers: usize,
        wanted: &'a dyn Fn(usize) -> bool,
        beside: &'a mut dyn AttentionObserver,
    ) -> Self {
        Self { layers, wanted, beside, kept: Vec::with_capacity(layers) }
    }
}

impl AttentionObserver for Keeper<'_> {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        self.beside.layer(attention)?;
        if !(self.wanted)(attention.layer) {
            self.kept.push(None);
            return Ok(());
        }
        let numbers =
            |view: &TensorView<'_, f32>| view.shape().iter().fold(1u64, |all, &size| all * size as u64);
        let of_layer = numbers(&attention.query) + numbers(&attention.key);
        let layers = (0..self.layers).filter(|&layer| (self.wanted)(layer)).count() as u64;
        let needed = of_layer.saturating_mul(layers).saturating_mul(size_of::<f32>() as u64);
        if needed > MAX_KEPT_BYTES {
            return Err(LensError::TooMuchMemory {
                what: "queries and keys of the layers",
                needed,
                limit: MAX_KEPT_BYTES,
                remedy: "shorten the text",
            });
        }
        self.kept.push(Some(Arc::new(KeptLayer::of(attention)?)));
        Ok(())
    }
}

/// The elements in the order of the shape.
pub(crate) fn contiguous(view: &TensorView<'_, f32>) -> Result<Vec<f32>, LensError> {
    let [batch, heads, seq, dim] = view.shape();
    let mut numbers = zeros(batch * heads * seq * dim)?;
    for (row, numbers) in numbers.chunks_exact_mut(dim.max(1)).enumerate() {
        let at = [row / (heads * seq), row / seq % heads, row % seq];
        for (element, number) in numbers.iter_mut().enumerate() {
            *number = view.at([at[0], at[1], at[2], element]);
        }
    }
    Ok(numbers)
}

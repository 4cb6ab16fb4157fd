//! Looking at the attention of every layer while a model runs.

use std::ops::Range;

use regard::layer::Linear;
use regard::{AttentionConfig, HeadBlock, TensorView, attention_probs};

use crate::error::LensError;

/// What one attention layer computed, borrowed while the model runs. The batch size is 1.
#[derive(Debug)]
pub struct LayerAttention<'a> {
    /// Which layer, from 0.
    pub layer: usize,
    /// The hidden states that the layer was given, `[seq_len, model_dim]`, row-major: what is attended from, before
    /// any norm.
    pub input: &'a [f32],
    /// `[1, num_heads, seq_len, head_dim]`, after rotary positions, as are keys.
    pub query: TensorView<'a, f32>,
    /// `[1, num_kv_heads, seq_len, head_dim]`.
    pub key: TensorView<'a, f32>,
    /// `[1, num_kv_heads, seq_len, value_head_dim]`.
    pub value: TensorView<'a, f32>,
    /// `[1, num_heads, seq_len, value_head_dim]`, before the output projection.
    pub output: TensorView<'a, f32>,
    /// `[num_heads, seq_len]`: natural log of Σ e^score over the allowed keys.
    pub log_sum_exp: &'a [f32],
    /// What turns the heads' output, side by side, into what is added to the hidden states.
    pub output_projection: &'a Linear,
    /// The mask and scale in force.
    pub config: AttentionConfig<'a>,
}

impl LayerAttention<'_> {
    /// Writes the attention probabilities of some query rows of one head: `[rows, seq_len_kv]`, row-major.
    ///
    /// # Errors
    /// [`LensError::Attention`] if the head or a row does not exist or `probs` has another length.
    pub fn probs(&self, head: usize, rows: Range<usize>, probs: &mut [f32]) -> Result<(), LensError> {
        let keys = 0..self.key.shape()[2];
        let at = HeadBlock { batch: 0, head, rows, keys };
        attention_probs(self.query, self.key, self.log_sum_exp, &at, &self.config, probs)?;
        Ok(())
    }
}

/// Sees the attention of each layer as a model runs.
pub trait AttentionObserver {
    /// Called once for each layer, in order.
    ///
    /// # Errors
    /// An error stops the run and is returned by [`Model::run`](crate::Model::run).
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError>;
}

/// Two observers of one run; the first one sees a layer first.
pub struct Both<'a>(pub &'a mut dyn AttentionObserver, pub &'a mut dyn AttentionObserver);

impl AttentionObserver for Both<'_> {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        self.0.layer(attention)?;
        self.1.layer(attention)
    }
}

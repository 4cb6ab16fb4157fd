//! The block of Devlin et al. 2018, which BERT, RoBERTa and DistilBERT share but for what its tensors are called.

use regard::layer::MultiHeadAttention;

use super::tensors::{layer_norm, linear};
use crate::error::LensError;
use crate::files::TensorSource;
use crate::transformer::{Activation, Block, FeedForward, NormOrder};

/// What a file calls the parts of a block, after its prefix.
pub(super) struct EncoderBlockNames {
    /// Query, key, value and output projection.
    pub(super) attention: [&'static str; 4],
    pub(super) attention_norm: &'static str,
    /// To the inner dimension and back.
    pub(super) feed_forward: [&'static str; 2],
    pub(super) feed_forward_norm: &'static str,
}

/// The sizes of a block and how it computes.
#[derive(Clone, Copy)]
pub(super) struct EncoderBlock {
    pub(super) num_heads: usize,
    pub(super) model_dim: usize,
    pub(super) feed_forward_dim: usize,
    pub(super) activation: Activation,
    pub(super) layer_norm_eps: f64,
}

impl EncoderBlock {
    /// Reads the tensors of the block at `prefix`.
    pub(super) fn load(
        self,
        source: &mut dyn TensorSource,
        prefix: &str,
        names: &EncoderBlockNames,
    ) -> Result<Block, LensError> {
        let (dim, inner) = (self.model_dim, self.feed_forward_dim);
        let mut part = |name: &str, size| linear(source, &format!("{prefix}.{name}"), size, true);
        let [query, key, value, output] = names.attention;
        let (query, key) = (part(query, [dim, dim])?, part(key, [dim, dim])?);
        let (value, output) = (part(value, [dim, dim])?, part(output, [dim, dim])?);
        let [up, down] = names.feed_forward;
        let (up, down) = (part(up, [dim, inner])?, part(down, [inner, dim])?);
        let mut norm = |name: &str| layer_norm(source, &format!("{prefix}.{name}"), dim, self.layer_norm_eps);
        Ok(Block {
            attention: MultiHeadAttention::new(query, key, value, output, [self.num_heads; 2])?,
            softmax_scale: None,
            attention_norm: norm(names.attention_norm)?,
            feed_forward: FeedForward { gate: None, up, activation: self.activation, down },
            feed_forward_norm: norm(names.feed_forward_norm)?,
            order: NormOrder::After,
        })
    }
}

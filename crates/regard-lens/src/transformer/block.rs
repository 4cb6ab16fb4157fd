//! One layer: self-attention, then a feed-forward network, each added to what goes past it.

use std::borrow::Cow;

use regard::layer::MultiHeadAttention;
use regard::position::RotaryPositions;
use regard::{AttentionConfig, Workspace};

use super::feed_forward::FeedForward;
use super::norm::Norm;
use super::{add, zeros};
use crate::error::LensError;
use crate::intervene::Interventions;
use crate::observer::{AttentionObserver, LayerAttention};

/// Rows that go through the feed-forward network at once: its inner rows are several times as long as the hidden
/// states, and need not all exist together.
const FEED_FORWARD_ROWS: usize = 1024;

/// Attention and feed-forward network with their norms.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) attention: MultiHeadAttention,
    /// 1/√head_dim if `None`.
    pub(crate) softmax_scale: Option<f32>,
    /// Of the attention.
    pub(crate) attention_norm: Norm,
    pub(crate) feed_forward: FeedForward,
    /// Of the feed-forward network.
    pub(crate) feed_forward_norm: Norm,
    pub(crate) order: NormOrder,
}

/// Where a block normalises (Xiong et al. 2020, figure 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NormOrder {
    /// x ← norm(x + f(x)), as in BERT.
    After,
    /// x ← x + f(norm(x)), as in GPT-2 and Llama.
    Before,
}

/// What all blocks of one run share.
pub(super) struct Pass<'a> {
    pub(super) config: AttentionConfig<'static>,
    pub(super) rotary: Option<&'a RotaryPositions>,
    pub(super) workspace: Workspace,
    pub(super) interventions: &'a Interventions,
    pub(super) observer: &'a mut dyn AttentionObserver,
}

impl Block {
    /// Runs layer number `layer` in place over hidden states `[seq_len, model_dim]`.
    pub(super) fn forward(
        &self,
        layer: usize,
        hidden: &mut [f32],
        pass: &mut Pass<'_>,
    ) -> Result<(), LensError> {
        let mut config = pass.config;
        if let Some(scale) = self.softmax_scale {
            config = config.with_softmax_scale(scale);
        }
        let model_dim = self.attention.model_dim();
        let seq_len = hidden.len() / model_dim;
        let mut projection = {
            let input = self.before(&self.attention_norm, hidden);
            self.attention.project(&input, [1, seq_len], config.parallelism)?
        };
        if let Some(rotary) = pass.rotary {
            projection.rotate(rotary, [0, 0])?;
        }
        let attended = projection.attend(&config, &mut pass.workspace)?;
        pass.observer.layer(&LayerAttention {
            layer,
            input: hidden,
            query: projection.query(),
            key: projection.key(),
            value: projection.value(),
            output: attended.view(),
            log_sum_exp: attended.log_sum_exp(),
            output_projection: self.attention.output_projection(),
            config,
        })?;
        let changed = pass.interventions.change(layer, &attended, &projection.value())?;
        let projected = match changed {
            None => self.attention.project_output(&attended, config.parallelism)?,
            Some(heads) => {
                let mut projected = zeros(hidden.len())?;
                self.attention.output_projection().forward(&heads, &mut projected, config.parallelism)?;
                projected
            }
        };
        add(hidden, &projected);
        drop((projection, attended, projected));
        self.after(&self.attention_norm, hidden);

        for rows in hidden.chunks_mut(FEED_FORWARD_ROWS * model_dim) {
            let output = {
                let input = self.before(&self.feed_forward_norm, rows);
                self.feed_forward.forward(&input, config.parallelism)?
            };
            add(rows, &output);
            self.after(&self.feed_forward_norm, rows);
        }
        Ok(())
    }

    /// What a part of the block reads.
    fn before<'h>(&self, norm: &Norm, hidden: &'h [f32]) -> Cow<'h, [f32]> {
        let mut input = Cow::Borrowed(hidden);
        if self.order == NormOrder::Before {
            norm.apply(input.to_mut());
        }
        input
    }

    /// What becomes of the sum of a part's input and output.
    fn after(&self, norm: &Norm, hidden: &mut [f32]) {
        if self.order == NormOrder::After {
            norm.apply(hidden);
        }
    }
}

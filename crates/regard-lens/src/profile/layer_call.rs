//! One layer's attention as a profile reads it: the rows asked for, with or without what stands aside, weighted or not.

use regard::{
    AttentionConfig, AttentionError, AttentionStatistics, HeadBlock, Layout, StatisticsRequest, TensorView,
    Workspace, attention_probs, attention_statistics,
};

use super::options::ProfileOptions;
use super::units::Units;
use super::value_norms::log_value_norms;
use crate::error::LensError;
use crate::observer::LayerAttention;

/// Copies and buffers that a [`LayerCall`] borrows.
pub(super) struct LayerBuffers {
    /// `[num_heads, rows, head_dim]`; empty if all rows are wanted.
    query: Vec<f32>,
    /// `[num_heads, seq_len]`; empty unless weighted.
    norms: Vec<f32>,
    /// `[seq_len]`; empty if all keys may be looked at.
    keep: Vec<bool>,
}

impl LayerBuffers {
    pub(super) fn new(attention: &LayerAttention<'_>, units: &Units, options: &ProfileOptions) -> Self {
        let [_, num_heads, seq_len, dim] = attention.query.shape();
        let rows = units.row_tokens();
        let query = if rows == (0..seq_len) {
            vec![]
        } else {
            let places = (0..num_heads).flat_map(|head| rows.clone().map(move |row| (head, row)));
            places
                .flat_map(|(head, row)| (0..dim).map(move |c| attention.query.at([0, head, row, c])))
                .collect()
        };
        let keep = if options.no_sink {
            units
                .spans
                .iter()
                .zip(&units.allowed)
                .flat_map(|(span, &allowed)| span.clone().map(move |_| allowed))
                .collect()
        } else {
            vec![]
        };
        let norms = if options.norm { log_value_norms(attention) } else { vec![] };
        Self { query, norms, keep }
    }
}

/// The attention call whose probabilities a profile is about.
pub(super) struct LayerCall<'a> {
    pub(super) layer: usize,
    pub(super) query: TensorView<'a, f32>,
    pub(super) key: TensorView<'a, f32>,
    pub(super) config: AttentionConfig<'a>,
    /// The token of the first row.
    pub(super) first_row: usize,
}

impl<'a> LayerCall<'a> {
    pub(super) fn new(
        attention: &LayerAttention<'a>,
        units: &Units,
        buffers: &'a LayerBuffers,
    ) -> Result<Self, AttentionError> {
        let [_, num_heads, seq_len, dim] = attention.query.shape();
        let rows = units.row_tokens();
        let mut config = attention.config;
        let mut query = attention.query;
        if !buffers.query.is_empty() {
            query =
                TensorView::new(&buffers.query, [1, num_heads, rows.len(), dim], Layout::BatchHeadSeqDim)?;
            config = config.for_block(rows.start, 0)?;
        }
        if !buffers.keep.is_empty() {
            let keep = TensorView::new(&buffers.keep, [1, 1, 1, seq_len], Layout::BatchHeadSeqDim)?;
            config = config.with_mask(config.mask.with_keep(keep));
        }
        if !buffers.norms.is_empty() {
            let norms = TensorView::new(&buffers.norms, [1, num_heads, 1, seq_len], Layout::BatchHeadSeqDim)?;
            config = config.with_attention_bias(norms);
        }
        Ok(Self { layer: attention.layer, query, key: attention.key, config, first_row: rows.start })
    }

    pub(super) fn num_heads(&self) -> usize {
        self.query.shape()[1]
    }

    /// Rows that are asked for, in tokens.
    pub(super) fn num_rows(&self) -> usize {
        self.query.shape()[2]
    }

    pub(super) fn num_keys(&self) -> usize {
        self.key.shape()[2]
    }

    pub(super) fn statistics(
        &self,
        request: &StatisticsRequest<'_>,
        workspace: &mut Workspace,
    ) -> Result<AttentionStatistics, LensError> {
        Ok(attention_statistics(self.query, self.key, request, &self.config, workspace)?)
    }

    /// Probabilities of one head, `[rows, keys]`; rows and keys in tokens of the text.
    pub(super) fn probs(
        &self,
        log_sum_exp: &[f32],
        (head, rows, keys): (usize, std::ops::Range<usize>, std::ops::Range<usize>),
        probs: &mut [f32],
    ) -> Result<(), LensError> {
        let rows = rows.start - self.first_row..rows.end - self.first_row;
        let at = HeadBlock { batch: 0, head, rows, keys };
        Ok(attention_probs(self.query, self.key, log_sum_exp, &at, &self.config, probs)?)
    }
}

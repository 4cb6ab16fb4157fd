//! A configuration that outlives its caller: the backward pass needs the forward's.

use regard::{AttentionConfig, Layout, Mask, QueryPosition, RelativeBias, TensorView};

/// Every option of an [`AttentionConfig`] but the additive bias, which is a tensor here.
#[derive(Debug)]
pub(crate) struct OwnedConfig {
    /// What borrows nothing.
    plain: AttentionConfig<'static>,
    offsets: Option<Vec<i64>>,
    key_lengths: Option<Vec<usize>>,
    keep: Option<(Vec<bool>, [usize; 4])>,
    alibi_slopes: Option<Vec<f32>>,
    relative_bias: Option<(Vec<f32>, [usize; 2])>,
    sinks: Option<Vec<f32>>,
}

impl OwnedConfig {
    pub(crate) fn new(config: &AttentionConfig<'_>) -> Self {
        let mask = &config.mask;
        let (position, offsets) = match mask.position {
            QueryPosition::TopLeft => (QueryPosition::TopLeft, None),
            QueryPosition::BottomRight => (QueryPosition::BottomRight, None),
            QueryPosition::Offset(offset) => (QueryPosition::Offset(offset), None),
            QueryPosition::OffsetPerSequence(offsets) => (QueryPosition::TopLeft, Some(offsets.to_vec())),
        };
        let mut plain = AttentionConfig::new();
        plain.mask = Mask { causal: mask.causal, window: mask.window, position, ..Mask::default() };
        plain.softcap = config.softcap;
        plain.dropout = config.dropout;
        plain.softmax_scale = config.softmax_scale;
        plain.parallelism = config.parallelism;
        plain.isa = config.isa;
        Self {
            plain,
            offsets,
            key_lengths: mask.key_lengths.map(<[usize]>::to_vec),
            keep: mask.keep.map(|keep| (elements(&keep), keep.shape())),
            alibi_slopes: config.alibi_slopes.map(<[f32]>::to_vec),
            relative_bias: config.relative_bias.map(|bias| (bias.table.to_vec(), [bias.left, bias.right])),
            sinks: config.sinks.map(<[f32]>::to_vec),
        }
    }

    /// The configuration as it was given.
    pub(crate) fn borrow(&self) -> AttentionConfig<'_> {
        let mut config: AttentionConfig<'_> = self.plain;
        if let Some(offsets) = &self.offsets {
            config.mask.position = QueryPosition::OffsetPerSequence(offsets);
        }
        config.mask.key_lengths = self.key_lengths.as_deref();
        config.mask.keep = self.keep.as_ref().map(|(keep, shape)| {
            TensorView::new(keep, *shape, Layout::BatchHeadSeqDim).expect("as many as the shape says")
        });
        config.alibi_slopes = self.alibi_slopes.as_deref();
        config.relative_bias =
            self.relative_bias.as_ref().map(|(table, [left, right])| RelativeBias::new(table, *left, *right));
        config.sinks = self.sinks.as_deref();
        config
    }
}

/// All elements in the order of the axes.
fn elements(view: &TensorView<'_, bool>) -> Vec<bool> {
    indices(view.shape()).map(|index| view.at(index)).collect()
}

/// Every index of a shape, the last axis fastest.
pub(crate) fn indices([batch, heads, rows, columns]: [usize; 4]) -> impl Iterator<Item = [usize; 4]> {
    (0..batch).flat_map(move |b| {
        (0..heads).flat_map(move |h| (0..rows).flat_map(move |i| (0..columns).map(move |j| [b, h, i, j])))
    })
}

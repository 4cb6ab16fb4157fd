//! The optional part of an attention call.

use crate::bias::RelativeBias;
use crate::dropout::Dropout;
use crate::error::AttentionError;
use crate::kernel::Isa;
use crate::mask::{CheckedMask, Mask, QueryPosition};
use crate::parallelism::Parallelism;
use crate::shape::{AttentionShape, expect};
use crate::view::TensorView;

/// Options of an attention call; the default is plain attention with scale 1/√head_dim.
///
/// scores = softmax_scale · query·key → softcap → + biases (ALiBi, relative, attention_bias) → mask → softmax
/// (with sinks) → dropout → · value.
///
/// ```
/// use regard::{AttentionConfig, Mask, QueryPosition};
/// let config = AttentionConfig::new().with_mask(Mask::causal(QueryPosition::TopLeft));
/// assert!(config.softmax_scale.is_none());
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct AttentionConfig<'a> {
    /// Which keys each query may attend to.
    pub mask: Mask<'a>,
    /// Added to the scaled scores; may hold −∞, which forbids a key as the mask does. Use −∞ for that, and not
    /// `f32::MIN`, which is a number: a row of it alone is beyond what f32 scores can hold.
    /// Shape `[batch_size, num_heads, seq_len_q, seq_len_kv]`; axes of size 1 are repeated.
    pub attention_bias: Option<TensorView<'a, f32>>,
    /// ALiBi (Press et al. 2022): −slope·|p − j| is added to the score of key j for a query at position p (row +
    /// offset of the mask's [`QueryPosition`](crate::QueryPosition)). `[num_heads]`, finite;
    /// [`alibi_slopes`](crate::position::alibi_slopes) gives the paper's.
    pub alibi_slopes: Option<&'a [f32]>,
    /// A bias by head and distance, as T5 learns it.
    pub relative_bias: Option<RelativeBias<'a>>,
    /// c·tanh(score/c) stands for the scaled score (Gemma 2), before any bias; finite and positive.
    pub softcap: Option<f32>,
    /// Attention sinks: one more logit in the denominator of each row's softmax, with no value behind it
    /// (gpt-oss; Xiao et al. 2024). `[num_heads]`, natural log, neither scaled nor capped nor biased; −∞ is none.
    /// `log_sum_exp` does not include it.
    pub sinks: Option<&'a [f32]>,
    /// Drops probabilities, for training.
    pub dropout: Option<Dropout>,
    /// Multiplies query·key; any finite number. `None` is 1/√head_dim.
    pub softmax_scale: Option<f32>,
    /// How many threads may work.
    pub parallelism: Parallelism,
    /// Forces one instruction set; `None` takes `REGARD_ISA`, else the best there is.
    pub isa: Option<Isa>,
}

impl<'a> AttentionConfig<'a> {
    /// Plain attention: no mask, no bias, scale 1/√head_dim.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the mask.
    pub fn with_mask(self, mask: Mask<'a>) -> Self {
        Self { mask, ..self }
    }

    /// Sets the additive bias.
    pub fn with_attention_bias(self, attention_bias: TensorView<'a, f32>) -> Self {
        Self { attention_bias: Some(attention_bias), ..self }
    }

    /// Sets the slopes of ALiBi, `[num_heads]`.
    pub fn with_alibi_slopes(self, alibi_slopes: &'a [f32]) -> Self {
        Self { alibi_slopes: Some(alibi_slopes), ..self }
    }

    /// Sets the bias by head and distance.
    pub fn with_relative_bias(self, relative_bias: RelativeBias<'a>) -> Self {
        Self { relative_bias: Some(relative_bias), ..self }
    }

    /// Sets the cap of the scores.
    pub fn with_softcap(self, softcap: f32) -> Self {
        Self { softcap: Some(softcap), ..self }
    }

    /// Sets the sinks, `[num_heads]`.
    pub fn with_sinks(self, sinks: &'a [f32]) -> Self {
        Self { sinks: Some(sinks), ..self }
    }

    /// Sets the dropout of probabilities.
    pub fn with_dropout(self, dropout: Dropout) -> Self {
        Self { dropout: Some(dropout), ..self }
    }

    /// Sets the scale of the scores.
    pub fn with_softmax_scale(self, softmax_scale: f32) -> Self {
        Self { softmax_scale: Some(softmax_scale), ..self }
    }

    /// Sets how many threads may work.
    pub fn with_parallelism(self, parallelism: Parallelism) -> Self {
        Self { parallelism, ..self }
    }

    /// Forces one instruction set.
    pub fn with_isa(self, isa: Isa) -> Self {
        Self { isa: Some(isa), ..self }
    }

    /// The configuration of one block of a larger attention: queries from `query_start` on against keys from
    /// `key_start` on, both counted in the whole. Masks by position, ALiBi, relative bias and dropout are then as
    /// in the whole; a keep mask, an additive bias and key lengths have to be the block's own.
    ///
    /// Leave sinks out of blocks and give them to [`merge_partials`](crate::merge_partials).
    ///
    /// # Errors
    /// [`AttentionError::BlockPosition`] unless the whole's queries stand at one offset (`TopLeft` or `Offset`)
    /// that still fits.
    pub fn for_block(self, query_start: usize, key_start: usize) -> Result<Self, AttentionError> {
        let offset = match self.mask.position {
            QueryPosition::TopLeft => Some(0),
            QueryPosition::Offset(offset) => Some(offset),
            QueryPosition::BottomRight | QueryPosition::OffsetPerSequence(_) => None,
        };
        let starts = i64::try_from(query_start).ok().zip(i64::try_from(key_start).ok());
        let moved = offset
            .zip(starts)
            .and_then(|(offset, (query, key))| Some((offset.checked_add(query)?.checked_sub(key)?, key)));
        let (offset, key) = moved.ok_or(AttentionError::BlockPosition)?;
        let dropout = self.dropout.map(|mut dropout| {
            dropout.origin.key = dropout.origin.key.wrapping_add(key);
            dropout
        });
        Ok(Self { mask: self.mask.with_position(QueryPosition::Offset(offset)), dropout, ..self })
    }

    pub(crate) fn check(&self, shape: &AttentionShape) -> Result<CheckedConfig<'a>, AttentionError> {
        let scale = self.softmax_scale.unwrap_or_else(|| default_scale(shape.head_dim));
        if !scale.is_finite() {
            return Err(AttentionError::InvalidNumber { what: "softmax_scale", found: scale });
        }
        if let Some(found) = self.softcap.filter(|cap| !(cap.is_finite() && *cap > 0.0)) {
            return Err(AttentionError::InvalidNumber { what: "softcap (positive)", found });
        }
        if let Some(slopes) = self.alibi_slopes {
            expect("alibi_slopes.len", shape.num_heads, slopes.len())?;
            if let Some(&found) = slopes.iter().find(|slope| !slope.is_finite()) {
                return Err(AttentionError::InvalidNumber { what: "alibi_slopes", found });
            }
        }
        if let Some(sinks) = self.sinks {
            expect("sinks.len", shape.num_heads, sinks.len())?;
            if let Some(&found) = sinks.iter().find(|sink| sink.is_nan() || **sink == f32::INFINITY) {
                return Err(AttentionError::InvalidNumber { what: "sinks (or −∞)", found });
            }
        }
        self.relative_bias.map_or(Ok(()), |bias| bias.check(shape))?;
        self.dropout.map_or(Ok(()), |dropout| dropout.check())?;
        let axes = [
            "attention_bias.batch_size",
            "attention_bias.num_heads",
            "attention_bias.seq_len_q",
            "attention_bias.seq_len_kv",
        ];
        let bias = self.attention_bias.map(|bias| bias.broadcast_to(shape.scores(), axes)).transpose()?;
        Ok(CheckedConfig {
            mask: CheckedMask::new(&self.mask, shape)?,
            bias,
            alibi_slopes: self.alibi_slopes,
            relative_bias: self.relative_bias,
            softcap: self.softcap,
            sinks: self.sinks,
            dropout: self.dropout,
            scale,
        })
    }
}

pub(crate) fn default_scale(head_dim: usize) -> f32 {
    (1.0 / (head_dim as f64).sqrt()) as f32
}

/// Options checked against a shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckedConfig<'a> {
    pub(crate) mask: CheckedMask<'a>,
    pub(crate) bias: Option<TensorView<'a, f32>>,
    pub(crate) alibi_slopes: Option<&'a [f32]>,
    pub(crate) relative_bias: Option<RelativeBias<'a>>,
    pub(crate) softcap: Option<f32>,
    pub(crate) sinks: Option<&'a [f32]>,
    pub(crate) dropout: Option<Dropout>,
    pub(crate) scale: f32,
}

impl<'a> CheckedConfig<'a> {
    /// The options of one sequence of a batch, for a call of that sequence alone, its queries and keys cut to
    /// their lengths.
    pub(crate) fn for_sequence(&self, sequence: usize, [seq_len_q, seq_len_kv]: [usize; 2]) -> Self {
        let lens = [seq_len_q, seq_len_kv];
        Self {
            mask: self.mask.for_sequence(sequence, lens),
            bias: self.bias.map(|bias| bias.sequence(sequence, lens)),
            dropout: self.dropout.map(|mut dropout| {
                dropout.origin.sequence = dropout.origin.sequence.wrapping_add(sequence as u64);
                dropout
            }),
            ..*self
        }
    }

    /// Whether anything is added to the scores.
    pub(crate) fn has_bias(&self) -> bool {
        self.bias.is_some() || self.alibi_slopes.is_some() || self.relative_bias.is_some()
    }

    /// Whether a score is its scaled product and no more wherever causality, window and lengths allow the key.
    pub(crate) fn is_plain(&self) -> bool {
        self.softcap.is_none() && !self.has_bias() && self.mask.keep.is_none()
    }
}

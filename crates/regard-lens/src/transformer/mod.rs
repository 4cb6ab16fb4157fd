//! A Transformer put together from its parts: embedding, blocks of self-attention and feed-forward network, and
//! what turns hidden states into words. Which parts a model has, and what its file calls them, is decided in
//! `families`.

mod activation;
mod block;
mod embedding;
mod feed_forward;
mod head;
mod norm;
mod rotary;

use regard::{AttentionConfig, Mask, QueryPosition, Workspace};

pub(crate) use activation::Activation;
pub(crate) use block::{Block, NormOrder};
pub(crate) use embedding::{Embedding, Positions};
pub(crate) use feed_forward::FeedForward;
pub(crate) use head::{Head, HeadTransform};
pub(crate) use norm::Norm;
pub(crate) use rotary::Rotary;

use crate::error::LensError;
use crate::intervene::Interventions;
use crate::observer::AttentionObserver;
use block::Pass;

/// Token ids to hidden states, and hidden states to logits.
#[derive(Debug)]
pub(crate) struct Transformer {
    pub(crate) embedding: Embedding,
    pub(crate) blocks: Vec<Block>,
    /// After the last block, in models whose blocks normalise before.
    pub(crate) final_norm: Option<Norm>,
    /// Turns queries and keys by their positions.
    pub(crate) rotary: Option<Rotary>,
    /// Whether a position sees only those before it, and itself.
    pub(crate) causal: bool,
    /// What predicts words; encoders are often saved without it.
    pub(crate) head: Option<Head>,
}

impl Transformer {
    /// Numbers per token.
    pub(crate) fn model_dim(&self) -> usize {
        self.embedding.model_dim()
    }

    /// Tokens of the vocabulary.
    pub(crate) fn vocabulary_size(&self) -> usize {
        self.embedding.vocabulary_size()
    }

    /// The last layer's output, `[ids, model_dim]`, after the final norm if there is one. Ids must be within the
    /// vocabulary, and no more of them than there are positions.
    ///
    /// Memory is O(ids): no matrix of queries by keys exists.
    pub(crate) fn run(
        &self,
        ids: &[u32],
        interventions: &Interventions,
        observer: &mut dyn AttentionObserver,
    ) -> Result<Vec<f32>, LensError> {
        let mut hidden = self.embedding.embed(ids)?;
        let mut config = AttentionConfig::new();
        if self.causal {
            config = config.with_mask(Mask::causal(QueryPosition::TopLeft));
        }
        let rotary = self.rotary.as_ref().map(|rotary| rotary.for_len(ids.len())).transpose()?;
        let mut pass =
            Pass { config, rotary: rotary.as_deref(), workspace: Workspace::new(), interventions, observer };
        for (number, block) in self.blocks.iter().enumerate() {
            block.forward(number, &mut hidden, &mut pass)?;
        }
        if let Some(norm) = &self.final_norm {
            norm.apply(&mut hidden);
        }
        Ok(hidden)
    }

    /// What the head gives to every token of the vocabulary, `[rows, vocabulary_size]`, for rows of hidden states
    /// `[rows, model_dim]`; `None` without a head.
    pub(crate) fn logits(&self, rows: &[f32]) -> Option<Result<Vec<f32>, LensError>> {
        self.head.as_ref().map(|head| head.logits(self.embedding.words(), rows))
    }
}

/// `len` zeros, or an error where memory does not suffice.
pub(crate) fn zeros(len: usize) -> Result<Vec<f32>, LensError> {
    let mut numbers = Vec::new();
    numbers
        .try_reserve_exact(len)
        .map_err(|_| LensError::AllocationFailed { bytes: len.saturating_mul(size_of::<f32>()) })?;
    numbers.resize(len, 0.0);
    Ok(numbers)
}

fn add(sum: &mut [f32], more: &[f32]) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

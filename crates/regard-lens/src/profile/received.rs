//! Who looks at one token.

use rayon::prelude::*;
use regard::{HeadBlock, attention_probs};
use serde::Serialize;

use crate::error::LensError;
use crate::observer::{AttentionObserver, LayerAttention};
use crate::view::{HeadId, Verification};

/// Who looks at the token in one head.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReceivedFrom {
    /// Which head.
    pub id: HeadId,
    /// Σ of what all queries give to the token.
    pub received: f32,
    /// How many queries may look at it.
    pub visible_queries: usize,
    /// The queries that give it most, falling, equal ones in text order, and what they give.
    pub top: Vec<(usize, f32)>,
}

/// An [`AttentionObserver`] that finds out which queries look at one token: a column of each head's probabilities,
/// from the log-sum-exps that the run has anyway, at O(tokens · head_dim) a head.
pub struct ReceivedBy<'a> {
    token: usize,
    top: usize,
    heads: Vec<ReceivedFrom>,
    verification: Verification,
    on_layer: &'a mut dyn FnMut(usize),
}

impl<'a> ReceivedBy<'a> {
    /// Who looks at `token`; the `top` strongest queries of each head are named. `on_layer` hears of each layer.
    pub fn new(token: usize, top: usize, on_layer: &'a mut dyn FnMut(usize)) -> Self {
        Self { token, top, heads: vec![], verification: Verification::default(), on_layer }
    }

    /// Every head, by layer, then head; and the check of sampled rows against the f64 reference.
    pub fn finish(self) -> (Vec<ReceivedFrom>, Verification) {
        (self.heads, self.verification)
    }
}

impl AttentionObserver for ReceivedBy<'_> {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        let [_, num_heads, tokens, _] = attention.query.shape();
        let heads = (0..num_heads).into_par_iter().map(|head| {
            let mut column = vec![0.0f32; tokens];
            let at = HeadBlock { batch: 0, head, rows: 0..tokens, keys: self.token..self.token + 1 };
            let (query, key) = (attention.query, attention.key);
            attention_probs(query, key, attention.log_sum_exp, &at, &attention.config, &mut column)?;
            let id = HeadId { layer: attention.layer, head };
            if column.iter().any(|prob| !prob.is_finite()) {
                return Err(super::streamed::not_a_number(id));
            }
            let first = if attention.config.mask.causal { self.token } else { 0 };
            let received: f64 = column.iter().map(|&prob| f64::from(prob)).sum();
            let mut queries: Vec<usize> = (first..tokens).collect();
            queries.sort_by(|&a, &b| column[b].total_cmp(&column[a]));
            queries.truncate(self.top);
            let top = queries.into_iter().map(|query| (query, column[query])).collect();
            Ok(ReceivedFrom { id, received: received as f32, visible_queries: tokens - first, top })
        });
        self.heads.extend(heads.collect::<Result<Vec<_>, LensError>>()?);
        self.verification.check(attention)?;
        (self.on_layer)(attention.layer);
        Ok(())
    }
}

//! Who looks at one token.

use rayon::prelude::*;
use regard::{StatisticsRequest, Workspace};
use serde::Serialize;

use super::layer_call::{LayerBuffers, LayerCall};
use super::options::{ProfileOptions, Unit};
use super::units::Units;
use super::verification::{check_key, sampled_rows};
use crate::error::LensError;
use crate::model::ModelInfo;
use crate::observer::{AttentionObserver, LayerAttention};
use crate::token::TokenizedText;
use crate::view::{HeadId, Verification};

/// Who looks at the token in one head.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReceivedFrom {
    /// Which head.
    pub id: HeadId,
    /// Σ of what the queries give to the token.
    pub received: f32,
    /// How many of the queries asked for may look at it.
    pub visible_queries: usize,
    /// The queries that give it most, falling, equal ones in text order, and what they give.
    pub top: Vec<(usize, f32)>,
}

/// An [`AttentionObserver`] that finds out which queries look at one token: a column of each head's probabilities,
/// from the log-sum-exps that the run has anyway, at O(tokens · head_dim) a head; where keys are left out or weighted,
/// from those of a call of its own.
pub struct ReceivedBy<'a> {
    token: usize,
    units: Units,
    options: ProfileOptions,
    heads: Vec<ReceivedFrom>,
    verification: Verification,
    workspace: Workspace,
    on_layer: &'a mut dyn FnMut(usize),
}

impl<'a> ReceivedBy<'a> {
    /// Who looks at `token` of a text. Of the options, `layers`, `heads`, `rows`, `no_sink` and `norm` count, and
    /// `top_k` is how many of the strongest queries of each head are named. `on_layer` hears of each layer.
    ///
    /// # Errors
    /// [`LensError::OutOfRange`] for a token or rows that the text does not have, and for a token that `no_sink` leaves out.
    pub fn new(
        (text, model): (&TokenizedText, &ModelInfo),
        token: usize,
        options: ProfileOptions,
        on_layer: &'a mut dyn FnMut(usize),
    ) -> Result<Self, LensError> {
        let options = ProfileOptions { unit: Unit::Token, ..options };
        let units = Units::new(text, model.causal, &options)?;
        let wrong = |expected| {
            let found = token.to_string();
            Err(LensError::OutOfRange { what: "token", expected, found })
        };
        match units.allowed.get(token) {
            None => wrong(format!("one of {}", units.len())),
            Some(false) => wrong("one that does not stand aside (no_sink)".to_owned()),
            Some(true) => Ok(Self {
                token,
                units,
                options,
                heads: vec![],
                verification: Verification::default(),
                workspace: Workspace::new(),
                on_layer,
            }),
        }
    }

    /// Every head asked for, by layer, then head; and the check of sampled rows against the f64 reference.
    pub fn finish(self) -> (Vec<ReceivedFrom>, Verification) {
        (self.heads, self.verification)
    }

    fn look(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        let (token, units, options) = (self.token, &self.units, &self.options);
        let buffers = LayerBuffers::new(attention, units, options);
        let call = LayerCall::new(attention, units, &buffers)?;
        let heads: Vec<usize> = (0..call.num_heads()).filter(|&head| options.heads.contains(head)).collect();
        let log_sum_exp = if options.no_sink || options.norm {
            call.statistics(&StatisticsRequest::new(), &mut self.workspace)?.log_sum_exp
        } else {
            let of_heads = attention.log_sum_exp.chunks_exact(call.num_keys());
            of_heads.flat_map(|head| &head[units.rows.clone()]).copied().collect()
        };
        let columns = heads.par_iter().map(|&head| {
            let mut column = vec![0.0f32; units.rows.len()];
            call.probs(&log_sum_exp, (head, units.rows.clone(), token..token + 1), &mut column)?;
            let id = HeadId { layer: attention.layer, head };
            if column.iter().any(|prob| !prob.is_finite()) {
                return Err(super::streamed::not_a_number(id));
            }
            Ok(column)
        });
        let columns = columns.collect::<Result<Vec<_>, LensError>>()?;
        // One row of each head.
        let samples = sampled_rows(call.layer, &heads, units.rows.clone(), heads.len());
        let of_sample = |[head, row]: [usize; 2]| {
            let place = heads.iter().position(|&other| other == head);
            place.map(|place| ([head, row], columns[place][row - units.rows.start]))
        };
        let sampled = samples.into_iter().filter_map(of_sample);
        check_key(&call, token, sampled, &mut self.verification)?;
        let found = heads.iter().zip(&columns).map(|(&head, column)| {
            let mut queries: Vec<usize> = units.rows.clone().filter(|&row| units.sees(row, token)).collect();
            let visible_queries = queries.len();
            let prob = |query: usize| column[query - units.rows.start];
            let received: f64 = column.iter().map(|&prob| f64::from(prob)).sum();
            queries.sort_by(|&a, &b| prob(b).total_cmp(&prob(a)));
            queries.truncate(options.top_k);
            let top = queries.into_iter().map(|query| (query, prob(query))).collect();
            let id = HeadId { layer: attention.layer, head };
            ReceivedFrom { id, received: received as f32, visible_queries, top }
        });
        self.heads.extend(found);
        Ok(())
    }
}

impl AttentionObserver for ReceivedBy<'_> {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        if self.options.layers.contains(attention.layer) {
            self.look(attention)?;
        }
        (self.on_layer)(attention.layer);
        Ok(())
    }
}

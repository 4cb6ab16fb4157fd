//! The observer that looks at every head of every layer.

use std::error::Error;
use std::ops::Range;

use rayon::prelude::*;

use super::head::{HeadView, QueryRow, ROWS_AT_ONCE, look_at_head};
use super::head_id::HeadId;
use super::heat_map::{HeatMap, window};
use super::kind::HeadKind;
use super::options::{Queries, ViewOptions};
use super::text_table::TextTable;
use super::verification::Verification;
use crate::error::LensError;
use crate::exchange::AttentionMaps;
use crate::model::ModelInfo;
use crate::observer::{AttentionObserver, LayerAttention};
use crate::token::TokenizedText;

/// What is known when the model has run, beside the heads handed out on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Viewed {
    /// The picture, if one was asked for.
    pub map: Option<HeatMap>,
    /// The check against the f64 reference.
    pub verification: Verification,
}

/// Receives each head, in order of layer and head, as soon as its layer has run.
pub type OnHead<'a> = dyn FnMut(HeadView) -> Result<(), Box<dyn Error + Send + Sync>> + 'a;

/// An [`AttentionObserver`] that finds out where every head looks.
///
/// Results do not depend on the number of threads.
pub struct Viewer<'a> {
    table: TextTable,
    options: ViewOptions,
    on_head: &'a mut OnHead<'a>,
    map: Option<(MapRank, HeatMap)>,
    verification: Verification,
}

/// Writes some rows of one head's probabilities.
type ProbsOfHead<'a> = dyn Fn(usize, Range<usize>, &mut [f32]) -> Result<(), LensError> + Sync + 'a;

/// How much a head deserves to be the picture: first its kind, then its score within the kind.
type MapRank = (usize, f64);

impl<'a> Viewer<'a> {
    /// A viewer of a run over `text`. `on_head` gets each head; an error of it stops the run and comes back as
    /// [`LensError::Observer`].
    pub fn new(
        text: &TokenizedText,
        model: &ModelInfo,
        options: ViewOptions,
        on_head: &'a mut OnHead<'a>,
    ) -> Self {
        Self {
            table: TextTable::new(text, model.causal),
            options,
            on_head,
            map: None,
            verification: Verification::default(),
        }
    }

    /// What is left to tell when the model has run.
    pub fn finish(self) -> Viewed {
        Viewed { map: self.map.map(|(_, map)| map), verification: self.verification }
    }

    /// Looks at attention that another program computed, layer by layer. Nothing of it can be checked against a
    /// reference: [`Viewed::verification`] has no rows.
    ///
    /// # Errors
    /// As [`AttentionMaps::probs`]; what `on_head` returns.
    pub fn look_at_maps(&mut self, maps: &AttentionMaps) -> Result<(), LensError> {
        if maps.tokens() != self.table.len() {
            let (expected, found) = (maps.tokens(), self.table.len());
            return Err(regard::AttentionError::ShapeMismatch { axis: "tokens", expected, found }.into());
        }
        let [layers, heads] = maps.size();
        for layer in 0..layers {
            let probs = |head, rows, probs: &mut [f32]| maps.probs(HeadId { layer, head }, rows, probs);
            let heads = self.look_at_layer([layer, heads], &probs)?;
            self.hand_out(heads)?;
        }
        Ok(())
    }

    /// Every head of a layer, and the picture if one of them deserves it.
    fn look_at_layer(
        &mut self,
        [layer, num_heads]: [usize; 2],
        probs_of: &ProbsOfHead<'_>,
    ) -> Result<Vec<HeadView>, LensError> {
        let tokens = self.table.len();
        let heads = (0..num_heads)
            .into_par_iter()
            .map_init(
                || vec![0.0; ROWS_AT_ONCE.min(tokens) * tokens],
                |scratch, head| {
                    let id = HeadId { layer, head };
                    look_at_head(id, &self.table, &self.options, scratch, &|rows, probs| {
                        probs_of(head, rows, probs)
                    })
                },
            )
            .collect::<Result<Vec<_>, _>>()?;
        self.take_picture(probs_of, &heads)?;
        Ok(heads)
    }

    fn hand_out(&mut self, heads: Vec<HeadView>) -> Result<(), LensError> {
        heads.into_iter().try_for_each(|head| (self.on_head)(head).map_err(LensError::Observer))
    }

    /// Takes the picture of this layer's best head, if it beats those before. One token alone is no picture.
    fn take_picture(&mut self, probs_of: &ProbsOfHead<'_>, heads: &[HeadView]) -> Result<(), LensError> {
        let Queries::One(query) = self.options.queries else { return Ok(()) };
        if self.options.map_size.contains(&0) || self.pictured_tokens(&[query]).len() < 2 {
            return Ok(());
        }
        for head in heads {
            let Some(row) = head.rows.first() else { continue };
            let rank = (map_preference(row.kind), head.score(row));
            let wanted = match self.options.map_head {
                Some(wanted) => wanted == head.id,
                None => row.kind != HeadKind::Special,
            };
            // Strictly better: of equal heads the first one stays.
            if wanted && self.map.as_ref().is_none_or(|(best, _)| rank > *best) {
                self.map = Some((rank, self.picture(probs_of, head.id, row)?));
            }
        }
        Ok(())
    }

    /// The tokens that a picture may show, `also` among them.
    fn pictured_tokens(&self, also: &[usize]) -> Vec<usize> {
        let shown =
            |token: &usize| !self.table.is_aside(*token) || self.options.keep_special || also.contains(token);
        (0..self.table.len()).filter(shown).collect()
    }

    fn picture(&self, probs_of: &ProbsOfHead<'_>, id: HeadId, row: &QueryRow) -> Result<HeatMap, LensError> {
        // The key of a link may stand aside, too: then it is what the picture is about.
        let link = row.strongest.as_ref().map_or(row.query, |link| link.key);
        let tokens = self.pictured_tokens(&[row.query, link]);
        let focus = tokens.binary_search(&row.query).unwrap_or(0);
        let place = |token: usize| tokens.binary_search(&token).unwrap_or(focus);
        let key = place(row.example.key);
        let [most_queries, most_keys] = self.options.map_size;
        let queries = tokens[window(tokens.len(), most_queries, focus, key)].to_vec();
        let keys = tokens[window(tokens.len(), most_keys, key, focus)].to_vec();

        let mut all_keys = vec![0.0; self.table.len()];
        let mut probs = Vec::with_capacity(queries.len() * keys.len());
        for &query in &queries {
            probs_of(id.head, query..query + 1, &mut all_keys)?;
            probs.extend(keys.iter().map(|&key| all_keys[key]));
        }
        Ok(HeatMap { id, queries, keys, probs, available: tokens.len() })
    }
}

fn map_preference(kind: HeadKind) -> usize {
    use HeadKind::{Ahead, Link, Next, Other, Previous, Special, Topic};
    let falling = [Link, Ahead, Topic, Next, Previous, Other, Special];
    falling.iter().rev().position(|&other| other == kind).unwrap_or(0)
}

impl AttentionObserver for Viewer<'_> {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        let [_, num_heads, ..] = attention.query.shape();
        let probs = |head, rows, probs: &mut [f32]| attention.probs(head, rows, probs);
        let heads = self.look_at_layer([attention.layer, num_heads], &probs)?;
        self.verification.check(attention)?;
        self.hand_out(heads)
    }
}

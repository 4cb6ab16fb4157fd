//! The observer that sums up every head of every layer.

use rayon::prelude::*;
use regard::{AttentionStatistics, StatisticsRequest, Workspace};

use super::layer_call::{LayerBuffers, LayerCall};
use super::options::{ProfileOptions, Unit};
use super::result::{Counted, HeadProfile, Profiled, Region, Scores};
use super::uniform::uniform;
use super::units::Units;
use super::{streamed, verification, words};
use crate::error::LensError;
use crate::model::ModelInfo;
use crate::observer::{AttentionObserver, LayerAttention};
use crate::token::TokenizedText;
use crate::view::Verification;

/// The most cells of a region.
const MAX_REGION: usize = 1 << 24;

/// An [`AttentionObserver`] that sums up what each head does with a text; [`profile`](super::profile) runs it, twice.
///
/// Results do not depend on the number of threads.
pub struct Profiler<'a> {
    units: Units,
    /// Of each token, for the kernel's sets of keys; empty for words.
    members: Vec<u32>,
    options: ProfileOptions,
    /// Rows checked in each layer.
    sampled: usize,
    on_layer: &'a mut dyn FnMut(usize),
    heads: Vec<HeadProfile>,
    uniform: Scores,
    counted: Counted,
    region: Option<Region>,
    verification: Verification,
    workspace: Workspace,
}

impl<'a> Profiler<'a> {
    /// A profiler of a run over `text`; `on_layer` hears of each layer when it is done.
    ///
    /// # Errors
    /// [`LensError::OutOfRange`] if the options ask for rows, or a region, that the text or the model does not have, for a
    /// region of more than 2²⁴ cells, or for a thumbnail of other than 1 to 64 blocks; [`LensError::EmptyText`].
    pub fn new(
        text: &TokenizedText,
        model: &ModelInfo,
        options: ProfileOptions,
        on_layer: &'a mut dyn FnMut(usize),
    ) -> Result<Self, LensError> {
        if text.tokens.is_empty() {
            return Err(LensError::EmptyText);
        }
        let units = Units::new(text, model.causal, &options)?;
        check_region(&options, &units, model)?;
        if let Some(found) = options.thumbnail.into_iter().flatten().find(|cells| !(1..=64).contains(cells)) {
            let (what, expected) = ("thumbnail", "from 1 to 64".to_owned());
            return Err(LensError::OutOfRange { what, expected, found: found.to_string() });
        }
        let members = if options.unit == Unit::Token { streamed::members(&units) } else { vec![] };
        let layers = (0..model.layers).filter(|&layer| options.layers.contains(layer)).count();
        let sampled = options.verify_rows.div_ceil(layers.max(1));
        let (uniform, counted) = {
            let totals = uniform(&units);
            (totals.finish(), totals.counted())
        };
        Ok(Self {
            units,
            members,
            options,
            sampled,
            on_layer,
            heads: vec![],
            uniform,
            counted,
            region: None,
            verification: Verification::default(),
            workspace: Workspace::new(),
        })
    }

    /// The tokens of each row and key.
    pub fn units(&self) -> &[std::ops::Range<usize>] {
        &self.units.spans
    }

    /// What was found when the model has run.
    pub fn finish(self) -> Profiled {
        Profiled {
            heads: self.heads,
            uniform: self.uniform,
            counted: self.counted,
            region: self.region,
            verification: self.verification,
        }
    }

    fn sum_up(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        let buffers = LayerBuffers::new(attention, &self.units, &self.options);
        let call = LayerCall::new(attention, &self.units, &buffers)?;
        let request = match self.options.unit {
            Unit::Token => streamed::request(&self.units, &self.options, &self.members),
            Unit::Word => StatisticsRequest::new().with_top_k(self.options.top_k),
        };
        let found = call.statistics(&request, &mut self.workspace)?;
        let (units, options) = (&self.units, &self.options);
        let heads: Vec<usize> = (0..call.num_heads()).filter(|&head| options.heads.contains(head)).collect();
        let profiles = heads.par_iter().map(|&head| {
            let mut profile = match options.unit {
                Unit::Token => streamed::head(&call, units, options, (&found, &request), head),
                Unit::Word => words::head(&call, units, options, &found.log_sum_exp, head),
            }?;
            profile.kept = kept(attention, &call, (units, options), &found, head);
            Ok(profile)
        });
        let profiles = profiles.collect::<Result<Vec<_>, LensError>>()?;
        self.heads.extend(profiles);

        let samples = verification::sampled_rows(call.layer, &heads, units.rows.clone(), self.sampled);
        if !samples.is_empty() {
            let verification = &mut self.verification;
            match options.unit {
                Unit::Token => verification::check_tokens(&call, (&found, &request), &samples, verification)?,
                Unit::Word => {
                    verification::check_words(&call, units, &found.log_sum_exp, &samples, verification)?;
                }
            }
        }
        self.take_region(&call, &found)
    }

    fn take_region(&mut self, call: &LayerCall<'_>, found: &AttentionStatistics) -> Result<(), LensError> {
        let Some((id, rows, keys)) = self.options.region.clone().filter(|(id, ..)| id.layer == call.layer)
        else {
            return Ok(());
        };
        let mut probs = vec![0.0; rows.len() * keys.len()];
        call.probs(&found.log_sum_exp, (id.head, rows.clone(), keys.clone()), &mut probs)?;
        self.region = Some(Region { id, rows, keys, probs });
        Ok(())
    }
}

/// The mean share of the mass that leaving keys out has left: e^(log-sum-exp of the kept − of all).
fn kept(
    attention: &LayerAttention<'_>,
    call: &LayerCall<'_>,
    (units, options): (&Units, &ProfileOptions),
    found: &AttentionStatistics,
    head: usize,
) -> Option<f32> {
    if !options.no_sink || options.norm {
        return None;
    }
    let (mut sum, mut rows) = (0.0, 0u32);
    for row in units.counted_rows() {
        for token in units.spans[row].clone() {
            let all = attention.log_sum_exp[head * call.num_keys() + token];
            let kept = found.log_sum_exp[head * call.num_rows() + token - call.first_row];
            sum += (f64::from(kept) - f64::from(all)).exp().min(1.0);
            rows += 1;
        }
    }
    (rows > 0).then(|| (sum / f64::from(rows)) as f32)
}

fn check_region(options: &ProfileOptions, units: &Units, model: &ModelInfo) -> Result<(), LensError> {
    let Some((id, rows, keys)) = &options.region else { return Ok(()) };
    let (of_rows, of_keys) = (units.row_tokens(), 0..units.tokens());
    let wrong = |what, expected, found| Err(LensError::OutOfRange { what, expected, found });
    if id.layer >= model.layers || id.head >= model.heads {
        let expected = format!("one of {} layers of {} heads", model.layers, model.heads);
        return wrong("region: head", expected, id.to_string());
    }
    for (what, asked, all) in [("region: rows", rows, &of_rows), ("region: keys", keys, &of_keys)] {
        if asked.start >= asked.end || asked.start < all.start || asked.end > all.end {
            let expected = format!("a range within {}:{}", all.start, all.end);
            return wrong(what, expected, format!("{}:{}", asked.start, asked.end));
        }
    }
    if rows.len().saturating_mul(keys.len()) > MAX_REGION {
        let found = format!("{} by {}", rows.len(), keys.len());
        return wrong("region", format!("at most {MAX_REGION} cells"), found);
    }
    Ok(())
}

impl AttentionObserver for Profiler<'_> {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        if self.options.layers.contains(attention.layer) {
            self.sum_up(attention)?;
        }
        (self.on_layer)(attention.layer);
        Ok(())
    }
}

//! What a model loses without some of its heads.

use super::Verifier;
use crate::error::LensError;
use crate::intervene::{Change, Interventions, Patterns};
use crate::kept::Keeper;
use crate::model::{HiddenStates, Model, Predicts};
use crate::predict::NoObserver;
use crate::token::TokenizedText;
use crate::view::{HeadId, Verification};

/// Logits that exist at once.
const LOGITS_AT_ONCE: usize = 16 << 20;

/// What stands in for the output of an ablated head.
#[derive(Debug, Clone, Copy)]
pub enum Replacement<'a> {
    /// 0.
    Zero,
    /// The mean of its rows over the text.
    Mean,
    /// What it reads when it attends as it does on another text of as many tokens.
    PatternOf(&'a TokenizedText),
}

/// What to ablate, and how.
#[derive(Debug, Clone, Copy)]
pub struct AblationRequest<'a> {
    /// What stands in for the heads.
    pub with: Replacement<'a>,
    /// Whether all other heads attend as they do in the whole model, so that what is left is what the heads do
    /// directly and through values (pattern-preserving ablation; Olsson et al. 2022).
    pub keep_patterns: bool,
    /// The most positions that a masked language model is asked about, spread evenly over the text: each takes a
    /// run for every set of heads.
    pub max_masked: usize,
}

/// By what an effect is measured, as the model allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeasuredBy {
    /// The probability that a decoder gives to each next token.
    NextTokens,
    /// The probability that a masked language model gives to each token when that one is masked (pseudo-log-
    /// likelihood; Salazar et al. 2020, equation 1).
    MaskedTokens {
        /// Tokens of the text; the positions measured may be fewer.
        of: usize,
    },
    /// The cosine of each token's last hidden state with that of the whole model: the model says nothing about words.
    HiddenStates,
}

/// The whole model, and the model without each set of heads.
#[derive(Debug, Clone, PartialEq)]
pub struct Ablation {
    /// What the numbers are.
    pub measured: MeasuredBy,
    /// The tokens that are measured.
    pub positions: Vec<usize>,
    /// For each position the natural log of its token's probability in the whole model; 1, the cosine with itself,
    /// where hidden states are measured.
    pub plain: Vec<f64>,
    /// In the order of the sets asked for.
    pub effects: Vec<Effect>,
    /// The check of sampled rows of a run of the whole model.
    pub verification: Verification,
}

/// The model without one set of heads.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// The heads that are ablated.
    pub heads: Vec<HeadId>,
    /// As [`Ablation::plain`], for the model without the heads.
    pub values: Vec<f64>,
}

impl Ablation {
    /// Mean negative log-likelihood of the positions in the whole model, in nats; `None` without probabilities.
    pub fn loss(&self) -> Option<f64> {
        self.loss_of(&self.plain)
    }

    /// The same without a set of heads.
    pub fn loss_without(&self, effect: &Effect) -> Option<f64> {
        self.loss_of(&effect.values)
    }

    /// How much an ablation does: the rise of the loss in nats, or the mean of 1 − cosine.
    pub fn size(&self, effect: &Effect) -> f64 {
        mean(&self.plain) - mean(&effect.values)
    }

    fn loss_of(&self, values: &[f64]) -> Option<f64> {
        (self.measured != MeasuredBy::HiddenStates).then(|| -mean(values))
    }
}

/// Runs the model as it is and without each set of heads. `on_run` hears how many runs of how many are done.
///
/// A decoder is measured by each next token, a masked language model by each masked token, other models by their
/// hidden states.
///
/// # Errors
/// [`LensError::NothingToPredict`] for a decoder and a single token; [`LensError::NoSuchHead`];
/// [`LensError::PatternLength`]; [`LensError::TooMuchMemory`] if patterns to be kept are too large; as [`Model::run`]
/// and [`Model::logits`].
pub fn ablate(
    model: &Model,
    tokens: &TokenizedText,
    sets: &[Vec<HeadId>],
    request: &AblationRequest<'_>,
    on_run: &mut dyn FnMut(usize, usize),
) -> Result<Ablation, LensError> {
    let of_text: Vec<usize> = tokens.tokens.iter().filter(|t| !t.special).map(|t| t.index).collect();
    let (measured, positions) = match model.info().predicts {
        Predicts::NextToken => (MeasuredBy::NextTokens, (1..tokens.tokens.len()).collect()),
        Predicts::MaskedToken => {
            (MeasuredBy::MaskedTokens { of: of_text.len() }, spread(&of_text, request.max_masked))
        }
        Predicts::Nothing => (MeasuredBy::HiddenStates, of_text),
    };
    if positions.is_empty() {
        return Err(LensError::NothingToPredict);
    }
    let effects = sets.iter().map(|heads| Effect { heads: heads.clone(), values: Vec::new() }).collect();
    let inputs = if matches!(measured, MeasuredBy::MaskedTokens { .. }) { positions.len() } else { 1 };
    let mut call = Call {
        model,
        tokens,
        request,
        runs: (0, inputs * (1 + sets.len())),
        on_run,
        found: Ablation {
            measured,
            positions: positions.clone(),
            plain: Vec::new(),
            effects,
            verification: Verification::default(),
        },
    };
    match measured {
        MeasuredBy::MaskedTokens { .. } => {
            positions.iter().try_for_each(|&at| call.measure(&[at], Some(at)))?
        }
        _ => call.measure(&positions, None)?,
    }
    Ok(call.found)
}

/// At most `count` of the places, evenly spread.
fn spread(places: &[usize], count: usize) -> Vec<usize> {
    let kept = places.len().min(count);
    (0..kept).map(|i| places[i * places.len() / kept]).collect()
}

struct Call<'a> {
    model: &'a Model,
    tokens: &'a TokenizedText,
    request: &'a AblationRequest<'a>,
    /// Done, and all.
    runs: (usize, usize),
    on_run: &'a mut dyn FnMut(usize, usize),
    found: Ablation,
}

impl Call<'_> {
    /// Measures some positions in the whole model and without each set, with one token masked if asked for.
    fn measure(&mut self, positions: &[usize], masked: Option<usize>) -> Result<(), LensError> {
        let tokens = self.masked(self.tokens, masked)?;
        let other = match self.request.with {
            Replacement::PatternOf(text) => {
                let wanted: Vec<usize> =
                    self.found.effects.iter().flat_map(|effect| &effect.heads).map(|id| id.layer).collect();
                let text = self.masked(text, masked.filter(|&at| at < text.tokens.len()))?;
                self.patterns(&text, &|layer| wanted.contains(&layer), &mut Verifier::default())?.1
            }
            Replacement::Zero | Replacement::Mean => Patterns::default(),
        };
        let mut verifier = Verifier::default();
        let (hidden, own) = self.patterns(&tokens, &|_| self.request.keep_patterns, &mut verifier)?;
        if self.found.verification.rows == 0 {
            self.found.verification = verifier.0;
        }
        let plain = self.values(&hidden, &hidden, positions)?;
        self.found.plain.extend(plain);
        self.done();
        for set in 0..self.found.effects.len() {
            let interventions = self.interventions(&self.found.effects[set].heads, &own, &other)?;
            let changed = self.model.run_with(&tokens, &interventions, &mut NoObserver)?;
            let values = self.values(&changed, &hidden, positions)?;
            self.found.effects[set].values.extend(values);
            self.done();
        }
        Ok(())
    }

    fn done(&mut self) {
        self.runs.0 += 1;
        (self.on_run)(self.runs.0, self.runs.1);
    }

    /// The text with one token masked.
    fn masked(&self, text: &TokenizedText, masked: Option<usize>) -> Result<TokenizedText, LensError> {
        let mut text = text.clone();
        if let Some(at) = masked {
            let (_, id) = self.model.tokenizer.mask().ok_or(LensError::NoMask { mask: None })?;
            text.tokens[at].id = id;
        }
        Ok(text)
    }

    /// Runs the whole model and keeps the patterns of the layers that are wanted.
    fn patterns(
        &self,
        tokens: &TokenizedText,
        wanted: &dyn Fn(usize) -> bool,
        verifier: &mut Verifier,
    ) -> Result<(HiddenStates, Patterns), LensError> {
        let mut keeper = Keeper::new(self.model.info().layers, wanted, verifier);
        let hidden = self.model.run(tokens, &mut keeper)?;
        Ok((hidden, Patterns::of(keeper)))
    }

    fn interventions(
        &self,
        heads: &[HeadId],
        own: &Patterns,
        other: &Patterns,
    ) -> Result<Interventions, LensError> {
        let info = self.model.info();
        let mut interventions = Interventions::new();
        if self.request.keep_patterns {
            let all =
                (0..info.layers).flat_map(|layer| (0..info.heads).map(move |head| HeadId { layer, head }));
            for id in all {
                if let Some(pattern) = own.get(id) {
                    interventions = interventions.with(id, Change::Frozen(pattern));
                }
            }
        }
        for &head in heads {
            let change = match self.request.with {
                Replacement::Zero => Change::Zero,
                Replacement::Mean => Change::Mean,
                Replacement::PatternOf(_) => {
                    let (layers, heads) = (info.layers, info.heads);
                    Change::Frozen(other.get(head).ok_or(LensError::NoSuchHead { head, layers, heads })?)
                }
            };
            interventions = interventions.with(head, change);
        }
        Ok(interventions)
    }

    /// The log-probability of the token at each position, or the cosine of its hidden state with `whole`'s.
    fn values(
        &self,
        hidden: &HiddenStates,
        whole: &HiddenStates,
        positions: &[usize],
    ) -> Result<Vec<f64>, LensError> {
        // A decoder says at one position what comes at the next.
        let back = match self.found.measured {
            MeasuredBy::NextTokens => 1,
            MeasuredBy::MaskedTokens { .. } => 0,
            MeasuredBy::HiddenStates => {
                let row = |states: &HiddenStates, at: usize| {
                    states.data[at * states.model_dim..][..states.model_dim].to_vec()
                };
                return positions.iter().map(|&at| cosine(&row(hidden, at), &row(whole, at))).collect();
            }
        };
        let vocabulary = self.model.vocabulary_size();
        let mut values = Vec::with_capacity(positions.len());
        for positions in positions.chunks((LOGITS_AT_ONCE / vocabulary.max(1)).max(1)) {
            let places: Vec<usize> = positions.iter().map(|at| at - back).collect();
            let logits = self.model.logits(hidden, &places)?;
            for (&at, logits) in positions.iter().zip(logits.chunks_exact(vocabulary)) {
                values.push(log_prob(logits, self.tokens.tokens[at].id as usize)?);
            }
        }
        Ok(values)
    }
}

/// The natural log of one token's share of the softmax.
fn log_prob(logits: &[f32], id: usize) -> Result<f64, LensError> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
    finite(logits.get(id).map_or(f64::NAN, |&logit| f64::from(logit) - f64::from(largest) - sum.ln()))
}

fn cosine(a: &[f32], b: &[f32]) -> Result<f64, LensError> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    if a == b {
        return finite(dot(a, a)).map(|_| 1.0);
    }
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    finite(if lengths == 0.0 { 0.0 } else { (dot(a, b) / lengths).clamp(-1.0, 1.0) })
}

fn finite(number: f64) -> Result<f64, LensError> {
    if number.is_finite() {
        return Ok(number);
    }
    Err(LensError::Observer(
        "what the model says is not a number; its weights hold NaN or infinite numbers".into(),
    ))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn spread__any_count__is_even_and_never_twice_the_same() {
        let places: Vec<usize> = (3..20).collect();
        for count in 0..30 {
            let kept = spread(&places, count);
            assert_eq!(kept.len(), count.min(places.len()));
            assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
        }
        assert_eq!(spread(&places, 17), places);
    }

    #[test]
    fn log_prob__known_logits__is_the_log_of_the_share() {
        let found = log_prob(&[1.0, 2.0, 3.0], 1).unwrap();
        let sum: f64 = [1.0f64, 2.0, 3.0].iter().map(|x| x.exp()).sum();
        assert!((found - (2.0f64.exp() / sum).ln()).abs() < 1e-12);
        assert!(log_prob(&[1000.0, -1000.0], 1).unwrap() < -1999.0, "no underflow");
        assert!(log_prob(&[f32::NAN, 1.0], 1).is_err() && log_prob(&[f32::INFINITY, 1.0], 1).is_err());
    }

    #[test]
    fn cosine__known_vectors__is_known() {
        assert_eq!(cosine(&[1.0, 2.0], &[1.0, 2.0]).unwrap(), 1.0);
        assert!((cosine(&[1.0, 0.0], &[1.0, 1.0]).unwrap() - 0.5f64.sqrt()).abs() < 1e-12);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 1.0]).unwrap(), 0.0);
        assert!(cosine(&[f32::NAN, 0.0], &[1.0, 1.0]).is_err());
    }
}

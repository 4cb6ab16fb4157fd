//! Which word a model expects: the head of a language model.

use crate::error::LensError;
use crate::model::{HiddenStates, Model, Predicts};
use crate::observer::{AttentionObserver, LayerAttention};
use crate::token::TokenizedText;

/// A token that a model expects somewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Id in the vocabulary.
    pub id: u32,
    /// The vocabulary's piece, as in `"ĠParis"`. It comes from an untrusted file, as does the text: escape it before a
    /// terminal sees it.
    pub token: String,
    /// The text that it stands for, as in `" Paris"`.
    pub text: String,
    /// Its share of the softmax over the whole vocabulary.
    pub prob: f32,
}

/// What a model puts in the place of one mask.
#[derive(Debug, Clone, PartialEq)]
pub struct Filled {
    /// The mask's token.
    pub index: usize,
    /// Tokens, the likeliest first.
    pub predictions: Vec<Prediction>,
}

impl Predicts {
    /// In words.
    fn words(self) -> &'static str {
        match self {
            Self::Nothing => "nothing (its file has no language model's head)",
            Self::MaskedToken => "masked words",
            Self::NextToken => "the next word",
        }
    }
}

impl Model {
    /// Tokens of the vocabulary, and so logits of a position.
    pub fn vocabulary_size(&self) -> usize {
        self.transformer.vocabulary_size()
    }

    /// How the vocabulary writes a masked word, as in `"[MASK]"`; `None` if the model does not fill masks.
    pub fn mask_token(&self) -> Option<&'static str> {
        let masked = self.info.predicts == Predicts::MaskedToken;
        self.tokenizer.mask().filter(|_| masked).map(|(mask, _)| mask)
    }

    /// The logits of some positions, `[positions, vocabulary_size]`, row-major: what the softmax makes the
    /// probabilities of tokens from. In a decoder, those of position i are for token i + 1.
    ///
    /// Their memory is the caller's choice: a long text with a large vocabulary is best asked for in parts.
    ///
    /// # Errors
    /// [`LensError::NoPrediction`] if the model has no head; [`LensError::Attention`] if a position does not exist
    /// or the states are of another model; [`LensError::AllocationFailed`].
    pub fn logits(&self, hidden: &HiddenStates, positions: &[usize]) -> Result<Vec<f32>, LensError> {
        let mut rows = Vec::with_capacity(positions.len() * hidden.model_dim);
        for &position in positions {
            let row = hidden.data.chunks_exact(hidden.model_dim.max(1)).nth(position);
            let needed = position.saturating_add(1);
            rows.extend_from_slice(row.ok_or(regard::AttentionError::OutOfBounds {
                what: "positions",
                needed,
                found: hidden.seq_len,
            })?);
        }
        if hidden.model_dim != self.transformer.model_dim() {
            return Err(LensError::Attention(regard::AttentionError::ShapeMismatch {
                axis: "hidden.model_dim",
                expected: self.transformer.model_dim(),
                found: hidden.model_dim,
            }));
        }
        let found = self.info.predicts.words();
        self.transformer.logits(&rows).unwrap_or(Err(LensError::NoPrediction { wanted: "words", found }))
    }

    /// The `top` likeliest tokens of one position, falling; equal ones in the vocabulary's order.
    ///
    /// # Errors
    /// As [`Self::logits`]; [`LensError::Tokenizer`].
    pub fn predictions(
        &self,
        hidden: &HiddenStates,
        position: usize,
        top: usize,
    ) -> Result<Vec<Prediction>, LensError> {
        let logits = self.logits(hidden, &[position])?;
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
        if !sum.is_finite() {
            return Err(LensError::Observer(
                "the prediction is not a number; the model's weights hold NaN or infinite numbers".into(),
            ));
        }
        let mut ids: Vec<usize> = (0..logits.len()).collect();
        let falling = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
        if top < ids.len() {
            ids.select_nth_unstable_by(top, falling);
            ids.truncate(top);
        }
        ids.sort_unstable_by(falling);
        ids.into_iter()
            .map(|id| {
                let prob = (f64::from(logits[id] - largest).exp() / sum) as f32;
                // Ids are u32 in every vocabulary.
                let id = id as u32;
                let (token, text) = self.tokenizer.piece(id)?;
                Ok(Prediction { id, token, text, prob })
            })
            .collect()
    }

    /// The `top` likeliest tokens after a text, by a decoder.
    ///
    /// # Errors
    /// [`LensError::NoPrediction`] if the model does not predict the next token; as [`Self::run`] and
    /// [`Self::predictions`].
    pub fn next_token(&self, tokens: &TokenizedText, top: usize) -> Result<Vec<Prediction>, LensError> {
        self.expect(Predicts::NextToken)?;
        let hidden = self.run(tokens, &mut NoObserver)?;
        self.predictions(&hidden, hidden.seq_len - 1, top)
    }

    /// The `top` likeliest tokens for each mask of a text, by a masked language model.
    ///
    /// # Errors
    /// [`LensError::NoPrediction`] if the model does not fill masks; [`LensError::NoMask`] if there is none; as
    /// [`Self::run`] and [`Self::predictions`].
    pub fn fill(&self, tokens: &TokenizedText, top: usize) -> Result<Vec<Filled>, LensError> {
        self.expect(Predicts::MaskedToken)?;
        let mask = self.tokenizer.mask();
        let is_mask = |id: u32| mask.is_some_and(|(_, mask)| id == mask);
        if !tokens.tokens.iter().any(|token| is_mask(token.id)) {
            return Err(LensError::NoMask { mask: mask.map(|(mask, _)| mask) });
        }
        let hidden = self.run(tokens, &mut NoObserver)?;
        let masks = tokens.tokens.iter().enumerate().filter(|(_, token)| is_mask(token.id));
        masks
            .map(|(index, _)| Ok(Filled { index, predictions: self.predictions(&hidden, index, top)? }))
            .collect()
    }

    fn expect(&self, wanted: Predicts) -> Result<(), LensError> {
        let found = self.info.predicts;
        if found == wanted {
            return Ok(());
        }
        Err(LensError::NoPrediction { wanted: wanted.words(), found: found.words() })
    }
}

/// Looks at nothing.
pub(crate) struct NoObserver;

impl AttentionObserver for NoObserver {
    fn layer(&mut self, _: &LayerAttention<'_>) -> Result<(), LensError> {
        Ok(())
    }
}

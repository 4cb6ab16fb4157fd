//! One text in one model.

use regard_lens::view::{HeadId, HeadView, Link, Queries, ViewOptions, Viewer};
use regard_lens::{
    AttentionObserver, Interventions, LayerAttention, LensError, Model, Predicts, TokenizedText,
};

use crate::error::TrainError;
use crate::sentences::Text;

/// What every head does with a text's pronoun, layer by layer.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) heads: Vec<Look>,
    /// Tokens that are not special.
    pub(super) keys: usize,
}

/// Where one head looks from the pronoun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) antecedent: f32,
    pub(super) rival: f32,
    /// Nothing but special tokens gets more than the antecedent.
    pub(super) strongest: bool,
    /// Infinite where the other words give it nothing.
    pub(super) lift: f32,
}

/// What the model says in the pronoun's place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    /// The antecedent is the likeliest word of the vocabulary.
    pub(crate) first: bool,
    /// It is likelier than the other noun.
    pub(crate) above: bool,
}

/// A text's tokens, and those that matter.
struct Places {
    tokens: TokenizedText,
    pronoun: usize,
    antecedent: usize,
    rival: usize,
}

impl Places {
    fn new(model: &Model, text: &Text) -> Result<Self, TrainError> {
        let tokens = model.tokenize(&text.line())?;
        let pronoun = &text.pronouns[0];
        let mention = |mention: usize| find(&tokens, text, text.mentions[mention].word);
        let (antecedent, rival) = (mention(pronoun.antecedent)?, mention(pronoun.rival.unwrap_or(0))?);
        Ok(Self { pronoun: find(&tokens, text, pronoun.word)?, antecedent, rival, tokens })
    }

    /// Whether a token is a whole word.
    fn is_word(&self, at: usize) -> bool {
        let word = self.tokens.tokens[at].word;
        self.tokens.tokens.iter().filter(|token| token.word == word).count() == 1
    }
}

/// The first token of a word.
fn find(tokens: &TokenizedText, text: &Text, word: usize) -> Result<usize, TrainError> {
    let expected = &text.words[word];
    let at = tokens.tokens.iter().position(|token| token.word == Some(word));
    let surface = |at: &usize| {
        let token = &tokens.tokens[*at];
        tokens.text.get(token.start..token.end).map(str::trim)
    };
    at.filter(|at| surface(at).is_some_and(|surface| !surface.is_empty() && expected.starts_with(surface)))
        .ok_or_else(|| {
            TrainError::Tokenizer(format!("expected a token for {expected:?} in {:?}", tokens.text))
        })
}

/// Every head's view of one token.
fn views(model: &Model, tokens: &TokenizedText, from: usize) -> Result<Vec<HeadView>, TrainError> {
    let options = ViewOptions {
        queries: Queries::One(from),
        top: usize::MAX,
        keep_special: false,
        map_size: [0, 0],
        map_head: None,
    };
    let mut heads = Vec::new();
    let mut on_head = |head| {
        heads.push(head);
        Ok(())
    };
    let mut viewer = Viewer::new(tokens, model.info(), options, &mut on_head);
    model.run(tokens, &mut viewer)?;
    drop(viewer);
    Ok(heads)
}

pub(super) fn measure(model: &Model, text: &Text) -> Result<Measured, TrainError> {
    let places = Places::new(model, text)?;
    let heads = views(model, &places.tokens, places.pronoun)?;
    let keys = places.tokens.tokens.iter().filter(|token| !token.special).count();
    Ok(Measured { heads: heads.iter().map(|head| look(head, &places)).collect(), keys })
}

fn look(head: &HeadView, places: &Places) -> Look {
    let top: &[Link] = head.rows.first().map_or(&[], |row| &row.top);
    let link = |key: usize| top.iter().find(|link| link.key == key);
    let prob = |key: usize| link(key).map_or(0.0, |link| link.prob);
    let antecedent = prob(places.antecedent);
    let lift = match link(places.antecedent) {
        Some(link) if link.usual == Some(0.0) && link.prob > 0.0 => f32::INFINITY,
        Some(link) => link.lift.unwrap_or(0.0),
        None => 0.0,
    };
    Look {
        antecedent,
        rival: prob(places.rival),
        strongest: top.first().is_some_and(|link| link.key == places.antecedent),
        lift,
    }
}

/// The strongest key that is not special of a head, from the text's `it`.
pub(super) fn strongest(model: &Model, text: &str, head: HeadId) -> Result<(String, Link), TrainError> {
    let tokens = model.tokenize(text)?;
    let missing = || TrainError::Tokenizer(format!("expected a token for \"it\" in {text:?}"));
    let surface =
        |at: &usize| tokens.text.get(tokens.tokens[*at].start..tokens.tokens[*at].end).map(str::trim);
    let from = (0..tokens.tokens.len()).find(|at| surface(at) == Some("it")).ok_or_else(missing)?;
    let heads = views(model, &tokens, from)?;
    let row = heads.iter().find(|view| view.id == head).and_then(|view| view.rows.first());
    let link = row.and_then(|row| row.top.first()).copied().ok_or_else(missing)?;
    Ok((tokens.tokens[link.key].text.clone(), link))
}

/// What the model says at the pronoun; `None` if it fills no masks or has one of the two nouns in pieces.
pub(super) fn restored(
    model: &Model,
    text: &Text,
    changed: &Interventions,
) -> Result<Option<Said>, TrainError> {
    if model.info().predicts != Predicts::MaskedToken {
        return Ok(None);
    }
    let places = Places::new(model, text)?;
    if !places.is_word(places.antecedent) || !places.is_word(places.rival) {
        return Ok(None);
    }
    let hidden = model.run_with(&places.tokens, changed, &mut Nothing)?;
    let logits = model.logits(&hidden, &[places.pronoun])?;
    let logit = |at: usize| logits[places.tokens.tokens[at].id as usize];
    let antecedent = logit(places.antecedent);
    let first = logits.iter().all(|&other| other <= antecedent);
    Ok(Some(Said { first, above: antecedent > logit(places.rival) }))
}

/// Looks at nothing.
struct Nothing;

impl AttentionObserver for Nothing {
    fn layer(&mut self, _: &LayerAttention<'_>) -> Result<(), LensError> {
        Ok(())
    }
}

//! How well a head links pronouns to nouns: chosen on one part of the minimal pairs, reported on another, beside trivial
//! rules, and what the model says without it.

mod measure;
mod share;

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use regard_lens::view::HeadId;
use regard_lens::{Interventions, Model};
use serde::Serialize;

use crate::error::TrainError;
use crate::sentences::templates::Part;
use crate::sentences::{Frames, MinimalPair, Text, minimal_pairs};

use measure::{Measured, Said, measure, restored};
pub use share::Share;

/// The sentences that nothing is trained on and everyone knows, and the noun that `it` stands for.
pub const DEMONSTRATION: [(&str, &str); 2] = [
    ("The cat sat on the mat because it was tired", "cat"),
    ("The cat sat on the mat because it was soft", "mat"),
];

/// What a head does with the pronouns of minimal pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HeadFigures {
    /// Texts in which the pronoun gives more to its antecedent than to the other noun.
    pub above: Share,
    /// Texts in which no key but special ones gets more than the antecedent.
    pub strongest: Share,
    /// Pairs of which both texts are `above`.
    pub both: Share,
    /// Median of the probability over what the other words of the text give to the antecedent, as in
    /// [`regard_lens::view`]. `None` where the median text's other words give it nothing.
    pub lift: Option<f32>,
}

/// What the model says in the pronoun's place, the pronoun standing there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Restored {
    /// Texts in which the antecedent is the likeliest word of the vocabulary.
    pub first: Share,
    /// Texts in which it is likelier than the other noun.
    pub above: Share,
}

/// What is right without any model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rules {
    /// The noun nearest to the pronoun is the antecedent; of equally near ones the first.
    pub nearest: Share,
    /// The first noun is.
    pub first: Share,
    /// Mean of one over the number of keys that are not special: a head that picks any.
    pub any_key: f64,
}

/// The output of a head, or of all heads of a layer, set to zero, and what is restored then.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ablated {
    /// Which head, or as in `L1` which layer.
    pub head: String,
    /// What is restored without it.
    pub restored: Restored,
}

/// The figures of one kind of frames.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Of the chosen head.
    pub head: HeadFigures,
    /// Beside it.
    pub rules: Rules,
    /// With all heads; `None` if the model fills no masks, or has not every noun as one token.
    pub restored: Option<Restored>,
    /// Without one head of the chosen one's layer, in order, the chosen one among them; last without all of them.
    pub ablated: Vec<Ablated>,
}

/// What the chosen head makes of a demonstration sentence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Demonstration {
    /// The sentence.
    pub text: String,
    /// What `it` stands for.
    pub antecedent: String,
    /// The strongest key that is not special.
    pub strongest: String,
    /// Its probability.
    pub prob: f32,
    /// Its lift.
    pub lift: Option<f32>,
}

/// One head on the two groups of [`Part::Dev`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DevHead {
    /// Which.
    pub head: String,
    /// With frames that are trained on, and frames that are not.
    pub figures: [HeadFigures; 2],
}

/// One frame of [`Part::Dev`] that is not trained on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DevFrame {
    /// The frame.
    pub frame: &'static str,
    /// Of the chosen head.
    pub figures: HeadFigures,
}

/// An evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The model.
    pub model: String,
    /// SHA-256 of its weights.
    pub sha256: String,
    /// Pairs of each group.
    pub pairs: usize,
    /// The head with the largest sum of `above`, `strongest` and `both` over the two groups of [`Part::Dev`].
    pub head: String,
    /// What every head did there, layer by layer.
    pub dev_heads: Vec<DevHead>,
    /// What the chosen head did there, frame by frame.
    pub dev_frames: Vec<DevFrame>,
    /// Pairs of nouns and adjectives that are not trained on, in frames that are ([`Part::Test`]).
    pub unseen_pairs: Group,
    /// The same in frames that are not trained on.
    pub unseen_frames: Group,
    /// Two sentences to look at.
    pub demonstration: Vec<Demonstration>,
}

/// Evaluates the model in a directory, loaded as anyone loads it, with `count` pairs of each kind.
///
/// # Errors
/// [`TrainError::Lens`] if it cannot be loaded or run; [`TrainError::Tokenizer`] if its tokens are no words.
pub fn evaluate(dir: &Path, count: usize) -> Result<Report, TrainError> {
    let model = Model::load(dir)?;
    let dev = [Frames::Seen, Frames::Unseen].map(|frames| minimal_pairs(Part::Dev, frames, count, 1));
    let (seen, unseen) = (measure_all(&model, &dev[0])?, measure_all(&model, &dev[1])?);
    let heads = model.info().heads;
    let id = |head: usize| HeadId { layer: head / heads, head: head % heads };
    let dev_heads: Vec<DevHead> = (0..model.info().layers * heads)
        .map(|head| DevHead {
            head: id(head).to_string(),
            figures: [&seen, &unseen].map(|measured| figures(measured, head)),
        })
        .collect();
    let score = |head: usize| {
        let figures = dev_heads[head].figures.iter();
        figures.map(|one| one.above.share() + one.strongest.share() + one.both.share()).sum::<f64>()
    };
    // The first of equals.
    let chosen = (0..dev_heads.len()).rev().max_by(|&a, &b| score(a).total_cmp(&score(b))).unwrap_or(0);
    let head = id(chosen);
    let mut by_frame: BTreeMap<&'static str, Vec<[Measured; 2]>> = BTreeMap::new();
    for (pair, measured) in dev[1].iter().zip(unseen) {
        by_frame.entry(pair.template).or_default().push(measured);
    }
    let dev_frames =
        by_frame.iter().map(|(frame, measured)| DevFrame { frame, figures: figures(measured, chosen) });
    let group = |frames| group(&model, head, &minimal_pairs(Part::Test, frames, count, 1));
    let demonstration = DEMONSTRATION.iter().map(|(text, antecedent)| {
        let (strongest, link) = measure::strongest(&model, text, head)?;
        Ok(Demonstration {
            text: (*text).to_owned(),
            antecedent: (*antecedent).to_owned(),
            strongest,
            prob: link.prob,
            lift: link.lift,
        })
    });
    Ok(Report {
        model: model.info().name.clone(),
        sha256: model.info().sha256.clone(),
        pairs: count,
        head: head.to_string(),
        dev_frames: dev_frames.collect(),
        dev_heads,
        unseen_pairs: group(Frames::Seen)?,
        unseen_frames: group(Frames::Unseen)?,
        demonstration: demonstration.collect::<Result<_, TrainError>>()?,
    })
}

/// Writes into a model's `config.json` which head links its pronouns ([`Model::pronoun_head`]).
///
/// # Errors
/// [`TrainError::File`] or [`TrainError::BadFile`].
pub fn name_head(dir: &Path, head: &str) -> Result<(), TrainError> {
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(TrainError::file(&path))?;
    let mut config: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| TrainError::bad(&path, error.to_string()))?;
    if !config.is_object() {
        return Err(TrainError::bad(&path, "expected an object, found something else"));
    }
    config["regard"] = serde_json::json!({ "pronoun_head": head });
    let text = serde_json::to_string_pretty(&config).expect("a JSON value is JSON");
    crate::export::put(&path, (text + "\n").as_bytes())
}

fn measure_all(model: &Model, pairs: &[MinimalPair]) -> Result<Vec<[Measured; 2]>, TrainError> {
    let both =
        |pair: &MinimalPair| Ok([measure(model, &pair.members[0])?, measure(model, &pair.members[1])?]);
    pairs.par_iter().map(both).collect()
}

fn group(model: &Model, head: HeadId, pairs: &[MinimalPair]) -> Result<Group, TrainError> {
    let measured = measure_all(model, pairs)?;
    let heads = model.info().heads;
    let texts: Vec<&Text> = pairs.iter().flat_map(|pair| &pair.members).collect();
    let all = restored_all(model, &texts, &Interventions::new())?;
    let mut ablated = Vec::new();
    if all.is_some() {
        let layer = head.layer;
        let of_layer: Vec<HeadId> = (0..heads).map(|head| HeadId { layer, head }).collect();
        let one = of_layer.iter().map(|&head| (head.to_string(), vec![head]));
        for (head, gone) in one.chain([(format!("L{layer}"), of_layer.clone())]) {
            let restored = restored_all(model, &texts, &Interventions::without(&gone))?;
            ablated.extend(restored.map(|restored| Ablated { head, restored }));
        }
    }
    let keys: f64 = measured.iter().flatten().map(|text| 1.0 / text.keys as f64).sum();
    Ok(Group {
        head: figures(&measured, head.layer * heads + head.head),
        rules: Rules {
            nearest: Share::of(texts.iter().map(|text| nearest_is_right(text))),
            first: Share::of(texts.iter().map(|text| text.pronouns[0].antecedent == 0)),
            any_key: keys / texts.len().max(1) as f64,
        },
        restored: all,
        ablated,
    })
}

/// What the model says in each text's place of the pronoun, with some heads changed; `None` if there is nothing to be
/// said of one of the texts.
pub(crate) fn said(
    model: &Model,
    texts: &[&Text],
    changed: &Interventions,
) -> Result<Option<Vec<Said>>, TrainError> {
    let found = texts.par_iter().map(|text| restored(model, text, changed)).collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().collect())
}

fn restored_all(
    model: &Model,
    texts: &[&Text],
    changed: &Interventions,
) -> Result<Option<Restored>, TrainError> {
    Ok(said(model, texts, changed)?.map(|found| Restored {
        first: Share::of(found.iter().map(|one| one.first)),
        above: Share::of(found.iter().map(|one| one.above)),
    }))
}

fn figures(measured: &[[Measured; 2]], head: usize) -> HeadFigures {
    let looks = || measured.iter().flatten().map(|text| &text.heads[head]);
    let mut lifts: Vec<f32> = looks().map(|look| look.lift).collect();
    lifts.sort_by(f32::total_cmp);
    HeadFigures {
        above: Share::of(looks().map(|look| look.antecedent > look.rival)),
        strongest: Share::of(looks().map(|look| look.strongest)),
        both: Share::of(
            measured
                .iter()
                .map(|pair| pair.iter().all(|text| text.heads[head].antecedent > text.heads[head].rival)),
        ),
        lift: lifts.get(lifts.len() / 2).copied().filter(|lift| lift.is_finite()),
    }
}

fn nearest_is_right(text: &Text) -> bool {
    let pronoun = &text.pronouns[0];
    let distance = |mention: usize| text.mentions[mention].word.abs_diff(pronoun.word);
    (0..text.mentions.len()).min_by_key(|&mention| distance(mention)) == Some(pronoun.antecedent)
}

//! One model: what is measured of it.

use regard_lens::probe::agreement::{
    AgreementHead, DISTANCES, Item, MAX_ATTRACTORS, probe_agreement, probe_verbs,
};
use regard_lens::probe::{Interval, interval};
use regard_lens::view::HeadId;
use regard_lens::{Interventions, LensError, Model, Predicts};

use super::ablation::Ablated;
use super::{Plain, Sentences, Settings};
use crate::error::TrainError;
use crate::evaluate::Share;

/// Numbers of nouns between subject and verb.
const KINDS: usize = MAX_ATTRACTORS + 1;

/// Where a model comes from.
pub(super) enum Source<'a> {
    BuiltIn,
    Plain(&'a Plain),
    /// In the folder of models, if somebody has put it there.
    Folder {
        name: &'static str,
        fetch: &'static str,
    },
}

impl Source<'_> {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Plain(_) => "plain",
            Self::Folder { name, .. } => name,
        }
    }

    /// The model, or why it is not here.
    pub(super) fn load(&self, settings: &Settings) -> Result<Result<Model, String>, TrainError> {
        Ok(Ok(match self {
            Self::BuiltIn => Model::builtin()?,
            Self::Plain(plain) => plain.model()?,
            Self::Folder { name, fetch } => {
                let path = settings.models.join(name);
                if !path.is_dir() {
                    return Ok(Err(format!("no {}; {fetch} fetches it", path.display())));
                }
                match Model::load(&path) {
                    // A build without GGUF.
                    Err(error @ LensError::ForeignFormat { .. }) => {
                        return Ok(Err(error.to_string()));
                    }
                    model => model?,
                }
            }
        }))
    }

    /// The same architecture before training.
    pub(super) fn untrained(&self, settings: &Settings) -> Result<Model, TrainError> {
        match self {
            Self::BuiltIn => Ok(Model::untrained_builtin(settings.seed)?),
            Self::Plain(plain) => plain.untrained(settings.seed),
            Self::Folder { name, .. } => Ok(Model::untrained(&settings.models.join(name), settings.seed)?),
        }
    }
}

/// What came of one model.
pub(super) struct Measured {
    pub(super) verbs: Option<Verbs>,
    /// The head that is chosen.
    pub(super) head: AgreementHead,
    /// The same head where the other nouns are of the subject's number.
    pub(super) same: AgreementHead,
    /// Sentences with other nouns on which heads are reported.
    reporting: usize,
    /// The best head of the same architecture before training, if it was asked.
    pub(super) untrained: Option<f64>,
    pub(super) chance: f64,
    pub(super) first_noun: f64,
    pub(super) nearest_noun: f64,
    pub(super) ablated: Option<Ablated>,
}

/// How often the right verb is more probable.
pub(super) struct Verbs {
    /// By the number of nouns of the other number.
    pub(super) other: [Share; KINDS],
    /// By the number of nouns of the same number.
    pub(super) same: [Share; KINDS],
    /// Sentences with nouns of the other number, for each of [`DISTANCES`].
    pub(super) by_distance: [Share; 3],
    /// Of each sentence with other nouns: the gain of the other number over the same, and 1.
    gains: Vec<[i64; 2]>,
}

impl Measured {
    pub(super) fn new(
        model: &Model,
        untrained: impl FnOnce() -> Result<Model, TrainError>,
        sentences: &Sentences,
        settings: &Settings,
    ) -> Result<Self, TrainError> {
        let silent = |_: usize, _: usize| ();
        let other = probe_agreement(model, &sentences.other, &silent)?;
        let same = probe_agreement(model, &sentences.same, &silent)?;
        let missing = || LensError::Probe { problem: "expected a model with heads, found none".to_owned() };
        let head = other.heads.first().cloned().ok_or_else(missing)?;
        let is_it = |found: &AgreementHead| (found.layer, found.head) == (head.layer, head.head);
        let same = same.heads.into_iter().find(is_it).ok_or_else(missing)?;
        let predicts = model.info().predicts != Predicts::Nothing;
        let verbs = if predicts { Some(Verbs::new(model, sentences)?) } else { None };
        let ablated = match predicts {
            true => {
                let chosen = HeadId { layer: head.layer, head: head.head };
                Some(Ablated::new(model, chosen, &sentences.other, settings)?)
            }
            false => None,
        };
        // Drawing a hundred million numbers takes longer than a quick run may.
        let is_small = model.info().layers <= 6;
        let untrained = match is_small || !settings.quick {
            true => {
                probe_agreement(&untrained()?, &sentences.other, &silent)?.heads.first().map(|head| head.test)
            }
            false => None,
        };
        Ok(Self {
            verbs,
            head,
            same,
            reporting: other.items[1] - other.items_by_attractors[0],
            untrained,
            chance: other.chance,
            first_noun: other.first_noun,
            nearest_noun: other.nearest_noun,
            ablated,
        })
    }

    /// The chosen head.
    pub(super) fn name(&self) -> String {
        format!("L{}.H{}", self.head.layer, self.head.head)
    }

    /// How often the chosen head is right with nouns of the other number, and of the same.
    pub(super) fn shares(&self) -> [Share; 2] {
        let count = |share: f64| (share * self.reporting as f64).round() as usize;
        [&self.head, &self.same].map(|head| Share::new(count(head.test), self.reporting))
    }
}

impl Verbs {
    fn new(model: &Model, sentences: &Sentences) -> Result<Self, TrainError> {
        let (unchanged, silent) = (Interventions::new(), |_: usize, _: usize| ());
        let other = probe_verbs(model, &sentences.other, &unchanged, &silent)?;
        let same = probe_verbs(model, &sentences.same, &unchanged, &silent)?;
        let items = || sentences.other.iter().zip(&other);
        let gain = |((item, other), same): ((&Item, &Option<bool>), &Option<bool>)| {
            let asked = !item.attractors.is_empty();
            let (other, same) = ((*other)?, (*same)?);
            asked.then(|| [i64::from(other) - i64::from(same), 1])
        };
        Ok(Self {
            other: std::array::from_fn(|kind| right(items(), &|item| item.attractors.len() == kind)),
            same: std::array::from_fn(|kind| {
                right(sentences.same.iter().zip(&same), &|item| item.attractors.len() == kind)
            }),
            by_distance: DISTANCES.map(|[from, to]| {
                right(items(), &|item| !item.attractors.is_empty() && (from..=to).contains(&item.distance()))
            }),
            gains: items().zip(&same).filter_map(gain).collect(),
        })
    }

    /// What the other number costs against the same, sentences drawn again.
    pub(super) fn cost(&self, seed: u64) -> Option<Interval> {
        interval(&self.gains, seed)
    }
}

/// Of the items wanted that the model was asked about.
fn right<'a>(
    items: impl Iterator<Item = (&'a Item, &'a Option<bool>)>,
    wanted: &dyn Fn(&Item) -> bool,
) -> Share {
    Share::of(items.filter(|(item, _)| wanted(item)).filter_map(|(_, right)| *right))
}

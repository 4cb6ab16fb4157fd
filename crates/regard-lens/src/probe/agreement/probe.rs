//! Items through a model.

use serde::Serialize;

use super::items::{Item, MAX_ATTRACTORS};
use crate::error::LensError;
use crate::intervene::Interventions;
use crate::model::{HiddenStates, Model, Predicts};
use crate::predict::NoObserver;
use crate::probe::interval::{Interval, RESAMPLING_SEED, interval};
use crate::probe::look::{OnText, TextChecks, each_text, look};
use crate::probe::words::{Alignment, WordText, word_row};

/// The distances from subject to verb, in words, for which accuracies are given apart: from, to.
pub const DISTANCES: [[usize; 2]; 3] = [[1, 3], [4, 7], [8, usize::MAX]];
/// Numbers of attractors that are told apart; more count as the most.
const KINDS: usize = MAX_ATTRACTORS + 1;

/// What one head gives from the verb.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgreementHead {
    /// The layer, from 0.
    pub layer: usize,
    /// The head, from 0.
    pub head: usize,
    /// Share of items with attractors in which the subject gets more than each of them, on the items on which
    /// heads are ranked.
    pub dev: f64,
    /// The same on the other items.
    pub test: f64,
    /// Where `test` may lie, items being drawn again; `None` without any.
    pub interval: Option<Interval>,
    /// Of `test`, by the number of attractors; `None` without any, or without items.
    pub by_attractors: [Option<f64>; KINDS],
    /// Of `test`, for each of [`DISTANCES`].
    pub by_distance: [Option<f64>; 3],
    /// Mean mass on the subject by the number of attractors, on the other items.
    pub subject_mass: [Option<f64>; KINDS],
    /// Mean mass on all attractors together, likewise.
    pub attractor_mass: [Option<f64>; KINDS],
}

/// What came of one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// Every head, by falling `dev`, then by falling mass on the subject.
    pub heads: Vec<AgreementHead>,
    /// Items that rank heads, and items that report.
    pub items: [usize; 2],
    /// The latter by the number of attractors.
    pub items_by_attractors: [usize; KINDS],
    /// Chance of the subject's being the strongest of so many nouns, on the items that report and have attractors.
    pub chance: f64,
    /// How often the first of the nouns is the subject, on the same items: a rule without a model.
    pub first_noun: f64,
    /// How often the last of them is, the nearest to the verb.
    pub nearest_noun: f64,
    /// How often the model finds the right verb more probable, by the number of attractors, on all items; `None`
    /// where it predicts nothing.
    pub verbs: Option<[Option<f64>; KINDS]>,
    /// Items left out: the model takes no text so long, or a verb is more than one token (verbs only).
    pub left_out: usize,
    /// How exact the attention was, and how long the texts were.
    #[serde(skip)]
    pub checks: TextChecks,
}

/// What one item gave.
struct Found {
    /// Of each head: the subject's mass, the strongest attractor's, all attractors'.
    heads: Vec<[f64; 3]>,
    verb: Option<bool>,
}

/// Runs the model over the items. Every other one ranks heads, the rest report.
///
/// # Errors
/// [`LensError::Probe`] if no item is left; as [`Model::run`].
pub fn probe_agreement(model: &Model, items: &[Item], on_text: OnText<'_>) -> Result<Agreement, LensError> {
    let info = model.info();
    let looked = each_text(items, on_text, |item, checks| match look_at(model, item, checks) {
        Ok(found) => Ok(Some(found)),
        Err(LensError::TextTooLong { .. }) => Ok(None),
        Err(error) => Err(error),
    })?;
    let found: Vec<(usize, &Item, &Found)> = items
        .iter()
        .zip(&looked.found)
        .enumerate()
        .filter_map(|(number, (item, found))| Some((number, item, found.as_ref()?)))
        .collect();
    if found.is_empty() {
        let problem = "expected items that the model takes, found none; give shorter ones".to_owned();
        return Err(LensError::Probe { problem });
    }
    let kind = |item: &Item| item.attractors.len().min(MAX_ATTRACTORS);
    let ranks = |number: usize| number.is_multiple_of(2);
    let mean = |wanted: &dyn Fn(usize, &Item) -> bool, value: &dyn Fn(&Found) -> f64| {
        let wanted = found.iter().filter(|(number, item, _)| wanted(*number, item));
        let (sum, count) =
            wanted.fold((0.0, 0), |(sum, count), (_, _, found)| (sum + value(found), count + 1));
        (count > 0).then(|| sum / f64::from(count))
    };
    let score = |head: usize| {
        let right = |found: &Found| f64::from(u8::from(found.heads[head][0] > found.heads[head][1]));
        let reports = |number: usize, item: &Item| !ranks(number) && !item.attractors.is_empty();
        let of_kind =
            |wanted: usize| move |number: usize, item: &Item| !ranks(number) && kind(item) == wanted;
        AgreementHead {
            layer: head / info.heads,
            head: head % info.heads,
            dev: mean(&|number, item| ranks(number) && !item.attractors.is_empty(), &right).unwrap_or(0.0),
            test: mean(&reports, &right).unwrap_or(0.0),
            interval: {
                let reporting = found.iter().filter(|(number, item, _)| reports(*number, item));
                let rights: Vec<[i64; 2]> = reporting.map(|(.., found)| [right(found) as i64, 1]).collect();
                interval(&rights, RESAMPLING_SEED)
            },
            by_attractors: std::array::from_fn(|k| if k == 0 { None } else { mean(&of_kind(k), &right) }),
            by_distance: DISTANCES.map(|[from, to]| {
                mean(&|number, item| reports(number, item) && (from..=to).contains(&item.distance()), &right)
            }),
            subject_mass: std::array::from_fn(|k| mean(&of_kind(k), &|found| found.heads[head][0])),
            attractor_mass: std::array::from_fn(|k| {
                if k == 0 { None } else { mean(&of_kind(k), &|found| found.heads[head][2]) }
            }),
        }
    };
    let mut heads: Vec<(AgreementHead, f64)> = (0..info.layers * info.heads)
        .map(|head| {
            let mass = mean(&|number, _| ranks(number), &|found| found.heads[head][0]);
            (score(head), mass.unwrap_or(0.0))
        })
        .collect();
    heads.sort_by(|(a, mass), (b, other)| {
        b.dev.total_cmp(&a.dev).then(other.total_cmp(mass)).then((a.layer, a.head).cmp(&(b.layer, b.head)))
    });
    let reporting = || found.iter().filter(|(number, ..)| !ranks(*number));
    let with_attractors: Vec<&Item> =
        reporting().filter(|(_, item, _)| !item.attractors.is_empty()).map(|(_, item, _)| *item).collect();
    let share = |right: &dyn Fn(&Item) -> f64| {
        with_attractors.iter().map(|item| right(item)).sum::<f64>() / with_attractors.len().max(1) as f64
    };
    let start = |item: &Item| item.subject.start;
    let first = |item: &Item| item.attractors.iter().all(|other| other.start > start(item));
    let nearest = |item: &Item| item.attractors.iter().all(|other| other.start < start(item));
    let verbs = (info.predicts != Predicts::Nothing).then(|| {
        std::array::from_fn(|k| {
            let of_kind = found.iter().filter(|(_, item, found)| kind(item) == k && found.verb.is_some());
            let (right, all) = of_kind.fold((0, 0), |(right, all), (_, _, found)| {
                (right + i32::from(found.verb == Some(true)), all + 1)
            });
            (all > 0).then(|| f64::from(right) / f64::from(all))
        })
    });
    let unpredicted = found.iter().filter(|(_, _, found)| verbs.is_some() && found.verb.is_none()).count();
    Ok(Agreement {
        heads: heads.into_iter().map(|(head, _)| head).collect(),
        items: [found.len() - reporting().count(), reporting().count()],
        items_by_attractors: std::array::from_fn(|k| {
            reporting().filter(|(_, item, _)| kind(item) == k).count()
        }),
        chance: share(&|item| 1.0 / (item.attractors.len() + 1) as f64),
        first_noun: share(&|item| f64::from(u8::from(first(item)))),
        nearest_noun: share(&|item| f64::from(u8::from(nearest(item)))),
        verbs,
        left_out: items.len() - found.len() + unpredicted,
        checks: looked.checks,
    })
}

/// Whether the model finds the right verb of each item more probable than the wrong one, with some heads changed;
/// `None` where it predicts nothing, takes no text so long, or has a verb in pieces.
///
/// # Errors
/// As [`Model::run_with`].
pub fn probe_verbs(
    model: &Model,
    items: &[Item],
    changed: &Interventions,
    on_text: OnText<'_>,
) -> Result<Vec<Option<bool>>, LensError> {
    let looked = each_text(items, on_text, |item, _| {
        let placed = match Placed::new(model, item) {
            Err(LensError::TextTooLong { .. }) => return Ok(None),
            placed => placed?,
        };
        placed.verb(model, item, changed, None)
    })?;
    Ok(looked.found)
}

/// An item, its verb included, in the tokens of a model.
struct Placed {
    alignment: Alignment,
    /// Where in the alignment are the subject, the attractors and, last, the verb.
    places: Vec<usize>,
}

impl Placed {
    fn new(model: &Model, item: &Item) -> Result<Self, LensError> {
        // The subject, the attractors and the verb are words; what stands between them is not.
        let text = format!("{} {} here.", item.before, item.right);
        let verb = item.before.len() + 1..item.before.len() + 1 + item.right.len();
        let mut spans = vec![item.subject.clone()];
        spans.extend(item.attractors.iter().cloned());
        spans.push(verb);
        let mut order: Vec<usize> = (0..spans.len()).collect();
        order.sort_by_key(|&word| spans[word].start);
        let sorted = order.iter().map(|&word| spans[word].clone()).collect();
        let alignment = Alignment::new(model, &WordText { text, spans: sorted })?;
        let place = |word: usize| order.iter().position(|&other| other == word).unwrap_or(0);
        Ok(Self { alignment, places: (0..spans.len()).map(place).collect() })
    }

    /// The verb's tokens.
    fn pieces(&self) -> &[usize] {
        self.places.last().map_or(&[], |&verb| &self.alignment.pieces[verb])
    }

    /// `unmasked` is what a run over the tokens as they are gave, if there was one.
    fn verb(
        &self,
        model: &Model,
        item: &Item,
        changed: &Interventions,
        unmasked: Option<HiddenStates>,
    ) -> Result<Option<bool>, LensError> {
        let (predicts, &[verb]) = (model.info().predicts, self.pieces()) else { return Ok(None) };
        let mut tokens = self.alignment.tokens.clone();
        let right = tokens.tokens[verb].id;
        let (asked, known) = match predicts {
            Predicts::NextToken if verb > 0 => (verb - 1, unmasked),
            Predicts::MaskedToken => {
                let mask = model.mask_token().and_then(|mask| model.tokenizer.id(mask));
                let Some(mask) = mask else { return Ok(None) };
                tokens.tokens[verb].id = mask;
                (verb, None)
            }
            _ => return Ok(None),
        };
        let Some(wrong) = other_verb(model, item, (verb, right))? else { return Ok(None) };
        let hidden = match known {
            Some(hidden) => hidden,
            None => model.run_with(&tokens, changed, &mut NoObserver)?,
        };
        let logits = model.logits(&hidden, &[asked])?;
        Ok(Some(logits[right as usize] > logits[wrong as usize]))
    }
}

fn look_at(model: &Model, item: &Item, checks: &mut TextChecks) -> Result<Found, LensError> {
    let placed = Placed::new(model, item)?;
    let Placed { alignment, places } = &placed;
    let pieces = placed.pieces();
    let mut heads = Vec::new();
    let mut rows = vec![vec![0.0; alignment.tokens.tokens.len()]; pieces.len()];
    let hidden = look(model, &alignment.tokens, checks, &mut |attention| {
        for head in 0..model.info().heads {
            for (row, &piece) in rows.iter_mut().zip(pieces) {
                attention.probs(head, piece..piece + 1, row)?;
            }
            let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let shares = word_row(&alignment.pieces, &rows);
            let attractors = places[1..=item.attractors.len()].iter().map(|&place| shares[place]);
            let strongest = attractors.clone().fold(0.0, f64::max);
            heads.push([shares[places[0]], strongest, attractors.sum()]);
        }
        Ok(())
    })?;
    Ok(Found { heads, verb: placed.verb(model, item, &Interventions::new(), Some(hidden))? })
}

/// The id of the verb of the other number, if it is one token in the same place and another than `right`.
fn other_verb(model: &Model, item: &Item, (verb, right): (usize, u32)) -> Result<Option<u32>, LensError> {
    let start = item.before.len() + 1;
    let span = start..start + item.wrong.len();
    let text = WordText { text: format!("{} {} here.", item.before, item.wrong), spans: Vec::from([span]) };
    let alignment = Alignment::new(model, &text)?;
    Ok(match alignment.pieces[0].as_slice() {
        &[only] if only == verb => Some(alignment.tokens.tokens[only].id).filter(|&id| id != right),
        _ => None,
    })
}

//! Choices against the annotation.

use std::collections::BTreeMap;

use serde::Serialize;

use super::look::CoreferencePicks;
use super::pronoun::Pronoun;
use crate::probe::interval::{Interval, interval};

/// The distances to the nearest antecedent, in words, for which accuracies are given apart: from, to.
pub const DISTANCES: [[usize; 2]; 3] = [[1, 5], [6, 15], [16, usize::MAX]];

/// How often one way of choosing is right.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rival {
    /// `"head"`, `"untrained"`, `"nearest"`, `"first_of_sentence"`, `"same_pronoun"` or `"chance"`.
    pub name: &'static str,
    /// The head, if it is one.
    pub layer: Option<usize>,
    /// The head, if it is one.
    pub head: Option<usize>,
    /// On the books on which heads are chosen.
    pub dev: f64,
    /// On the others.
    pub test: f64,
    /// Of `test`, books drawn again.
    pub interval: Option<Interval>,
    /// Of `test`, for each of [`DISTANCES`]; `None` without pronouns.
    pub by_distance: [Option<f64>; 3],
    /// For heads: how often on the other books the strongest word of all, candidate or not, is right.
    pub any_word: Option<f64>,
}

/// Who finds antecedents, and how often.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Coreference {
    /// Pronouns on which heads are chosen.
    pub dev_pronouns: usize,
    /// Pronouns on which all is reported.
    pub test_pronouns: usize,
    /// Of these, at each of [`DISTANCES`].
    pub pronouns_by_distance: [usize; 3],
    /// The best heads on the first books, the best first.
    pub heads: Vec<Rival>,
    /// The best head of the untrained model.
    pub untrained: Option<Rival>,
    /// What needs no model.
    pub rivals: Vec<Rival>,
    /// By how much the best head is right more often than the nearest candidate, on `test`, as a share.
    pub gain_over_nearest: f64,
    /// Of that, books drawn again.
    pub gain_interval: Option<Interval>,
    /// Which is right most often on `test`: `"head"`, or the name of a rival without a model.
    pub wins: &'static str,
}

type Asked = (usize, Pronoun, Vec<super::look::Choice>);

/// Scores the choices of the best `top` heads and of their rivals.
pub fn score_coreference(
    [dev, test]: [&CoreferencePicks; 2],
    untrained: Option<[&CoreferencePicks; 2]>,
    top: usize,
    seed: u64,
) -> Coreference {
    let heads = best_heads([dev, test], "head", top.max(1), seed);
    let untrained = untrained.and_then(|picks| best_heads(picks, "untrained", 1, seed).into_iter().next());
    let named = |name, choose: fn(&Pronoun) -> Option<usize>| {
        let right = move |(_, pronoun, _): &Asked| {
            f64::from(u8::from(choose(pronoun).is_some_and(|place| pronoun.is_right(place))))
        };
        rival(name, [dev, test], &right, seed)
    };
    let chance = |(_, pronoun, _): &Asked| {
        let right = (0..pronoun.candidates.len()).filter(|&place| pronoun.is_right(place)).count();
        right as f64 / pronoun.candidates.len() as f64
    };
    let rivals = vec![
        named("nearest", Pronoun::nearest),
        named("first_of_sentence", Pronoun::first_of_sentence),
        named("same_pronoun", Pronoun::nearest_of_kind),
        rival("chance", [dev, test], &chance, seed),
    ];
    let best_rule =
        rivals.iter().fold(&rivals[0], |best, rival| if rival.test > best.test { rival } else { best });
    let best = heads.first().map_or(0.0, |head| head.test);
    let gain = |(_, pronoun, choices): &Asked| {
        let head = heads.first().map_or(0, |head| number(dev, head));
        let right = |place: Option<usize>| i64::from(place.is_some_and(|place| pronoun.is_right(place)));
        right(choices.get(head).and_then(|choice| choice.candidate)) - right(pronoun.nearest())
    };
    Coreference {
        dev_pronouns: dev.pronouns.len(),
        test_pronouns: test.pronouns.len(),
        pronouns_by_distance: DISTANCES.map(|range| at_distance(test, range).count()),
        gain_over_nearest: best - rivals[0].test,
        gain_interval: interval(&groups(test, gain), seed),
        wins: if best > best_rule.test { "head" } else { best_rule.name },
        heads,
        untrained,
        rivals,
    }
}

fn number(picks: &CoreferencePicks, head: &Rival) -> usize {
    head.layer.unwrap_or(0) * picks.heads_per_layer + head.head.unwrap_or(0)
}

fn at_distance(picks: &CoreferencePicks, [from, to]: [usize; 2]) -> impl Iterator<Item = &Asked> {
    picks.pronouns.iter().filter(move |(_, pronoun, _)| (from..=to).contains(&pronoun.distance()))
}

fn mean<'a>(asked: impl Iterator<Item = &'a Asked>, right: &dyn Fn(&Asked) -> f64) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0);
    for asked in asked {
        sum += right(asked);
        count += 1;
    }
    (count > 0).then(|| sum / f64::from(count))
}

/// Gain and count of each book.
fn groups(picks: &CoreferencePicks, gain: impl Fn(&Asked) -> i64) -> Vec<[i64; 2]> {
    let mut groups: BTreeMap<usize, [i64; 2]> = BTreeMap::new();
    for asked in &picks.pronouns {
        let [gains, count] = groups.entry(asked.0).or_default();
        *gains += gain(asked);
        *count += 1;
    }
    groups.into_values().collect()
}

fn rival(
    name: &'static str,
    [dev, test]: [&CoreferencePicks; 2],
    right: &dyn Fn(&Asked) -> f64,
    seed: u64,
) -> Rival {
    // Chance is no whole number for a pronoun: thousandths are close enough for an interval.
    let thousandths = groups(test, |asked| (right(asked) * 1000.0).round() as i64);
    let thousandths: Vec<[i64; 2]> =
        thousandths.into_iter().map(|[gain, count]| [gain, count * 1000]).collect();
    Rival {
        name,
        layer: None,
        head: None,
        dev: mean(dev.pronouns.iter(), right).unwrap_or(0.0),
        test: mean(test.pronouns.iter(), right).unwrap_or(0.0),
        interval: interval(&thousandths, seed),
        by_distance: DISTANCES.map(|range| mean(at_distance(test, range), right)),
        any_word: None,
    }
}

fn best_heads([dev, test]: [&CoreferencePicks; 2], name: &'static str, top: usize, seed: u64) -> Vec<Rival> {
    let right = |head: usize| {
        move |(_, pronoun, choices): &Asked| {
            let candidate = choices.get(head).and_then(|choice| choice.candidate);
            f64::from(u8::from(candidate.is_some_and(|place| pronoun.is_right(place))))
        }
    };
    let mut heads: Vec<(usize, f64)> = (0..dev.num_heads)
        .map(|head| (head, mean(dev.pronouns.iter(), &right(head)).unwrap_or(0.0)))
        .collect();
    heads.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    heads.truncate(top);
    heads
        .into_iter()
        .map(|(head, _)| {
            let word = |(_, _, choices): &Asked| {
                f64::from(u8::from(choices.get(head).is_some_and(|choice| choice.word_is_right)))
            };
            Rival {
                layer: Some(head / dev.heads_per_layer.max(1)),
                head: Some(head % dev.heads_per_layer.max(1)),
                any_word: mean(test.pronouns.iter(), &word),
                ..rival(name, [dev, test], &right(head), seed)
            }
        })
        .collect()
}

//! The verb, with a head taken away.

use regard_lens::probe::agreement::{Item, probe_verbs};
use regard_lens::probe::{Interval, interval};
use regard_lens::view::HeadId;
use regard_lens::{Interventions, Model};

use super::subject::Measured;
use super::{Report, Settings, Table, absent, percent};
use crate::error::TrainError;
use crate::evaluate::Share;
use crate::random::{Purpose, rng};

/// Other heads that are taken away, one at a time, for comparison.
const OTHERS: usize = 5;

/// Whether each verb was right.
type Answers = Vec<Option<bool>>;

/// On the sentences with other nouns that report.
pub(super) struct Ablated {
    whole: Answers,
    head: Answers,
    layer: Answers,
    others: Vec<(HeadId, Answers)>,
}

impl Ablated {
    pub(super) fn new(
        model: &Model,
        chosen: HeadId,
        items: &[Item],
        settings: &Settings,
    ) -> Result<Self, TrainError> {
        // The odd ones: the others chose the head.
        let reporting = items.iter().skip(1).step_by(2).filter(|item| !item.attractors.is_empty());
        let items: Vec<Item> = reporting.cloned().collect();
        let answers = |gone: &[HeadId]| probe_verbs(model, &items, &Interventions::without(gone), &|_, _| ());
        let info = model.info();
        let all = (0..info.layers).flat_map(|layer| (0..info.heads).map(move |head| HeadId { layer, head }));
        let mut others: Vec<HeadId> = all.filter(|&head| head != chosen).collect();
        rng(settings.seed, Purpose::Experiment, 0, 0).shuffle(&mut others);
        others.truncate(OTHERS);
        let layer: Vec<HeadId> = (0..info.heads).map(|head| HeadId { layer: chosen.layer, head }).collect();
        Ok(Self {
            whole: answers(&[])?,
            head: answers(&[chosen])?,
            layer: answers(&layer)?,
            others: others
                .into_iter()
                .map(|head| Ok((head, answers(&[head])?)))
                .collect::<Result<_, TrainError>>()?,
        })
    }

    /// What the head's absence does, sentences drawn again.
    fn cost(&self, seed: u64) -> Option<Interval> {
        let gains = self
            .head
            .iter()
            .zip(&self.whole)
            .filter_map(|(without, with)| Some([i64::from((*without)?) - i64::from((*with)?), 1]));
        interval(&gains.collect::<Vec<_>>(), seed)
    }

    pub(super) fn say(&self, name: &str, head: &str, seed: u64, report: &mut Report) {
        let (whole, without) = (share(&self.whole), share(&self.head));
        let least = self.others.iter().map(|(_, answers)| share(answers).share()).fold(1.0, f64::min);
        let cost = self.cost(seed);
        let bounds = cost.map_or(String::new(), |cost| {
            format!(" ({:+.0} to {:+.0} points)", 100.0 * cost.low, 100.0 * cost.high)
        });
        report.find(
            cost.is_some_and(|cost| cost.high < 0.0) && without.share() < least,
            format!(
                "{name}: without {head} the right verb is more probable less often, {} % to {} %{bounds}, and less often than without any of {} other heads ({} % at least)",
                percent(without.share()),
                percent(whole.share()),
                self.others.len(),
                percent(least)
            ),
        );
    }
}

fn share(answers: &Answers) -> Share {
    Share::of(answers.iter().filter_map(|answer| *answer))
}

pub(super) fn table(found: &[(String, Result<Measured, String>)]) -> Table {
    let mut table = Table::new(
        "The right one of is and are past nouns of the other number, in per cent with 95 % intervals (Wilson), with heads taken away (their output 0), on the sentences that did not choose the head",
        &[
            "model",
            "all heads",
            "without the best head",
            "without its layer",
            "without one of 5 others: mean",
            "least",
            "which",
        ],
    );
    for (name, measured) in found {
        let measured = match measured {
            Ok(measured) => measured,
            Err(why) => {
                absent(&mut table, name, why);
                continue;
            }
        };
        let mut cells = vec![name.clone()];
        match &measured.ablated {
            None => cells.push("predicts no words".to_owned()),
            Some(ablated) => {
                cells.extend(
                    [&ablated.whole, &ablated.head, &ablated.layer].map(|answers| share(answers).to_string()),
                );
                let others: Vec<f64> =
                    ablated.others.iter().map(|(_, answers)| share(answers).share()).collect();
                cells.push(percent(others.iter().sum::<f64>() / others.len().max(1) as f64));
                let least = (0..others.len()).min_by(|&a, &b| others[a].total_cmp(&others[b]));
                cells.extend(
                    least
                        .map(|at| [percent(others[at]), ablated.others[at].0.to_string()])
                        .into_iter()
                        .flatten(),
                );
            }
        }
        cells.resize(table.columns.len(), String::new());
        table.rows.push(cells);
    }
    table
}

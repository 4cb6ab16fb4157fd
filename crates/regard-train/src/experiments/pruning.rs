//! Which heads of the built-in model its own task needs: one taken away, and one after the other (Michel et al. 2019).

use regard_lens::probe::{Interval, interval};
use regard_lens::view::HeadId;
use regard_lens::{Interventions, LensError, Model};

use super::report::{Report, Table};
use super::treebank::percent;
use super::{Note, Settings};
use crate::chart::{Axis, Chart, Series};
use crate::error::TrainError;
use crate::evaluate::said;
use crate::sentences::templates::Part;
use crate::sentences::{Frames, MinimalPair, Text, minimal_pairs};

/// Minimal pairs, and how many of each pair's two texts the model restores.
struct Task<'a> {
    model: &'a Model,
    pairs: Vec<MinimalPair>,
    seed: u64,
}

pub(super) fn run(settings: &Settings, report: &mut Report, note: &mut Note<'_>) -> Result<(), TrainError> {
    let model = Model::builtin()?;
    let count = if settings.quick { 4 } else { 200 };
    let task = |part, count| Task {
        model: &model,
        pairs: [Frames::Seen, Frames::Unseen]
            .into_iter()
            .flat_map(|frames| minimal_pairs(part, frames, count, settings.seed))
            .collect(),
        seed: settings.seed,
    };
    let (dev, test) = (task(Part::Dev, count), task(Part::Test, 2 * count));
    let all: Vec<HeadId> = (0..model.info().layers)
        .flat_map(|layer| (0..model.info().heads).map(move |head| HeadId { layer, head }))
        .collect();
    note("taking one head away");
    let whole = test.restored(&[])?;
    let one = all.iter().map(|&head| test.restored(&[head])).collect::<Result<Vec<_>, _>>()?;
    let mut table = Table::new(
        &format!(
            "The built-in model's own task, the noun that `it` stands for, on {} sentences: restored with all heads {} %; without one head, in points, with the 95 % interval of the difference (pairs of sentences drawn again)",
            2 * test.pairs.len(),
            percent(share(&whole))
        ),
        &["without", "restored", "difference"],
    );
    let mut free = Vec::new();
    for (head, found) in all.iter().zip(&one) {
        let loss = test.difference(found, &whole);
        if loss.is_some_and(|loss| loss.high >= 0.0) {
            free.push(head.to_string());
        }
        let bounds = loss.map_or(String::new(), |loss| {
            format!(" ({:+.1} to {:+.1})", 100.0 * loss.low, 100.0 * loss.high)
        });
        let points = 100.0 * (share(found) - share(&whole));
        table.rows.push(vec![head.to_string(), percent(share(found)), format!("{points:+.1}{bounds}")]);
    }
    report.tables.push(table);

    let mut gone: Vec<HeadId> = Vec::new();
    let mut table = Table::new(
        &format!(
            "Heads of it taken away one after the other, each time the one whose loss costs least on {} other sentences: restored, in per cent",
            2 * dev.pairs.len()
        ),
        &["heads left", "last to go", "choosing sentences", "reporting sentences"],
    );
    let mut curve = vec![[all.len() as f64, 100.0 * share(&whole)]];
    table.rows.push(vec![
        all.len().to_string(),
        "–".to_owned(),
        percent(share(&dev.restored(&[])?)),
        percent(share(&whole)),
    ]);
    let mut least = all.len();
    let mut costs_nothing = true;
    while gone.len() < all.len() {
        note(&format!("pruning, {} heads left", all.len() - gone.len()));
        let mut best: Option<(HeadId, f64)> = None;
        for &head in all.iter().filter(|head| !gone.contains(head)) {
            let without: Vec<HeadId> = gone.iter().copied().chain([head]).collect();
            let found = share(&dev.restored(&without)?);
            // The first of equals.
            if best.is_none_or(|(_, most)| found > most) {
                best = Some((head, found));
            }
        }
        let Some((head, on_dev)) = best else { break };
        gone.push(head);
        let found = test.restored(&gone)?;
        let left = all.len() - gone.len();
        costs_nothing &= test.difference(&found, &whole).is_some_and(|loss| loss.high >= 0.0);
        if costs_nothing {
            least = left;
        }
        curve.push([left as f64, 100.0 * share(&found)]);
        table.rows.push(vec![left.to_string(), head.to_string(), percent(on_dev), percent(share(&found))]);
    }
    report.tables.push(table);
    report.charts.push(Chart {
        title: "The built-in model with fewer heads".to_owned(),
        x: Axis::linear("heads left"),
        y: Axis::linear("nouns restored, per cent"),
        series: vec![Series { name: "built-in model".to_owned(), points: curve }],
    });
    let names = if free.is_empty() { "none".to_owned() } else { free.join(", ") };
    report.find(
        !free.is_empty(),
        format!(
            "there are heads of the built-in model whose removal alone costs nothing that can be told from chance: {} of {}: {names}",
            free.len(),
            all.len()
        ),
    );
    report.find(
        least < all.len(),
        format!(
            "taken away one after the other, {} of {} heads cost nothing that can be told from chance",
            all.len() - least,
            all.len()
        ),
    );
    report.limits.push(
        "what a head is needed for is measured on one task, made-up sentences like those the model was trained on; and heads stand in for each other, so what one costs says nothing of two",
    );
    Ok(())
}

impl Task<'_> {
    /// Of each pair, how many of its two texts are restored without some heads.
    fn restored(&self, gone: &[HeadId]) -> Result<Vec<i64>, TrainError> {
        let texts: Vec<&Text> = self.pairs.iter().flat_map(|pair| &pair.members).collect();
        let found = said(self.model, &texts, &Interventions::without(gone))?;
        let found = found.ok_or_else(|| {
            let problem =
                "expected a model that fills masks and has every noun as one token, found another".to_owned();
            TrainError::Lens(LensError::Probe { problem })
        })?;
        Ok(found.chunks(2).map(|pair| pair.iter().map(|text| i64::from(text.first)).sum()).collect())
    }

    /// Of the difference in shares, pairs drawn again.
    fn difference(&self, found: &[i64], whole: &[i64]) -> Option<Interval> {
        let groups: Vec<[i64; 2]> =
            found.iter().zip(whole).map(|(found, whole)| [found - whole, 2]).collect();
        interval(&groups, self.seed)
    }
}

/// Of all texts, two a pair.
fn share(restored: &[i64]) -> f64 {
    restored.iter().sum::<i64>() as f64 / (2 * restored.len()).max(1) as f64
}

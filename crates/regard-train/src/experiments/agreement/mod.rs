//! Whether a verb looks at its subject, past nouns of the other number, and whether the model needs that for the verb.

mod ablation;
mod subject;

use regard_lens::probe::agreement::{Item, MAX_ATTRACTORS, generate_congruent_items, generate_items};

use self::subject::{Measured, Source};
use super::plain::Plain;
use super::report::{Report, Table};
use super::treebank::percent;
use super::{Note, Settings};
use crate::chart::{Axis, Chart, Series};
use crate::error::TrainError;
use crate::evaluate::Share;

/// Sets of generated sentences, each by a seed of its own.
const SETS: u64 = 4;
/// Of a quick run's sentences, every so many-th: an odd number and a half of them plural, with any number of attractors.
const QUICK_STEP: usize = 7;

/// Sentences with attractors of the other number, and the same ones with nouns of the subject's number there.
struct Sentences {
    other: Vec<Item>,
    same: Vec<Item>,
}

impl Sentences {
    fn new(settings: &Settings) -> Self {
        let seeds = || (0..if settings.quick { 1 } else { SETS }).map(|set| settings.seed + set);
        let step = if settings.quick { QUICK_STEP } else { 1 };
        Self {
            other: seeds().flat_map(generate_items).step_by(step).collect(),
            same: seeds().flat_map(generate_congruent_items).step_by(step).collect(),
        }
    }
}

pub(super) fn run(settings: &Settings, report: &mut Report, note: &mut Note<'_>) -> Result<(), TrainError> {
    let sentences = Sentences::new(settings);
    let plain = Plain::trained(settings, note)?;
    let sources = [
        Source::BuiltIn,
        Source::Plain(&plain),
        Source::Folder { name: "all-MiniLM-L6-v2", fetch: "scripts/fetch-minilm" },
        Source::Folder { name: "SmolLM2-135M-Instruct", fetch: "scripts/fetch-smollm2" },
    ];
    let mut found: Vec<(String, Result<Measured, String>)> = Vec::new();
    for source in &sources {
        let name = source.name().to_owned();
        found.push(match source.load(settings)? {
            Ok(model) => {
                note(&format!("{name}: verbs, heads, heads taken away"));
                let untrained = || source.untrained(settings);
                (name, Ok(Measured::new(&model, untrained, &sentences, settings)?))
            }
            Err(why) => {
                note(&format!("{name}: not here: {why}"));
                (name, Err(why))
            }
        });
    }
    report.tables.push(verbs_table(&found, &sentences));
    report.tables.push(heads_table(&found));
    report.tables.push(mass_table(&found));
    report.tables.push(ablation::table(&found));
    charts(&found, report);
    for (name, measured) in &found {
        if let Ok(measured) = measured {
            say(name, measured, settings.seed, report);
        }
    }
    report.limits.push(
        "the subject is the first noun of every sentence, so a head that looks at the first noun is always right and knows nothing of number; nouns are twenty, all with a plural in -s, and the same ones choose heads and report",
    );
    report.limits.push(
        "the built-in model and the plain one are small and trained for minutes; SmolLM2 has 4 bits a weight; MiniLM was trained to compare sentences and predicts no words",
    );
    report.limits.push(
        "heads are looked at from the verb itself; the verb is asked for where a mask stands in its place, in SmolLM2 from the word before, so what the head does for the verb may not be what is measured of it",
    );
    report.limits.push("a head's output is set to zero, which the rest of the model never saw; heads stand in for each other");
    Ok(())
}

/// A cell for each model that is not here.
fn absent(table: &mut Table, name: &str, why: &str) {
    let mut cells = vec![name.to_owned(), format!("not here: {why}")];
    cells.resize(table.columns.len(), String::new());
    table.rows.push(cells);
}

fn some(share: Option<f64>) -> String {
    share.map_or("–".to_owned(), percent)
}

fn verbs_table(found: &[(String, Result<Measured, String>)], sentences: &Sentences) -> Table {
    let mut table = Table::new(
        &format!(
            "How often the right one of is and are is more probable, in per cent (a guess: 50), on {} sentences, by the number of nouns between subject and verb; 1 to 3 of the other number than the subject, or the same sentences with 1 to 3 of its number",
            sentences.other.len()
        ),
        &[
            "model",
            "none",
            "1 other",
            "2 other",
            "3 other",
            "1 same",
            "2 same",
            "3 same",
            "1–3 words, other",
            "4–7 words",
            "≥ 8 words",
        ],
    );
    for (name, measured) in found {
        match measured {
            Err(why) => absent(&mut table, name, why),
            Ok(measured) => {
                let mut cells = vec![name.clone()];
                match &measured.verbs {
                    None => cells.push("predicts no words".to_owned()),
                    Some(verbs) => {
                        let share = |share: &Share| {
                            if share.of == 0 { "–".to_owned() } else { percent(share.share()) }
                        };
                        cells.extend(verbs.other.iter().map(share));
                        cells.extend(verbs.same[1..].iter().map(share));
                        cells.extend(verbs.by_distance.iter().map(share));
                    }
                }
                cells.resize(table.columns.len(), String::new());
                table.rows.push(cells);
            }
        }
    }
    table
}

fn heads_table(found: &[(String, Result<Measured, String>)]) -> Table {
    let mut table = Table::new(
        "From the verb, the subject gets more than each noun of the other number: how often, in per cent, by the head that is best at it on other sentences; nouns of the same number: that head, the same sentences with nouns of the subject's number; first noun: a rule without a model",
        &[
            "model",
            "best head",
            "right",
            "1 attractor",
            "2",
            "3",
            "1–3 words",
            "4–7",
            "≥ 8",
            "nouns of the same number",
            "untrained",
            "chance",
            "first noun",
            "nearest noun",
        ],
    );
    for (name, measured) in found {
        match measured {
            Err(why) => absent(&mut table, name, why),
            Ok(measured) => {
                let head = &measured.head;
                let mut cells = vec![name.clone(), measured.name(), percent(head.test)];
                cells.extend(head.by_attractors[1..].iter().map(|&share| some(share)));
                cells.extend(head.by_distance.map(some));
                cells.push(percent(measured.same.test));
                cells.push(some(measured.untrained));
                cells.extend([measured.chance, measured.first_noun, measured.nearest_noun].map(percent));
                table.rows.push(cells);
            }
        }
    }
    table
}

fn mass_table(found: &[(String, Result<Measured, String>)]) -> Table {
    let mut table = Table::new(
        "That head's mean mass from the verb on the subject, and on all other nouns together, in per cent",
        &[
            "model",
            "subject, no other",
            "subject, 1",
            "others",
            "subject, 2",
            "others",
            "subject, 3",
            "others",
        ],
    );
    for (name, measured) in found {
        match measured {
            Err(why) => absent(&mut table, name, why),
            Ok(measured) => {
                let (subject, others) = (measured.head.subject_mass, measured.head.attractor_mass);
                let mut cells = vec![name.clone(), some(subject[0])];
                for count in 1..=MAX_ATTRACTORS {
                    cells.extend([some(subject[count]), some(others[count])]);
                }
                table.rows.push(cells);
            }
        }
    }
    table
}

fn charts(found: &[(String, Result<Measured, String>)], report: &mut Report) {
    let here = || found.iter().filter_map(|(name, measured)| Some((name, measured.as_ref().ok()?)));
    let mut verbs = Vec::new();
    let mut mass = Vec::new();
    for (name, measured) in here() {
        if let Some(found) = &measured.verbs {
            for (what, shares) in [("other", &found.other), ("same", &found.same)] {
                let points = shares.iter().enumerate().map(|(count, share)| {
                    [count as f64, if share.of == 0 { f64::NAN } else { 100.0 * share.share() }]
                });
                verbs.push(Series { name: format!("{name}, {what} number"), points: points.collect() });
            }
        }
        let head = &measured.head;
        for (what, mean) in [("subject", head.subject_mass), ("others", head.attractor_mass)] {
            let points =
                mean.iter().enumerate().map(|(count, mean)| [count as f64, 100.0 * mean.unwrap_or(f64::NAN)]);
            mass.push(Series {
                name: format!("{name} {}, {what}", measured.name()),
                points: points.collect(),
            });
        }
    }
    report.charts.push(Chart {
        title: "The right one of is and are, by the nouns between subject and verb".to_owned(),
        x: Axis::linear("nouns between"),
        y: Axis::linear("right, per cent"),
        series: verbs,
    });
    report.charts.push(Chart {
        title: "The best head's mass from the verb".to_owned(),
        x: Axis::linear("nouns of the other number between subject and verb"),
        y: Axis::linear("mean mass, per cent"),
        series: mass,
    });
}

fn say(name: &str, measured: &Measured, seed: u64, report: &mut Report) {
    if let Some(verbs) = &measured.verbs {
        let [other, same] = [&verbs.other, &verbs.same].map(|shares| {
            Share::new(
                shares[1..].iter().map(|share| share.count).sum(),
                shares[1..].iter().map(|share| share.of).sum(),
            )
        });
        report.find(
            other.interval[0] > 0.5,
            format!("{name}: past nouns of the other number the right verb is more probable more often than a guess is right: {other}"),
        );
        let cost = verbs.cost(seed);
        let bounds = cost.map_or(String::new(), |cost| {
            format!(" ({:+.0} to {:+.0} points)", 100.0 * cost.low, 100.0 * cost.high)
        });
        report.find(
            cost.is_some_and(|cost| cost.high < 0.0),
            format!("{name}: nouns of the other number cost more than as many of the same number, {other} to {same}{bounds}"),
        );
    }
    let head = measured.name();
    report.find(
        measured.head.test > measured.first_noun,
        format!(
            "{name}: {head} is right about the subject more often than the rule \"the first noun\": {} % to {} %",
            percent(measured.head.test),
            percent(measured.first_noun)
        ),
    );
    let [other, same] = measured.shares();
    report.find(
        other.interval[0] > same.interval[1],
        format!("{name}: {head} prefers the subject more often where the other nouns are of the other number, as a head that reads number would: {other} to {same}"),
    );
    if let Some(ablated) = &measured.ablated {
        ablated.say(name, &head, seed, report);
    }
}

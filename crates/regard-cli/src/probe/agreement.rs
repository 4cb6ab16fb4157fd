//! `--task agreement`: verbs and their subjects.

use regard_lens::probe::agreement::{
    Agreement, AgreementHead, Item, generate_items, probe_agreement, read_items,
};
use serde_json::json;

use super::Outcome;
use super::control::{Run, counted};
use super::sheet::{Sheet, Table, head_name, number, percent, percent_or_none, percents, word};
use crate::arguments::ProbeArguments;
use crate::failure::Failure;

/// Heads listed unless `--top` says otherwise.
const HEADS: usize = 5;

pub(super) fn read(arguments: &ProbeArguments) -> Result<Vec<Item>, Failure> {
    let mut items = match arguments.files.first() {
        Some(file) => read_items(file)?,
        None => generate_items(arguments.seed),
    };
    items.truncate(arguments.limit.unwrap_or(usize::MAX));
    Ok(items)
}

pub(super) fn run(run: &Run<'_>, items: &[Item]) -> Result<Outcome, Failure> {
    let both = run.both(|model, counter| {
        counted(counter("sentences"), |on_text| probe_agreement(model, items, on_text))
    })?;
    let result = json!({ "unit": "word", "trained": both.trained, "untrained": both.untrained });
    let top = run.arguments.top.unwrap_or(HEADS);
    let sheet = sheet(&both.trained, both.untrained.as_ref(), top);
    let checks = both.trained.checks;
    Ok(Outcome { result, sheet, model: both.info, checks })
}

fn sheet(found: &Agreement, untrained: Option<&Agreement>, top: usize) -> Sheet {
    let best: Vec<(&str, &AgreementHead)> = found
        .heads
        .iter()
        .take(top)
        .map(|head| ("", head))
        .chain(untrained.iter().flat_map(|found| found.heads.first()).map(|head| ("untrained ", head)))
        .collect();
    let name =
        |(label, head): &(&str, &AgreementHead)| format!("{label}{}", head_name(head.layer, head.head));
    let columns = vec![
        word("head", 0),
        number("right", 0),
        number("95 %", 1),
        number("1 attractor", 1),
        number("2", 1),
        number("3", 1),
        number("1–3 words", 2),
        number("4–7", 2),
        number("≥ 8", 2),
    ];
    let mut rows: Vec<Vec<String>> = best
        .iter()
        .map(|both| {
            let mut cells = vec![name(both), percent(both.1.test), percents(both.1.interval)];
            cells.extend(both.1.by_attractors[1..].iter().map(|share| percent_or_none(*share)));
            cells.extend(both.1.by_distance.map(percent_or_none));
            cells
        })
        .collect();
    let line =
        |name: &str, share: f64| [vec![name.to_owned(), percent(share)], vec![String::new(); 7]].concat();
    rows.push(line("chance", found.chance));
    rows.push(line("first noun", found.first_noun));
    rows.push(line("nearest noun", found.nearest_noun));
    let right = Table { title: "The subject gets more than each attractor".to_owned(), columns, rows };

    let columns = vec![
        word("head", 0),
        number("none", 0),
        number("1", 0),
        number("others", 0),
        number("2", 1),
        number("others", 1),
        number("3", 0),
        number("others", 0),
    ];
    let rows = best.iter().map(|both| {
        let (subject, others) = (both.1.subject_mass, both.1.attractor_mass);
        let mut cells = vec![name(both), percent_or_none(subject[0])];
        for kind in 1..subject.len() {
            cells.extend([percent_or_none(subject[kind]), percent_or_none(others[kind])]);
        }
        cells
    });
    let mass = Table {
        title: "Mean mass from the verb on the subject, and on all others, by the number of attractors"
            .to_owned(),
        columns,
        rows: rows.collect(),
    };

    let mut notes = vec![
        "first noun, nearest noun: how often they are the subject. A head that looks where nouns come first need know nothing \
         of agreement."
            .to_owned(),
    ];
    notes.push(match found.verbs {
        Some(verbs) => {
            let verbs = verbs
                .iter()
                .enumerate()
                .map(|(count, share)| format!("{count}: {}", percent_or_none(*share)));
            format!(
                "The model finds the right verb more probable, per cent by attractors: {}; chance 50.",
                verbs.collect::<Vec<_>>().join(", ")
            )
        }
        None => "This model predicts no words: it cannot be asked for the verb.".to_owned(),
    });
    if found.left_out > 0 {
        notes.push(format!("{} sentences are left out of one or both counts.", found.left_out));
    }
    Sheet {
        heading: vec![format!(
            "Agreement: from the verb of “The keys to the old cabinet are”, in per cent on {} sentences; heads are ranked \
             on {} others.",
            found.items[1], found.items[0]
        )],
        tables: vec![right, mass],
        notes,
    }
}

//! `--task needle`: a fact in a filler.

use regard_lens::probe::needle::{DEPTHS, Needle, NeedleHead, NeedleOptions, probe_needle};
use serde_json::json;

use super::Outcome;
use super::control::{Run, counted};
use super::sheet::{Sheet, Table, head_name, number, percent, percents, word};
use crate::arguments::ProbeArguments;
use crate::arguments::TextSource;
use crate::failure::Failure;
use crate::input::read_text;

/// Heads listed unless `--top` says otherwise.
const HEADS: usize = 5;

pub(super) fn read(arguments: &ProbeArguments) -> Result<Option<String>, Failure> {
    let file = arguments.files.first().cloned();
    file.map(|file| read_text(&TextSource { text: Vec::new(), file: Some(file) })).transpose()
}

pub(super) fn run(run: &Run<'_>, filler: Option<String>) -> Result<Outcome, Failure> {
    let own = filler.is_none();
    let options = NeedleOptions { length: run.arguments.length, filler, seed: run.arguments.seed };
    let both = run.both(|model, counter| {
        counted(counter("texts with a needle"), |on_text| probe_needle(model, &options, on_text))
    })?;
    let result =
        json!({ "unit": "token", "depths": DEPTHS, "trained": both.trained, "untrained": both.untrained });
    let top = run.arguments.top.unwrap_or(HEADS);
    let sheet = sheet(&both.trained, both.untrained.as_ref(), top, own);
    let checks = both.trained.checks;
    Ok(Outcome { result, sheet, model: both.info, checks })
}

fn sheet(found: &Needle, untrained: Option<&Needle>, top: usize, own: bool) -> Sheet {
    let columns = vec![
        word("head", 0),
        number("mass", 0),
        number("95 %", 1),
        number("depth 0", 1),
        number("25", 2),
        number("50", 1),
        number("75", 2),
        number("100 %", 1),
        number("hits", 0),
    ];
    let cells = |(label, head): (&str, &NeedleHead)| {
        let mut cells = vec![
            format!("{label}{}", head_name(head.layer, head.head)),
            percent(head.test),
            percents(head.interval),
        ];
        cells.extend(head.by_depth.map(percent));
        cells.push(percent(head.hits));
        cells
    };
    let best = found.heads.iter().take(top).map(|head| ("", head));
    let control = untrained.iter().flat_map(|found| found.heads.first()).map(|head| ("untrained ", head));
    let mut rows: Vec<Vec<String>> = best.chain(control).map(cells).collect();
    rows.push(
        [vec!["evenly spread".to_owned(), percent(found.uniform)], vec![String::new(); DEPTHS.len() + 2]]
            .concat(),
    );
    let mut notes = vec![
        "mass: what the last position, or the mask, gives to the word in the fact. hits: no other token of the text gets more."
            .to_owned(),
    ];
    notes.push(match found.answers {
        Some(answers) => {
            let answers =
                DEPTHS.iter().zip(answers).map(|(depth, share)| format!("{depth} % {}", percent(share)));
            format!(
                "The model completes the text with the word, per cent by depth: {}.",
                answers.collect::<Vec<_>>().join(", ")
            )
        }
        None => "This model predicts no words: it cannot be asked for the answer.".to_owned(),
    });
    Sheet {
        heading: vec![format!(
            "A needle: “The secret word of the castle is river.” in {}, {} to {} tokens. Mean mass in per cent on {} texts; heads \
             are ranked on {} others.",
            if own { "a made-up filler" } else { "the filler given" },
            found.tokens[0],
            found.tokens[1],
            found.texts[1],
            found.texts[0]
        )],
        tables: vec![Table { title: String::new(), columns, rows }],
        notes,
    }
}

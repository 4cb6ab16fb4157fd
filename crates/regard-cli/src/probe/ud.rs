//! `--task ud`: syntax.

use regard_lens::LensError;
use regard_lens::probe::syntax::{Direction, Side, SyntaxPicks, SyntaxRow, score_syntax};
use regard_lens::probe::{UdSentence, count_relations, read_conllu};
use serde_json::json;

use super::Outcome;
use super::control::{Run, counted};
use super::sheet::{Sheet, Table, head_name, number, percent, percent_or_none, percents, word};
use crate::arguments::ProbeArguments;
use crate::failure::Failure;

/// Relations listed unless `--top` says otherwise.
const RELATIONS: usize = 15;
/// Listed first if they occur: the ones with the clearest rivals.
const FIRST: [&str; 5] = ["nsubj", "obj", "det", "case", "aux"];

/// Sentences that choose, and sentences that report.
pub(super) type Data = [Vec<UdSentence>; 2];

pub(super) fn read(arguments: &ProbeArguments) -> Result<Data, Failure> {
    let all = |files: &[std::path::PathBuf]| -> Result<Vec<UdSentence>, LensError> {
        let read = files.iter().map(|file| read_conllu(file)).collect::<Result<Vec<_>, _>>()?;
        Ok(read.into_iter().flatten().collect())
    };
    let [mut dev, mut test] = if arguments.dev.is_empty() {
        let (mut dev, mut test) = (Vec::new(), Vec::new());
        for (number, sentence) in all(&arguments.files)?.into_iter().enumerate() {
            if number % 2 == 0 { dev.push(sentence) } else { test.push(sentence) }
        }
        [dev, test]
    } else {
        [all(&arguments.dev)?, all(&arguments.test)?]
    };
    if let Some(limit) = arguments.limit {
        dev.truncate(limit);
        test.truncate(limit);
    }
    if test.is_empty() {
        return Err(Failure::usage(
            "one sentence cannot be split in two: give more, or --dev FILE and --test FILE",
        ));
    }
    Ok([dev, test])
}

pub(super) fn run(run: &Run<'_>, data: Data) -> Result<Outcome, Failure> {
    let [dev, test] = &data;
    let counts = count_relations(dev);
    let is_first = |name: &str| FIRST.contains(&name);
    let first = FIRST
        .iter()
        .filter(|name| counts.iter().any(|(other, _)| other == *name))
        .map(|name| (*name).to_owned());
    let rest = counts.iter().map(|(name, _)| name).filter(|name| !is_first(name)).cloned();
    let relations: Vec<String> = first.chain(rest).take(run.arguments.top.unwrap_or(RELATIONS)).collect();
    if relations.is_empty() {
        return Err(Failure::failed(
            "the sentences have no relations besides root and punct: choose another file",
        ));
    }

    let both = run.both(|model, counter| {
        Ok([
            counted(counter("sentences that choose heads"), |on_text| SyntaxPicks::new(model, dev, on_text))?,
            counted(counter("sentences that report"), |on_text| SyntaxPicks::new(model, test, on_text))?,
        ])
    })?;
    let trained = [&both.trained[0], &both.trained[1]];
    let untrained = both.untrained.as_ref().map(|picks| [&picks[0], &picks[1]]);
    let rows = score_syntax((dev, test), trained, untrained, &relations, run.arguments.seed);
    let mut checks = both.trained[0].checks;
    checks.merge(both.trained[1].checks);
    let skipped: usize = both.trained.iter().map(SyntaxPicks::skipped).sum();
    let sentences = [dev.len(), test.len()];
    Ok(Outcome {
        result: json!({ "unit": "word", "sentences": sentences, "skipped_sentences": skipped, "rows": rows }),
        sheet: sheet(&rows, sentences, skipped),
        model: both.info,
        checks,
    })
}

fn arrow(direction: Direction) -> &'static str {
    match direction {
        Direction::DependentToHead => "d→h",
        Direction::HeadToDependent => "h→d",
    }
}

fn sheet(rows: &[SyntaxRow], [dev, test]: [usize; 2], skipped: usize) -> Sheet {
    let mut heading = vec![format!(
        "Syntax: is a word's strongest word its partner? Per cent of {test} sentences; all is chosen on {dev} others."
    )];
    if skipped > 0 {
        heading.push(format!("Left out, with more tokens than the model takes: {skipped}."));
    }
    Sheet { heading, tables: vec![accuracies(rows), distances(rows)], notes: notes(rows) }
}

fn accuracies(rows: &[SyntaxRow]) -> Table {
    let columns = vec![
        word("relation", 0),
        word("from", 0),
        number("pairs", 4),
        word("head", 1),
        number("right", 1),
        number("95 %", 6),
        number("untrained", 5),
        number("offset", 2),
        number("is", 3),
        number("rule", 1),
        word("the rule: nearest", 7),
        number("shared", 8),
        word("wins", 1),
    ];
    let cells = |row: &SyntaxRow| {
        let side = match row.rule.rule.side {
            Side::Left => "before",
            Side::Right => "after",
            Side::Either => "around",
        };
        vec![
            row.relation.clone(),
            arrow(row.direction).to_owned(),
            row.test_pairs.to_string(),
            head_name(row.head.layer, row.head.head),
            percent(row.head.test),
            percents(row.head.interval),
            percent_or_none(row.untrained.as_ref().map(|head| head.test)),
            percent(row.offset.test),
            format!("{:+}", row.offset.offset),
            percent(row.rule.test),
            format!("{} {side}", row.rule.rule.parts_of_speech.join("/")),
            row.shared.to_string(),
            row.wins.join(" = "),
        ]
    };
    Table { title: String::new(), columns, rows: rows.iter().map(cells).collect() }
}

fn distances(rows: &[SyntaxRow]) -> Table {
    let columns = vec![
        word("relation", 0),
        word("from", 0),
        number("1 apart", 2),
        number("head", 0),
        number("rule", 0),
        number("2–3 apart", 2),
        number("head", 0),
        number("rule", 0),
        number("≥ 4 apart", 2),
        number("head", 0),
        number("rule", 0),
    ];
    let cells = |row: &SyntaxRow| {
        let mut cells = vec![row.relation.clone(), arrow(row.direction).to_owned()];
        for distance in 0..3 {
            cells.push(row.pairs_by_distance[distance].to_string());
            cells.push(percent_or_none(row.head.by_distance[distance]));
            cells.push(percent_or_none(row.rule.by_distance[distance]));
        }
        cells
    };
    let title =
        "By how far the two stand apart, 1 word, 2–3, 4 or more: pairs, and per cent right of head and rule"
            .to_owned();
    Table { title, columns, rows: rows.iter().map(cells).collect() }
}

fn notes(rows: &[SyntaxRow]) -> Vec<String> {
    let clear = rows.iter().filter(|row| row.head.test >= row.offset.test + 0.1).count();
    let not_head = rows.iter().filter(|row| row.wins != ["head"]).count();
    let all = rows.len();
    let mut best = Vec::new();
    for row in rows {
        let gain = row.head.test - row.offset.test;
        match best.last_mut() {
            Some((relation, other)) if *relation == &row.relation => *other = f64::max(*other, gain),
            _ => best.push((&row.relation, gain)),
        }
    }
    let best: Vec<String> = best.iter().map(|(name, gain)| format!("{name} {:+.1}", gain * 100.0)).collect();
    vec![
        "d→h: from the dependent to its head; h→d: back. rule: the nearest word of these parts of speech (gold tags, no model). \
         wins: right most often; with =, what chance may explain (95 %, sentences drawn again)."
            .to_owned(),
        format!(
            "In {clear} of {all} rows a head is at least 10 points above the best fixed offset; in {not_head} of {all} \
             what needs no model is as good or better."
        ),
        format!("Points of the head above the offset, in the better direction: {}.", best.join(", ")),
    ]
}

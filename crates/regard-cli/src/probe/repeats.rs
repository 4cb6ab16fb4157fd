//! `--task previous`, `duplicate` and `induction`: repeated random tokens.

use regard_lens::probe::repeats::{PERIOD, REPEATS, RepeatScores, Repeats, SAMPLES, probe_repeats};
use serde_json::json;

use super::Outcome;
use super::control::{Run, counted};
use super::sheet::{Sheet, Table, head_name, number, percent, word};
use crate::arguments::ProbeTask;
use crate::failure::Failure;

/// Heads listed unless `--top` says otherwise.
const HEADS: usize = 5;
/// From which mass on a head counts as one of the kind.
const THRESHOLD: f64 = 0.5;

pub(super) fn run(run: &Run<'_>, task: ProbeTask) -> Result<(&'static str, Outcome), Failure> {
    let (name, score): (_, fn(&RepeatScores) -> f64) = match task {
        ProbeTask::Previous => ("previous", |head| head.previous),
        ProbeTask::Duplicate => ("duplicate", |head| head.duplicate),
        _ => ("induction", |head| head.induction),
    };
    let both = run.both(|model, counter| {
        counted(counter("random sequences"), |on_text| probe_repeats(model, run.arguments.seed, on_text))
    })?;
    let mut trained = both.trained;
    let by_score = |heads: &mut Vec<RepeatScores>| heads.sort_by(|a, b| score(b).total_cmp(&score(a)));
    by_score(&mut trained.heads);
    let mut untrained = both.untrained;
    untrained.iter_mut().for_each(|untrained| by_score(&mut untrained.heads));
    let above = |found: &Repeats| found.heads.iter().filter(|head| score(head) > THRESHOLD).count();
    let result = json!({
        "unit": "token",
        "threshold": THRESHOLD,
        "heads_above": above(&trained),
        "untrained_heads_above": untrained.as_ref().map(above),
        "trained": trained,
        "untrained": untrained,
    });
    let top = run.arguments.top.unwrap_or(HEADS.max(above(&trained).min(20)));
    let sheet = sheet(name, score, (&trained, untrained.as_ref()), top, both.info.causal);
    let checks = trained.checks;
    Ok((name, Outcome { result, sheet, model: both.info, checks }))
}

fn sheet(
    name: &str,
    score: fn(&RepeatScores) -> f64,
    (trained, untrained): (&Repeats, Option<&Repeats>),
    top: usize,
    causal: bool,
) -> Sheet {
    let columns = vec![
        word("head", 0),
        number("previous", 1),
        number("duplicate", 1),
        number("induction", 0),
        number("by entry", 2),
    ];
    let cells = |(label, head): (&str, &RepeatScores)| {
        let name = head_name(head.layer, head.head);
        vec![
            format!("{label}{name}"),
            percent(head.previous),
            percent(head.duplicate),
            percent(head.induction),
            percent(head.induction_by_entry),
        ]
    };
    let best = trained.heads.iter().take(top).map(|head| ("", head));
    let control = untrained.iter().flat_map(|found| found.heads.first()).map(|head| ("untrained ", head));
    let mut tables =
        vec![Table { title: String::new(), columns, rows: best.chain(control).map(cells).collect() }];
    let losses: Vec<(&str, [f64; REPEATS])> = [("trained", Some(trained)), ("untrained", untrained)]
        .into_iter()
        .filter_map(|(who, found)| Some((who, found?.loss?)))
        .collect();
    if !losses.is_empty() {
        let columns = vec![
            word("loss, nats", 0),
            number("repeat 1", 0),
            number("2", 1),
            number("3", 1),
            number("4", 0),
        ];
        let rows = losses.iter().map(|(who, loss)| {
            let numbers = loss.iter().map(|loss| format!("{loss:.2}"));
            [(*who).to_owned()].into_iter().chain(numbers).collect()
        });
        let title = "How surprised the model is by each token, in each repeat".to_owned();
        tables.push(Table { title, columns, rows: rows.collect() });
    }
    let above = |found: &Repeats| found.heads.iter().filter(|head| score(head) > THRESHOLD).count();
    let of_control = match untrained {
        Some(found) => format!(", {} of an untrained model's", above(found)),
        None => String::new(),
    };
    let mut notes = vec![
        format!(
            "{} of {} heads give more than half on average to {}{of_control}.",
            above(trained),
            trained.heads.len(),
            match name {
                "previous" => "the token before",
                "duplicate" => "other copies of the same token",
                _ => "what followed earlier copies of it",
            },
        ),
        format!(
            "Rows counted: previous {}, duplicate {}, induction {}. by entry: the induction mass over the tokens that followed, as \
             Olsson et al. 2022 score it; at most 50.",
            trained.rows[0], trained.rows[1], trained.rows[2]
        ),
    ];
    if !causal {
        notes.push(
            "This model sees both sides: duplicate counts copies on either, induction those before alone."
                .to_owned(),
        );
    }
    Sheet {
        heading: vec![format!(
            "Repeated random tokens: {PERIOD} words of {} × {REPEATS}, {SAMPLES} sequences. Mean mass in per cent, the {name} heads first.",
            trained.vocabulary
        )],
        tables,
        notes,
    }
}

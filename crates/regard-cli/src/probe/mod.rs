//! `regard probe`: standard tests of what heads do.

mod agreement;
mod control;
mod coref;
mod needle;
mod progress;
mod repeats;
mod sheet;
mod ud;

use std::io::{BufWriter, Write, stdout};
use std::time::Instant;

use regard_lens::ModelInfo;
use regard_lens::probe::TextChecks;
use serde::Serialize;
use serde_json::Value;

use self::control::Run;
use self::sheet::Sheet;
use crate::arguments::{ProbeArguments, ProbeTask};
use crate::closing::{Checked, VerifyFields, cost_parts};
use crate::failure::Failure;
use crate::json::{ModelFields, write_line};
use crate::model;
use crate::process::Costs;
use crate::terminal::Page;

/// Changes when a field changes its meaning or goes away; new fields may come without a change.
const SCHEMA: &str = "regard-probe/1";

/// What a task found.
struct Outcome {
    model: ModelInfo,
    /// The JSON's `result`.
    result: Value,
    /// For the terminal; its first table is the CSV.
    sheet: Sheet,
    checks: TextChecks,
}

impl Outcome {
    /// What the probabilities of the longest text would take.
    fn dense_bytes(&self) -> u128 {
        self.model.dense_bytes(self.checks.longest_text)
    }

    /// The page in at most `columns` columns of text.
    fn render(&self, columns: usize, costs: Costs) -> String {
        let mut parts =
            cost_parts(&self.model, self.checks.longest_text, Checked::Run(self.checks.verification), costs);
        parts[0] = format!("texts of up to {}", parts[0]);
        self.sheet.render(columns, &parts)
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    regard_version: &'static str,
    model: ModelFields<'a>,
    task: &'static str,
    seed: u64,
    result: &'a Value,
    /// Tokens of the longest text, and what its probabilities would take in f32.
    longest_text: usize,
    dense_bytes: u64,
    verify: VerifyFields,
}

pub(crate) fn probe(arguments: &ProbeArguments, started: Instant) -> Result<(), Failure> {
    let model = || model::find(arguments.shared.model.as_deref());
    check(arguments)?;
    // The data first: it is read sooner than a model, and is more often wrong.
    let (name, outcome) = match arguments.task {
        ProbeTask::Ud => {
            let data = ud::read(arguments)?;
            ("ud", ud::run(&Run::new(arguments, model()?, started), data)?)
        }
        ProbeTask::Coref => {
            let data = coref::read(arguments)?;
            ("coref", coref::run(&Run::new(arguments, model()?, started), data)?)
        }
        ProbeTask::Agreement => {
            let items = agreement::read(arguments)?;
            ("agreement", agreement::run(&Run::new(arguments, model()?, started), &items)?)
        }
        ProbeTask::Needle => {
            let filler = needle::read(arguments)?;
            ("needle", needle::run(&Run::new(arguments, model()?, started), filler)?)
        }
        ProbeTask::Previous | ProbeTask::Duplicate | ProbeTask::Induction => {
            let run = Run::new(arguments, model()?, started);
            repeats::run(&run, arguments.task)?
        }
    };
    let mut output = BufWriter::new(stdout().lock());
    if arguments.shared.json {
        write_line(
            &mut output,
            &Document {
                schema: SCHEMA,
                regard_version: env!("CARGO_PKG_VERSION"),
                model: (&outcome.model).into(),
                task: name,
                seed: arguments.seed,
                result: &outcome.result,
                longest_text: outcome.checks.longest_text,
                dense_bytes: outcome.dense_bytes().try_into().unwrap_or(u64::MAX),
                verify: Checked::Run(outcome.checks.verification).into(),
            },
        )?;
    } else if arguments.csv {
        output.write_all(outcome.sheet.csv().as_bytes())?;
    } else {
        let page = Page::of_stdout(arguments.shared.color, 80);
        let costs = Costs::since(started);
        output.write_all(outcome.render(page.columns, costs).as_bytes())?;
    }
    Ok(output.flush()?)
}

/// Refuses data that the task does not read.
fn check(arguments: &ProbeArguments) -> Result<(), Failure> {
    let two_parts = !arguments.dev.is_empty();
    match arguments.task {
        ProbeTask::Ud | ProbeTask::Coref if arguments.files.is_empty() && !two_parts => Err(Failure::usage(
            "no data: give FILE, which is split in two, or --dev FILE and --test FILE; for ud CoNLL-U files \
             (universaldependencies.org), for coref those of LitBank (github.com/dbamman/litbank)",
        )),
        ProbeTask::Ud | ProbeTask::Coref => Ok(()),
        _ if two_parts => Err(Failure::usage("--dev and --test are for the tasks ud and coref")),
        ProbeTask::Previous | ProbeTask::Duplicate | ProbeTask::Induction if !arguments.files.is_empty() => {
            Err(Failure::usage("this task makes its own random tokens: leave FILE out"))
        }
        _ if arguments.files.len() > 1 => Err(Failure::usage("this task reads one FILE")),
        _ => Ok(()),
    }
}

//! `regard check`: rules about heads, with an exit code.

mod rule;

use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;
use std::time::Instant;

use regard_lens::profile::{ProfileOptions, Selection};
use serde::Serialize;

use crate::arguments::{CheckArguments, TextSource};
use crate::failure::Failure;
use crate::input::read_text;
use crate::json::{Header, write_line};
use crate::profile_run::{Ending, Loaded, RunFields};
use crate::terminal::{Page, WIDEST};
use crate::view::check_head;
use crate::visible::visible;
use rule::{Outcome, Rule};

/// Changes when a field changes its meaning or goes away; new fields may come without a change.
const SCHEMA: &str = "regard-check/1";

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    header: Header<'a>,
    holds: bool,
    rules: Vec<RuleFields<'a>>,
    #[serde(flatten)]
    run: RunFields,
}

#[derive(Serialize)]
struct RuleFields<'a> {
    rule: &'a str,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

pub(crate) fn check(arguments: &CheckArguments, started: Instant) -> Result<(), Failure> {
    let flags = &arguments.profile;
    let (rules, source) = rules_and_text(arguments)?;
    let rules =
        rules.iter().map(|rule| Rule::parse(rule)).collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?;
    let loaded = Loaded::new(arguments.shared.model.as_deref(), &source)?;
    let info = loaded.model.info();
    for rule in &rules {
        check_head(rule.head(), info).map_err(|failure| match failure {
            Failure::Usage(message) => Failure::usage(format!("rule \"{}\": {message}", rule.text)),
            other => other,
        })?;
    }
    let layers: Option<Vec<_>> =
        rules.iter().map(|rule| rule.head().map(|id| id.layer..id.layer + 1)).collect();
    let options = ProfileOptions {
        layers: layers.map_or(Selection::All, Selection::Of),
        // Rules are about the text; nothing here shows a control.
        ..loaded.options(flags, 0)
    };
    let profile = loaded.profile(options, started)?;
    let outcomes: Vec<Outcome> = rules.iter().map(|rule| rule.check(&profile.profiled)).collect();
    let ending = Ending::new(profile.profiled.verification, &loaded, started);
    let failed = outcomes.iter().filter(|outcome| !outcome.holds).count();

    let mut output = BufWriter::new(stdout().lock());
    if arguments.shared.json {
        let document = Document {
            header: Header::with_schema(SCHEMA, info, &loaded.text),
            holds: failed == 0,
            rules: rules
                .iter()
                .zip(&outcomes)
                .map(|(rule, outcome)| RuleFields { rule: &rule.text, outcome })
                .collect(),
            run: ending.fields(),
        };
        write_line(&mut output, &document)?;
    } else {
        for (rule, outcome) in rules.iter().zip(&outcomes) {
            writeln!(output, "{}", outcome.line(rule))?;
        }
        let page = Page::of_stdout(arguments.shared.color, WIDEST);
        for line in ending.lines(&loaded, page.columns, page.palette) {
            writeln!(output, "{line}")?;
        }
    }
    output.flush()?;
    match failed {
        0 => Ok(()),
        1 => Err(Failure::failed(format!("1 of {} rules does not hold", rules.len()))),
        _ => Err(Failure::failed(format!("{failed} of {} rules do not hold", rules.len()))),
    }
}

/// The rules' lines, and where the text comes from: without `--rule`, the first argument is the file of rules.
fn rules_and_text(arguments: &CheckArguments) -> Result<(Vec<String>, TextSource), Failure> {
    let TextSource { text, file } = &arguments.profile.source;
    let (rules, text) = match (arguments.rule.is_empty(), text.split_first()) {
        (false, _) => (arguments.rule.clone(), text.clone()),
        (true, None) => return Err(Failure::usage("no rules: name a file of rules, or give --rule")),
        (true, Some((path, rest))) => {
            let source = TextSource { text: vec![], file: Some(PathBuf::from(path)) };
            let lines = read_text(&source)?;
            (lines.lines().map(str::to_owned).collect(), rest.to_vec())
        }
    };
    let is_rule = |line: &String| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let rules: Vec<String> = rules.into_iter().filter(is_rule).collect();
    if rules.is_empty() {
        return Err(Failure::usage("no rules: every line is empty or a comment"));
    }
    Ok((rules, TextSource { text, file: file.clone() }))
}

impl Outcome {
    /// `ok   L18.H6 induction > 0.8   0.93 (L18.H6)`
    fn line(&self, rule: &Rule) -> String {
        let verdict = if self.holds { "ok  " } else { "FAIL" };
        let value = match (self.value, self.layer, self.head) {
            (Some(value), Some(layer), Some(head)) => format!("{value} (L{layer}.H{head})"),
            _ => "no row of the text shows it".to_owned(),
        };
        format!("{verdict}  {}  {value}", visible(&rule.text))
    }
}

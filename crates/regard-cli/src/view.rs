//! `regard view`: parse, look through the lens, print.

use std::io::{BufWriter, IsTerminal, Write, stdout};
use std::time::Instant;

use regard_lens::view::{HeadId, HeadView, Queries, ViewOptions, Viewer};
use regard_lens::{Model, ModelInfo, TokenizedText};

use crate::arguments::ViewArguments;
use crate::failure::Failure;
use crate::focus::{Focus, default_focus, find_focus, is_pronoun};
use crate::input::read_text;
use crate::json;
use crate::model;
use crate::palette::Palette;
use crate::picture::most_cells;
use crate::process::{Costs, Progress};
use crate::report::Report;
use crate::terminal::Page;
use crate::{plain, terminal};

pub(crate) fn view(arguments: &ViewArguments, started: Instant) -> Result<(), Failure> {
    if arguments.all && !arguments.json {
        return Err(Failure::usage("--all writes JSON lines: add --json"));
    }
    let text = read_text(&arguments.source)?;
    let model = model::load(arguments.model.as_deref())?;
    check_head(arguments.head, model.info())?;
    let text = model.tokenize(&text)?;
    let causal = model.info().causal;
    let focus = match &arguments.at {
        Some(at) => find_focus(&text, at, causal)?,
        None => default_focus(&text, causal)
            .ok_or_else(|| Failure::usage("the text has no tokens of its own: give at least one word"))?,
    };
    let run = Run { arguments, model: &model, text: &text, started };
    if arguments.all { run.stream_rows(&focus) } else { run.report(focus) }
}

fn check_head(head: Option<HeadId>, model: &ModelInfo) -> Result<(), Failure> {
    match head {
        Some(id) if id.layer >= model.layers || id.head >= model.heads => Err(Failure::usage(format!(
            "no head {id}: the model has L0.H0 to L{}.H{}",
            model.layers.saturating_sub(1),
            model.heads.saturating_sub(1)
        ))),
        _ => Ok(()),
    }
}

struct Run<'a> {
    arguments: &'a ViewArguments,
    model: &'a Model,
    text: &'a TokenizedText,
    started: Instant,
}

impl Run<'_> {
    fn options(&self, queries: Queries, map_size: [usize; 2], map_head: Option<HeadId>) -> ViewOptions {
        ViewOptions {
            queries,
            top: self.arguments.top,
            keep_special: self.arguments.keep_special,
            map_size,
            map_head,
        }
    }

    /// Every head's rows as JSON lines, each as soon as it is known.
    fn stream_rows(&self, focus: &Focus) -> Result<(), Failure> {
        let queries = if self.arguments.at.is_some() { Queries::One(focus.token) } else { Queries::All };
        let mut output = BufWriter::new(stdout().lock());
        json::write_header(&mut output, &json::Header::new(self.model.info(), self.text))?;
        let mut progress = Progress::new(self.started, self.model.info().layers);
        let mut on_head = |head: HeadView| {
            progress.layer(head.id.layer);
            if self.arguments.head.is_none_or(|wanted| wanted == head.id) {
                json::write_rows(&mut output, &head, self.text)?;
            }
            Ok(())
        };
        let mut viewer =
            Viewer::new(self.text, self.model.info(), self.options(queries, [0, 0], None), &mut on_head);
        self.model.run(self.text, &mut viewer)?;
        let viewed = viewer.finish();
        drop(progress);
        json::write_footer(&mut output, viewed.verification)?;
        Ok(output.flush()?)
    }

    /// One word's view, in the form asked for.
    fn report(&self, focus: Focus) -> Result<(), Failure> {
        let page = self.page();
        let mut heads = Vec::new();
        let mut progress = Progress::new(self.started, self.model.info().layers);
        let mut on_head = |head: HeadView| {
            progress.layer(head.id.layer);
            heads.push(head);
            Ok(())
        };
        let map_size = most_cells(page.columns, page.picture_lines, page.palette);
        let named = self.model.pronoun_head().filter(|_| is_pronoun(self.text, focus.token));
        let options = self.options(Queries::One(focus.token), map_size, self.arguments.head.or(named));
        let mut viewer = Viewer::new(self.text, self.model.info(), options, &mut on_head);
        self.model.run(self.text, &mut viewer)?;
        let viewed = viewer.finish();
        drop(progress);
        let report = Report { model: self.model.info(), text: self.text, focus, heads, named, viewed };

        let mut output = BufWriter::new(stdout().lock());
        if self.arguments.json {
            let header = json::Header::new(report.model, report.text);
            let heads = self.heads_in_json(&report);
            json::write_document(&mut output, header, report.text, &heads, report.viewed.verification)?;
        } else {
            let costs = Costs::since(self.started);
            let view = if self.arguments.plain {
                plain::render(&report, costs)
            } else {
                terminal::render(&report, page, costs)
            };
            output.write_all(view.as_bytes())?;
        }
        Ok(output.flush()?)
    }

    /// The head asked for; else with `--at` all; else those that the terminal view shows.
    fn heads_in_json<'r>(&self, report: &'r Report<'_>) -> Vec<&'r HeadView> {
        let shown: Vec<HeadId> = match (self.arguments.head, &self.arguments.at) {
            (Some(wanted), _) => vec![wanted],
            (None, Some(_)) => return report.heads.iter().collect(),
            (None, None) => report
                .best_of_each_kind()
                .into_iter()
                .chain(report.pictured())
                .map(|shown| shown.head.id)
                .collect(),
        };
        report.heads.iter().filter(|head| shown.contains(&head.id)).collect()
    }

    fn page(&self) -> Page {
        let variable = |name: &str| std::env::var(name).ok();
        let is_terminal = stdout().is_terminal();
        let palette = Palette::choose(self.arguments.color, is_terminal, variable);
        let size = terminal_size::terminal_size_of(stdout());
        let columns =
            variable("COLUMNS").and_then(|columns| columns.parse().ok()).filter(|&columns| columns > 0);
        let columns = columns.or_else(|| size.map(|(columns, _)| usize::from(columns.0))).unwrap_or(80);
        Page::new(columns, size.map(|(_, lines)| usize::from(lines.0)), palette)
    }
}

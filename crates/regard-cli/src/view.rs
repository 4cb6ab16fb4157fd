//! `regard view`: parse, look through the lens, print.

use std::fs::File;
use std::io::{BufWriter, Read, Write, stderr, stdout};
use std::path::Path;
use std::time::Instant;

use regard_lens::exchange::{AttentionMaps, SavePlan, tokens_from_json};
use regard_lens::profile::ProfileOptions;
use regard_lens::view::{HeadId, HeadView, Queries, ViewOptions, Viewed, Viewer};
use regard_lens::{Both, Interventions, Model, ModelInfo, TokenizedText};

use crate::arguments::ViewArguments;
use crate::closing::Checked;
use crate::failure::Failure;
use crate::focus::{Focus, focus_or_default, is_pronoun};
use crate::input::read_text;
use crate::json;
use crate::model;
use crate::page::{PageRequest, write_page};
use crate::palette::Scale;
use crate::picture::most_cells;
use crate::process::{Costs, Progress};
use crate::report::Report;
use crate::terminal::Page;
use crate::visible::visible;
use crate::{plain, received, terminal};

/// The longest file of tokens that is read.
const MAX_TOKENS_BYTES: u64 = 16 << 20;

pub(crate) fn view(arguments: &ViewArguments, started: Instant) -> Result<(), Failure> {
    if arguments.all && !arguments.shared.json {
        return Err(Failure::usage("--all writes JSON lines: add --json"));
    }
    if let (Some(maps), Some(tokens)) = (&arguments.extras.attention, &arguments.extras.tokens) {
        return view_maps(arguments, (maps, tokens), started);
    }
    let text = read_text(&arguments.source)?;
    let model = model::load(arguments.shared.model.as_deref())?;
    check_head(arguments.head, model.info())?;
    let text = model.tokenize(&text)?;
    let focus = focus_or_default(&text, arguments.at.as_deref(), model.info().causal)?;
    if let Some(path) = &arguments.html {
        let (focus, head) = (focus.token, arguments.head);
        let request =
            PageRequest { model: &model, text: &text, focus, head, options: ProfileOptions::default() };
        return write_page(path, &request, started);
    }
    if arguments.received {
        return received::received(arguments, model, text, (focus, started));
    }
    let run = Run { arguments, source: Source::Model(&model), info: model.info(), text: &text, started };
    run.view()
}

/// The view of another program's matrices.
fn view_maps(
    arguments: &ViewArguments,
    (maps, tokens): (&Path, &Path),
    started: Instant,
) -> Result<(), Failure> {
    if !arguments.source.text.is_empty() || arguments.source.file.is_some() {
        return Err(Failure::usage("--attention has its own tokens: leave the text out"));
    }
    let text = read_tokens(tokens)?;
    let maps = AttentionMaps::open(maps)?;
    if maps.tokens() != text.tokens.len() {
        return Err(Failure::failed(format!(
            "{}: expected {} tokens, as the matrices have, found {}; save both from the same run",
            tokens.display(),
            maps.tokens(),
            text.tokens.len()
        )));
    }
    let info = maps.info()?;
    check_head(arguments.head, &info)?;
    Run { arguments, source: Source::Maps(&maps), info: &info, text: &text, started }.view()
}

fn read_tokens(path: &Path) -> Result<TokenizedText, Failure> {
    let name = path.display();
    let mut json = Vec::new();
    let file = File::open(path).map_err(|error| Failure::failed(format!("cannot open {name}: {error}")))?;
    file.take(MAX_TOKENS_BYTES + 1)
        .read_to_end(&mut json)
        .map_err(|error| Failure::failed(format!("cannot read {name}: {error}")))?;
    if json.len() as u64 > MAX_TOKENS_BYTES {
        let limit = MAX_TOKENS_BYTES >> 20;
        return Err(Failure::failed(format!(
            "{name} is longer than {limit} MiB; it should list the tokens of a text"
        )));
    }
    tokens_from_json(&json).map_err(|problem| {
        let how = "json.dump(tokenizer.convert_ids_to_tokens(ids), file) writes one";
        Failure::failed(format!("{name}: {problem}; {how}"))
    })
}

pub(crate) fn check_head(head: Option<HeadId>, model: &ModelInfo) -> Result<(), Failure> {
    match head {
        Some(id) if id.layer >= model.layers || id.head >= model.heads => Err(Failure::usage(format!(
            "no head {id}: the model has L0.H0 to L{}.H{}",
            model.layers.saturating_sub(1),
            model.heads.saturating_sub(1)
        ))),
        _ => Ok(()),
    }
}

/// The head that the model names for pronouns, where the focus is one.
pub(crate) fn named_head(model: &Model, text: &TokenizedText, focus: &Focus) -> Option<HeadId> {
    model.pronoun_head().filter(|_| is_pronoun(text, focus.token))
}

/// Where the attention comes from.
enum Source<'a> {
    Model(&'a Model),
    Maps(&'a AttentionMaps),
}

struct Run<'a> {
    arguments: &'a ViewArguments,
    source: Source<'a>,
    info: &'a ModelInfo,
    text: &'a TokenizedText,
    started: Instant,
}

impl Run<'_> {
    fn view(&self) -> Result<(), Failure> {
        self.without().iter().try_for_each(|&head| check_head(Some(head), self.info))?;
        let focus = focus_or_default(self.text, self.arguments.at.as_deref(), self.info.causal)?;
        if self.arguments.all { self.stream_rows(&focus) } else { self.report(focus) }
    }

    /// Heads whose output is 0.
    fn without(&self) -> &[HeadId] {
        self.arguments.extras.without.as_ref().map_or(&[], |heads| &heads.0)
    }

    /// Lets the viewer see every layer, and a file be written.
    fn look(&self, mut viewer: Viewer<'_>) -> Result<(Viewed, Checked), Failure> {
        match self.source {
            Source::Model(model) => {
                let interventions = Interventions::without(self.without());
                match self.save_plan(model)? {
                    None => drop(model.run_with(self.text, &interventions, &mut viewer)?),
                    Some(plan) => {
                        let mut saver = plan.start()?;
                        let mut both = Both(&mut viewer, &mut saver);
                        let hidden = model.run_with(self.text, &interventions, &mut both)?;
                        saver.finish(&hidden)?;
                    }
                }
                let viewed = viewer.finish();
                let checked = Checked::Run(viewed.verification);
                Ok((viewed, checked))
            }
            Source::Maps(maps) => {
                viewer.look_at_maps(maps)?;
                Ok((viewer.finish(), Checked::RowSums(maps.max_row_sum_error())))
            }
        }
    }

    /// The file to be written, if one is wanted; its size is said before the work begins.
    fn save_plan(&self, model: &Model) -> Result<Option<SavePlan>, Failure> {
        let extras = &self.arguments.extras;
        let Some(path) = &extras.save else { return Ok(None) };
        let heads = extras.save_heads.as_ref().map(|heads| heads.0.clone());
        let heads = heads.or_else(|| self.arguments.head.map(|head| vec![head]));
        let plan = SavePlan::new(path, model, self.text, heads.as_deref())?;
        let (size, path) = (plan.bytes().div_ceil(1000), visible(&path.display().to_string()));
        // Losing this line is no reason to fail.
        let _ = writeln!(stderr(), "regard: writing {size} kB to {path}");
        Ok(Some(plan))
    }

    fn named_head(&self, focus: &Focus) -> Option<HeadId> {
        match self.source {
            Source::Model(model) => named_head(model, self.text, focus),
            Source::Maps(_) => None,
        }
    }

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
        json::write_header(&mut output, &json::Header::new(self.info, self.text, self.without()))?;
        let mut progress = Progress::new(self.started, "layer", self.info.layers);
        let mut on_head = |head: HeadView| {
            progress.done(head.id.layer);
            if self.arguments.head.is_none_or(|wanted| wanted == head.id) {
                json::write_rows(&mut output, &head, self.text)?;
            }
            Ok(())
        };
        let options = self.options(queries, [0, 0], None);
        let viewer = Viewer::new(self.text, self.info, options, &mut on_head);
        let (_, checked) = self.look(viewer)?;
        drop(progress);
        json::write_footer(&mut output, checked)?;
        Ok(output.flush()?)
    }

    /// One word's view, in the form asked for.
    fn report(&self, focus: Focus) -> Result<(), Failure> {
        let page = Page::of_stdout(self.arguments.shared.color, 80);
        let mut heads = Vec::new();
        let mut progress = Progress::new(self.started, "layer", self.info.layers);
        let mut on_head = |head: HeadView| {
            progress.done(head.id.layer);
            heads.push(head);
            Ok(())
        };
        let map_size = most_cells(page.columns, page.picture_lines, page.palette);
        let named = self.named_head(&focus);
        let map_head = self.arguments.head.or(named);
        let options = self.options(Queries::One(focus.token), map_size, map_head);
        let viewer = Viewer::new(self.text, self.info, options, &mut on_head);
        let (viewed, checked) = self.look(viewer)?;
        drop(progress);
        let without = self.without().to_vec();
        let report =
            Report { model: self.info, text: self.text, focus, heads, named, viewed, checked, without };

        let mut output = BufWriter::new(stdout().lock());
        if self.arguments.shared.json {
            let header = json::Header::new(report.model, report.text, self.without());
            let heads = self.heads_in_json(&report);
            json::write_document(&mut output, header, report.text, &heads, report.checked)?;
        } else {
            let costs = Costs::since(self.started);
            let view = if self.arguments.plain {
                plain::render(&report, costs)
            } else {
                terminal::render(&report, page, Scale::logarithmic_if(self.arguments.log), costs)
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
}

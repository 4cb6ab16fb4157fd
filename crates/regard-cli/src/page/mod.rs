//! What a run found, as one HTML file: every head, and where it looks, for a browser without a network.
//!
//! `plan.rs` decides what fits, `data.rs` writes it as JSON, `document.rs` puts it beside the code in `assets/`.

mod data;
mod document;
mod file;
mod labels;
mod plan;
mod quantise;
mod table;
#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests;

use std::io::{Write, stdout};
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use regard_lens::profile::{Control, ProfileOptions, Profiler, Scores, Selection, TopKeysOf, Unit, shuffled};
use regard_lens::view::HeadId;
use regard_lens::{AttentionObserver, LayerAttention, LensError, Model, ModelInfo, TokenizedText};

use self::data::{Findings, Reading};
use self::document::{FIXED_BYTES, Static, document};
use self::file::write_whole;
use self::labels::Labels;
use self::plan::{Plan, Sizes};
use self::table::TABLE_BYTES;
use crate::failure::Failure;
use crate::process::Progress;
use crate::visible::visible;

/// Up to so many tokens every reading is computed, without being asked for.
const SHORT: usize = 1024;

/// What a page is to be about.
pub(crate) struct PageRequest<'a> {
    pub(crate) model: &'a Model,
    pub(crate) text: &'a TokenizedText,
    /// The token pinned first.
    pub(crate) focus: usize,
    /// The head looked at first.
    pub(crate) head: Option<HeadId>,
    /// Unit, layers, heads, rows and control; the reading that the page opens with.
    pub(crate) options: ProfileOptions,
}

/// A page and what it holds.
struct Page {
    html: String,
    /// What to tell who asked for it.
    summary: String,
}

/// A form on a page that is served: it asks for another text.
#[cfg_attr(not(feature = "serve"), allow(dead_code, reason = "only a server makes one"))]
pub(crate) struct LiveForm<'a> {
    /// Where it goes.
    pub(crate) path: &'a str,
    /// Names of the models to choose from.
    pub(crate) models: Vec<&'a str>,
    /// The place of this page's model among them.
    pub(crate) chosen: usize,
}

/// The page with a form on it.
#[cfg(feature = "serve")]
pub(crate) fn live_page(request: &PageRequest<'_>, form: &LiveForm<'_>) -> Result<String, Failure> {
    Ok(page(request, Some(form), &mut |_, _| ())?.html)
}

/// Makes the page, writes it to a file and says on stdout what is in it.
pub(crate) fn write_page(path: &Path, request: &PageRequest<'_>, started: Instant) -> Result<(), Failure> {
    let mut progress = Progress::new(started, "layer", request.model.info().layers * 2);
    let page = page(request, None, &mut |layer, _| progress.done(layer))?;
    drop(progress);
    write_whole(path, page.html.as_bytes())?;
    let name = visible(&path.display().to_string());
    Ok(writeln!(stdout(), "{name}: {}; open it in a browser", page.summary)?)
}

/// Runs the model, and once more on the shuffled text. `on_layer` hears of each layer of both, and how many there are.
fn page(
    request: &PageRequest<'_>,
    form: Option<&LiveForm<'_>>,
    on_layer: &mut dyn FnMut(usize, usize),
) -> Result<Page, Failure> {
    let PageRequest { model, text, options, .. } = request;
    let info = model.info();
    let units = units(text, info, options)?;
    let rows = options.rows.clone().unwrap_or(0..units.len());
    let focus = unit_of(&units, request.focus).clamp(rows.start, rows.end.max(rows.start + 1) - 1);
    let heads_in_all = selected(&options.layers, info.layers) * selected(&options.heads, info.heads);
    if heads_in_all == 0 {
        return Err(Failure::usage("no heads: the model has none of the layers and heads asked for"));
    }
    let ways = ways_of_reading(options, text.tokens.len());
    let (labels, label_bytes) = Labels::all(text, &units);
    let sizes = Sizes {
        units: units.len(),
        heads: heads_in_all,
        readings: ways.len(),
        distance_bins: 2 * (units.len().ilog2() as usize + 1) + 1,
        other_bytes: FIXED_BYTES + label_bytes + TABLE_BYTES,
    };
    let plan = Plan::new(&sizes, &rows, focus);
    let shuffled = match options.control_tokens {
        0 => None,
        limit => shuffled(text, info.causal, options.unit, (limit, options.control_seed))?,
    };
    let in_all = info.layers * if shuffled.is_some() { 2 } else { 1 };
    let ways = &ways[..plan.readings];
    let readings = run(request, ways, &plan, &mut |layer| on_layer(layer, in_all))?;
    let shuffled = match shuffled {
        Some(shuffled) => {
            let mut hear = |layer: usize| on_layer(info.layers + layer, in_all);
            Some(control(request, &shuffled, plan.heads, &mut hear)?)
        }
        None => None,
    };
    let labels = labels.unwrap_or_else(|| Labels::some(text, &units, &plan.rows, named_keys(&readings)));
    let findings = Findings {
        model: info,
        text,
        unit: options.unit,
        units,
        rows,
        heads_in_all,
        plan,
        labels,
        focus,
        head: request.head,
        readings,
        shuffled,
    };
    finish(&findings, form)
}

fn finish(findings: &Findings<'_>, form: Option<&LiveForm<'_>>) -> Result<Page, Failure> {
    let (table, in_table) = table::rows(findings);
    let heads = findings.readings[0].profiled.heads.len();
    let table_note = if in_table < heads {
        format!("The first {in_table} of {heads} heads; the others are in the page's data.")
    } else {
        String::new()
    };
    let (model, units) = (findings.model, findings.units.len());
    let unit = match findings.unit {
        Unit::Token => "tokens",
        Unit::Word => "words",
    };
    let direction = if model.causal { "each sees those before it" } else { "each sees all others" };
    let about = format!(
        "{} layers × {} heads · {units} {unit}, {direction} · weights {}",
        model.layers, model.heads, model.dtype
    );
    let form = form.map(|form| (form, findings.text.text.as_str()));
    let page = Static { title: &model.name, about: &about, table: &table, table_note: &table_note, form };
    let data = findings.json().map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
    let html = document(&page, &data);
    let Plan { top_k, rows, .. } = &findings.plan;
    let megabytes = html.len() as f64 / 1e6;
    let of_rows = if rows.len() == units {
        format!("all {units} rows")
    } else {
        format!("rows {}:{} of {units}", rows.start, rows.end)
    };
    let summary = format!("{megabytes:.2} MB; {heads} heads; {of_rows}, {top_k} keys each");
    Ok(Page { html, summary })
}

/// The tokens of each row and key.
fn units(
    text: &TokenizedText,
    info: &ModelInfo,
    options: &ProfileOptions,
) -> Result<Vec<Range<usize>>, LensError> {
    let options = ProfileOptions { unit: options.unit, rows: options.rows.clone(), ..Default::default() };
    Ok(Profiler::new(text, info, options, &mut |_| ())?.units().to_vec())
}

fn unit_of(units: &[Range<usize>], token: usize) -> usize {
    units.iter().position(|span| span.contains(&token)).unwrap_or(0)
}

fn selected(selection: &Selection, of: usize) -> usize {
    (0..of).filter(|&number| selection.contains(number)).count()
}

/// With and without sink, and if asked for or cheap, weighted by norms; first what was asked for.
fn ways_of_reading(options: &ProfileOptions, tokens: usize) -> Vec<(bool, bool)> {
    let first = (options.no_sink, options.norm);
    let norms: &[bool] = if options.norm || tokens <= SHORT { &[false, true] } else { &[false] };
    let all = norms.iter().flat_map(|&norm| [(false, norm), (true, norm)]);
    let mut ways = vec![first];
    ways.extend(all.filter(|&way| way != first));
    ways
}

/// Several profilers that look at one run.
struct Together<'a>(Vec<Profiler<'a>>);

impl AttentionObserver for Together<'_> {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        self.0.iter_mut().try_for_each(|profiler| profiler.layer(attention))
    }
}

fn run(
    request: &PageRequest<'_>,
    ways: &[(bool, bool)],
    plan: &Plan,
    on_layer: &mut dyn FnMut(usize),
) -> Result<Vec<Reading>, LensError> {
    let options = |no_sink: bool, norm: bool| ProfileOptions {
        no_sink,
        norm,
        top_k: plan.top_k,
        top_keys_of: TopKeysOf::Rows(plan.rows.clone().collect()),
        received: true,
        thumbnail: Some([plan.side; 2]),
        ..request.options.clone()
    };
    let mut deaf: Vec<_> = ways.iter().skip(1).map(|_| |_: usize| ()).collect();
    let mut hear = Some(on_layer);
    let mut others = deaf.iter_mut();
    let mut profilers = Vec::new();
    for &(no_sink, norm) in ways {
        let on_layer: &mut dyn FnMut(usize) = match hear.take() {
            Some(hear) => hear,
            None => others.next().expect("one for each but the first"),
        };
        let (text, info) = (request.text, request.model.info());
        profilers.push(Profiler::new(text, info, options(no_sink, norm), on_layer)?);
    }
    let mut together = Together(profilers);
    request.model.run(request.text, &mut together)?;
    let found = together.0.into_iter().zip(ways).map(|(profiler, &(no_sink, norm))| {
        let mut profiled = profiler.finish();
        profiled.heads.truncate(plan.heads);
        Reading { no_sink, norm, profiled }
    });
    Ok(found.collect())
}

/// The scores of the first heads on the shuffled text.
fn control(
    request: &PageRequest<'_>,
    shuffled: &TokenizedText,
    heads: usize,
    on_layer: &mut dyn FnMut(usize),
) -> Result<(Control, Vec<Scores>), LensError> {
    let options = ProfileOptions { rows: None, verify_rows: 0, ..request.options.clone() };
    let control = Control { tokens: shuffled.tokens.len(), seed: options.control_seed };
    let mut profiler = Profiler::new(shuffled, request.model.info(), options, on_layer)?;
    request.model.run(shuffled, &mut profiler)?;
    let scores = profiler.finish().heads.into_iter().take(heads).map(|head| head.scores);
    Ok((control, scores.collect()))
}

/// Keys that a page names, the strongest places of each row first.
fn named_keys(readings: &[Reading]) -> impl Iterator<Item = usize> {
    let heads = || readings.iter().flat_map(|reading| &reading.profiled.heads);
    let receivers = heads().filter_map(|head| {
        (0..head.received.len()).max_by(|&a, &b| head.received[a].total_cmp(&head.received[b]))
    });
    let most = heads().filter_map(|head| head.top.as_ref()).map(|top| top.top_k).max().unwrap_or(0);
    let keys = (0..most).flat_map(move |place| {
        let tops = heads().filter_map(|head| head.top.as_ref());
        tops.flat_map(move |top| (0..top.rows.len()).filter_map(move |row| top.row(row).nth(place)))
    });
    receivers.chain(keys.map(|(key, _)| key))
}

//! `regard heads`: what every head does over a whole text.

mod csv;
mod grid;
mod ranks;

use std::io::{BufWriter, Write, stdout};
use std::path::Path;
use std::time::Instant;

use regard_lens::profile::{
    Control, Counted, HeadProfile, Profile, ProfileOptions, Role, RoleRank, Scores, Unit,
};
use serde::Serialize;

use crate::arguments::HeadsArguments;
use crate::failure::Failure;
use crate::focus::{default_focus, find_focus};
use crate::json::{Header, write_line};
use crate::page::{PageRequest, write_page};
use crate::palette::Palette;
use crate::profile_run::{Ending, Loaded, RunFields};
use crate::report::percent;
use crate::terminal::{Page, WIDEST, lay_out};
use crate::visible::wrap;

/// Changes when a field changes its meaning or goes away; new fields may come without a change.
const SCHEMA: &str = "regard-heads/1";

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    header: Header<'a>,
    unit: Unit,
    no_sink: bool,
    norm: bool,
    rows: &'a Counted,
    heads: &'a [HeadProfile],
    uniform: &'a Scores,
    control: Option<&'a Control>,
    roles: Vec<RankFields>,
    #[serde(flatten)]
    run: RunFields,
}

/// One role over all heads.
#[derive(Serialize)]
struct RankFields {
    role: Role,
    heads: usize,
    best: Scored,
    runner_up: Option<Scored>,
    least: f32,
    rows: usize,
    uniform: Option<f32>,
    shuffled: Option<f32>,
}

#[derive(Serialize)]
struct Scored {
    layer: usize,
    head: usize,
    score: f32,
}

impl From<RoleRank> for RankFields {
    fn from(rank: RoleRank) -> Self {
        let scored =
            |(id, score): (regard_lens::view::HeadId, f32)| Scored { layer: id.layer, head: id.head, score };
        Self {
            role: rank.role,
            heads: rank.heads,
            best: scored(rank.best),
            runner_up: rank.runner_up.map(scored),
            least: rank.least,
            rows: rank.rows,
            uniform: rank.uniform,
            shuffled: rank.shuffled,
        }
    }
}

pub(crate) fn heads(arguments: &HeadsArguments, started: Instant) -> Result<(), Failure> {
    let flags = &arguments.profile;
    let loaded = Loaded::new(arguments.shared.model.as_deref(), &flags.source)?;
    let info = loaded.model.info();
    let (layers, heads) =
        (arguments.layers.clone().unwrap_or_default(), arguments.heads.clone().unwrap_or_default());
    if !(0..info.layers).any(|layer| layers.contains(layer))
        || !(0..info.heads).any(|head| heads.contains(head))
    {
        let (layers, heads) = (info.layers, info.heads);
        return Err(Failure::usage(format!("no such head: the model has {layers} layers of {heads} heads")));
    }
    let options = ProfileOptions { layers, heads, ..loaded.options(flags, arguments.control_tokens) };
    if let Some(path) = &arguments.html {
        return html(&loaded, arguments.at.as_deref(), options, (path, started));
    }
    let (no_sink, norm) = (options.no_sink, options.norm);
    let profile = loaded.profile(options, started)?;
    let ending = Ending::new(profile.profiled.verification, &loaded, started);

    let mut output = BufWriter::new(stdout().lock());
    if arguments.csv {
        csv::write(&mut output, info, &profile)?;
    } else if arguments.shared.json {
        let document = Document {
            header: Header::with_schema(SCHEMA, info, &loaded.text),
            unit: profile.unit,
            no_sink,
            norm,
            rows: &profile.profiled.counted,
            heads: &profile.profiled.heads,
            uniform: &profile.profiled.uniform,
            control: profile.control.as_ref(),
            roles: profile.ranking().into_iter().map(RankFields::from).collect(),
            run: ending.fields(),
        };
        write_line(&mut output, &document)?;
    } else {
        let page = Page::of_stdout(arguments.shared.color, WIDEST);
        output.write_all(render(&loaded, &profile, (no_sink, norm), ending, page).as_bytes())?;
    }
    Ok(output.flush()?)
}

fn html(
    loaded: &Loaded,
    at: Option<&str>,
    options: ProfileOptions,
    (path, started): (&Path, Instant),
) -> Result<(), Failure> {
    let Loaded { model, text } = loaded;
    let causal = model.info().causal;
    let focus = match at {
        Some(at) => find_focus(text, at, causal)?.token,
        None => default_focus(text, causal).map_or(0, |focus| focus.token),
    };
    write_page(path, &PageRequest { model, text, focus, head: None, options }, started)
}

fn render(
    loaded: &Loaded,
    profile: &Profile,
    (no_sink, norm): (bool, bool),
    ending: Ending,
    Page { columns, palette, .. }: Page,
) -> String {
    let mut blocks = vec![grid::grid(&profile.profiled.heads, columns, palette)];
    blocks.push(grid::legend(&profile.profiled.heads, columns, palette));
    let ranks = profile.ranking();
    if !ranks.is_empty() {
        blocks.push(ranks::table(&ranks, columns, palette));
    }
    let notes = notes(loaded, profile, (no_sink, norm));
    blocks.push(notes.iter().flat_map(|note| wrap(note, columns)).map(|line| palette.dim(&line)).collect());
    blocks.push(ending.lines(loaded, columns, palette));
    lay_out(&blocks)
}

/// What the numbers are of.
fn notes(loaded: &Loaded, profile: &Profile, (no_sink, norm): (bool, bool)) -> Vec<String> {
    let (unit, rows) =
        (if profile.unit == Unit::Word { "word" } else { "token" }, profile.profiled.counted.rows);
    let causal = loaded.model.info().causal;
    let aside = if causal { "special tokens and the first token" } else { "special tokens" };
    let mut notes = vec![format!(
        "Means over the {rows} rows of the text ({aside} left out), per {unit}. A letter: at least 30 rows, and a score of \
         at least “needs”, which is 3 × what equal weights score where that is more."
    )];
    notes.push(match &profile.control {
        Some(control) => {
            let first = if control.tokens < loaded.text.tokens.len() { "the first " } else { "all " };
            format!(
                "shuffled: the best head's score on {first}{} tokens in random order. Where it stays high, the head goes \
                 by place or by equal tokens, not by what the text says.",
                control.tokens
            )
        }
        None => "No shuffled control was run.".to_owned(),
    });
    if no_sink {
        let kept: Vec<f32> = profile.profiled.heads.iter().filter_map(|head| head.kept).collect();
        let mean = kept.iter().sum::<f32>() / kept.len().max(1) as f32;
        let share = if kept.is_empty() { String::new() } else { format!(" ({} on average)", percent(mean)) };
        notes.push(format!(
            "--no-sink: {aside} get nothing; what the other keys have{share} is divided by its sum."
        ));
    }
    if norm {
        notes.push(
            "--norm: probabilities weighted by ‖value · output projection‖, divided by their sum.".to_owned(),
        );
    }
    notes
}

/// The letter of a head and the score that it stands for.
fn letter(head: &HeadProfile) -> Option<(char, f32)> {
    head.roles.first().map(|role| (role.letter(), role.score(&head.scores).unwrap_or(0.0)))
}

/// A letter in the colour of its score.
fn coloured(head: &HeadProfile, palette: Palette) -> String {
    match letter(head) {
        // The ends of the ramp are hard to read as letters, on dark or on light.
        Some((letter, score)) => palette.heat(0.2 + 0.4 * score, &letter.to_string()),
        None => palette.dim("·"),
    }
}

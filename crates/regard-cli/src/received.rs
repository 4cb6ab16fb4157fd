//! `regard view --received`: who looks at one token.

use std::io::{BufWriter, Write, stdout};
use std::time::Instant;

use regard_lens::profile::{ProfileOptions, ReceivedBy, ReceivedFrom};
use regard_lens::{Model, TokenizedText};
use serde::Serialize;

use crate::arguments::{ReceivedFlags, ViewArguments};
use crate::failure::Failure;
use crate::focus::Focus;
use crate::json::{Header, write_line};
use crate::label::name;
use crate::process::Progress;
use crate::profile_run::{Ending, Loaded, RunFields};
use crate::report::percent;
use crate::terminal::{Page, WIDEST, lay_out};
use crate::visible::{left, right, width, wrap};

/// Changes when a field changes its meaning or goes away; new fields may come without a change.
const SCHEMA: &str = "regard-received/1";
/// Heads on a page.
const LISTED: usize = 20;

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    header: Header<'a>,
    at: usize,
    no_sink: bool,
    norm: bool,
    heads: Vec<HeadFields<'a>>,
    #[serde(flatten)]
    run: RunFields,
}

#[derive(Serialize)]
struct HeadFields<'a> {
    layer: usize,
    head: usize,
    received: f32,
    visible_queries: usize,
    top: Vec<QueryFields<'a>>,
}

#[derive(Serialize)]
struct QueryFields<'a> {
    query: usize,
    token: &'a str,
    prob: f32,
}

pub(crate) fn received(
    arguments: &ViewArguments,
    model: Model,
    text: TokenizedText,
    (focus, started): (Focus, Instant),
) -> Result<(), Failure> {
    let mut progress = Progress::new(started, "layer", model.info().layers);
    let mut hear = |layer| progress.done(layer);
    let flags = &arguments.of;
    let options = ProfileOptions {
        layers: flags.layers.clone().unwrap_or_default(),
        heads: flags.heads.clone().unwrap_or_default(),
        rows: flags.rows.map(|rows| rows.range(text.tokens.len())),
        no_sink: flags.no_sink,
        norm: flags.norm,
        top_k: arguments.top,
        ..ProfileOptions::default()
    };
    let mut observer = ReceivedBy::new((&text, model.info()), focus.token, options, &mut hear)?;
    model.run(&text, &mut observer)?;
    let (heads, verification) = observer.finish();
    drop(progress);
    let loaded = Loaded { model, text };
    let ending = Ending::new(verification, &loaded, started);
    let mut output = BufWriter::new(stdout().lock());
    if arguments.shared.json {
        let fields = |head: &ReceivedFrom| HeadFields {
            layer: head.id.layer,
            head: head.id.head,
            received: head.received,
            visible_queries: head.visible_queries,
            top: head
                .top
                .iter()
                .map(|&(query, prob)| QueryFields { query, token: &loaded.text.tokens[query].text, prob })
                .collect(),
        };
        let document = Document {
            header: Header::with_schema(SCHEMA, loaded.model.info(), &loaded.text),
            at: focus.token,
            no_sink: flags.no_sink,
            norm: flags.norm,
            heads: heads.iter().map(fields).collect(),
            run: ending.fields(),
        };
        write_line(&mut output, &document)?;
    } else {
        let page = Page::of_stdout(arguments.shared.color, WIDEST);
        output.write_all(render((&loaded, flags), &focus, heads, ending, page).as_bytes())?;
    }
    Ok(output.flush()?)
}

fn render(
    (loaded, flags): (&Loaded, &ReceivedFlags),
    focus: &Focus,
    mut heads: Vec<ReceivedFrom>,
    ending: Ending,
    page: Page,
) -> String {
    let Page { columns, palette, .. } = page;
    let all = heads.len();
    // Stable: of equal heads the first one stays first.
    heads.sort_by(|a, b| b.received.total_cmp(&a.received));
    heads.truncate(LISTED);
    let at = name(&loaded.text, focus.token);
    let title = if heads.len() < all {
        format!("who looks at {at}: the {} of {all} heads in which it receives most", heads.len())
    } else {
        format!("who looks at {at}")
    };
    let mut lines: Vec<String> = wrap(&title, columns);
    lines.push(palette.dim(&format!(
        "{}{}{}  {}",
        left("head", 8),
        right("receives", 9),
        right("mean", 7),
        "from"
    )));
    for head in heads {
        let mean = head.received / head.visible_queries.max(1) as f32;
        let mut line = palette.bold(&left(&head.id.to_string(), 8));
        line += &right(&format!("{:.2}", head.received), 9);
        line += &right(&percent(mean), 7);
        let mut used = 24;
        for (query, prob) in head.top {
            let query = if query == focus.token { "itself".to_owned() } else { name(&loaded.text, query) };
            let part = format!("  {query} {}", percent(prob));
            used += width(&part);
            if used > columns {
                break;
            }
            line += &part;
        }
        lines.push(line);
    }
    let rows = if flags.rows.is_some() { "the rows asked for" } else { "all rows" };
    let mut note = format!(
        "receives: the sum of what {rows} give to it; mean: the same for each row that may look at it"
    );
    if flags.no_sink {
        note += "; what special tokens, or the first one, get is left out";
    }
    if flags.norm {
        note += "; weighted with what the values add";
    }
    lines.extend(wrap(&note, columns).iter().map(|line| palette.dim(line)));
    lay_out(&[lines, ending.lines(loaded, columns, palette)])
}

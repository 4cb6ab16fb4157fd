//! `regard explain`: one row of one head, step by step.

use std::io::{BufWriter, Write, stdout};
use std::time::Instant;

use regard_lens::evidence::{Explained, ExplainedKey, explain as explain_row};
use regard_lens::view::{HeadId, HeadView, Queries, ViewOptions, Viewer};
use regard_lens::{Model, TokenizedText};
use serde::Serialize;

use crate::arguments::ExplainArguments;
use crate::closing::{Checked, NOT_WHY, VerifyFields, closing};
use crate::columns::{Cell, columns};
use crate::failure::Failure;
use crate::focus::{Focus, find_focus, focus_or_default};
use crate::input::read_text;
use crate::json::{Header, write_line};
use crate::label::name;
use crate::model;
use crate::report::percent;
use crate::terminal::{Page, lay_out, marked_text};
use crate::view::named_head;
use crate::visible::wrap;

/// Changes when a field changes its meaning or goes away; new fields may come without a change.
const SCHEMA: &str = "regard-explain/1";
/// What stands where there is no number.
const NOTHING: &str = "–";

pub(crate) fn explain(arguments: &ExplainArguments, started: Instant) -> Result<(), Failure> {
    let text = read_text(&arguments.source)?;
    let model = model::load(arguments.shared.model.as_deref())?;
    let text = model.tokenize(&text)?;
    let causal = model.info().causal;
    let focus = focus_or_default(&text, arguments.from.as_deref(), causal)?;
    let named = arguments.keys.iter().map(|key| Ok(find_focus(&text, key.trim(), causal)?.token));
    let mut named = named.collect::<Result<Vec<_>, Failure>>()?;
    named.sort_unstable();
    named.dedup();
    let head = match arguments.head.or_else(|| named_head(&model, &text, &focus)) {
        Some(head) => head,
        None => most_telling_head(&model, &text, &focus)?,
    };
    let explained = explain_row(&model, &text, head, focus.token)?;
    let mut output = BufWriter::new(stdout().lock());
    if arguments.shared.json {
        write_line(&mut output, &Document::new(&model, &text, &explained, &named))?;
    } else {
        let page = Page::of_stdout(arguments.shared.color, 80);
        let shown = if named.is_empty() { most_probable(&explained, arguments.top) } else { named };
        let mut blocks =
            Explanation { text: &text, focus: &focus, explained: &explained, page }.blocks(&shown);
        let checked = Checked::Run(explained.verification);
        blocks.push(closing(page, model.info(), text.tokens.len(), checked, started, NOT_WHY));
        output.write_all(lay_out(&blocks).as_bytes())?;
    }
    Ok(output.flush()?)
}

/// The head that `regard view` pictures.
fn most_telling_head(model: &Model, text: &TokenizedText, focus: &Focus) -> Result<HeadId, Failure> {
    let options = ViewOptions {
        queries: Queries::One(focus.token),
        top: 1,
        keep_special: false,
        map_size: [1, 1],
        map_head: None,
    };
    let mut ignore = |_: HeadView| Ok(());
    let mut viewer = Viewer::new(text, model.info(), options, &mut ignore);
    model.run(text, &mut viewer)?;
    let map = viewer.finish().map;
    map.map(|map| map.id)
        .ok_or_else(|| Failure::usage("no head tells more than others: name one with --head"))
}

/// The keys with the largest probabilities, in text order; those that cannot be seen come last.
fn most_probable(explained: &Explained, count: usize) -> Vec<usize> {
    let prob = |key: &usize| explained.keys[*key].seen.map_or(-1.0, |seen| seen.prob);
    let mut keys: Vec<usize> = (0..explained.keys.len()).collect();
    keys.sort_by(|a, b| prob(b).total_cmp(&prob(a)).then(a.cmp(b)));
    keys.truncate(count);
    keys.sort_unstable();
    keys
}

struct Explanation<'a> {
    text: &'a TokenizedText,
    focus: &'a Focus,
    explained: &'a Explained,
    page: Page,
}

impl Explanation<'_> {
    fn blocks(&self, shown: &[usize]) -> Vec<Vec<String>> {
        let columns = self.page.columns;
        let head = self.explained.head.to_string();
        let dimmed = |lines: Vec<String>| -> Vec<String> {
            lines.iter().map(|line| self.page.palette.dim(line)).collect()
        };
        let mut title = wrap(&format!("{head} from {}: {}", self.query(), self.what()), columns);
        if let Some(rest) = title[0].strip_prefix(&head) {
            title[0] = self.page.palette.bold(&head) + rest;
        }
        let mut table = self.table(shown);
        table.extend(dimmed(wrap(
            "prob: e^(s−max) divided by its sum. adds: the length of what the key's value puts into the hidden states, \
             through the head's part of the output projection; all of them as one vector in the last line",
            columns,
        )));
        vec![self.sentence(), title, table, wrap(&self.projection(), columns), wrap(&self.check(), columns)]
    }

    fn query(&self) -> String {
        name(self.text, self.explained.query)
    }

    fn sentence(&self) -> Vec<String> {
        let text = self.text;
        let strongest = self.explained.keys.iter().filter(|key| !text.tokens[key.key].special);
        let strongest =
            strongest.filter_map(|key| Some((key.key, key.seen?.prob))).max_by(|a, b| a.1.total_cmp(&b.1));
        let arrow = strongest
            .map(|(key, prob)| (key, format!("{} in {}", percent(prob as f32), self.explained.head)));
        marked_text(text, self.focus, arrow, self.page)
    }

    /// What the first columns are.
    fn what(&self) -> String {
        let explained = self.explained;
        let dim = explained.head_dim;
        let mut what = format!("q and k have {dim} numbers each; scores are q·k {}", self.scaling());
        let (kv_head, kv_heads) = (explained.kv_head, explained.num_kv_heads);
        let group = self.group();
        if group > 1 {
            let (first, last) = (kv_head * group, kv_head * group + group - 1);
            what += &format!(
                "; keys and values are those of key head {kv_head} of {kv_heads}, which heads {first} to {last} share"
            );
        }
        what
    }

    /// Query heads that share a key head.
    fn group(&self) -> usize {
        let value_dim = self.explained.slot.len().max(1);
        self.explained.slots / value_dim / self.explained.num_kv_heads.max(1)
    }

    fn is_usual_scale(&self) -> bool {
        let usual = (self.explained.head_dim as f64).sqrt().recip();
        (self.explained.softmax_scale - usual).abs() <= 1e-6 * usual
    }

    fn scaling(&self) -> String {
        if self.is_usual_scale() {
            let dim = self.explained.head_dim;
            format!("÷ √{dim} = {:.4}", (dim as f64).sqrt())
        } else {
            format!("× {:.6}", self.explained.softmax_scale)
        }
    }

    fn table(&self, shown: &[usize]) -> Vec<String> {
        let explained = self.explained;
        let scaled =
            if self.is_usual_scale() { format!("÷√{}", explained.head_dim) } else { "scaled".to_owned() };
        let heading = ["key", "q·k", &scaled, "e^(s−max)", "prob", "adds", ""];
        let mut rows = vec![heading.map(Cell::dim).to_vec()];
        for &key in shown {
            rows.push(self.row(&explained.keys[key]));
        }
        let others = explained.keys.iter().filter(|key| !shown.contains(&key.key));
        let (seen, hidden): (Vec<_>, Vec<_>) = others.partition(|key| key.seen.is_some());
        if !seen.is_empty() {
            let sum = |part: fn(&regard_lens::evidence::SeenKey) -> f64| -> f64 {
                seen.iter().filter_map(|key| key.seen.as_ref()).map(part).sum()
            };
            let (exp, prob) = (sum(|seen| seen.exp), sum(|seen| seen.prob));
            let title = format!("{} others", seen.len());
            rows.push(self.cells(&title, [NOTHING, NOTHING, &small(exp), &small(prob), NOTHING], None));
        }
        if !hidden.is_empty() {
            let title = format!("{} later", hidden.len());
            rows.push(self.cells(&title, ["cannot see", "", "0", "0", "0"], None));
        }
        let sum = small(explained.sum_exp);
        let size = format!("{:.4}", explained.head_size);
        rows.push(
            self.cells("together", ["", "", &sum, "1.0000", &size], None)
                .into_iter()
                .map(Cell::bold)
                .collect(),
        );
        // The bar goes first where room is short, then what can be worked out from the other columns.
        columns(&rows, &[6, 5, 2, 3], self.page)
    }

    fn row(&self, key: &ExplainedKey) -> Vec<Cell> {
        let title = name(self.text, key.key);
        match key.seen {
            None => self.cells(&title, ["cannot see", "", "0", "0", "0"], None),
            Some(seen) => {
                let number = |number: f64| format!("{number:.4}");
                self.cells(
                    &title,
                    [
                        &number(seen.dot),
                        &number(seen.score),
                        &small(seen.exp),
                        &small(seen.prob),
                        &small(seen.added),
                    ],
                    Some(seen.prob as f32),
                )
            }
        }
    }

    fn cells(&self, title: &str, numbers: [&str; 5], bar: Option<f32>) -> Vec<Cell> {
        let mut cells = vec![Cell::text(title)];
        cells.extend(numbers.map(Cell::number));
        cells.push(bar.map_or_else(|| Cell::text(""), Cell::bar));
        cells
    }

    fn projection(&self) -> String {
        let explained = self.explained;
        let (slot, slots) = (&explained.slot, explained.slots);
        let heads = slots / slot.len().max(1);
        let (mine, all) = (explained.head_size, explained.layer_size);
        let share = match explained.share {
            Some(share) => format!(
                "Along that vector the head accounts for {}; all heads, and the bias where there is one, make 100 %.",
                signed_percent(share)
            ),
            None => "That is nothing at all.".to_owned(),
        };
        format!(
            "The {heads} heads write side by side: the numbers {} to {} of {slots} are this head's. Through the output \
             projection it adds a vector of length {mine:.4}; the whole layer adds one of length {all:.4}. {share}",
            slot.start,
            slot.end - 1,
        )
    }

    fn check(&self) -> String {
        let explained = self.explained;
        format!(
            "All of this in 64 bits, from the queries, keys and values that the kernel was given. The kernel differs by \
             at most {:.1e} in the probabilities, {:.1e} in the head's output and {:.1e} in ln Σ e^s.",
            explained.probs_error, explained.output_error, explained.log_sum_exp_error
        )
    }
}

/// Four places; what is less, but not nothing, says so.
fn small(number: f64) -> String {
    if number > 0.0 && number < 0.000_05 { "<0.0001".to_owned() } else { format!("{number:.4}") }
}

fn signed_percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0).replace("-0 %", "0 %")
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    header: Header<'a>,
    layer: usize,
    head: usize,
    query: usize,
    query_token: &'a str,
    head_dim: usize,
    kv_head: usize,
    softmax_scale: f64,
    max_score: f64,
    sum_exp: f64,
    keys: Vec<KeyFields<'a>>,
    slot: [usize; 2],
    slots: usize,
    head_size: f64,
    layer_size: f64,
    share: Option<f64>,
    kernel_error: KernelError,
    verify: VerifyFields,
}

#[derive(Serialize)]
struct KeyFields<'a> {
    key: usize,
    token: &'a str,
    visible: bool,
    dot: Option<f64>,
    score: Option<f64>,
    exp: f64,
    prob: f64,
    kernel_prob: f32,
    value_size: Option<f64>,
    added: f64,
}

#[derive(Serialize)]
struct KernelError {
    prob: f64,
    output: f64,
    log_sum_exp: f64,
}

impl<'a> Document<'a> {
    fn new(model: &'a Model, text: &'a TokenizedText, explained: &Explained, named: &[usize]) -> Self {
        let HeadId { layer, head } = explained.head;
        let listed = |key: &&ExplainedKey| named.is_empty() || named.contains(&key.key);
        let fields = |key: &ExplainedKey| KeyFields {
            key: key.key,
            token: &text.tokens[key.key].text,
            visible: key.seen.is_some(),
            dot: key.seen.map(|seen| seen.dot),
            score: key.seen.map(|seen| seen.score),
            exp: key.seen.map_or(0.0, |seen| seen.exp),
            prob: key.seen.map_or(0.0, |seen| seen.prob),
            kernel_prob: key.kernel_prob,
            value_size: key.seen.map(|seen| seen.value_size),
            added: key.seen.map_or(0.0, |seen| seen.added),
        };
        Self {
            header: Header::with_schema(SCHEMA, model.info(), text),
            layer,
            head,
            query: explained.query,
            query_token: &text.tokens[explained.query].text,
            head_dim: explained.head_dim,
            kv_head: explained.kv_head,
            softmax_scale: explained.softmax_scale,
            max_score: explained.max_score,
            sum_exp: explained.sum_exp,
            keys: explained.keys.iter().filter(listed).map(fields).collect(),
            slot: [explained.slot.start, explained.slot.end],
            slots: explained.slots,
            head_size: explained.head_size,
            layer_size: explained.layer_size,
            share: explained.share,
            kernel_error: KernelError {
                prob: explained.probs_error,
                output: explained.output_error,
                log_sum_exp: explained.log_sum_exp_error,
            },
            verify: Checked::Run(explained.verification).into(),
        }
    }
}

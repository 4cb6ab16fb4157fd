//! `regard compare`: one row of every head in two texts, or in two models.

use std::io::{BufWriter, Write, stdout};
use std::ops::Range;
use std::time::Instant;

use regard_lens::evidence::{
    AlignedUnit, Alignment, Compared, Comparison, HeadDifference, align, compare as compare_rows,
};
use regard_lens::view::Verification;
use regard_lens::{Model, TokenizedText};
use serde::Serialize;

use crate::arguments::CompareArguments;
use crate::closing::{Checked, NOT_WHY, VerifyFields, closing};
use crate::columns::{Cell, columns};
use crate::failure::Failure;
use crate::focus::{Focus, find_focus, focus_or_default};
use crate::input::read_text;
use crate::json::{Header, ModelFields, TokenFields, write_line};
use crate::label::name;
use crate::model;
use crate::report::percent;
use crate::terminal::{Page, lay_out, marked_text};
use crate::visible::{visible, wrap};

/// Changes when a field changes its meaning or goes away; new fields may come without a change.
const SCHEMA: &str = "regard-compare/1";
/// Words without a counterpart that are named one by one.
const MOST_NAMED: usize = 12;

pub(crate) fn compare(arguments: &CompareArguments, started: Instant) -> Result<(), Failure> {
    if arguments.text_b.is_none() && arguments.model_b.is_none() {
        return Err(Failure::usage("nothing to compare with: add --text-b \"…\" or --model-b DIR"));
    }
    let text = read_text(&arguments.source)?;
    let model = model::load(arguments.shared.model.as_deref())?;
    let other_model = arguments.model_b.as_deref().map(|name| model::load(Some(name))).transpose()?;
    let models = [&model, other_model.as_ref().unwrap_or(&model)];
    let text_b = arguments.text_b.as_deref().unwrap_or(&text);
    let texts = [models[0].tokenize(&text)?, models[1].tokenize(text_b)?];
    check_models(models, [&text, text_b], &texts)?;
    let causal = models.map(|model| model.info().causal);
    let alignment = align(&texts[0], &texts[1]);
    let focus_a = focus_or_default(&texts[0], arguments.at.as_deref(), causal[0])?;
    let focus_b = match &arguments.at_b {
        Some(at) => find_focus(&texts[1], at, causal[1])?,
        None => counterpart(&texts, &alignment, &focus_a, causal[1])?,
    };
    let side = |i: usize, focus: &Focus| Compared { model: models[i], tokens: &texts[i], query: focus.token };
    let found = compare_rows([side(0, &focus_a), side(1, &focus_b)], &alignment)?;
    let focus = [focus_a, focus_b];
    let mut order: Vec<&HeadDifference> = found.heads.iter().collect();
    order.sort_by(|a, b| b.total_variation.total_cmp(&a.total_variation).then(a.id.cmp(&b.id)));
    let pair = Pair { models, texts: &texts, focus: &focus, alignment: &alignment, order };

    let mut output = BufWriter::new(stdout().lock());
    if arguments.shared.json {
        write_line(&mut output, &pair.document(&found))?;
    } else {
        let page = Page::of_stdout(arguments.shared.color, 80);
        let mut blocks = pair.blocks(arguments.top, page);
        let tokens = texts.iter().map(|text| text.tokens.len()).max().unwrap_or(0);
        blocks.push(closing(page, models[0].info(), tokens, Checked::Run(worse(&found)), started, NOT_WHY));
        output.write_all(lay_out(&blocks).as_bytes())?;
    }
    Ok(output.flush()?)
}

/// Whether the models can be compared: the same tokens of the same text, as many layers and heads.
fn check_models(models: [&Model; 2], raw: [&str; 2], texts: &[TokenizedText; 2]) -> Result<(), Failure> {
    let [a, b] = models.map(Model::info);
    if [a.layers, a.heads] != [b.layers, b.heads] {
        return Err(Failure::usage(format!(
            "--model-b has {} layers of {} heads, --model {} of {}: compare models of one size",
            b.layers, b.heads, a.layers, a.heads
        )));
    }
    let ids = |text: &TokenizedText| text.tokens.iter().map(|token| token.id).collect::<Vec<_>>();
    let is_same = |text: &str, found: &TokenizedText| -> Result<bool, Failure> {
        Ok(ids(&models[1].tokenize(text)?) == ids(found))
    };
    if !std::ptr::eq(models[0], models[1]) && !is_same(raw[0], &texts[0])? {
        return Err(Failure::usage(
            "the two models split the text into other tokens: compare models with the same tokenizer",
        ));
    }
    Ok(())
}

/// The word of the second text that stands where the focus does.
fn counterpart(
    texts: &[TokenizedText; 2],
    alignment: &Alignment,
    focus: &Focus,
    causal: bool,
) -> Result<Focus, Failure> {
    let unit = alignment.unit_of(focus.token).ok_or_else(|| {
        let word = name(&texts[0], focus.token);
        Failure::usage(format!(
            "nothing in --text-b stands where {word} does: say what to compare it with, with --at-b"
        ))
    })?;
    let Range { start, end } = unit.b;
    let token = if causal { end - 1 } else { start };
    Ok(Focus { token, pieces: (end - start > 1).then_some((start, end - 1)) })
}

/// The run that was further from the reference.
fn worse(found: &Comparison) -> Verification {
    let [a, b] = found.verifications;
    let rows = a.rows + b.rows;
    // Not `max`, which would drop a NaN.
    let larger = if a.max_abs_error > b.max_abs_error || a.max_abs_error.is_nan() { a } else { b };
    Verification { rows, ..larger }
}

struct Pair<'a> {
    models: [&'a Model; 2],
    texts: &'a [TokenizedText; 2],
    focus: &'a [Focus; 2],
    alignment: &'a Alignment,
    /// What moved most comes first.
    order: Vec<&'a HeadDifference>,
}

impl<'a> Pair<'a> {
    fn is_one_model(&self) -> bool {
        std::ptr::eq(self.models[0], self.models[1])
    }

    fn blocks(&self, top: usize, page: Page) -> Vec<Vec<String>> {
        let mut sentences: Vec<String> = Vec::new();
        let sides = if self.is_one_model() || self.texts[0] != self.texts[1] { 2 } else { 1 };
        for side in 0..sides {
            sentences.push(page.palette.dim(["A", "B"][side]));
            sentences.extend(marked_text(&self.texts[side], &self.focus[side], None, page));
        }
        let mut blocks = vec![sentences];
        if !self.is_one_model() {
            let [a, b] = self.models.map(|model| visible(&model.info().name));
            blocks.push(wrap(&format!("A is read by {a}, B by {b}."), page.columns));
        }
        if self.texts[0] != self.texts[1] {
            blocks.push(wrap(&self.alignment_words(), page.columns));
        }
        let mut table = self.table(top, page);
        let legend = "moved: the share of the row that goes elsewhere (total variation); JS: Jensen–Shannon divergence, \
                      in bits; the top key of the text on each side, with its share";
        table.extend(wrap(legend, page.columns).iter().map(|line| page.palette.dim(line)));
        blocks.push(table);
        blocks.push(wrap(&self.summary(), page.columns));
        blocks
    }

    /// What stands in each other's place, and what has no counterpart.
    fn alignment_words(&self) -> String {
        let word = |side: usize, range: &Range<usize>| {
            let tokens = &self.texts[side].tokens;
            let stretch = self.texts[side].text.get(tokens[range.start].start..tokens[range.end - 1].end);
            let stretch = stretch.map(str::trim).filter(|stretch| !stretch.is_empty());
            visible(stretch.unwrap_or(&tokens[range.start].text))
        };
        let list = |words: Vec<String>| match words.len() {
            count if count > MOST_NAMED => {
                format!("{} and {} more", words[..MOST_NAMED].join(", "), count - MOST_NAMED)
            }
            _ => words.join(", "),
        };
        let mut said = Vec::new();
        let changed: Vec<String> = self
            .alignment
            .units
            .iter()
            .filter(|unit| !unit.same)
            .map(|AlignedUnit { a, b, .. }| format!("{} for {}", word(1, b), word(0, a)))
            .collect();
        if !changed.is_empty() {
            said.push(format!("B has {}", list(changed)));
        }
        for (side, only) in [&self.alignment.only_a, &self.alignment.only_b].into_iter().enumerate() {
            if !only.is_empty() {
                let words = only.iter().map(|range| word(side, range)).collect();
                said.push(format!(
                    "only {} has {}, which nothing is aligned with",
                    ["A", "B"][side],
                    list(words)
                ));
            }
        }
        if said.is_empty() { "Both have the same words.".to_owned() } else { format!("{}.", said.join("; ")) }
    }

    fn table(&self, top: usize, page: Page) -> Vec<String> {
        let mut rows = vec![["head", "moved", "JS", "A", "", "B", "", ""].map(Cell::dim).to_vec()];
        for head in self.order.iter().take(top) {
            let mut row = vec![
                Cell::text(&head.id.to_string()),
                Cell::number(&percent(head.total_variation as f32)),
                Cell::number(&format!("{:.3}", head.jensen_shannon)),
            ];
            for side in 0..2 {
                match self.top_key(head, side) {
                    Some((key, prob)) => {
                        row.push(Cell::text(&name(&self.texts[side], key)));
                        row.push(Cell::number(&percent(prob)));
                    }
                    None => row.extend([Cell::text("–"), Cell::number("")]),
                }
            }
            row.push(Cell::bar(head.total_variation as f32));
            rows.push(row);
        }
        columns(&rows, &[7, 2, 4, 6], page)
    }

    /// The strongest key that is not one of those that stand aside.
    fn top_key(&self, head: &HeadDifference, side: usize) -> Option<(usize, f32)> {
        let (text, causal) = (&self.texts[side], self.models[side].info().causal);
        let is_aside = |key: usize| text.tokens[key].special || causal && key == 0;
        let keys = head.probs[side].iter().copied().enumerate().filter(|(key, _)| !is_aside(*key));
        keys.filter(|(_, prob)| *prob > 0.0).max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
    }

    fn summary(&self) -> String {
        let heads = self.order.len();
        let query = name(&self.texts[0], self.focus[0].token);
        let (first, median) = (self.order[0], self.order[heads / 2].total_variation);
        if first.total_variation < 1e-4 {
            let why = if self.models[0].info().causal && self.is_one_model() {
                ": it sees only what stands before it, and the texts agree up to there"
            } else {
                ""
            };
            return format!("No head moves its attention from {query}{why}.");
        }
        format!(
            "Seen from {query}, half of the {heads} heads move less than {}; {} moves most, {}.",
            percent(median as f32),
            first.id,
            percent(first.total_variation as f32)
        )
    }

    fn document(&self, found: &'a Comparison) -> Document<'a> {
        let side = |i: usize| SideFields {
            model: self.models[i].info().into(),
            tokens: TokenFields::of(&self.texts[i]),
            query: self.focus[i].token,
        };
        let heads = self.order.iter().map(|head| HeadFields {
            layer: head.id.layer,
            head: head.id.head,
            total_variation: head.total_variation,
            jensen_shannon: head.jensen_shannon,
            probs: [&head.probs[0], &head.probs[1]],
        });
        let pair = |range: &Range<usize>| [range.start, range.end];
        let units = self.alignment.units.iter().map(|unit| UnitFields {
            a: pair(&unit.a),
            b: pair(&unit.b),
            same: unit.same,
        });
        Document {
            schema: SCHEMA,
            regard_version: Header::VERSION,
            a: side(0),
            b: side(1),
            aligned: units.collect(),
            only_a: self.alignment.only_a.iter().map(pair).collect(),
            only_b: self.alignment.only_b.iter().map(pair).collect(),
            heads: heads.collect(),
            verify: Checked::Run(worse(found)).into(),
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    regard_version: &'static str,
    a: SideFields<'a>,
    b: SideFields<'a>,
    aligned: Vec<UnitFields>,
    only_a: Vec<[usize; 2]>,
    only_b: Vec<[usize; 2]>,
    heads: Vec<HeadFields<'a>>,
    verify: VerifyFields,
}

#[derive(Serialize)]
struct SideFields<'a> {
    model: ModelFields<'a>,
    tokens: Vec<TokenFields<'a>>,
    query: usize,
}

#[derive(Serialize)]
struct UnitFields {
    a: [usize; 2],
    b: [usize; 2],
    same: bool,
}

#[derive(Serialize)]
struct HeadFields<'a> {
    layer: usize,
    head: usize,
    total_variation: f64,
    jensen_shannon: f64,
    probs: [&'a [f32]; 2],
}

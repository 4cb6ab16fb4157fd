//! `regard ablate`: what a model loses without some of its heads.

use std::io::{BufWriter, Write, stdout};
use std::time::Instant;

use regard_lens::evidence::{
    Ablation, AblationRequest, Effect, MeasuredBy, Replacement, ablate as run_without, random_controls,
};
use regard_lens::view::HeadId;
use regard_lens::{Model, TokenizedText};
use serde::Serialize;

use crate::arguments::{AblateArguments, HeadList, With};
use crate::closing::{Checked, NOT_WHY_BUT_LOST, VerifyFields, closing};
use crate::columns::{Cell, columns};
use crate::failure::Failure;
use crate::input::read_text;
use crate::json::{Header, write_line};
use crate::label::name;
use crate::model;
use crate::process::Progress;
use crate::terminal::{Page, lay_out};
use crate::view::check_head;
use crate::visible::wrap;

/// Changes when a field changes its meaning or goes away; new fields may come without a change.
const SCHEMA: &str = "regard-ablate/1";

pub(crate) fn ablate(arguments: &AblateArguments, started: Instant) -> Result<(), Failure> {
    match (arguments.with, &arguments.pattern_from) {
        (With::Frozen, None) => {
            return Err(Failure::usage(
                "--with frozen: say where the attention comes from, with --pattern-from and a text of as many tokens",
            ));
        }
        (With::Zero | With::Mean, Some(_)) => {
            return Err(Failure::usage("--pattern-from is for --with frozen: add that"));
        }
        _ => {}
    }
    let text = read_text(&arguments.source)?;
    let model = model::load(arguments.shared.model.as_deref())?;
    arguments.heads.0.iter().try_for_each(|&head| check_head(Some(head), model.info()))?;
    let text = model.tokenize(&text)?;
    let pattern_text = arguments.pattern_from.as_deref().map(|text| model.tokenize(text)).transpose()?;
    let request = AblationRequest {
        with: match (arguments.with, &pattern_text) {
            (With::Frozen, Some(text)) => Replacement::PatternOf(text),
            (With::Mean, _) => Replacement::Mean,
            _ => Replacement::Zero,
        },
        keep_patterns: arguments.keep_patterns,
        max_masked: arguments.positions,
    };
    let mut sets = vec![arguments.heads.0.clone()];
    let count = usize::from(arguments.random);
    sets.extend(random_controls(&arguments.heads.0, model.info().heads, count, arguments.seed));
    let mut progress = Progress::new(started, "run", 0);
    let found = run_without(&model, &text, &sets, &request, &mut |done, all| {
        progress.all = all;
        progress.done(done - 1);
    })?;
    drop(progress);

    let mut output = BufWriter::new(stdout().lock());
    if arguments.shared.json {
        write_line(&mut output, &Document::new(&model, &text, arguments, &found))?;
    } else {
        let page = Page::of_stdout(arguments.shared.color, 80);
        let mut blocks = Findings { arguments, text: &text, found: &found, page }.blocks();
        let checked = Checked::Run(found.verification);
        blocks.push(closing(page, model.info(), text.tokens.len(), checked, started, NOT_WHY_BUT_LOST));
        output.write_all(lay_out(&blocks).as_bytes())?;
    }
    Ok(output.flush()?)
}

struct Findings<'a> {
    arguments: &'a AblateArguments,
    text: &'a TokenizedText,
    found: &'a Ablation,
    page: Page,
}

impl Findings<'_> {
    fn blocks(&self) -> Vec<Vec<String>> {
        let columns = self.page.columns;
        let mut blocks = vec![wrap(&self.title(), columns)];
        let mut table = self.table();
        table.extend(wrap(&self.legend(), columns).iter().map(|line| self.page.palette.dim(line)));
        blocks.push(table);
        blocks.push(wrap(&self.verdict(), columns));
        blocks.push(self.largest_changes());
        blocks
    }

    /// The heads asked for; they are always the first set.
    fn effect(&self) -> &Effect {
        &self.found.effects[0]
    }

    fn title(&self) -> String {
        let what = match self.arguments.with {
            With::Zero => "output set to 0 before the output projection reads it".to_owned(),
            With::Mean => "output replaced by its mean over the text".to_owned(),
            With::Frozen => {
                let text = self.arguments.pattern_from.as_deref().unwrap_or_default();
                let text: Vec<&str> = text.split_whitespace().collect();
                format!(
                    "attending as on “{}”, reading this text's values",
                    crate::visible::visible(&text.join(" "))
                )
            }
        };
        let kept =
            if self.arguments.keep_patterns { "; all other heads attend as in the whole model" } else { "" };
        format!("{}: {what}{kept}.", self.arguments.heads)
    }

    fn has_loss(&self) -> bool {
        self.found.measured != MeasuredBy::HiddenStates
    }

    fn table(&self) -> Vec<String> {
        let heading: &[&str] =
            if self.has_loss() { &["", "loss", "change", ""] } else { &["", "1 − cosine", ""] };
        let mut rows = vec![heading.iter().map(|text| Cell::dim(text)).collect::<Vec<_>>()];
        if let Some(loss) = self.found.loss() {
            rows.push(vec![Cell::text("whole model"), Cell::number(&format!("{loss:.4}")), Cell::number("")]);
        }
        let largest =
            self.found.effects.iter().map(|effect| self.found.size(effect).abs()).fold(0.0, f64::max);
        let mut of_effect = |effect: &Effect, is_wanted: bool| {
            let size = self.found.size(effect);
            let mut row = vec![Cell::text(&format!("without {}", HeadList(effect.heads.clone())))];
            if let Some(loss) = self.found.loss_without(effect) {
                row.extend([Cell::number(&format!("{loss:.4}")), Cell::number(&signed(size))]);
            } else {
                row.push(Cell::number(&format!("{size:.6}")));
            }
            let share = if largest > 0.0 { size.abs() / largest } else { 0.0 };
            row.push(Cell::bar(share as f32));
            rows.push(if is_wanted { row.into_iter().map(Cell::bold).collect() } else { row });
        };
        of_effect(self.effect(), true);
        let mut controls: Vec<&Effect> = self.found.effects[1..].iter().collect();
        controls.sort_by(|a, b| self.found.size(b).abs().total_cmp(&self.found.size(a).abs()));
        controls.into_iter().for_each(|effect| of_effect(effect, false));
        columns(&rows, &[heading.len() - 1, 1], self.page)
    }

    fn legend(&self) -> String {
        let count = self.found.positions.len();
        match self.found.measured {
            MeasuredBy::NextTokens => {
                format!(
                    "loss: mean −ln probability of each next token, in nats, over {count} tokens; bars by its change"
                )
            }
            MeasuredBy::MaskedTokens { of } => {
                let part = if count < of {
                    format!("{count} of the {of} tokens, evenly spread (--positions takes more)")
                } else {
                    format!("all {of} tokens")
                };
                format!(
                    "loss: mean −ln probability of each token when it alone is masked (pseudo-log-likelihood), in nats, \
                     over {part}; bars by its change"
                )
            }
            MeasuredBy::HiddenStates => format!(
                "This model has no head that predicts words, so there is no loss. Measured is how far the last hidden \
                 states turn: 1 − cosine with the whole model's, mean over {count} tokens. A turn is not a loss: whether \
                 anything reads it, these files do not say."
            ),
        }
    }

    /// The head beside the random ones.
    fn verdict(&self) -> String {
        let heads = &self.arguments.heads;
        let size = self.found.size(self.effect());
        let said = if self.has_loss() {
            let direction = if size >= 0.0 { "rises" } else { "falls" };
            format!("Without {heads} the loss {direction} by {:.4} nats", size.abs())
        } else {
            format!("Without {heads} the hidden states turn by {size:.6}")
        };
        let controls = &self.found.effects[1..];
        let (layers, seed) =
            (if heads.0.len() == 1 { "its layer" } else { "the same layers" }, self.arguments.seed);
        if controls.is_empty() {
            return match self.arguments.random {
                0 => format!("{said}; nothing was ablated beside it (--random 0)."),
                _ => format!("{said}; {layers} has no other heads to compare with."),
            };
        }
        let as_much = controls.iter().filter(|effect| self.found.size(effect).abs() >= size.abs()).count();
        let (count, mean) = (controls.len(), mean_size(self.found, controls));
        let as_much = match as_much {
            0 => "none does".to_owned(),
            1 => "1 does".to_owned(),
            several => format!("{several} do"),
        };
        let what = if heads.0.len() == 1 { "random other heads" } else { "random sets of other heads" };
        let others = if self.has_loss() { signed(mean) } else { format!("{mean:.6}") };
        format!(
            "{said}. Of {count} {what} of {layers} (seed {seed}), {as_much} as much or more; their mean is {others}."
        )
    }

    fn largest_changes(&self) -> Vec<String> {
        let (plain, without) = (&self.found.plain, &self.effect().values);
        let shown = |value: f64| if self.has_loss() { value.exp() } else { value };
        let mut order: Vec<usize> = (0..plain.len()).collect();
        let change = |i: &usize| (shown(without[*i]) - shown(plain[*i])).abs();
        order.sort_by(|a, b| change(b).total_cmp(&change(a)).then(a.cmp(b)));
        order.truncate(self.arguments.top);
        let title = if self.has_loss() { "probability of" } else { "hidden state of" };
        let heading: &[&str] =
            if self.has_loss() { &[title, "whole", "without", "change"] } else { &[title, "cosine"] };
        let mut rows = vec![heading.iter().map(|text| Cell::dim(text)).collect::<Vec<_>>()];
        for i in order {
            let mut row = vec![Cell::text(&name(self.text, self.found.positions[i]))];
            let (before, after) = (shown(plain[i]), shown(without[i]));
            if self.has_loss() {
                row.push(Cell::number(&share(before)));
                row.push(Cell::number(&share(after)));
                row.push(Cell::number(&format!("{:+.2} points", (after - before) * 100.0)));
            } else {
                row.push(Cell::number(&format!("{after:.6}")));
            }
            rows.push(row);
        }
        columns(&rows, &[], self.page)
    }
}

fn mean_size(found: &Ablation, effects: &[Effect]) -> f64 {
    effects.iter().map(|effect| found.size(effect)).sum::<f64>() / effects.len().max(1) as f64
}

fn signed(number: f64) -> String {
    let shown = format!("{number:+.4}");
    if shown == "-0.0000" { "+0.0000".to_owned() } else { shown }
}

fn share(prob: f64) -> String {
    if prob > 0.0 && prob < 0.000_05 { "<0.01 %".to_owned() } else { format!("{:.2} %", prob * 100.0) }
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    header: Header<'a>,
    with: &'static str,
    pattern_from: Option<&'a str>,
    keep_patterns: bool,
    seed: u64,
    measured: &'static str,
    positions: &'a [usize],
    whole: Whole<'a>,
    ablated: EffectFields<'a>,
    random: Vec<EffectFields<'a>>,
    verify: VerifyFields,
}

#[derive(Serialize)]
struct Whole<'a> {
    loss: Option<f64>,
    values: &'a [f64],
}

#[derive(Serialize)]
struct EffectFields<'a> {
    heads: Vec<String>,
    loss: Option<f64>,
    change: f64,
    values: &'a [f64],
}

impl<'a> Document<'a> {
    fn new(
        model: &'a Model,
        text: &'a TokenizedText,
        arguments: &'a AblateArguments,
        found: &'a Ablation,
    ) -> Self {
        let effect = |effect: &'a Effect| EffectFields {
            heads: effect.heads.iter().map(HeadId::to_string).collect(),
            loss: found.loss_without(effect),
            change: found.size(effect),
            values: &effect.values,
        };
        Self {
            header: Header::with_schema(SCHEMA, model.info(), text),
            with: match arguments.with {
                With::Zero => "zero",
                With::Mean => "mean",
                With::Frozen => "frozen",
            },
            pattern_from: arguments.pattern_from.as_deref(),
            keep_patterns: arguments.keep_patterns,
            seed: arguments.seed,
            measured: match found.measured {
                MeasuredBy::NextTokens => "next_tokens",
                MeasuredBy::MaskedTokens { .. } => "masked_tokens",
                MeasuredBy::HiddenStates => "hidden_states",
            },
            positions: &found.positions,
            whole: Whole { loss: found.loss(), values: &found.plain },
            ablated: effect(&found.effects[0]),
            random: found.effects[1..].iter().map(effect).collect(),
            verify: Checked::Run(found.verification).into(),
        }
    }
}

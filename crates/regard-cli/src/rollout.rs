//! `regard rollout`: attention through all layers, from one token.

use std::io::{BufWriter, Write, stdout};
use std::time::Instant;

use regard_lens::TokenizedText;
use regard_lens::evidence::{Rollout, rollout as roll_out};
use serde::Serialize;

use crate::arguments::RolloutArguments;
use crate::closing::{Checked, NOT_WHY, VerifyFields, closing};
use crate::columns::{Cell, columns};
use crate::failure::Failure;
use crate::focus::focus_or_default;
use crate::input::read_text;
use crate::json::{Header, write_line};
use crate::label::name;
use crate::model;
use crate::terminal::{Page, lay_out, marked_text};
use crate::visible::wrap;

/// Changes when a field changes its meaning or goes away; new fields may come without a change.
const SCHEMA: &str = "regard-rollout/1";

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    header: Header<'a>,
    query: usize,
    query_token: &'a str,
    rollout: &'a [f64],
    last_layer: &'a [f64],
    verify: VerifyFields,
}

pub(crate) fn rollout(arguments: &RolloutArguments, started: Instant) -> Result<(), Failure> {
    let text = read_text(&arguments.source)?;
    let model = model::load(arguments.shared.model.as_deref())?;
    let text = model.tokenize(&text)?;
    let focus = focus_or_default(&text, arguments.at.as_deref(), model.info().causal)?;
    let found = roll_out(&model, &text, focus.token)?;
    let checked = Checked::Run(found.verification);
    let mut output = BufWriter::new(stdout().lock());
    if arguments.shared.json {
        let document = Document {
            header: Header::with_schema(SCHEMA, model.info(), &text),
            query: focus.token,
            query_token: &text.tokens[focus.token].text,
            rollout: &found.mass,
            last_layer: &found.last_layer,
            verify: checked.into(),
        };
        write_line(&mut output, &document)?;
    } else {
        let page = Page::of_stdout(arguments.shared.color, 80);
        let layers = model.info().layers;
        let title = format!("Rollout of {} through {layers} layers", name(&text, focus.token));
        let formula = "Each layer counts as ½·A + ½·I: its attention with the heads averaged, and what goes past it; the \
                       row of this token in their product (Abnar and Zuidema 2020). It leaves out values, output \
                       projections, norms and feed-forward networks, what heads do apart, and that the two halves are \
                       rarely equal.";
        let decoder = if model.info().causal {
            " In a decoder most of it ends at the first token, whatever the text: heads rest there, and nothing comes back \
             from there."
        } else {
            ""
        };
        let dim = |line: &String| page.palette.dim(line);
        let blocks = [
            marked_text(&text, &focus, None, page),
            [
                wrap(&title, page.columns),
                table(&found, &text, arguments.top, page),
                wrap(&format!("{formula}{decoder}"), page.columns).iter().map(dim).collect(),
            ]
            .concat(),
            closing(page, model.info(), text.tokens.len(), checked, started, NOT_WHY),
        ];
        output.write_all(lay_out(&blocks).as_bytes())?;
    }
    Ok(output.flush()?)
}

fn table(found: &Rollout, text: &TokenizedText, top: usize, page: Page) -> Vec<String> {
    let mut order: Vec<usize> = (0..found.mass.len()).collect();
    order.sort_by(|&a, &b| found.mass[b].total_cmp(&found.mass[a]).then(a.cmp(&b)));
    let rest = order.split_off(top.min(order.len()));
    let shown = |share: f64| match share * 100.0 {
        little if little > 0.0 && little < 0.05 => "<0.1 %".to_owned(),
        percent => format!("{percent:.1} %"),
    };
    let mut rows = vec![["token", "rollout", "last layer", ""].map(Cell::dim).to_vec()];
    for token in order {
        rows.push(vec![
            Cell::text(&name(text, token)),
            Cell::number(&shown(found.mass[token])),
            Cell::number(&shown(found.last_layer[token])),
            Cell::bar(found.mass[token] as f32),
        ]);
    }
    if !rest.is_empty() {
        let sum = |shares: &[f64]| rest.iter().map(|&token| shares[token]).sum();
        rows.push(vec![
            Cell::text(&format!("{} others", rest.len())),
            Cell::number(&shown(sum(&found.mass))),
            Cell::number(&shown(sum(&found.last_layer))),
        ]);
    }
    columns(&rows, &[3], page)
}

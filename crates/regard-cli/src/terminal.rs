//! The view for a terminal.

use crate::palette::Palette;
use crate::picture::picture;
use crate::process::Costs;
use crate::report::{Report, percent};
use crate::sentence::{Marks, sentence};
use crate::table::table;
use crate::visible::{visible, width, wrap};

/// How wide the page is at most: longer lines are hard to read.
const WIDEST: usize = 120;
/// Narrower terminals get lines that they have to break.
const NARROWEST: usize = 40;
/// Blank columns on the left.
const MARGIN: usize = 2;

/// What the output has to fit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    /// Columns of text, the margin not counted.
    pub(crate) columns: usize,
    /// Lines that the picture may take.
    pub(crate) picture_lines: usize,
    pub(crate) palette: Palette,
}

impl Page {
    /// A page for a terminal of so many columns and, if known, lines.
    pub(crate) fn new(columns: usize, lines: Option<usize>, palette: Palette) -> Self {
        // What stands around the picture takes some 20 lines.
        let picture_lines = lines.map_or(20, |lines| lines.saturating_sub(20).clamp(8, 24));
        Self { columns: columns.clamp(NARROWEST, WIDEST) - MARGIN, picture_lines, palette }
    }
}

/// The whole view.
pub(crate) fn render(report: &Report<'_>, page: Page, cost: Costs) -> String {
    let Page { columns, palette, .. } = page;
    let mut blocks = vec![marked_sentence(report, page), table(report, columns, palette)];
    if let (Some(map), Some(pictured)) = (&report.viewed.map, report.pictured()) {
        let head = pictured.head.id.to_string();
        let mut block: Vec<String> = wrap(&format!("{head}: {}", report.says(pictured)), columns);
        if let Some(rest) = block[0].strip_prefix(&head) {
            block[0] = palette.bold(&head) + rest;
        }
        let rest = report.rest_of_row(pictured);
        block.extend(wrap(&rest, columns).iter().map(|line| palette.dim(line)));
        blocks.push(block);
        let keys: Vec<usize> = [pictured.link.key, report.focus.token]
            .into_iter()
            .chain(pictured.row.top.iter().map(|l| l.key))
            .collect();
        blocks.push(picture(map, report.text, report.focus.token, &keys, columns, palette));
    }
    let mut last = wrap(&report.on_special_tokens(), columns);
    last.extend(join_parts(&costs(report, cost), columns).iter().map(|line| palette.dim(line)));
    blocks.push(last);

    let mut page = String::from("\n");
    for block in blocks {
        for line in block {
            if !line.is_empty() {
                page += &" ".repeat(MARGIN);
                page += &line;
            }
            page.push('\n');
        }
        page.push('\n');
    }
    page.pop();
    page
}

fn marked_sentence(report: &Report<'_>, page: Page) -> Vec<String> {
    let text = report.text;
    let span = |token: usize| text.tokens[token].start..text.tokens[token].end;
    let pictured = report.pictured().filter(|pictured| !text.tokens[pictured.link.key].special);
    let marks = Marks {
        focus: span(report.focus.token),
        arrow: pictured.map(|pictured| {
            let label = format!("{} in {}", percent(pictured.link.prob), pictured.head.id);
            (span(pictured.link.key), label)
        }),
    };
    let starts: Vec<usize> =
        text.tokens.iter().filter(|token| !token.special).map(|token| token.start).collect();
    let mut lines = sentence(&text.text, &starts, &marks, page.columns, page.palette);
    for note in [report.focus_note(), report.unknown_note()].into_iter().flatten() {
        lines.extend(wrap(&note, page.columns).iter().map(|line| page.palette.dim(line)));
    }
    lines
}

/// What was run, how exact it was and what it cost.
fn costs(report: &Report<'_>, costs: Costs) -> Vec<String> {
    let (model, verification) = (report.model, report.viewed.verification);
    let mut parts = vec![
        format!("{} tokens", report.text.tokens.len()),
        format!("{} layers × {} heads", model.layers, model.heads),
        format!("within {:.1e} of f64 on {} sampled rows", verification.max_abs_error, verification.rows),
        format!("{:.2} s", costs.seconds),
    ];
    parts.extend(costs.peak_megabytes().map(|megabytes| format!("{megabytes} MB")));
    parts.push(visible(&model.name));
    parts
}

/// Parts on as few lines as they need; a part longer than a line is broken.
fn join_parts(parts: &[String], columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if width(line) + 3 + width(part) <= columns => {
                *line += " · ";
                *line += part;
            }
            _ => lines.extend(wrap(part, columns)),
        }
    }
    lines
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn join_parts__any_width__keeps_every_part_and_fits() {
        let parts = ["12 tokens", "6 layers", "within 1e-7 of f64"].map(str::to_owned);
        assert_eq!(join_parts(&parts, 80), ["12 tokens · 6 layers · within 1e-7 of f64"]);
        assert_eq!(join_parts(&parts, 24), ["12 tokens · 6 layers", "within 1e-7 of f64"]);
        assert_eq!(join_parts(&parts, 12), ["12 tokens", "6 layers", "within 1e-7", "of f64"]);
    }
}

//! The view for a terminal.

use std::io::{IsTerminal, stdout};

use regard_lens::TokenizedText;

use crate::arguments::ColorChoice;
use crate::closing::cost_parts;
use crate::focus::Focus;
use crate::palette::{Palette, Scale};
use crate::picture::picture;
use crate::process::Costs;
use crate::report::{Report, focus_note, percent};
use crate::sentence::{Marks, sentence};
use crate::table::table;
use crate::visible::{width, wrap};

/// How wide the page is at most: longer lines are hard to read.
pub(crate) const WIDEST: usize = 120;
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

    /// A page for what reads stdout; where that is no terminal and COLUMNS is not set, of `piped` columns.
    pub(crate) fn of_stdout(color: ColorChoice, piped: usize) -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let palette = Palette::choose(color, stdout().is_terminal(), variable);
        let size = terminal_size::terminal_size_of(stdout());
        let columns =
            variable("COLUMNS").and_then(|columns| columns.parse().ok()).filter(|&columns| columns > 0);
        let columns = columns.or_else(|| size.map(|(columns, _)| usize::from(columns.0))).unwrap_or(piped);
        Self::new(columns, size.map(|(_, lines)| usize::from(lines.0)), palette)
    }
}

/// The whole view.
pub(crate) fn render(report: &Report<'_>, page: Page, scale: Scale, cost: Costs) -> String {
    let Page { columns, palette, .. } = page;
    let mut blocks = vec![marked_sentence(report, page)];
    blocks.extend(report.ablated().map(|ablated| wrap(&ablated, columns)));
    blocks.push(table(report, columns, palette));
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
        blocks.push(picture(map, report.text, report.focus.token, &keys, columns, (palette, scale)));
    }
    let mut last = wrap(&report.on_special_tokens(), columns);
    let parts = cost_parts(report.model, report.text.tokens.len(), report.checked, cost);
    last.extend(join_parts(&parts, columns).iter().map(|line| palette.dim(line)));
    blocks.push(last);
    lay_out(&blocks)
}

/// Blocks of lines with a blank line before each, and a margin.
pub(crate) fn lay_out(blocks: &[Vec<String>]) -> String {
    let mut page = String::from("\n");
    for block in blocks {
        for line in block {
            if !line.is_empty() {
                page += &" ".repeat(MARGIN);
                page += line;
            }
            page.push('\n');
        }
        page.push('\n');
    }
    page.pop();
    page
}

fn marked_sentence(report: &Report<'_>, page: Page) -> Vec<String> {
    let pictured = report.pictured().filter(|pictured| !report.text.tokens[pictured.link.key].special);
    let arrow = pictured.map(|pictured| {
        (pictured.link.key, format!("{} in {}", percent(pictured.link.prob), pictured.head.id))
    });
    let mut lines = marked_text(report.text, &report.focus, arrow, page);
    if let Some(note) = report.unknown_note() {
        lines.extend(wrap(&note, page.columns).iter().map(|line| page.palette.dim(line)));
    }
    lines
}

/// The text with the word that looks marked, and an arrow with its label to where it looks.
pub(crate) fn marked_text(
    text: &TokenizedText,
    focus: &Focus,
    arrow: Option<(usize, String)>,
    page: Page,
) -> Vec<String> {
    let span = |token: usize| text.tokens[token].start..text.tokens[token].end;
    let marks = Marks { focus: span(focus.token), arrow: arrow.map(|(key, label)| (span(key), label)) };
    let starts: Vec<usize> =
        text.tokens.iter().filter(|token| !token.special).map(|token| token.start).collect();
    let mut lines = sentence(&text.text, &starts, &marks, page.columns, page.palette);
    if let Some(note) = focus_note(text, focus) {
        lines.extend(wrap(&note, page.columns).iter().map(|line| page.palette.dim(line)));
    }
    lines
}

/// Parts on as few lines as they need; a part longer than a line is broken.
pub(crate) fn join_parts(parts: &[String], columns: usize) -> Vec<String> {
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

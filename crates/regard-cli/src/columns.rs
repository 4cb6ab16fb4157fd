//! Tables whose columns are as wide as what they hold, and fewer where the page is narrow.

use crate::palette::Palette;
use crate::table::share_bar;
use crate::terminal::Page;
use crate::visible::{left, right, width};

/// Columns between two cells.
const GAP: usize = 2;
/// Texts are cut to this before another column is left out.
const LEAST_TEXT: usize = 8;
const LONGEST_TEXT: usize = 24;
const LONGEST_BAR: usize = 24;
const SHORTEST_BAR: usize = 4;

/// One cell.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    content: Content,
    style: Style,
}

#[derive(Debug, Clone)]
enum Content {
    /// On the left of its column.
    Text(String),
    /// On the right.
    Number(String),
    /// A bar for a share of 1, as long as there is room.
    Bar(f32),
}

#[derive(Debug, Clone, Copy)]
enum Style {
    Usual,
    Dim,
    Bold,
}

impl Cell {
    pub(crate) fn text(text: &str) -> Self {
        Self { content: Content::Text(text.to_owned()), style: Style::Usual }
    }

    pub(crate) fn number(text: &str) -> Self {
        Self { content: Content::Number(text.to_owned()), style: Style::Usual }
    }

    pub(crate) fn bar(share: f32) -> Self {
        Self { content: Content::Bar(share), style: Style::Usual }
    }

    /// A heading.
    pub(crate) fn dim(text: &str) -> Self {
        Self { content: Content::Text(text.to_owned()), style: Style::Dim }
    }

    pub(crate) fn bold(self) -> Self {
        Self { style: Style::Bold, ..self }
    }

    fn width(&self) -> usize {
        match &self.content {
            Content::Text(text) | Content::Number(text) => width(text),
            Content::Bar(_) => 0,
        }
    }

    fn paint(&self, columns: usize, to_the_right: bool, palette: Palette) -> String {
        let shown = match &self.content {
            Content::Bar(share) => return share_bar(*share, columns, palette),
            Content::Number(text) => right(text, columns),
            Content::Text(text) if to_the_right => right(text, columns),
            Content::Text(text) => left(text, columns),
        };
        match self.style {
            Style::Usual => shown,
            Style::Dim => palette.dim(&shown),
            Style::Bold => palette.bold(&shown),
        }
    }
}

/// The rows in lines that fit the page. The first row is the heading. Where room is short, the columns of
/// `dispensable` go, in that order.
pub(crate) fn columns(rows: &[Vec<Cell>], dispensable: &[usize], page: Page) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let is_bar = |column: usize| {
        rows.iter().any(|row| row.get(column).is_some_and(|cell| matches!(cell.content, Content::Bar(_))))
    };
    let is_number = |column: usize| {
        let of_column =
            |row: &Vec<Cell>| matches!(row.get(column).map(|c| &c.content), Some(Content::Number(_)));
        rows.iter().any(of_column)
    };
    let mut widths: Vec<usize> = (0..count)
        .map(|column| {
            let widest = rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0);
            if is_bar(column) { widest.max(SHORTEST_BAR) } else { widest }
        })
        .collect();
    let is_text = |column: usize| !is_number(column) && !is_bar(column);
    for column in (0..count).filter(|&column| is_text(column)) {
        widths[column] = widths[column].min(LONGEST_TEXT);
    }
    let mut shown: Vec<usize> = (0..count).collect();
    let total = |shown: &[usize], widths: &[usize]| -> usize {
        shown.iter().map(|&column| widths[column]).sum::<usize>() + GAP * shown.len().saturating_sub(1)
    };
    // Texts are cut rather than another column left out, down to where they say nothing any more.
    let mut dispensable = dispensable.iter();
    let mut least = LEAST_TEXT;
    while total(&shown, &widths) > page.columns {
        let longest = shown.iter().copied().filter(|&column| is_text(column) && widths[column] > least);
        if let Some(column) = longest.max_by_key(|&column| (widths[column], column))
            && (least == 1
                || spare(&shown, &widths, least, &is_text) >= total(&shown, &widths) - page.columns)
        {
            widths[column] -= 1;
        } else if let Some(column) = dispensable.next() {
            shown.retain(|other| other != column);
        } else if least > 1 {
            least = 1;
        } else {
            break;
        }
    }
    if let Some(&bar) = shown.iter().find(|&&column| is_bar(column)) {
        widths[bar] += page.columns.saturating_sub(total(&shown, &widths));
        widths[bar] = widths[bar].min(LONGEST_BAR);
    }
    let line = |row: &Vec<Cell>| {
        let cells: Vec<String> = shown
            .iter()
            .filter_map(|&column| {
                Some(row.get(column)?.paint(widths[column], is_number(column), page.palette))
            })
            .collect();
        cells.join(&" ".repeat(GAP)).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// By how much all texts together can be cut.
fn spare(shown: &[usize], widths: &[usize], least: usize, is_text: &dyn Fn(usize) -> bool) -> usize {
    let texts = shown.iter().filter(|&&column| is_text(column));
    texts.map(|&column| widths[column].saturating_sub(least)).sum()
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<Cell>> {
        let row = |title: &str, number: &str, other: &str, share: f32| {
            vec![Cell::text(title), Cell::number(number), Cell::number(other), Cell::bar(share)]
        };
        vec![
            ["key", "q·k", "scaled", ""].map(Cell::dim).to_vec(),
            row("a", "-12.3456", "1.2", 0.5),
            row("incomprehensible", "7.1", "300", 1.0),
        ]
    }

    fn page(columns: usize) -> Page {
        Page { columns, ..Page::new(80, None, Palette::Plain) }
    }

    #[test]
    fn columns__enough_room__are_as_wide_as_their_cells() {
        let lines = columns(&rows(), &[3, 2], page(46));
        assert_eq!(
            lines,
            [
                "key                    q·k  scaled",
                "a                 -12.3456     1.2  ━━━━━",
                "incomprehensible       7.1     300  ━━━━━━━━━━",
            ]
        );
    }

    #[test]
    fn columns__narrow_page__fit_and_lose_what_is_dispensable() {
        for columns_of_page in 10..80 {
            let lines = columns(&rows(), &[3, 2], page(columns_of_page));
            let most = columns_of_page.max(1 + GAP + 8);
            assert!(lines.iter().all(|line| width(line) <= most), "{columns_of_page}: {lines:#?}");
            assert!(lines[1].contains("-12.3456"), "{lines:#?}");
        }
    }
}

//! Tables with words around them, for a terminal and as CSV.

use crate::csv::cell;
use crate::terminal::{join_parts, lay_out};
use crate::visible::{left, right, visible, width, wrap};

/// Blank columns between those of a table.
const GAP: usize = 2;
/// What a probe shows and what it does not.
const LIMITS: &str = "Attention shows where a head reads, not why.";

/// A column of a table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// Where there is no room for all, the columns with the lowest number stay.
    pub(super) rank: u8,
    /// Numbers stand at the right end of their column, words at the left.
    pub(super) is_number: bool,
}

/// A word's column.
pub(super) const fn word(name: &'static str, rank: u8) -> Column {
    Column { name, rank, is_number: false }
}

/// A number's column.
pub(super) const fn number(name: &'static str, rank: u8) -> Column {
    Column { name, rank, is_number: true }
}

/// Rows under names.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<String>>,
}

/// All that a probe says.
#[derive(Debug, Clone)]
pub(super) struct Sheet {
    /// What was tested, and on what.
    pub(super) heading: Vec<String>,
    pub(super) tables: Vec<Table>,
    /// What came out, in sentences.
    pub(super) notes: Vec<String>,
}

impl Sheet {
    /// The page in at most `columns` columns of text; `costs` are said last.
    pub(super) fn render(&self, columns: usize, costs: &[String]) -> String {
        let mut blocks: Vec<Vec<String>> =
            vec![self.heading.iter().flat_map(|line| wrap(line, columns)).collect()];
        blocks.extend(self.tables.iter().map(|table| table.render(columns)));
        blocks.push(self.notes.iter().flat_map(|line| wrap(line, columns)).collect());
        let mut last = wrap(LIMITS, columns);
        last.extend(join_parts(costs, columns));
        blocks.push(last);
        lay_out(&blocks)
    }

    /// The first table, all of its columns.
    pub(super) fn csv(&self) -> String {
        let Some(table) = self.tables.first() else { return String::new() };
        let line = |cells: Vec<&str>| cells.into_iter().map(cell).collect::<Vec<_>>().join(",") + "\r\n";
        let mut page = line(table.columns.iter().map(|column| column.name).collect());
        for row in &table.rows {
            page += &line(row.iter().map(String::as_str).collect());
        }
        page
    }
}

impl Table {
    fn render(&self, columns: usize) -> Vec<String> {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|place| {
                let cells = self.rows.iter().map(|row| width(&visible(&row[place])));
                cells.chain([width(self.columns[place].name)]).max().unwrap_or(0)
            })
            .collect();
        let mut kept: Vec<usize> = (0..self.columns.len()).collect();
        let needed = |kept: &[usize]| kept.iter().map(|&place| widths[place] + GAP).sum::<usize>() - GAP;
        let mut dropped = Vec::new();
        while kept.len() > 1 && needed(&kept) > columns {
            let least = (0..kept.len()).max_by_key(|&place| self.columns[kept[place]].rank).unwrap_or(0);
            dropped.push(self.columns[kept.remove(least)].name);
        }
        let line = |cells: &[&str]| {
            let cells = kept.iter().map(|&place| {
                let cell = visible(cells[place]);
                let columns = widths[place].min(columns);
                if self.columns[place].is_number { right(&cell, columns) } else { left(&cell, columns) }
            });
            cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
        };
        let mut lines = if self.title.is_empty() { Vec::new() } else { wrap(&self.title, columns) };
        lines.push(line(&self.columns.iter().map(|column| column.name).collect::<Vec<_>>()));
        lines.extend(self.rows.iter().map(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>())));
        if !dropped.is_empty() {
            let note = format!("No room here for: {}.", dropped.join(", "));
            lines.extend(wrap(&note, columns));
        }
        lines
    }
}

/// A share in per cent, with one decimal.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}", share * 100.0)
}

/// A share that may not be there.
pub(super) fn percent_or_none(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), percent)
}

/// The two ends of an interval, in per cent.
pub(super) fn percents(interval: Option<regard_lens::probe::Interval>) -> String {
    interval.map_or_else(|| "–".to_owned(), |found| format!("{}–{}", percent(found.low), percent(found.high)))
}

/// A head as people write it.
pub(super) fn head_name(layer: usize, head: usize) -> String {
    regard_lens::view::HeadId { layer, head }.to_string()
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    fn table() -> Table {
        Table {
            title: "What is right".into(),
            columns: vec![word("relation", 0), number("head", 1), number("rule", 2), word("wins", 1)],
            rows: vec![
                vec!["nsubj\u{1b}".into(), "58.1".into(), "80.3".into(), "rule".into()],
                vec!["=1+1,\"x\"".into(), "-2".into(), "94.4".into(), "@SUM(A1)".into()],
            ],
        }
    }

    #[test]
    fn table__any_width__fits_and_says_what_it_leaves_out() {
        for columns in 14..60 {
            let lines = table().render(columns);
            assert!(lines.iter().all(|line| width(line) <= columns), "{columns}: {lines:#?}");
            assert!(!lines.iter().any(|line| line.chars().any(char::is_control)));
        }
        assert!(
            table().render(30).join(" ").contains("No room here for: rule."),
            "{:#?}",
            table().render(30)
        );
        assert!(!table().render(60).join(" ").contains("No room"));
    }

    #[test]
    fn csv__cells_that_a_spreadsheet_would_run__are_guarded_and_quoted() {
        let sheet = Sheet { heading: Vec::new(), tables: vec![table()], notes: Vec::new() };
        let expected = "relation,head,rule,wins\r\nnsubj\\u{1b},58.1,80.3,rule\r\n\
            \"'=1+1,\"\"x\"\"\",'-2,94.4,'@SUM(A1)\r\n";
        assert_eq!(sheet.csv(), expected);
    }
}

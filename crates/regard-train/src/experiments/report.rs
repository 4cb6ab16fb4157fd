//! What an experiment found: tables, charts and what follows, as text, Markdown, JSON and SVG.

use std::fmt::Write as _;

use serde::Serialize;

use crate::chart::Chart;

/// What an experiment found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The experiment's name.
    pub name: &'static str,
    /// What is said of attention, and tested.
    pub claim: &'static str,
    /// Whether it was the short form, whose numbers only show that it runs.
    pub quick: bool,
    /// What decides every random number.
    pub seed: u64,
    /// How long it took.
    pub seconds: f64,
    /// The numbers.
    pub tables: Vec<Table>,
    /// Curves of them.
    pub charts: Vec<Chart>,
    /// What the numbers say.
    pub findings: Vec<Finding>,
    /// What they do not say.
    pub limits: Vec<&'static str>,
}

/// A table of text; numbers in it have been rounded for reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// A name for each column.
    pub columns: Vec<String>,
    /// As many cells as columns.
    pub rows: Vec<Vec<String>>,
}

/// A sentence that the numbers bear out or do not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The sentence.
    pub says: String,
    /// Whether it holds here.
    pub holds: bool,
}

impl Report {
    /// An empty report.
    pub(super) fn new(name: &'static str, claim: &'static str, quick: bool, seed: u64) -> Self {
        let (tables, charts, findings, limits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { name, claim, quick, seed, seconds: 0.0, tables, charts, findings, limits }
    }

    pub(super) fn find(&mut self, holds: bool, says: String) {
        self.findings.push(Finding { says, holds });
    }

    /// As plain text for a terminal.
    pub fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.name, self.claim);
        if self.quick {
            text.push_str("the short form: it shows that the experiment runs, and little else\n");
        }
        for table in &self.tables {
            let _ = write!(text, "\n{}\n{}", table.title, table.text());
        }
        text.push('\n');
        for finding in &self.findings {
            let _ = writeln!(text, "{}  {}", if finding.holds { "holds" } else { "not  " }, finding.says);
        }
        for limit in &self.limits {
            let _ = writeln!(text, "limit  {limit}");
        }
        text
    }

    /// As a section of Markdown; charts are linked by the names they are written under.
    pub fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n**Claim.** {}\n", self.name, self.claim);
        let form = if self.quick { "`--quick`, " } else { "" };
        let _ = writeln!(
            text,
            "\n`regard-train experiment {}` ({form}seed {}, {:.0} s)",
            self.name, self.seed, self.seconds
        );
        for table in &self.tables {
            let _ = write!(text, "\n{}:\n\n{}", table.title, table.markdown());
        }
        for (number, chart) in self.charts.iter().enumerate() {
            let _ = write!(text, "\n![{}]({})\n", chart.title, self.chart_name(number));
        }
        text.push('\n');
        for finding in &self.findings {
            let _ =
                writeln!(text, "- {}: {}", if finding.holds { "**holds**" } else { "**not**" }, finding.says);
        }
        for limit in &self.limits {
            let _ = writeln!(text, "- *limit*: {limit}");
        }
        text
    }

    /// The name of a chart's file.
    pub fn chart_name(&self, number: usize) -> String {
        format!("{}-{}.svg", self.name, number + 1)
    }
}

impl Table {
    pub(super) fn new(title: &str, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        Self { title: title.to_owned(), columns, rows: Vec::new() }
    }

    fn text(&self) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| self.lines().map(|row| row[at].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in self.lines() {
            let mut line = String::from(" ");
            for (cell, &width) in row.iter().zip(&widths) {
                let _ = write!(line, " {cell:<width$} ");
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }

    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        [&self.columns].into_iter().chain(&self.rows)
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | ").replace('\n', " "));
        let rule = format!("|{}\n", "---|".repeat(self.columns.len()));
        line(&self.columns) + &rule + &self.rows.iter().map(|row| line(row)).collect::<String>()
    }
}

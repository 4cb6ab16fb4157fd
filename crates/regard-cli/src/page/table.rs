//! The heads as a table that needs no script.

use std::fmt::Write;

use regard_lens::profile::{HeadProfile, Role};

use super::data::Findings;
use super::document::escape;
use super::labels::short_label;

/// The most bytes that the rows take.
pub(super) const TABLE_BYTES: usize = 60_000;

/// Keys named in a row.
const KEYS: usize = 3;
/// Columns of a key's label.
const LABEL_COLUMNS: usize = 16;

/// Rows of the table, as HTML, and how many heads are in it.
pub(super) fn rows(findings: &Findings<'_>) -> (String, usize) {
    let mut rows = String::new();
    let heads = &findings.readings[0].profiled.heads;
    for (place, head) in heads.iter().enumerate() {
        let row = row(findings, head);
        if rows.len() + row.len() > TABLE_BYTES {
            return (rows, place);
        }
        rows.push_str(&row);
    }
    (rows, heads.len())
}

fn row(findings: &Findings<'_>, head: &HeadProfile) -> String {
    let profiled = &findings.readings[0].profiled;
    let roles: Vec<&str> =
        Role::of(&head.scores, &profiled.uniform, &profiled.counted).into_iter().map(Role::name).collect();
    let roles = if roles.is_empty() { "·".to_owned() } else { roles.join(", ") };
    let scores = &head.scores;
    let mut row = format!(
        "<tr><th scope=\"row\">{}</th><td>{roles}</td><td>{:.2}</td><td>{:.1}</td><td>",
        head.id, scores.entropy, scores.mean_distance
    );
    let place = findings.focus.checked_sub(findings.plan.rows.start);
    let top = head.top.as_ref().zip(place).filter(|(top, place)| *place < top.rows.len());
    let keys = top.into_iter().flat_map(|(top, place)| top.row(place)).take(KEYS);
    for (number, (key, prob)) in keys.enumerate() {
        let label = escape(&short_label(findings.text, &findings.units[key], LABEL_COLUMNS));
        let separator = if number > 0 { ", " } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(row, "{separator}<bdi>{label}</bdi> {prob:.3}");
    }
    row.push_str("</td></tr>\n");
    row
}

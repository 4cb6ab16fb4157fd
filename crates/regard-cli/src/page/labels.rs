//! What a page calls the places of a text.

use std::collections::BTreeMap;
use std::ops::Range;

use regard_lens::TokenizedText;
use serde::Serialize;

use crate::label::label;
use crate::visible::{cut, visible};

/// The most bytes that all labels take in JSON.
pub(super) const LABEL_BYTES: usize = 200_000;

/// Columns of a label; where labels of the rows shown alone would take too many bytes, fewer.
const COLUMNS: usize = 24;
const FEW_COLUMNS: usize = 8;

/// The labels that a page holds: all, or those of some rows and of the keys that these look at.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Labels {
    /// The place of the first of `list`.
    pub(super) start: usize,
    pub(super) list: Vec<String>,
    /// Of other places.
    pub(super) others: BTreeMap<usize, String>,
}

impl Labels {
    /// All labels, unless they take more than [`LABEL_BYTES`]; and how many bytes they take, at most that.
    pub(super) fn all(text: &TokenizedText, units: &[Range<usize>]) -> (Option<Self>, usize) {
        let mut bytes = 0;
        let mut list = Vec::new();
        for span in units {
            let label = short_label(text, span, COLUMNS);
            bytes += bytes_in_json(&label);
            if bytes > LABEL_BYTES {
                return (None, LABEL_BYTES);
            }
            list.push(label);
        }
        (Some(Self { start: 0, list, others: BTreeMap::new() }), bytes)
    }

    /// Those of `rows`, and of as many of `keys`, in their order, as fit.
    pub(super) fn some(
        text: &TokenizedText,
        units: &[Range<usize>],
        rows: &Range<usize>,
        keys: impl Iterator<Item = usize>,
    ) -> Self {
        let of_rows =
            |columns| units[rows.clone()].iter().map(move |span| short_label(text, span, columns)).collect();
        let total = |list: &Vec<String>| list.iter().map(|label| bytes_in_json(label)).sum::<usize>();
        let mut list: Vec<String> = of_rows(COLUMNS);
        if total(&list) > LABEL_BYTES {
            list = of_rows(FEW_COLUMNS);
        }
        let mut bytes = total(&list);
        let mut others = BTreeMap::new();
        for key in keys.filter(|key| !rows.contains(key)) {
            if others.contains_key(&key) {
                continue;
            }
            let label = short_label(text, &units[key], COLUMNS);
            // The place itself takes up to 12.
            bytes += bytes_in_json(&label) + 12;
            if bytes > LABEL_BYTES {
                break;
            }
            others.insert(key, label);
        }
        Self { start: rows.start, list, others }
    }
}

/// A unit as it stands in the text, hidden characters made visible, cut with `…`.
pub(super) fn short_label(text: &TokenizedText, span: &Range<usize>, columns: usize) -> String {
    let whole = match span.len() {
        1 => label(text, span.start),
        _ => {
            let stretch = text.tokens[span.start].start..text.tokens[span.end - 1].end;
            visible(text.text.get(stretch).unwrap_or_default().trim())
        }
    };
    // Combining marks take no columns.
    let most = columns * 2;
    let start: String = whole.chars().take(most).collect();
    if start.len() < whole.len() { cut(&format!("{start}…"), columns) } else { cut(&start, columns) }
}

/// With quotation marks and a comma, and `<` escaped.
fn bytes_in_json(label: &str) -> usize {
    label.chars().map(|c| if matches!(c, '<' | '"' | '\\') { 6 } else { c.len_utf8() }).sum::<usize>() + 3
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;
    use crate::sample::text;

    fn tokens(text: &TokenizedText) -> Vec<Range<usize>> {
        (0..text.tokens.len()).map(|token| token..token + 1).collect()
    }

    #[test]
    fn labels__sentence__are_all_there() {
        let text = text("The cat una|ffa|ble");
        let (labels, bytes) = Labels::all(&text, &tokens(&text));
        let labels = labels.unwrap();
        assert_eq!(labels.list, ["[CLS]", "The", "cat", "una", "·ffa", "·ble", "[SEP]"]);
        assert!(bytes >= serde_json::to_string(&labels.list).unwrap().len() - 2);
    }

    #[test]
    fn labels__words__are_whole() {
        let text = text("The una|ffa|ble cat");
        assert_eq!(short_label(&text, &(2..5), 24), "unaffable");
    }

    #[test]
    fn labels__long_or_stacked__are_cut() {
        let long = text(&"a".repeat(1000));
        assert_eq!(short_label(&long, &(1..2), 8), "aaaaaaa…");
        let stacked = text(&format!("e{}", "\u{301}".repeat(1000)));
        assert!(short_label(&stacked, &(1..2), 8).chars().count() <= 17);
    }

    #[test]
    fn labels__too_many__keep_the_rows_shown_and_the_keys_first_named() {
        let text = text(&"<<<<<<<<<<<<<<<<<<<<<<<<<< ".repeat(9000));
        let units = tokens(&text);
        assert_eq!(Labels::all(&text, &units), (None, LABEL_BYTES));
        let labels = Labels::some(&text, &units, &(100..200), (0..9000).rev());
        assert_eq!((labels.start, labels.list.len()), (100, 100));
        assert!(labels.others.contains_key(&8999) && !labels.others.contains_key(&0));
        let written = serde_json::to_string(&labels).unwrap().replace('<', "\\u003c");
        assert!(written.len() < LABEL_BYTES + 100, "{}", written.len());
    }
}

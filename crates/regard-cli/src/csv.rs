//! Cells of CSV files.

use crate::visible::visible;

/// A cell that no spreadsheet takes for a formula: one that begins as those do gets an apostrophe before it. Characters that
/// act on a terminal are spelled out, and quotes are doubled (RFC 4180).
pub(crate) fn cell(text: &str) -> String {
    let text = visible(text);
    let guarded = if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text };
    if guarded.contains([',', '"']) { format!("\"{}\"", guarded.replace('"', "\"\"")) } else { guarded }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn cell__formula_quote_or_control__is_harmless() {
        let cells = ["a", "=1+1", "+1", "-1", "@x", "a,b", "say \"hi\"", "\t=1", "a\r\nb"].map(cell);
        let expected = [
            "a",
            "'=1+1",
            "'+1",
            "'-1",
            "'@x",
            "\"a,b\"",
            "\"say \"\"hi\"\"\"",
            "\\u{9}=1",
            "a\\u{d}\\u{a}b",
        ];
        assert_eq!(cells, expected);
    }
}

//! Text from files and users, made fit for a terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The text with every character that would act on the terminal, or that nobody would see, written as
/// `\u{1b}`; so nothing in a vocabulary file can move the cursor, turn the text around or hide in it.
///
/// Whitespace that is not a plain space counts as such a character, too. A combining mark that has nothing to
/// sit on gets a dotted circle.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            shown.extend(c.escape_unicode());
        } else {
            if shown.is_empty() && c.width() == Some(0) {
                shown.push('◌');
            }
            shown.push(c);
        }
    }
    shown
}

/// Whether a character is a control, reorders text, or takes no room without being a combining mark.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Columns that a text takes in a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The text in at most `columns` columns, cut with `…` if it is longer.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        if width(&short) + c.width().unwrap_or(0) + 1 > columns {
            break;
        }
        short.push(c);
    }
    if columns > 0 {
        short.push('…');
    }
    short
}

/// The text cut to `columns` and filled up with spaces on the right.
pub(crate) fn left(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let fill = columns - width(&text);
    text + &" ".repeat(fill)
}

/// The text cut to `columns` and filled up with spaces on the left.
pub(crate) fn right(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    " ".repeat(columns - width(&text)) + &text
}

/// A sentence of ours broken at spaces into lines of at most `columns`; longer words stand alone, and a number
/// keeps its `%` or `×`.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("starts with one line");
        let unit = word.starts_with(['%', '×']);
        if line.is_empty() {
            line.push_str(word);
        } else if width(line) + 1 + width(word) <= columns {
            line.push(' ');
            line.push_str(word);
        } else if unit && let Some(space) = line.rfind(' ') {
            let number = line.split_off(space);
            lines.push(format!("{} {word}", number.trim_start()));
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn visible__control_escape_bidi_zero_width__are_spelled_out() {
        assert_eq!(visible("a\x1b[31mb"), "a\\u{1b}[31mb");
        let hidden = "\0\x07\x08\t\n\r\x7f\u{85}\u{9b}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{61c}\u{202a}\
                      \u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{2060}\u{feff}\u{ad}\u{2028}";
        for c in hidden.chars() {
            assert_eq!(visible(&c.to_string()), format!("\\u{{{:x}}}", u32::from(c)));
        }
    }

    #[test]
    fn visible__every_character__never_leaves_one_without_width_alone() {
        for c in (0..=0x10ffff).filter_map(char::from_u32) {
            let shown = visible(&c.to_string());
            assert!(width(&shown) > 0, "{:x}", u32::from(c));
            assert!(!shown.chars().any(char::is_control));
        }
    }

    #[test]
    fn visible__letters_of_any_script__stay() {
        for text in ["naïve", "cafe\u{301}", "猫は", "שלום", "🐈", "नमस्ते"] {
            assert_eq!(visible(text), text);
        }
    }

    #[test]
    fn cut__wide_characters__never_exceeds_the_columns() {
        for columns in 0..12 {
            for text in ["猫は疲れていた", "because", "e\u{301}e\u{301}e\u{301}", ""] {
                assert!(width(&cut(text, columns)) <= columns);
                assert_eq!(width(&left(text, columns)), columns);
                assert_eq!(width(&right(text, columns)), columns);
            }
        }
        assert_eq!(cut("because", 5), "beca…");
    }

    #[test]
    fn wrap__long_sentence__keeps_all_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("", 7), [""]);
        assert_eq!(wrap("sends 49 % to", 8), ["sends", "49 % to"]);
    }
}

//! The text as typed, with the word that looks marked in it and an arrow to where it looks.

use std::ops::Range;

use unicode_width::UnicodeWidthChar;

use crate::palette::Palette;
use crate::visible::{is_hidden, visible, width};

/// Longer texts show only the lines around the focus.
const MOST_LINES: usize = 4;

/// What to mark. Ranges are bytes of the text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Marks {
    /// The word that looks.
    pub(crate) focus: Range<usize>,
    /// Where it looks, and what to write on the arrow, if it has the room.
    pub(crate) arrow: Option<(Range<usize>, String)>,
}

/// One character as it is shown.
struct Cell {
    byte: usize,
    shown: String,
    columns: usize,
    blank: bool,
}

/// The lines of the sentence in at most `columns` columns. `tokens` are the bytes where tokens start, to say how
/// many are left out of a long text.
pub(crate) fn sentence(
    text: &str,
    tokens: &[usize],
    marks: &Marks,
    columns: usize,
    palette: Palette,
) -> Vec<String> {
    let cells = cells(text);
    let lines = break_lines(&cells, columns);
    let focus_line = line_with(&cells, &lines, &marks.focus).unwrap_or(0);
    let first = if lines.len() <= MOST_LINES {
        0
    } else {
        focus_line.saturating_sub(MOST_LINES / 2).min(lines.len() - MOST_LINES)
    };
    let shown = &lines[first..lines.len().min(first + MOST_LINES)];
    let byte_at = |cell: usize| cells.get(cell).map_or(text.len(), |cell| cell.byte);

    let mut output = Vec::new();
    let count = |bytes: Range<usize>| tokens.iter().filter(|start| bytes.contains(start)).count();
    let note = |hidden: usize, what: &str| {
        palette.dim(&format!("… {hidden} token{} {what}", if hidden == 1 { "" } else { "s" }))
    };
    let before = lines.get(first).filter(|_| first > 0).map_or(0, |line| count(0..byte_at(line.start)));
    let after = shown.last().map_or(0, |line| count(byte_at(line.end)..text.len()));
    if before > 0 {
        output.push(note(before, "before"));
    }
    for line in shown {
        let cells = &cells[line.clone()];
        output.push(paint(cells, marks, palette));
        if let Some(focus) = span(cells, &marks.focus) {
            output.push(mark_line(cells, focus, marks, palette));
        }
    }
    if after > 0 {
        output.push(note(after, "after"));
    }
    output
}

/// Blanks of all kinds, and runs of them, become one space; combining marks join the character before.
fn cells(text: &str) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    for (byte, c) in text.trim_end().char_indices() {
        let after_blank = cells.last().is_none_or(|cell| cell.blank);
        if c.is_whitespace() {
            if !after_blank {
                cells.push(Cell { byte, shown: " ".into(), columns: 1, blank: true });
            }
        } else if c.width() == Some(0)
            && !is_hidden(c)
            && let Some(cell) = cells.last_mut().filter(|cell| !cell.blank)
        {
            cell.shown.push(c);
        } else {
            let shown = visible(c.encode_utf8(&mut [0; 4]));
            cells.push(Cell { byte, columns: width(&shown), shown, blank: false });
        }
    }
    cells
}

/// Breaks after blanks and beside wide characters (CJK has no blanks); only a word longer than a line is broken.
fn break_lines(cells: &[Cell], columns: usize) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let (mut start, mut used, mut may_break) = (0, 0, 0);
    for (i, cell) in cells.iter().enumerate() {
        if cell.blank {
            used += 1;
            may_break = i + 1;
            continue;
        }
        if cell.columns == 2 {
            may_break = i;
        }
        if used + cell.columns > columns && i > start {
            let at = if may_break > start { may_break } else { i };
            lines.push(start..at);
            start = at;
            used = cells[start..i].iter().map(|cell| cell.columns).sum();
        }
        used += cell.columns;
    }
    if start < cells.len() {
        lines.push(start..cells.len());
    }
    lines
}

fn line_with(cells: &[Cell], lines: &[Range<usize>], bytes: &Range<usize>) -> Option<usize> {
    lines.iter().position(|line| span(&cells[line.clone()], bytes).is_some())
}

/// The columns that a range of bytes takes in a line.
fn span(line: &[Cell], bytes: &Range<usize>) -> Option<Range<usize>> {
    let mut column = 0;
    let mut found: Option<Range<usize>> = None;
    for cell in line {
        if bytes.contains(&cell.byte) && !cell.blank {
            let start = found.map_or(column, |span| span.start);
            found = Some(start..column + cell.columns);
        }
        column += cell.columns;
    }
    found
}

fn paint(line: &[Cell], marks: &Marks, palette: Palette) -> String {
    let key = marks.arrow.as_ref().map(|(key, _)| key);
    let is_marked =
        |cell: &Cell| marks.focus.contains(&cell.byte) || key.is_some_and(|key| key.contains(&cell.byte));
    let end = line.len() - line.iter().rev().take_while(|cell| cell.blank).count();
    line[..end]
        .chunk_by(|a, b| is_marked(a) == is_marked(b))
        .map(|run| {
            let shown: String = run.iter().map(|cell| cell.shown.as_str()).collect();
            if is_marked(&run[0]) { palette.bold(&shown) } else { shown }
        })
        .collect()
}

/// The line below: an arrow from the focus to its key if both are in this line, else a mark below the focus.
fn mark_line(line: &[Cell], focus: Range<usize>, marks: &Marks, palette: Palette) -> String {
    let middle = |span: &Range<usize>| span.start + (span.len() - 1) / 2;
    let from = middle(&focus);
    let key = marks.arrow.as_ref().and_then(|(key, label)| Some((span(line, key)?, label)));
    let Some((to, label)) = key.map(|(span, label)| (middle(&span), label)).filter(|(to, _)| *to != from)
    else {
        return " ".repeat(focus.start) + &palette.bold(&"▔".repeat(focus.len()));
    };
    let between = from.abs_diff(to) - 1;
    let label = format!(" {label} ");
    let shaft = if between >= width(&label) + 2 {
        let dashes = between - width(&label);
        format!("{}{label}{}", "─".repeat(dashes / 2), "─".repeat(dashes - dashes / 2))
    } else {
        "─".repeat(between)
    };
    let arrow = if to < from { format!("↑{shaft}╯") } else { format!("╰{shaft}↑") };
    " ".repeat(from.min(to)) + &palette.dim(&arrow)
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    fn shown(text: &str, focus: &str, key: Option<&str>, columns: usize) -> Vec<String> {
        let range = |word: &str| {
            let start = text.rfind(word).unwrap();
            start..start + word.len()
        };
        let marks = Marks { focus: range(focus), arrow: key.map(|key| (range(key), "49 %".to_owned())) };
        let starts: Vec<usize> = text
            .char_indices()
            .filter(|&(i, _)| i == 0 || text.as_bytes()[i - 1] == b' ')
            .map(|(i, _)| i)
            .collect();
        let lines = sentence(text, &starts, &marks, columns, Palette::Plain);
        assert!(lines.iter().all(|line| width(line) <= columns), "{lines:#?}");
        lines
    }

    #[test]
    fn sentence__both_words_in_one_line__has_an_arrow_between_their_middles() {
        let lines = shown("The cat sat because it was", "it", Some("cat"), 40);
        assert_eq!(lines, ["The cat sat because it was", "     ↑──── 49 % ────╯"]);
        let lines = shown("it was a tired cat", "it", Some("cat"), 40);
        assert_eq!(lines, ["it was a tired cat", "╰──── 49 % ─────↑"]);
    }

    #[test]
    fn sentence__no_room_for_the_label__has_the_arrow_alone() {
        assert_eq!(shown("a cat it was", "it", Some("cat"), 40)[1], "   ↑──╯");
    }

    #[test]
    fn sentence__key_in_another_line_or_the_focus_itself__marks_the_focus() {
        assert_eq!(shown("cat one two three it was", "it", Some("cat"), 10)[2..], ["it was", "▔▔"]);
        assert_eq!(shown("a cat it was", "it", Some("it"), 40)[1], "      ▔▔");
    }

    #[test]
    fn sentence__blanks_and_line_breaks__become_single_spaces() {
        assert_eq!(shown("\u{3000}a\n\n cat\tit  was \n", "it", None, 40), ["a cat it was", "      ▔▔"]);
    }

    #[test]
    fn sentence__wide_characters__are_counted_as_two_and_broken_anywhere() {
        assert_eq!(shown("猫は疲れて", "疲", None, 40), ["猫は疲れて", "    ▔▔"]);
        assert_eq!(shown("猫は疲れて", "疲", None, 5), ["猫は", "疲れ", "▔▔", "て"]);
    }

    #[test]
    fn sentence__hostile_characters__are_spelled_out() {
        let lines = shown("a\x1b[2J\u{202e}cat it", "it", None, 60);
        assert_eq!(lines[0], "a\\u{1b}[2J\\u{202e}cat it");
    }

    #[test]
    fn sentence__long_text__is_elided_around_the_focus_and_says_how_much() {
        let text = (0..100).map(|i| format!("w{i:02}")).collect::<Vec<_>>().join(" ");
        let lines = shown(&text, "w50", None, 19);
        assert_eq!(lines[0], "… 40 tokens before");
        assert_eq!(lines[3], "w50 w51 w52 w53 w54");
        assert_eq!(lines[4], "▔▔▔");
        assert_eq!(lines.last().unwrap(), "… 40 tokens after");
        assert_eq!(shown(&text, "w00", None, 19)[0], "w00 w01 w02 w03 w04");
        assert_eq!(shown(&text, "w99", None, 19).last().unwrap(), "                ▔▔▔");
    }

    #[test]
    fn sentence__any_width__shows_every_character_once() {
        let text = "The naïve café owner wasn't unaffable: \"Déjà vu,\" she said. 猫は疲れていた。";
        for columns in 10..90 {
            let lines = break_lines(&cells(text), columns);
            assert_eq!(lines.iter().map(ExactSizeIterator::len).sum::<usize>(), cells(text).len());
            assert!(lines.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }
}

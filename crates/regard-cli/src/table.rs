//! One line for the best head of each kind.

use crate::palette::Palette;
use crate::report::{Example, Report, percent};
use crate::visible::{cut, left, right, width};

/// What a head's few words take at least; lines with less room put them below.
const WORDS: usize = 24;
/// And at most.
const MOST_WORDS: usize = 40;
const KIND: usize = 9;
const SHARE: usize = 5;
const USUAL: usize = 5;
const HEAD: usize = 7;

/// Widths of the columns that depend on the terminal.
struct Columns {
    key: usize,
    /// 0 where there is no room for bars.
    bar: usize,
    /// Columns of the words beside the numbers; 0 where they stand below.
    words: usize,
}

impl Columns {
    fn new(columns: usize, longest_key: usize, longest_words: usize) -> Self {
        let numbers = SHARE + 2 + USUAL + 2 + HEAD;
        let wanted = longest_words.clamp(WORDS, MOST_WORDS);
        let words = if columns >= KIND + 8 + 1 + 10 + 1 + numbers + 2 + wanted { wanted } else { 0 };
        let beside = if words > 0 { 2 + words } else { 0 };
        let spare = columns.saturating_sub(KIND + numbers + beside);
        let key = longest_key.clamp(4, 14).min(spare.saturating_sub(12).max(8)).min(spare.saturating_sub(1));
        let bar = spare.saturating_sub(key + 2).min(24);
        Self { key, bar: if bar >= 4 { bar } else { 0 }, words }
    }
}

/// The table in at most `columns` columns, with its heading and a word about the bars.
pub(crate) fn table(report: &Report<'_>, columns: usize, palette: Palette) -> Vec<String> {
    let examples = report.best_of_each_kind();
    let longest = examples.iter().map(|example| width(&report.name(example.link.key))).max().unwrap_or(0);
    let longest_words = examples.iter().map(|example| width(&report.does(*example))).max().unwrap_or(0);
    let layout = Columns::new(columns, longest, longest_words);
    let bar = if layout.bar > 0 { layout.bar + 1 } else { 0 };
    let title = left(&format!("{} looks at", report.focus_name()), KIND + layout.key + 1 + bar);
    let mut heading =
        format!("{title}{}  {}  {}", right("share", SHARE), right("usual", USUAL), left("head", HEAD));
    if layout.words > 0 {
        heading += "  in this text";
    }
    let mut lines = vec![palette.dim(heading.trim_end())];
    for example in examples {
        lines.push(line(report, example, &layout, palette));
        if layout.words == 0 {
            let words = cut(&report.does(example), columns.saturating_sub(KIND));
            lines.push(" ".repeat(KIND) + &palette.dim(&words));
        }
    }
    let legend = "usual: what the other words send to the same key";
    let marked = format!("{legend}, the thin part of the bar");
    let legend = if layout.bar > 0 && width(&marked) <= columns { marked } else { legend.to_owned() };
    lines.extend(crate::visible::wrap(&legend, columns).iter().map(|line| palette.dim(line)));
    lines
}

fn line(report: &Report<'_>, example: Example<'_>, layout: &Columns, palette: Palette) -> String {
    let link = example.link;
    let mut line = left(report.kind_name(example.row.kind), KIND);
    line += &palette.bold(&left(&report.name(link.key), layout.key));
    line.push(' ');
    if layout.bar > 0 {
        line += &bar(link.prob, link.usual.unwrap_or(0.0), layout.bar, palette);
        line.push(' ');
    }
    line += &right(&percent(link.prob), SHARE);
    line += "  ";
    line += &right(&link.usual.map_or_else(|| "–".to_owned(), percent), USUAL);
    line += "  ";
    line += &left(&example.head.id.to_string(), HEAD);
    if layout.words > 0 {
        line += "  ";
        line += &palette.dim(&cut(&report.does(example), layout.words));
    }
    line.trim_end().to_owned()
}

/// A bar of `columns` columns for 100 %, in half columns.
pub(crate) fn share_bar(share: f32, columns: usize, palette: Palette) -> String {
    bar(share, 0.0, columns, palette)
}

/// A bar of `columns` columns for 100 %, in half columns; the part that is usual is thin.
fn bar(share: f32, usual: f32, columns: usize, palette: Palette) -> String {
    let halves = (share.clamp(0.0, 1.0) * columns as f32 * 2.0).round() as usize;
    let (full, half) = (halves / 2, halves % 2);
    let thin = ((usual.clamp(0.0, 1.0) * columns as f32).round() as usize).min(full);
    let thick = "━".repeat(full - thin) + &"╸".repeat(half);
    let blank = " ".repeat(columns - full - half);
    format!("{}{}{blank}", palette.dim(&"─".repeat(thin)), palette.heat(0.55, &thick))
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn bar__shares__fill_their_part_and_thin_the_usual() {
        let plain = |share, usual| bar(share, usual, 8, Palette::Plain);
        assert_eq!(plain(0.0, 0.0), "        ");
        assert_eq!(plain(1.0, 0.0), "━━━━━━━━");
        assert_eq!(plain(0.5, 0.25), "──━━    ");
        assert_eq!(plain(0.5, 0.9), "────    ", "never longer than the share");
        assert_eq!(plain(1.0 / 16.0, 0.0), "╸       ");
        for share in (0..=1000).map(|i| i as f32 / 1000.0) {
            assert_eq!(width(&plain(share, 0.3)), 8);
        }
    }

    #[test]
    fn columns__any_terminal__fit() {
        for columns in 36..120 {
            for (key, words) in (0..40).flat_map(|key| [0, 30, 99].map(|words| (key, words))) {
                let layout = Columns::new(columns, key, words);
                let bar = if layout.bar > 0 { layout.bar + 1 } else { 0 };
                let words = if layout.words > 0 { 2 + layout.words } else { 0 };
                let all = KIND + layout.key + 1 + bar + SHARE + 2 + USUAL + 2 + HEAD + words;
                assert!(all <= columns, "{columns} {key}: {all}");
                assert!(layout.key >= 4);
            }
        }
    }
}

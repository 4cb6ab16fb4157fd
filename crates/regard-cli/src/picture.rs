//! One head's attention as a picture: rows look, columns are looked at.

use regard_lens::TokenizedText;
use regard_lens::view::HeatMap;

use crate::label::label;
use crate::palette::{Palette, SHADES, STOPS, Scale, shade};
use crate::visible::{cut, left, right, width, wrap};

/// The widest label beside the picture.
const LABEL: usize = 10;
/// Columns narrower than this cannot carry labels.
const LABELLED: usize = 4;
/// Wider columns gain nothing.
const WIDEST: usize = 8;
/// So few rows get a line each; more share one, in half blocks.
const ROWS_WITH_A_LINE: usize = 12;

/// The largest picture, `[queries, keys]`, for so many columns and lines.
pub(crate) fn most_cells(columns: usize, lines: usize, palette: Palette) -> [usize; 2] {
    let rows_per_line = if palette.has_colour() { 2 } else { 1 };
    // One label on the left, and one on the right if a line has two rows.
    let beside = (LABEL + 2) * rows_per_line;
    [lines * rows_per_line, columns.saturating_sub(beside).max(1)]
}

struct Picture<'a> {
    map: &'a HeatMap,
    text: &'a TokenizedText,
    focus: usize,
    /// Columns of a label, its marker included.
    label: usize,
    /// Columns of a cell.
    cell: usize,
    /// Whether a line holds two rows, one labelled on the left and one on the right.
    halved: bool,
    palette: Palette,
    scale: Scale,
}

/// The lines of the picture with its labels and legend; `keys` are the columns to name where not all fit, most
/// important first.
pub(crate) fn picture(
    map: &HeatMap,
    text: &TokenizedText,
    focus: usize,
    keys: &[usize],
    columns: usize,
    (palette, scale): (Palette, Scale),
) -> Vec<String> {
    let longest = map.queries.iter().map(|&query| width(&label(text, query))).max().unwrap_or(0);
    let label = longest.min(LABEL) + 1;
    let halved = palette.has_colour() && map.queries.len() > ROWS_WITH_A_LINE;
    let beside = (label + 1) * if halved { 2 } else { 1 };
    let room = columns.saturating_sub(beside) / map.keys.len().max(1);
    let cell = if room >= LABELLED { room.min(WIDEST) } else { room.clamp(1, 2) };
    let picture = Picture { map, text, focus, label, cell, halved, palette, scale };
    let mut lines = picture.column_labels(keys);
    lines.extend(if halved { picture.half_block_rows() } else { picture.whole_rows() });
    lines.extend(picture.legend(columns));
    lines
}

impl Picture<'_> {
    /// All keys above their columns, or the important ones where columns are narrow.
    fn column_labels(&self, keys: &[usize]) -> Vec<String> {
        let indent = " ".repeat(self.label + 1);
        if self.cell >= LABELLED {
            let labels: String = self
                .map
                .keys
                .iter()
                .map(|&key| left(&cut(&label(self.text, key), self.cell - 1), self.cell))
                .collect();
            return vec![self.palette.dim((indent + &labels).trim_end())];
        }
        let columns = self.map.keys.len() * self.cell;
        let (mut names, mut ticks) = (vec![], vec![' '; columns]);
        for &key in keys {
            let Ok(place) = self.map.keys.binary_search(&key) else { continue };
            let name = cut(&label(self.text, key), LABEL);
            let tick = place * self.cell;
            let start = tick.min(columns.saturating_sub(width(&name)));
            let free = names.iter().all(|(other, name_of): &(usize, String)| {
                start + width(&name) < *other || other + width(name_of) < start
            });
            if free && start + width(&name) <= columns {
                names.push((start, name));
                ticks[tick] = '╷';
            }
        }
        names.sort();
        let mut labels = String::new();
        for (start, name) in names {
            labels += &" ".repeat(start - width(&labels));
            labels += &name;
        }
        let ticks: String = ticks.into_iter().collect();
        [labels, ticks].map(|line| self.palette.dim((indent.clone() + &line).trim_end())).to_vec()
    }

    fn half_block_rows(&self) -> Vec<String> {
        let rows = self.map.queries.len();
        (0..rows)
            .step_by(2)
            .map(|upper| {
                let lower = (upper + 1 < rows).then_some(upper + 1);
                let mut line = self.row_label(upper, true);
                line.push(' ');
                let lower_row = lower.map(|lower| self.map.row(lower));
                let place = |share: f32| self.scale.place(share);
                for (key, &share) in self.map.row(upper).iter().enumerate() {
                    let lower = lower_row.map(|row| place(row[key]));
                    line += &self.palette.two_heats(place(share), lower, self.cell);
                }
                if let Some(lower) = lower {
                    line.push(' ');
                    line += &self.row_label(lower, false);
                }
                line
            })
            .collect()
    }

    fn whole_rows(&self) -> Vec<String> {
        (0..self.map.queries.len())
            .map(|row| {
                let cell = |&share: &f32| {
                    let place = self.scale.place(share);
                    if self.palette.has_colour() {
                        self.palette.one_heat(place, self.cell)
                    } else {
                        shade(place).to_string().repeat(self.cell)
                    }
                };
                let cells: String = self.map.row(row).iter().map(cell).collect();
                format!("{} {cells}", self.row_label(row, true)).trim_end().to_owned()
            })
            .collect()
    }

    fn row_label(&self, row: usize, on_the_left: bool) -> String {
        let query = self.map.queries[row];
        let name = cut(&label(self.text, query), self.label - 1);
        let is_focus = query == self.focus;
        match (on_the_left, is_focus) {
            (true, false) => self.palette.dim(&right(&name, self.label)),
            (true, true) => self.palette.bold(&right(&format!("▸{name}"), self.label)),
            (false, false) => self.palette.dim(&name),
            (false, true) => self.palette.bold(&format!("{name}◂")),
        }
    }

    /// What the colours or shades mean. The scale is the same for every head.
    fn legend(&self, columns: usize) -> Vec<String> {
        let mut lines =
            if self.palette.has_colour() { vec![self.ramp()] } else { wrap(&shades(self.scale), columns) };
        let (map, available) = (self.map, self.map.available);
        let (rows, keys) = (map.queries.len(), map.keys.len());
        let is_part = rows < available || keys < available;
        let hides_special =
            self.text.tokens.iter().any(|token| token.special && !map.keys.contains(&token.index));
        // In a causal model the first token stands aside like a special one.
        let hides_first = !hides_special && available < self.text.tokens.len();
        let missing = [
            (hides_special, "to special tokens"),
            (hides_first, "to the first token"),
            (is_part, "outside this part"),
        ];
        let missing: Vec<&str> =
            missing.into_iter().filter_map(|(is_missing, what)| is_missing.then_some(what)).collect();
        let mut reading = "a row shows where one word looks".to_owned();
        if !missing.is_empty() {
            reading += &format!("; what is missing went {}", missing.join(" or "));
        }
        if self.halved {
            reading += "; a line holds two rows, the upper one named on the left";
        }
        if is_part {
            reading +=
                &format!("; part of the text: {rows} of {available} tokens look, at {keys} of {available}");
        }
        lines.extend(wrap(&reading, columns).iter().map(|line| self.palette.dim(line)));
        lines
    }

    /// The ramp between its three marks, in even steps of its place.
    fn ramp(&self) -> String {
        const STEPS: usize = 8;
        let mut scale = String::new();
        for (index, place) in STOPS.into_iter().enumerate() {
            scale += &self.palette.dim(&self.scale.name(place));
            if let Some(next) = STOPS.get(index + 1) {
                scale.push(' ');
                for step in 0..STEPS {
                    let root = place.sqrt() + step as f32 / STEPS as f32 * (next.sqrt() - place.sqrt());
                    scale += &self.palette.heat(root * root, "▀");
                }
                scale.push(' ');
            }
        }
        scale
    }
}

fn shades(scale: Scale) -> String {
    let shades = SHADES.iter().map(|&(from, shade)| format!("{shade}{shade} {}", scale.name(from)));
    format!("{} and more", shades.collect::<Vec<_>>().join("  "))
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;
    use crate::sample::{heat_map, text};

    fn words(count: usize) -> TokenizedText {
        text(&(1..=count).map(|i| format!("w{i:02}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn picture__without_colours__has_a_line_of_shades_for_each_row() {
        let text = text("the cat sat");
        let lines =
            picture(&heat_map(&text, 1..4, 1..4), &text, 3, &[2], 30, (Palette::Plain, Scale::Shares));
        assert_eq!(
            lines,
            [
                "     the     cat     sat",
                " the ▒▒▒▒▒▒▒▒",
                " cat ████████",
                "▸sat ▒▒▒▒▒▒▒▒████████",
                "░░ 5 %  ▒▒ 15 %  ▓▓ 35 %  ██",
                "60 % and more",
                "a row shows where one word",
                "looks; what is missing went to",
                "special tokens",
            ]
        );
    }

    #[test]
    fn picture__with_colours_and_many_rows__puts_two_rows_in_a_line_of_half_blocks() {
        let text = words(13);
        let lines =
            picture(&heat_map(&text, 1..14, 1..14), &text, 4, &[], 76, (Palette::Indexed, Scale::Shares));
        let rows: Vec<&String> =
            lines.iter().filter(|line| line.contains('▀') && line.contains('w')).collect();
        assert_eq!(rows.len(), 7, "13 rows: {lines:#?}");
        assert!(rows[0].contains("w01") && rows[0].contains("w02"));
        assert!(rows[1].contains("w03") && rows[1].contains("w04◂"), "{}", rows[1]);
        assert!(rows[6].contains("w13") && !rows[6].contains(";48;5;"), "the last row has none below it");
        assert!(lines.iter().any(|line| line.contains("two rows")));
    }

    #[test]
    fn picture__with_colours_and_few_rows__gives_each_a_line() {
        let text = words(12);
        let lines =
            picture(&heat_map(&text, 1..13, 1..13), &text, 4, &[], 76, (Palette::True, Scale::Shares));
        assert_eq!(lines.iter().filter(|line| line.contains("\x1b[48;2;")).count(), 12);
        assert!(!lines.iter().any(|line| line.contains("two rows")));
    }

    #[test]
    fn picture__narrow_columns__name_the_important_keys_at_their_place() {
        let text = words(30);
        let lines = picture(
            &heat_map(&text, 25..31, 1..31),
            &text,
            28,
            &[20, 28, 21],
            78,
            (Palette::Plain, Scale::Shares),
        );
        assert_eq!(lines[0], format!("{}w20{}w28", " ".repeat(5 + 19 * 2), " ".repeat(8 * 2 - 3)));
        assert_eq!(
            lines[1],
            format!("{}╷{}╷", " ".repeat(5 + 19 * 2), " ".repeat(8 * 2 - 1)),
            "w21 has no room"
        );
    }

    #[test]
    fn picture__part_of_the_text__says_so() {
        let text = words(30);
        let lines =
            picture(&heat_map(&text, 11..21, 1..31), &text, 15, &[], 78, (Palette::Plain, Scale::Shares))
                .join(" ");
        assert!(lines.contains("outside this part") && lines.contains("10 of 30 tokens look, at 30 of 30"));
    }

    #[test]
    fn legend__any_head__is_the_same_scale() {
        let text = text("the cat sat");
        let mut faint = heat_map(&text, 1..4, 1..4);
        let scale = |map: &HeatMap| {
            let lines = picture(map, &text, 3, &[], 78, (Palette::True, Scale::Shares));
            lines.into_iter().find(|line| line.contains("25 %")).unwrap()
        };
        let strong = scale(&faint);
        faint.probs.iter_mut().for_each(|share| *share *= 0.01);
        assert_eq!(scale(&faint), strong);
        for place in STOPS {
            assert!(strong.contains(&Scale::Shares.name(place)));
        }
    }

    #[test]
    fn picture__logarithmic__shows_what_is_faint_and_says_its_scale() {
        let text = text("the cat sat");
        let mut faint = heat_map(&text, 1..4, 1..4);
        faint.probs.iter_mut().for_each(|share| *share *= 0.01);
        let lines = |scale| picture(&faint, &text, 3, &[2], 78, (Palette::Plain, scale));
        let has_shade = |lines: &[String]| lines[1..4].iter().any(|line| line.contains(['░', '▒', '▓', '█']));
        assert!(!has_shade(&lines(Scale::Shares)));
        assert!(has_shade(&lines(Scale::Logarithmic)));
        assert!(lines(Scale::Logarithmic)[4].starts_with("░░ 0.08 %"), "{:#?}", lines(Scale::Logarithmic));
    }

    #[test]
    fn most_cells__picture_of_that_size__fits() {
        for palette in [Palette::Plain, Palette::Indexed] {
            for columns in 38..120 {
                let [_, keys] = most_cells(columns, 10, palette);
                let text = text(&"incomprehensible ".repeat(keys));
                let map = heat_map(&text, 1..keys.min(30) + 1, 1..keys + 1);
                for line in picture(&map, &text, 3, &[1, 2, 30], columns, (Palette::Plain, Scale::Shares)) {
                    assert!(width(&line) <= columns, "{columns}: {line}");
                }
            }
        }
    }
}

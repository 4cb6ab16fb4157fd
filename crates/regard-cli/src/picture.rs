//! One head's attention as a picture: rows look, columns are looked at.

use regard_lens::TokenizedText;
use regard_lens::view::HeatMap;

use crate::label::label;
use crate::palette::{Palette, SHADES, STOPS, shade};
use crate::visible::{cut, left, right, width, wrap};

/// The widest label beside the picture.
const LABEL: usize = 10;
/// Columns narrower than this cannot carry labels.
const LABELLED: usize = 4;
/// Wider columns gain nothing.
const WIDEST: usize = 8;

/// The largest picture, `[queries, keys]`, for so many columns and lines.
pub(crate) fn most_cells(columns: usize, lines: usize, palette: Palette) -> [usize; 2] {
    let beside = (LABEL + 2) * sides(palette);
    [lines * sides(palette), columns.saturating_sub(beside).max(1)]
}

/// With colours a line holds two rows, one labelled on the left and one on the right.
fn sides(palette: Palette) -> usize {
    if palette.has_colour() { 2 } else { 1 }
}

struct Picture<'a> {
    map: &'a HeatMap,
    text: &'a TokenizedText,
    focus: usize,
    /// Columns of a label, its marker included.
    label: usize,
    /// Columns of a cell.
    cell: usize,
    palette: Palette,
}

/// The lines of the picture with its labels and legend; `keys` are the columns to name where not all fit, most
/// important first.
pub(crate) fn picture(
    map: &HeatMap,
    text: &TokenizedText,
    focus: usize,
    keys: &[usize],
    columns: usize,
    palette: Palette,
) -> Vec<String> {
    let longest = map.queries.iter().map(|&query| width(&label(text, query))).max().unwrap_or(0);
    let label = longest.min(LABEL) + 1;
    let room = columns.saturating_sub((label + 1) * sides(palette)) / map.keys.len().max(1);
    let cell = if room >= LABELLED { room.min(WIDEST) } else { room.clamp(1, 2) };
    let picture = Picture { map, text, focus, label, cell, palette };
    let mut lines = picture.column_labels(keys);
    lines.extend(if palette.has_colour() { picture.half_block_rows() } else { picture.shaded_rows() });
    lines.extend(legend(palette, columns));
    if map.queries.len() < map.available || map.keys.len() < map.available {
        let part = format!(
            "part of the text: {} of {} tokens look, at {} of {}",
            map.queries.len(),
            map.available,
            map.keys.len(),
            map.available
        );
        lines.extend(wrap(&part, columns).iter().map(|line| palette.dim(line)));
    }
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
                for (key, &share) in self.map.row(upper).iter().enumerate() {
                    line += &self.palette.two_heats(share, lower_row.map(|row| row[key]), self.cell);
                }
                if let Some(lower) = lower {
                    line.push(' ');
                    line += &self.row_label(lower, false);
                }
                line
            })
            .collect()
    }

    fn shaded_rows(&self) -> Vec<String> {
        (0..self.map.queries.len())
            .map(|row| {
                let cells = self.map.row(row).iter().map(|&share| shade(share).to_string().repeat(self.cell));
                format!("{} {}", self.row_label(row, true), cells.collect::<String>()).trim_end().to_owned()
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
}

fn legend(palette: Palette, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let reading = if palette.has_colour() {
        const STEPS: usize = 8;
        let mut scale = String::new();
        for (place, (share, name)) in STOPS.into_iter().enumerate() {
            if let Some((next, _)) = STOPS.get(place + 1) {
                let at = |step: usize| {
                    let part = step as f32 / STEPS as f32;
                    // Even steps of the ramp, whose place is the square root of the share.
                    (share.sqrt() + part * (next.sqrt() - share.sqrt())).powi(2)
                };
                let ramp: String = (0..STEPS).map(|step| palette.heat(at(step), "▀")).collect();
                scale += &format!("{} {ramp} ", palette.dim(name));
            } else {
                scale += &palette.dim(name);
            }
        }
        lines.push(scale);
        "a row shows where one word looks; two rows to a line, the upper one named on the left"
    } else {
        let scale: Vec<String> =
            SHADES.iter().map(|(from, shade)| format!("{shade}{shade} from {:.0} %", from * 100.0)).collect();
        lines.extend(wrap(&scale.join("  "), columns));
        "a row shows where one word looks"
    };
    lines.extend(wrap(reading, columns).iter().map(|line| palette.dim(line)));
    lines
}

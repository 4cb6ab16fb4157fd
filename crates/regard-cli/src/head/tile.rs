//! Probabilities of one head as a picture: rows look, columns are looked at.

use regard_lens::profile::{Region, Thumbnail};

use crate::palette::{Palette, SHADES, STOPS, Scale, shade};
use crate::profile_run::Loaded;
use crate::terminal::Page;
use crate::visible::{cut, left, right, wrap};

/// Columns of a number.
const NUMBER: usize = 6;
/// The widest label of a row.
const LABEL: usize = 12;

/// Shares to draw, `[rows, columns]`, and what stands beside them.
pub(super) struct Picture {
    rows: usize,
    columns: usize,
    shares: Vec<f32>,
    title: String,
    /// The first row of each row of the picture.
    first_rows: Vec<usize>,
}

/// The largest picture for a page, `[rows, columns]`.
pub(super) fn most_cells(page: Page) -> [usize; 2] {
    let rows_per_line = if page.palette.has_colour() { 2 } else { 1 };
    [page.picture_lines * rows_per_line, (page.columns - LABEL) / 2]
}

impl Picture {
    pub(super) fn of_thumbnail(thumbnail: &Thumbnail) -> Self {
        let Thumbnail { rows, columns, of_rows, of_columns, .. } = *thumbnail;
        let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let title = if (rows, columns) == (of_rows, of_columns) {
            "every row (down) and key (across)".to_owned()
        } else {
            let (tall, wide) = (of_rows as f64 / rows as f64, of_columns as f64 / columns as f64);
            format!(
                "all {of_rows} rows (down) and {of_columns} keys (across): a cell is the mean mass that {tall:.0} rows give \
                 to {wide:.0} keys"
            )
        };
        Self {
            rows,
            columns,
            shares: cells.map(|(row, column)| thumbnail.mass(row, column)).collect(),
            title,
            first_rows: (0..rows).map(|row| (row * of_rows).div_ceil(rows)).collect(),
        }
    }

    pub(super) fn of_region(region: &Region) -> Self {
        let (rows, keys) = (&region.rows, &region.keys);
        let title =
            format!("rows {}:{} (down), keys {}:{} (across)", rows.start, rows.end, keys.start, keys.end);
        Self {
            rows: rows.len(),
            columns: keys.len(),
            shares: region.probs.clone(),
            title,
            first_rows: rows.clone().collect(),
        }
    }

    /// The picture in at most so many cells: mass summed over keys, its mean taken over rows.
    fn shrunk(&self, [most_rows, most_columns]: [usize; 2]) -> Self {
        let (rows, columns) = (self.rows.min(most_rows), self.columns.min(most_columns));
        let mut shares = vec![0.0; rows * columns];
        let mut counts = vec![0u32; rows];
        let mut first_rows = vec![0; rows];
        for (row, probs) in self.shares.chunks_exact(self.columns).enumerate() {
            let to = row * rows / self.rows;
            if counts[to] == 0 {
                first_rows[to] = self.first_rows[row];
            }
            counts[to] += 1;
            for (key, prob) in probs.iter().enumerate() {
                shares[to * columns + key * columns / self.columns] += prob;
            }
        }
        for (row, count) in shares.chunks_exact_mut(columns).zip(counts) {
            row.iter_mut().for_each(|share| *share /= count as f32);
        }
        let shrunk = (rows, columns) != (self.rows, self.columns);
        let note = if shrunk { "; a cell is the mean mass that its rows give to its keys" } else { "" };
        Self { rows, columns, shares, title: format!("{}{note}", self.title), first_rows }
    }
}

/// The picture's lines.
pub(super) fn draw(picture: &Picture, scale: Scale, page: Page) -> Vec<String> {
    let Page { columns, palette, .. } = page;
    let picture = picture.shrunk(most_cells(page));
    let cell = if picture.columns * 4 + LABEL <= columns { 4 } else { 2 };
    let label = picture.first_rows.last().map_or(1, |last| last.to_string().len());
    let mut lines: Vec<String> = wrap(&picture.title, columns).iter().map(|line| palette.dim(line)).collect();
    let row = |row: usize| &picture.shares[row * picture.columns..][..picture.columns];
    let step = if palette.has_colour() { 2 } else { 1 };
    for upper in (0..picture.rows).step_by(step) {
        let mut line = palette.dim(&right(&picture.first_rows[upper].to_string(), label)) + " ";
        let lower = (step == 2 && upper + 1 < picture.rows).then(|| row(upper + 1));
        for (key, &share) in row(upper).iter().enumerate() {
            if palette.has_colour() {
                let lower = lower.map(|row| scale.place(row[key]));
                line += &palette.two_heats(scale.place(share), lower, cell);
            } else {
                line.extend(std::iter::repeat_n(shade(scale.place(share)), cell));
            }
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.extend(wrap(&legend(scale, palette), columns).iter().map(|line| palette.dim(line)));
    lines
}

/// What the colours or shades mean.
fn legend(scale: Scale, palette: Palette) -> String {
    if palette.has_colour() {
        format!("dark to bright: {}", STOPS.map(|place| scale.name(place)).join(", "))
    } else {
        SHADES.map(|(from, shade)| format!("{shade} from {}", scale.name(from))).join("  ")
    }
}

/// Whether every probability of a region has room as a number.
pub(super) fn fits_numbers(region: &Region, page: Page) -> bool {
    region.keys.len() * NUMBER + LABEL <= page.columns && region.rows.len() <= 2 * page.picture_lines
}

/// The numbers of a small region, and what share of its rows' mass any region has.
pub(super) fn numbers(loaded: &Loaded, region: &Region, page: Page) -> Vec<String> {
    let Page { columns, palette, .. } = page;
    let name = |token: usize| crate::label::label(&loaded.text, token);
    let sum: f64 = region.probs.iter().map(|&prob| f64::from(prob)).sum();
    let share = sum / region.rows.len() as f64;
    let note = format!("these keys have {:.1} % of the mass of these rows", share * 100.0);
    let mut lines = Vec::new();
    if fits_numbers(region, page) {
        let heading: String =
            region.keys.clone().map(|key| right(&cut(&name(key), NUMBER - 1), NUMBER)).collect();
        lines.push(palette.dim(&(" ".repeat(LABEL) + &heading)));
        for (row, probs) in region.rows.clone().zip(region.probs.chunks_exact(region.keys.len())) {
            let cells =
                probs.iter().map(|&prob| palette.heat(0.15 + 0.45 * prob, &right(&number(prob), NUMBER)));
            lines.push((left(&name(row), LABEL) + &cells.collect::<String>()).trim_end().to_owned());
        }
    } else {
        lines.extend(wrap("too many for numbers here: --json has them all", columns));
    }
    lines.push(note);
    lines
}

/// A probability with three digits; nothing for none.
fn number(prob: f32) -> String {
    if prob == 0.0 {
        "·".to_owned()
    } else if prob < 0.0005 {
        "<.001".to_owned()
    } else {
        format!("{prob:.3}")
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn shrunk__blocks__sum_keys_and_average_rows() {
        let picture = Picture {
            rows: 4,
            columns: 2,
            shares: vec![1.0, 0.0, 0.5, 0.5, 0.0, 1.0, 0.0, 1.0],
            title: String::new(),
            first_rows: vec![10, 11, 12, 13],
        };
        let small = picture.shrunk([2, 1]);
        assert_eq!((small.shares, small.first_rows), (vec![1.0, 1.0], vec![10, 12]));
        assert_eq!(picture.shrunk([2, 2]).shares, [0.75, 0.25, 0.0, 1.0]);
        assert_eq!(picture.shrunk([9, 9]).shares, picture.shares);
    }

    #[test]
    fn legend__both_scales__says_the_shares_of_its_shades() {
        assert_eq!(
            legend(Scale::Shares, Palette::Plain),
            "░ from 5 %  ▒ from 15 %  ▓ from 35 %  █ from 60 %"
        );
        assert!(legend(Scale::Logarithmic, Palette::Plain).starts_with("░ from 0.08 %"));
        assert_eq!(legend(Scale::Logarithmic, Palette::True), "dark to bright: 0.01 %, 1 %, 100 %");
    }
}

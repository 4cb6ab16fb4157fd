//! Layers by heads, one letter a head.

use std::collections::{BTreeMap, BTreeSet};

use regard_lens::profile::{HeadProfile, Role};

use super::coloured;
use crate::palette::Palette;
use crate::visible::{right, wrap};

/// Columns of the widest cell.
const WIDEST_CELL: usize = 3;

/// The grid in at most `columns` columns; if it is wider, in several parts.
pub(super) fn grid(heads: &[HeadProfile], columns: usize, palette: Palette) -> Vec<String> {
    let layers: BTreeSet<usize> = heads.iter().map(|head| head.id.layer).collect();
    let numbers: BTreeSet<usize> = heads.iter().map(|head| head.id.head).collect();
    let cells: BTreeMap<(usize, usize), &HeadProfile> =
        heads.iter().map(|head| ((head.id.layer, head.id.head), head)).collect();
    let label = layers.last().map_or(0, |last| format!("L{last}").len()).max(2);
    let digits = numbers.last().map_or(1, |last| last.to_string().len());
    // A cell holds its number and a blank; narrow terminals break the grid, not the numbers.
    let cell = (digits + 1).max(2).min(WIDEST_CELL.max(digits + 1));
    let each = ((columns - label) / cell).max(1);
    let numbers: Vec<usize> = numbers.into_iter().collect();
    let mut lines = Vec::new();
    for part in numbers.chunks(each) {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        let heading: String = part.iter().map(|number| right(&number.to_string(), cell)).collect();
        lines.push(palette.dim(&(right("H", label) + &heading)));
        for &layer in &layers {
            let mut line = palette.dim(&right(&format!("L{layer}"), label));
            for &number in part {
                line += &" ".repeat(cell - 1);
                line += &cells
                    .get(&(layer, number))
                    .map_or_else(|| " ".to_owned(), |head| coloured(head, palette));
            }
            lines.push(line.trim_end().to_owned());
        }
    }
    lines
}

/// What the letters mean, and how many heads have each.
pub(super) fn legend(heads: &[HeadProfile], columns: usize, palette: Palette) -> Vec<String> {
    let count = |role: Option<Role>| heads.iter().filter(|head| head.roles.first().copied() == role).count();
    let mut parts: Vec<String> = Role::ALL
        .into_iter()
        .filter(|&role| count(Some(role)) > 0)
        .map(|role| format!("{} {} {}", role.letter(), says(role), count(Some(role))))
        .collect();
    if count(None) > 0 {
        parts.push(format!("· none of these {}", count(None)));
    }
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if crate::visible::width(line) + 3 + crate::visible::width(&part) <= columns => {
                *line += "   ";
                *line += &part;
            }
            _ => lines.extend(wrap(&part, columns)),
        }
    }
    lines.iter().map(|line| palette.dim(line)).collect()
}

/// A role in a few words.
fn says(role: Role) -> &'static str {
    match role {
        Role::Previous => "the one before",
        Role::Next => "the one after",
        Role::Itself => "itself",
        Role::Induction => "what followed a copy",
        Role::Duplicate => "a copy",
        Role::Local => "nearby",
        Role::Broad => "broad",
        Role::Special => "special tokens",
        Role::FirstToken => "the first token",
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;
    use crate::sample::head_profile;
    use crate::visible::width;

    #[test]
    fn grid__any_size_and_width__fits_and_has_every_head_once() {
        for (layers, numbers) in [(1, 1), (6, 12), (30, 9), (4, 40), (2, 130)] {
            let heads: Vec<HeadProfile> = (0..layers * numbers)
                .map(|i| head_profile(i / numbers, i % numbers, &[Role::Previous]))
                .collect();
            for columns in [38, 58, 78, 118] {
                let lines = grid(&heads, columns, Palette::Plain);
                assert!(lines.iter().all(|line| width(line) <= columns && line == line.trim_end()));
                let letters: usize = lines.iter().map(|line| line.matches('p').count()).sum();
                assert_eq!(letters, layers * numbers);
            }
        }
    }

    #[test]
    fn grid__heads_with_and_without_roles__are_letters_and_dots() {
        let heads = [
            head_profile(0, 0, &[Role::Induction, Role::Local]),
            head_profile(0, 2, &[]),
            head_profile(11, 1, &[Role::Broad]),
        ];
        let lines = grid(&heads, 60, Palette::Plain);
        assert_eq!(lines, ["  H 0 1 2", " L0 i   ·", "L11   b"]);
        let legend = legend(&heads, 60, Palette::Plain);
        assert_eq!(legend, ["i what followed a copy 1   b broad 1   · none of these 1"]);
    }
}

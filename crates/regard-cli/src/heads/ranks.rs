//! A line for each role: its best heads, what they score, and what has to be beaten.

use regard_lens::profile::RoleRank;

use crate::palette::Palette;
use crate::visible::{left, right, wrap};

const ROLE: usize = 13;
const COUNT: usize = 5;
const HEAD: usize = 8;
const SCORE: usize = 5;
const NUMBER: usize = 8;
const ROWS: usize = 7;
/// Of all columns beside each other.
const WIDE: usize = ROLE + COUNT + 2 + HEAD + SCORE + 2 + HEAD + SCORE + 3 * NUMBER + ROWS;

/// Of the columns that narrow pages keep beside each other.
const NARROW: usize = ROLE + COUNT + 2 + HEAD + SCORE + 2 + HEAD + SCORE;

pub(super) fn table(ranks: &[RoleRank], columns: usize, palette: Palette) -> Vec<String> {
    let wide = columns >= WIDE;
    let mut heading = left("role", ROLE) + &right("heads", COUNT) + "  ";
    heading += &left("best", HEAD);
    heading += &right("score", SCORE);
    if columns >= NARROW {
        heading += "  ";
        heading += &left("next", HEAD);
        heading += &right("score", SCORE);
    }
    if wide {
        for title in ["needs", "equal", "shuffled"] {
            heading += &right(title, NUMBER + usize::from(title == "shuffled"));
        }
        heading += &right("rows", ROWS);
    }
    let mut lines = vec![palette.dim(&heading)];
    for rank in ranks {
        let letter = if rank.heads > 0 { rank.role.letter() } else { '·' };
        let mut line =
            left(&format!("{letter} {}", rank.role.name()), ROLE) + &right(&rank.heads.to_string(), COUNT);
        line += "  ";
        line += &palette.bold(&left(&rank.best.0.to_string(), HEAD));
        line += &score(Some(rank.best.1));
        let next = rank.runner_up.map_or_else(
            || left("–", HEAD + SCORE),
            |(id, second)| left(&id.to_string(), HEAD) + &score(Some(second)),
        );
        if columns >= NARROW {
            line += "  ";
            line += &next;
        }
        let bars = [Some(rank.least), rank.uniform, rank.shuffled];
        if wide {
            for (place, number) in bars.into_iter().enumerate() {
                line += &right(score(number).trim_start(), NUMBER + usize::from(place == 2));
            }
            line += &right(&rank.rows.to_string(), ROWS);
            lines.push(line);
        } else {
            lines.push(line.trim_end().to_owned());
            let [needs, equal, shuffled] = bars.map(|number| score(number).trim_start().to_owned());
            let next = next.split_whitespace().collect::<Vec<_>>().join(" ");
            let next = if columns < NARROW { format!("next {next}, ") } else { String::new() };
            let rest = format!("{next}needs {needs}, equal {equal}, shuffled {shuffled}, {} rows", rank.rows);
            lines.extend(wrap(&rest, columns - 2).iter().map(|line| format!("  {}", palette.dim(line))));
        }
    }
    lines
}

/// A score from 0 to 1 with two digits; three where it is small.
fn score(score: Option<f32>) -> String {
    let text = match score {
        None => "–".to_owned(),
        Some(score) if score > 0.0 && score < 0.0005 => "<.001".to_owned(),
        Some(score) if score < 0.0995 => format!("{score:.3}"),
        Some(score) => format!("{score:.2}"),
    };
    right(&text, SCORE)
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use regard_lens::profile::Role;
    use regard_lens::view::HeadId;

    use super::*;
    use crate::visible::width;

    #[test]
    fn table__any_width__fits_and_says_every_number() {
        let id = |layer, head| HeadId { layer, head };
        let rank = RoleRank {
            role: Role::FirstToken,
            heads: 184,
            best: (id(29, 10), 0.98765),
            runner_up: Some((id(3, 1), 0.5)),
            least: 0.3,
            rows: 8191,
            uniform: Some(0.0011),
            shuffled: None,
        };
        for columns in [38, 58, 78, 118] {
            let lines = table(std::slice::from_ref(&rank), columns, Palette::Plain);
            assert!(lines.iter().all(|line| width(line) <= columns), "{columns}: {lines:#?}");
            let all = lines.join("\n");
            for part in
                ["first-token", "184", "L29.H10", "0.99", "L3.H1", "0.50", "0.30", "0.001", "–", "8191"]
            {
                assert!(all.contains(part), "{part} at {columns}: {all}");
            }
        }
    }

    #[test]
    fn score__small_ones__keep_a_digit_that_tells() {
        let shown = [None, Some(0.0), Some(0.0001), Some(0.0123), Some(0.456), Some(1.0)].map(score);
        assert_eq!(
            shown.map(|text| text.trim().to_owned()),
            ["–", "0.000", "<.001", "0.012", "0.46", "1.00"]
        );
    }
}

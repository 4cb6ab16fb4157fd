//! What one head does, in numbers and bars.

use regard_lens::profile::{HeadProfile, Profile, Scores, Unit, distance_bin_start};

use super::LISTED_ROWS;
use crate::palette::Palette;
use crate::profile_run::Loaded;
use crate::report::percent;
use crate::terminal::Page;
use crate::visible::{left, right, width, wrap};

const NAME: usize = 24;
const NUMBER: usize = 11;

/// A number of a head, as people read it.
type Shown = fn(&Scores) -> Option<String>;

const NUMBERS: [(&str, Shown); 9] = [
    ("entropy, nats", |scores| Some(format!("{:.2}", scores.entropy))),
    ("entropy, of the most", |scores| Some(percent(scores.relative_entropy))),
    ("strongest key", |scores| Some(percent(scores.max_prob))),
    ("mean distance", |scores| Some(format!("{:.1}", scores.mean_distance))),
    ("the one before", |scores| scores.offsets.get(&-1).copied().map(percent)),
    ("first token", |scores| Some(percent(scores.first_token))),
    ("special tokens", |scores| Some(percent(scores.special))),
    ("other copies", |scores| scores.duplicate.map(percent)),
    ("what followed a copy", |scores| scores.induction.map(percent)),
];

/// The head's numbers beside those of its controls.
pub(super) fn card(loaded: &Loaded, profile: &Profile, head: &HeadProfile, page: Page) -> Vec<String> {
    let Page { columns, palette, .. } = page;
    let roles: Vec<&str> = head.roles.iter().map(|role| role.name()).collect();
    let roles = if roles.is_empty() { "no role that 30 rows show".to_owned() } else { roles.join(", ") };
    let unit = if profile.unit == Unit::Word { "words" } else { "tokens" };
    let rows = profile.profiled.counted.rows;
    let name = head.id.to_string();
    let title = wrap(&format!("{name}: {roles}; means over {rows} rows, in {unit}"), columns);
    let mut lines = title;
    if let Some(rest) = lines[0].strip_prefix(&name) {
        lines[0] = palette.bold(&name) + rest;
    }
    lines.push(String::new());
    let heading = left("", NAME) + &["head", "equal", "shuffled"].map(|title| right(title, NUMBER)).concat();
    lines.push(palette.dim(&heading));
    for (name, number) in NUMBERS {
        let columns = [Some(&head.scores), Some(&profile.profiled.uniform), head.shuffled.as_ref()];
        let cells = columns.map(|scores| scores.and_then(number).unwrap_or_else(|| "–".to_owned()));
        if cells[0] != "–" {
            lines.push(left(name, NAME) + &cells.map(|cell| right(&cell, NUMBER)).concat());
        }
    }
    let shuffled = match &profile.control {
        Some(control) if control.tokens < loaded.text.tokens.len() => {
            format!("; shuffled: the first {} tokens in random order", control.tokens)
        }
        Some(_) => "; shuffled: the same tokens in random order".to_owned(),
        None => String::new(),
    };
    let note = format!("equal: what equal weights score{shuffled}");
    lines.extend(wrap(&note, columns).iter().map(|line| palette.dim(line)));
    lines
}

/// How far the head looks: a bar for each stretch of distances.
pub(super) fn distances(head: &HeadProfile, columns: usize, palette: Palette) -> Vec<String> {
    let masses = &head.scores.distance;
    let shown = |bin: &usize| masses[*bin] > 0.0;
    let (Some(first), Some(last)) = ((0..masses.len()).find(shown), (0..masses.len()).rev().find(shown))
    else {
        return vec![];
    };
    let names: Vec<String> =
        (first..=last).map(|bin| bin_name(distance_bin_start(masses.len(), bin))).collect();
    let label = names.iter().map(|name| width(name)).max().unwrap_or(0);
    let room = columns.saturating_sub(label + 2 + 6).min(60);
    let mut lines = vec![palette.dim("how far away the mass lies")];
    for (bin, name) in (first..=last).zip(names) {
        let mass = masses[bin];
        let halves = (mass * room as f32 * 2.0).round() as usize;
        let bar = "━".repeat(halves / 2) + &"╸".repeat(halves % 2);
        let fill = " ".repeat(room - width(&bar));
        let line = format!(
            "{}  {}{fill}{}",
            right(&name, label),
            palette.heat(0.55, &bar),
            right(&percent(mass), 6)
        );
        lines.push(line);
    }
    lines
}

/// `3 back`, `8–15 ahead`.
fn bin_name(start: i64) -> String {
    let (near, far) = (start.unsigned_abs(), start.unsigned_abs().saturating_mul(2).saturating_sub(1));
    let range = if near == far { near.to_string() } else { format!("{near}–{far}") };
    match start.signum() {
        0 => "itself".to_owned(),
        1 => format!("{range} ahead"),
        _ => format!("{range} back"),
    }
}

/// The strongest keys of some rows.
pub(super) fn top_keys(loaded: &Loaded, profile: &Profile, head: &HeadProfile, page: Page) -> Vec<String> {
    let Page { columns, palette, .. } = page;
    let Some(top) = &head.top else { return vec![] };
    // Without sinks, the first row may have no key at all.
    let with_keys: Vec<usize> =
        (0..top.rows.len()).filter(|&place| top.row(place).next().is_some()).collect();
    let rows = with_keys.len();
    let listed = rows.min(LISTED_ROWS);
    let places: Vec<usize> = (0..listed).map(|i| with_keys[i * rows / listed]).collect();
    let name = |unit: usize| loaded.unit_label(profile, unit);
    let label = places.iter().map(|&place| width(&name(top.rows[place]))).max().unwrap_or(0).min(16);
    let number = top.rows.last().map_or(1, |last| last.to_string().len());
    let heading = if listed < rows {
        format!(
            "strongest keys of {listed} of {rows} rows, evenly spaced (--rows A:B for others, --json for all)"
        )
    } else {
        "strongest keys".to_owned()
    };
    let mut lines: Vec<String> = wrap(&heading, columns).iter().map(|line| palette.dim(line)).collect();
    for place in places {
        let row = top.rows[place];
        let mut line = palette.dim(&right(&row.to_string(), number));
        line += " ";
        line += &palette.bold(&left(&name(row), label));
        let mut used = number + 1 + label;
        for (key, prob) in top.row(place) {
            let distance = key as i64 - row as i64;
            let back = if distance == 0 { "0".to_owned() } else { format!("{distance:+}") };
            let part = format!("  {} {} ({back})", name(key), percent(prob));
            used += width(&part);
            if used > columns {
                break;
            }
            line += &part;
        }
        lines.push(line.trim_end().to_owned());
    }
    lines
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn bin_name__both_sides__says_the_stretch() {
        assert_eq!([0, 1, 2, 8].map(bin_name), ["itself", "1 ahead", "2–3 ahead", "8–15 ahead"]);
        assert_eq!([-1, -4].map(bin_name), ["1 back", "4–7 back"]);
    }
}

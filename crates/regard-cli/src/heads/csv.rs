//! A line a head, for spreadsheets.

use std::io::{self, Write};

use regard_lens::ModelInfo;
use regard_lens::profile::{HeadProfile, Profile, Unit};

use crate::csv::cell;

const COLUMNS: [&str; 14] = [
    "model",
    "unit",
    "layer",
    "head",
    "roles",
    "rows",
    "entropy",
    "relative_entropy",
    "max_prob",
    "mean_distance",
    "first_token",
    "special",
    "duplicate",
    "induction",
];

pub(super) fn write(output: &mut impl Write, model: &ModelInfo, profile: &Profile) -> io::Result<()> {
    let profiled = &profile.profiled;
    let offsets: Vec<i64> = profiled.counted.offsets.keys().copied().collect();
    let mut heading: Vec<String> = COLUMNS.map(str::to_owned).to_vec();
    heading.extend(offsets.iter().map(|offset| format!("offset_{offset}")));
    write_cells(output, &heading)?;
    let unit = if profile.unit == Unit::Word { "word" } else { "token" };
    for head in &profiled.heads {
        let mut cells = vec![model.name.clone(), unit.to_owned()];
        cells.extend(head_cells(head, profiled.counted.rows));
        cells.extend(offsets.iter().map(|&offset| head.scores.offset(offset).to_string()));
        write_cells(output, &cells)?;
    }
    Ok(())
}

fn head_cells(head: &HeadProfile, rows: usize) -> Vec<String> {
    let scores = &head.scores;
    let roles: Vec<&str> = head.roles.iter().map(|role| role.name()).collect();
    let number = |number: Option<f32>| number.map_or_else(String::new, |number| number.to_string());
    let mut cells =
        vec![head.id.layer.to_string(), head.id.head.to_string(), roles.join(" "), rows.to_string()];
    cells.extend(
        [
            Some(scores.entropy),
            Some(scores.relative_entropy),
            Some(scores.max_prob),
            Some(scores.mean_distance),
            Some(scores.first_token),
            Some(scores.special),
            scores.duplicate,
            scores.induction,
        ]
        .map(number),
    );
    cells
}

fn write_cells(output: &mut impl Write, cells: &[String]) -> io::Result<()> {
    let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
    writeln!(output, "{}", cells.join(","))
}

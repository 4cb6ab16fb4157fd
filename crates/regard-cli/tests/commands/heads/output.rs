//! What people see.

use unicode_width::UnicodeWidthStr;

use super::{LONG, TEXT, minilm, of, regard, run, tiny};
use crate::common::without_styles;

/// Commands whose output is a page.
const PAGES: [&[&str]; 6] = [
    &["heads"],
    &["heads", "--no-sink", "--norm", "--words"],
    &["head", "L1.H0"],
    &["head", "L1.H0", "--log", "--region", "2:9,0:6"],
    &["view", "--received", "--at", "3"],
    &[
        "view",
        "--received",
        "--at",
        "3",
        "--no-sink",
        "--norm",
        "--rows",
        "2:9",
        "--layers",
        "1",
        "--heads",
        "0",
    ],
];

#[test]
fn page__any_width_and_colour__fits() {
    let hostile = "a \u{202e}cat\x1b[2J sat 猫 on the mat 🐈";
    for model in ["bert", "llama"] {
        for text in [TEXT, hostile, "a"] {
            for page in PAGES {
                if text == "a" && (page.contains(&"--region") || page.contains(&"--at")) {
                    continue;
                }
                for (columns, color) in [(60, "never"), (60, "always"), (80, "never"), (120, "always")] {
                    let mut command = regard();
                    command.env("COLUMNS", columns.to_string()).args(page).arg("--model").arg(tiny(model));
                    let written = run(command.args(["--color", color, text])).written();
                    let plain = without_styles(&written);
                    for line in plain.lines() {
                        assert!(line.width() <= columns, "{page:?} {columns} {color}: {line:?}");
                    }
                    assert_eq!(color == "always", written.contains('\x1b'));
                    assert!(plain.contains("where a head reads, not why"), "{plain}");
                    assert!(plain.contains("of f64 on") && plain.contains("dense maps:"), "{plain}");
                }
            }
        }
    }
}

#[test]
fn heads__pipe__is_wide_and_plain() {
    let written = of(&tiny("bert"), &["heads", TEXT]).written();
    assert!(!written.contains('\x1b'));
    assert!(written.lines().any(|line| line.width() > 90), "{written}");
    assert!(written.contains("needs") && written.contains("equal") && written.contains("shuffled"));
}

#[test]
fn heads__minilm__shows_its_letters_and_ranks() {
    let Some(model) = minilm() else { return };
    let written = of(&model, &["heads", LONG]).written();
    let row =
        |layer: &str| written.lines().find(|line| line.trim_start().starts_with(layer)).unwrap().to_owned();
    let letter = |layer: &str, head: usize| row(layer).split_whitespace().nth(1 + head).unwrap().to_owned();
    assert_eq!((letter("L0 ", 2), letter("L1 ", 8)), ("p".into(), "n".into()), "{written}");
    assert!(
        written.lines().any(|line| line.trim_start().starts_with("p previous") && line.contains("L0.H2")),
        "{written}"
    );
}

#[test]
fn head__minilm__shows_the_link_it_is_known_for() {
    let Some(model) = minilm() else { return };
    let cat = "The cat sat on the mat because it was tired";
    let written = of(&model, &["head", "L3.H1", cat]).written();
    let row = written.lines().find(|line| line.trim_start().starts_with("8 it ")).unwrap();
    assert!(row.contains("cat 49 % (-6)"), "{row}");
    let region = of(&model, &["head", "L3.H1", "--region", "8:9,2:3", cat]).written();
    assert!(region.contains("0.487"), "{region}");
}

#[test]
fn received__minilm__names_who_looks_at_the_cat() {
    let Some(model) = minilm() else { return };
    let cat = "The cat sat on the mat because it was tired";
    let written = of(&model, &["view", "--received", "--at", "cat", cat]).written();
    assert!(written.contains("who looks at cat: the 20 of 72 heads"), "{written}");
    assert!(written.lines().any(|line| line.trim_start().starts_with("L5.H11")), "{written}");
}

#[test]
fn heads__few_rows__gives_no_letter() {
    let written = of(&tiny("bert"), &["heads", "the cat sat"]).written();
    let grid: Vec<&str> = written
        .lines()
        .filter(|line| line.trim_start().starts_with("L0") || line.trim_start().starts_with("L1"))
        .collect();
    assert!(!grid.is_empty());
    for line in grid {
        assert!(line.split_whitespace().skip(1).all(|cell| cell == "·"), "{line}");
    }
}

//! The command as its users run it, on the real model (`scripts/fetch-minilm`).

mod acceptance;
mod json;
mod output;
mod page;
mod refusals;

use std::path::PathBuf;

use crate::common::{Ran, minilm as model, regard, run};

const TIRED: &str = "The cat sat on the mat because it was tired";
const SOFT: &str = "The cat sat on the mat because it was soft";

/// `regard view --model …` with more arguments.
fn view(model: &PathBuf, arguments: &[&str]) -> Ran {
    run(regard().arg("view").arg("--model").arg(model).args(arguments))
}

/// The view without the numbers that differ from run to run.
fn without_costs(view: &str) -> String {
    let is_number = |word: &str| word.parse::<f64>().is_ok();
    let lines = view.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let shown = words.iter().enumerate().map(|(place, word)| {
            let next = words.get(place + 1).copied().unwrap_or("");
            let is_cost = matches!(next, "s" | "MB" | "MB." | "seconds") || word.contains("e-");
            if is_cost && is_number(word.trim_end_matches(';')) { "…" } else { word }
        });
        shown.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

//! The command as its users run it, on the real model (`scripts/fetch-minilm`).
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod acceptance;
mod json;
mod output;
mod page;
mod refusals;

use std::path::PathBuf;
use std::process::{Command, Stdio};

const TIRED: &str = "The cat sat on the mat because it was tired";
const SOFT: &str = "The cat sat on the mat because it was soft";

/// How a run ended.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// What a successful run wrote.
    fn written(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""));
        self.stdout
    }
}

/// The command without the caller's settings for colour and width.
fn regard() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regard"));
    for variable in ["NO_COLOR", "COLORTERM", "COLUMNS", "TERM"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Ran {
    let output = command.output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The folder of all-MiniLM-L6-v2, if it has been fetched; else says that the test is skipped.
fn model() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/all-MiniLM-L6-v2");
    if folder.join("model.safetensors").is_file() {
        return Some(folder);
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("SKIPPED: {test}: no model in {}; run scripts/fetch-minilm", folder.display());
    None
}

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

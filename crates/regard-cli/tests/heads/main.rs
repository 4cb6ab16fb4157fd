//! The commands over whole texts as their users run them, on the tiny models of golden/tiny and on all-MiniLM-L6-v2
//! (`scripts/fetch-minilm`).
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod check;
mod json;
mod output;
mod refusals;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Words that repeat, in as many tokens as every tiny model takes.
const TEXT: &str = "the cat sat on the mat because the cat was unable to sit";
/// More than thirty rows of them.
const LONG: &str = "The cat sat on the mat because it was tired. The dog sat on the mat because it was warm. \
                    The cat and the dog sat on the mat, and the mat was warm because the cat was warm.";

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

/// `regard COMMAND … --model …`.
fn of(model: &Path, arguments: &[&str]) -> Ran {
    run(regard().args(arguments).arg("--model").arg(model))
}

fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A tiny model that is always there.
fn tiny(name: &str) -> PathBuf {
    workspace().join("golden/tiny").join(name)
}

/// The folder of all-MiniLM-L6-v2, if it has been fetched; else says that the test is skipped.
fn minilm() -> Option<PathBuf> {
    let folder = workspace().join("models/all-MiniLM-L6-v2");
    if folder.join("model.safetensors").is_file() {
        return Some(folder);
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("SKIPPED: {test}: no model in {}; run scripts/fetch-minilm", folder.display());
    None
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

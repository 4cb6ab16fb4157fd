//! The commands over whole texts as their users run them, on the tiny models of golden/tiny and on all-MiniLM-L6-v2
//! (`scripts/fetch-minilm`).
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod check;
#[path = "../common/mod.rs"]
mod common;
mod json;
mod output;
mod refusals;

use std::path::{Path, PathBuf};

use common::{Ran, minilm, regard, run};

/// Words that repeat, in as many tokens as every tiny model takes.
const TEXT: &str = "the cat sat on the mat because the cat was unable to sit";
/// More than thirty rows of them.
const LONG: &str = "The cat sat on the mat because it was tired. The dog sat on the mat because it was warm. \
                    The cat and the dog sat on the mat, and the mat was warm because the cat was warm.";

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

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

//! The commands over whole texts as their users run them, on the tiny models of golden/tiny and on all-MiniLM-L6-v2
//! (`scripts/fetch-minilm`).

mod check;
mod json;
mod output;
mod refusals;

use std::path::{Path, PathBuf};

use crate::common::{Ran, minilm, regard, run, tiny};

/// Words that repeat, in as many tokens as every tiny model takes.
const TEXT: &str = "the cat sat on the mat because the cat was unable to sit";
/// More than thirty rows of them.
const LONG: &str = "The cat sat on the mat because it was tired. The dog sat on the mat because it was warm. \
                    The cat and the dog sat on the mat, and the mat was warm because the cat was warm.";

/// `regard COMMAND … --model …`.
fn of(model: &Path, arguments: &[&str]) -> Ran {
    run(regard().args(arguments).arg("--model").arg(model))
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

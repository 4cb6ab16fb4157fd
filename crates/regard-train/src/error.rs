//! What can go wrong.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why training or an experiment stopped.
#[derive(Debug)]
#[non_exhaustive]
pub enum TrainError {
    /// A file could not be read or written.
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it should be.
    BadFile {
        /// Which.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },
    /// There is too little text to train on.
    TooLittleText {
        /// Least number of tokens.
        expected: usize,
        /// Tokens in all data.
        found: usize,
    },
    /// An option has a value that cannot be used.
    Option {
        /// Its name on the command line.
        name: &'static str,
        /// What is allowed.
        expected: String,
        /// What was given.
        found: String,
    },
    /// The loss is no number any more.
    LossNotFinite {
        /// At which step.
        step: u64,
        /// The checkpoint that was kept, if there is one.
        checkpoint: Option<PathBuf>,
    },
    /// The tokenizer could not be trained or used.
    Tokenizer(String),
    /// The attention operation refused its input.
    Attention(String),
    /// The exported model could not be looked into.
    Lens(regard_lens::LensError),
}

impl TrainError {
    /// For `map_err` of file operations.
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    pub(crate) fn bad(path: &Path, problem: impl Into<String>) -> Self {
        Self::BadFile { path: path.to_owned(), problem: problem.into() }
    }
}

impl fmt::Display for TrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, source } => write!(f, "{}: {source}", path.display()),
            Self::BadFile { path, problem } => write!(f, "{}: {problem}", path.display()),
            Self::TooLittleText { expected, found } => {
                write!(
                    f,
                    "the data has {found} tokens, at least {expected} are needed; give more with --data"
                )
            }
            Self::Option { name, expected, found } => write!(f, "{name}: expected {expected}, found {found}"),
            Self::LossNotFinite { step, checkpoint } => {
                write!(f, "the loss is not a finite number at step {step}; try a lower --learning-rate")?;
                match checkpoint {
                    Some(path) => write!(f, "; the last good checkpoint is {}", path.display()),
                    None => Ok(()),
                }
            }
            Self::Tokenizer(problem) => write!(f, "tokenizer: {problem}"),
            Self::Attention(problem) => write!(f, "attention: {problem}"),
            Self::Lens(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TrainError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Lens(error) => Some(error),
            _ => None,
        }
    }
}

impl From<regard_lens::LensError> for TrainError {
    fn from(error: regard_lens::LensError) -> Self {
        Self::Lens(error)
    }
}

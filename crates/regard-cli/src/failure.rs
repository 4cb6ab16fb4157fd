//! How the command ends when it cannot do what was asked.

use std::fmt;
use std::io;

use regard_lens::LensError;

/// Why the command stops.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request makes no sense: exit code 2.
    Usage(String),
    /// The request makes sense and could not be done: exit code 1.
    Failed(String),
    /// Nobody reads the output any more (`regard … | head`): exit code 0, in silence.
    NobodyListens,
}

impl Failure {
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::Usage(message.to_string())
    }

    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::Failed(message.to_string())
    }
}

impl From<io::Error> for Failure {
    /// An error of writing the output.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::NobodyListens
        } else {
            Self::Failed(format!("cannot write the output: {error}"))
        }
    }
}

impl From<LensError> for Failure {
    fn from(error: LensError) -> Self {
        match error {
            LensError::Observer(error) => match error.downcast::<io::Error>() {
                Ok(error) => Self::from(*error),
                Err(error) => Self::failed(error),
            },
            error @ (LensError::EmptyText
            | LensError::OutOfRange { .. }
            | LensError::NoSuchHead { .. }
            | LensError::PatternLength { .. }
            | LensError::NothingToPredict) => Self::usage(error),
            error => Self::failed(error),
        }
    }
}

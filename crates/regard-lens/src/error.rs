//! What can go wrong, in one line each.

use std::fmt;

use regard::AttentionError;

/// Why a model could not be loaded or run.
#[derive(Debug)]
#[non_exhaustive]
pub enum LensError {
    /// Neither a directory nor a model id.
    ModelNotFound {
        /// What was asked for.
        model: String,
    },
    /// The text has no tokens besides special ones.
    EmptyText,
    /// The text has more tokens than the model has positions.
    TextTooLong {
        /// Tokens of the text, special ones included.
        found: usize,
        /// The most the model takes.
        limit: usize,
    },
    /// The attention was asked for something it does not have.
    Attention(AttentionError),
    /// An observer stopped the run.
    Observer(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for LensError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ModelNotFound { model } => {
                write!(f, "model {model:?}: no such directory, and not a model id (org/name)")
            }
            Self::EmptyText => write!(f, "the text is empty; give at least one word"),
            Self::TextTooLong { found, limit } => write!(
                f,
                "the text has {found} tokens and the model takes at most {limit}; shorten the text or use a model with more positions"
            ),
            Self::Attention(error) => write!(f, "{error}"),
            Self::Observer(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for LensError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Attention(error) => Some(error),
            Self::Observer(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<AttentionError> for LensError {
    fn from(error: AttentionError) -> Self {
        Self::Attention(error)
    }
}

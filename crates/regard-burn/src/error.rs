use std::fmt;

use burn::tensor::DType;
use regard::AttentionError;

/// Why a call was refused; nothing has been computed then.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A shape, an option or an allocation, as `regard` says it.
    Attention(AttentionError),
    /// A tensor has another element type than the query.
    DtypeMismatch {
        /// The tensor, as in `"key"`.
        tensor: &'static str,
        /// The query's element type.
        expected: DType,
        /// The tensor's.
        found: DType,
    },
    /// Quantized tensors have no attention here.
    QuantizedTensor {
        /// The query's element type.
        found: DType,
    },
    /// A tensor lives on another device than the query.
    DeviceMismatch {
        /// The tensor, as in `"key"`.
        tensor: &'static str,
        /// The query's device.
        expected: String,
        /// The tensor's.
        found: String,
    },
    /// Two tensors that both record gradients checkpoint them by different strategies.
    CheckpointingMismatch {
        /// The tensor, as in `"key"`.
        tensor: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attention(error) => error.fmt(f),
            Self::DtypeMismatch { tensor, expected, found } => {
                write!(
                    f,
                    "{tensor}: expected elements of type {expected:?} like the query's, found {found:?}"
                )
            }
            Self::QuantizedTensor { found } => write!(f, "query: expected a float type, found {found:?}"),
            Self::DeviceMismatch { tensor, expected, found } => {
                write!(f, "{tensor}: expected on the query's device {expected}, found on {found}")
            }
            Self::CheckpointingMismatch { tensor } => {
                write!(f, "{tensor}: expected the query's gradient checkpointing strategy, found another")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Attention(error) => Some(error),
            _ => None,
        }
    }
}

impl From<AttentionError> for Error {
    fn from(error: AttentionError) -> Self {
        Self::Attention(error)
    }
}

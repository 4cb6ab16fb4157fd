//! What can be wrong with a request, said in numbers.

use std::fmt;

/// Why an attention call or a view was refused.
///
/// Every error is found before anything is written to an output.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AttentionError {
    /// An axis has another size than the rest of the request implies.
    ShapeMismatch {
        /// The axis, as in `"key.head_dim"`.
        axis: &'static str,
        /// The size that the other arguments imply.
        expected: usize,
        /// The size that was given.
        found: usize,
    },
    /// `num_kv_heads` does not divide `num_heads`.
    HeadGroups {
        /// Query heads.
        num_heads: usize,
        /// Key and value heads.
        num_kv_heads: usize,
    },
    /// `head_dim` is zero, so no score is defined.
    ZeroHeadDim,
    /// A product of sizes or strides does not fit the address space.
    SizeOverflow {
        /// The quantity that overflows.
        what: &'static str,
    },
    /// A slice is shorter than its shape and strides reach, or an index is outside of its axis.
    OutOfBounds {
        /// The view or buffer, or the index.
        what: &'static str,
        /// Elements that shape and strides reach; the index plus one.
        needed: usize,
        /// Elements in the slice; the size of the axis.
        found: usize,
    },
    /// Two positions of an output share an element.
    OverlappingOutput {
        /// The strides given, in elements: batch, head, sequence, dimension.
        strides: [usize; 4],
    },
    /// An array view is not one contiguous block of memory, or runs backwards.
    NotContiguous,
    /// A number that must be finite (and, for some, positive) is not.
    InvalidNumber {
        /// The option.
        what: &'static str,
        /// The value given.
        found: f32,
    },
    /// The gradient of an option was asked for that the configuration does not have.
    MissingOption {
        /// The option.
        option: &'static str,
    },
    /// A block was asked for of an attention whose queries do not stand at one offset.
    BlockPosition,
    /// Cumulative lengths do not start with 0, decrease, or end elsewhere than their tensor.
    CumulativeLengths {
        /// Which lengths.
        what: &'static str,
        /// Where the offending number is.
        index: usize,
        /// The number.
        found: usize,
        /// Rows of the packed tensor.
        rows: usize,
    },
    /// A size that must divide another does not.
    NotDivisible {
        /// What should be divided, as in `"model_dim by num_heads"`.
        what: &'static str,
        /// The size to divide.
        size: usize,
        /// The divisor.
        divisor: usize,
    },
    /// A cache has no room for what should be appended.
    CacheFull {
        /// What there is too little of: `"rows"` of a sequence, or `"pages"`.
        what: &'static str,
        /// How many the request needs.
        needed: usize,
        /// How many are left.
        available: usize,
    },
    /// An option is set that the callee sets itself.
    ConflictingOption {
        /// The option.
        what: &'static str,
        /// What already says it.
        with: &'static str,
    },
    /// A size is outside of what a method is defined for.
    InvalidSize {
        /// The size.
        what: &'static str,
        /// The sizes that there may be, as in `"an even number from 2"`.
        expected: &'static str,
        /// The size given.
        found: usize,
    },
    /// A buffer could not be allocated.
    AllocationFailed {
        /// Bytes asked for.
        bytes: usize,
    },
    /// The instruction set asked for (by configuration or `REGARD_ISA`) is not one this machine and build have.
    UnavailableIsa {
        /// What was asked for.
        requested: String,
        /// What there is.
        available: String,
    },
    /// A weight that a layer needs is missing from a file, or has a type or shape it cannot use.
    Weight {
        /// The tensor's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl fmt::Display for AttentionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShapeMismatch { axis, expected, found } => {
                write!(f, "{axis}: expected size {expected}, found {found}")
            }
            Self::HeadGroups { num_heads, num_kv_heads } => write!(
                f,
                "num_kv_heads must divide num_heads: found {num_kv_heads} kv heads for {num_heads} query heads"
            ),
            Self::ZeroHeadDim => write!(f, "head_dim: expected at least 1, found 0"),
            Self::SizeOverflow { what } => write!(f, "{what}: size does not fit the address space"),
            Self::OutOfBounds { what, needed, found } => {
                write!(f, "{what}: at least {needed} needed, found {found}")
            }
            Self::OverlappingOutput { strides } => write!(
                f,
                "output: strides {strides:?} let two positions share an element; an output needs distinct ones"
            ),
            Self::NotContiguous => write!(
                f,
                "array view: expected one contiguous block with non-negative strides; make a standard-layout copy"
            ),
            Self::InvalidNumber { what, found } => {
                write!(f, "{what}: expected a finite number, found {found}")
            }
            Self::BlockPosition => write!(
                f,
                "mask.position: a block needs TopLeft or Offset, the place of the whole's queries among its keys"
            ),
            Self::CumulativeLengths { what, index, found, rows } => write!(
                f,
                "{what}: expected numbers that start with 0, do not decrease and end with {rows}, the rows of the \
                 tensor; found {found} at index {index}"
            ),
            Self::MissingOption { option } => {
                write!(f, "d_{option}: expected a configuration with {option}, found one without")
            }
            Self::NotDivisible { what, size, divisor } => {
                write!(f, "cannot divide {what}: {size} is not a multiple of {divisor}")
            }
            Self::CacheFull { what, needed, available } => {
                write!(f, "cache: {needed} more {what} needed, {available} left")
            }
            Self::ConflictingOption { what, with } => write!(f, "{what}: cannot be set beside {with}"),
            Self::InvalidSize { what, expected, found } => {
                write!(f, "{what}: expected {expected}, found {found}")
            }
            Self::AllocationFailed { bytes } => write!(f, "could not allocate {bytes} bytes"),
            Self::UnavailableIsa { requested, available } => {
                write!(f, "instruction set {requested:?} is not available here; choose one of: {available}")
            }
            Self::Weight { name, problem } => write!(f, "weight {name}: {problem}"),
        }
    }
}

impl std::error::Error for AttentionError {}

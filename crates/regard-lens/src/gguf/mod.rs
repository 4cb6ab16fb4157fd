//! GGUF files: one file with a model's sizes, its vocabulary and its tensors, many of them quantised
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>).
//!
//! The header is read and checked here, before anything is allocated for what it says; tensors are then read and
//! dequantised by candle.

mod header;
mod metadata;
#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests;
mod vocabulary;
mod weights;

pub(crate) use metadata::{Metadata, OtherType};
pub(crate) use vocabulary::Vocabulary;
pub(crate) use weights::GgufWeights;

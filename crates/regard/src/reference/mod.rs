//! The textbook: attention in three loops, the oracle of every test.
//!
//! Nothing here is fast, blocked or clever, and nothing here shares arithmetic with the kernels: the mask is read
//! from its definition, every score of a row exists at once, and the arithmetic is that of the type chosen.
//! In f64 it is the truth that kernels are measured against; in f32 it is the "naive implementation in the
//! same precision" of the accuracy rule (NUMERICS.md).

mod forward;

pub use forward::{Real, ReferenceOutput, ReferenceRow, forward, row};

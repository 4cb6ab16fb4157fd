//! The kernels: the only place with `unsafe`.
//!
//! | file | what |
//! |---|---|
//! | `isa.rs`, `dispatch.rs` | which instruction set; the one `match` that enters it |
//! | `run.rs`, `plan.rs`, `problem.rs` | a whole call: waves, pieces, workers, and what they share |
//! | `forward.rs`, `tile.rs` | many query rows: register tiles over packed keys |
//! | `decode.rs` | few query rows: row dots over keys in place |
//! | `online_softmax.rs`, `exp.rs`, `tanh.rs`, `row_mask.rs`, `finish.rs` | what both paths share |
//! | `backward/` | gradients of everything, from the saved log-sum-exp |
//! | `observe.rs`, `statistics/` | who may look at probabilities as they pass by, and what is summed up of them |
//! | `probs.rs` | probabilities of chosen rows |
//! | `rows.rs`, `paged.rs`, `pack.rs`, `scratch.rs`, `workers.rs` | data in, data out, memory, threads |
//! | `matrix_product.rs` | the only caller of `gemm` |
#![allow(unsafe_code)]

mod backward;
mod decode;
mod dispatch;
mod exp;
mod fetch;
mod finish;
mod forward;
mod isa;
mod matrix_product;
mod observe;
mod online_softmax;
mod pack;
mod paged;
#[cfg(test)]
mod panicking;

mod plan;
mod problem;
mod probs;
mod row_mask;
mod rows;
mod run;
mod scratch;
mod statistics;
mod tanh;
mod tile;
mod workers;

pub(crate) use backward::{BackwardCall, BiasGradients, GradientSinks};
pub(crate) use finish::share_beside_sink;
pub use isa::Isa;
pub(crate) use matrix_product::{Matrix, add_product};
pub(crate) use paged::PagedRows;
pub(crate) use probs::ProbsCall;
pub(crate) use rows::{RowNumbers, RowSource, SharedOutput, ShiftedRows};
pub(crate) use run::ForwardCall;
pub use scratch::Workspace;
pub(crate) use scratch::{filled, zeroed};
pub(crate) use statistics::StatisticsCall;
pub(crate) use workers::Queue;

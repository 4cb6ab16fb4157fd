//! Trains small Transformers through [`regard`]'s attention, and tests with them what is said of attention.
#![cfg_attr(test, allow(non_snake_case))]

pub mod chart;
pub mod corpus;
mod error;
pub mod evaluate;
pub mod experiments;
pub mod export;
pub mod fit;
pub mod model;
pub mod objective;
pub mod random;
pub mod sentences;
pub mod split;
pub mod step;
pub mod vocabulary;

pub use error::TrainError;

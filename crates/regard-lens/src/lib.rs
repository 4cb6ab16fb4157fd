//! Transformers to look into: real models from Hugging Face directories, run on [`regard`], with every layer's
//! attention handed to an observer.

mod bert;
mod error;
mod files;
mod hub;
mod model;
mod observer;
mod token;
mod tokenizer;
pub mod view;

pub use error::{HubProblem, LensError};
pub use hub::resolve_model;
pub use model::{HiddenStates, Model, ModelInfo};
pub use observer::{AttentionObserver, LayerAttention};
pub use token::{Token, TokenizedText};

//! Transformers to look into: real models from Hugging Face directories and GGUF files, run on [`regard`], with every layer's
//! attention handed to an observer.
//!
//! ```no_run
//! use regard_lens::{AttentionObserver, LayerAttention, LensError, Model};
//!
//! /// Prints which token the first head of each layer looks at from the last one.
//! struct FirstHeads;
//!
//! impl AttentionObserver for FirstHeads {
//!     fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
//!         let seq_len = attention.key.shape()[2];
//!         let mut probs = vec![0.0; seq_len];
//!         attention.probs(0, seq_len - 1..seq_len, &mut probs)?;
//!         let key = (0..seq_len).max_by(|&a, &b| probs[a].total_cmp(&probs[b]));
//!         println!("L{}.H0: {key:?}", attention.layer);
//!         Ok(())
//!     }
//! }
//!
//! let model = Model::load("models/all-MiniLM-L6-v2".as_ref())?;
//! let tokens = model.tokenize("The cat sat on the mat because it was tired")?;
//! let hidden = model.run(&tokens, &mut FirstHeads)?;
//! assert_eq!(hidden.data.len(), tokens.tokens.len() * hidden.model_dim);
//! # Ok::<(), LensError>(())
//! ```
//!
//! The mathematics of a layer is [`regard`]'s; here are the files, the tokenizer, and what of a Transformer is not
//! attention. [`view`] works out what each head does with one word of a text, [`profile`] with all of it; [`evidence`] changes
//! heads and looks at what comes of it; [`exchange`] trades attention with other programs.

#[cfg(feature = "builtin")]
mod builtin;
mod error;
pub mod evidence;
pub mod exchange;
mod families;
mod files;
#[cfg(feature = "gguf")]
mod gguf;
mod hub;
mod intervene;
mod kept;
mod model;
mod observer;
mod open;
mod predict;
pub mod probe;
pub mod profile;
mod token;
mod tokenizer;
mod transformer;
pub mod view;

pub use error::{HubProblem, LensError};
#[cfg(feature = "hub")]
pub use hub::Hub;
pub use hub::resolve_model;
pub use intervene::{Change, Interventions, Pattern};
pub use model::{HiddenStates, Model, ModelInfo, Predicts};
pub use observer::{AttentionObserver, Both, LayerAttention};
pub use predict::{Filled, Prediction};
pub use token::{Token, TokenizedText};

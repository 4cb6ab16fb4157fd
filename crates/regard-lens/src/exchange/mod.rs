//! Attention to and from other programs: files of exact numbers for notebooks, and matrices that another program
//! computed.

mod maps;
mod npy;
mod save;
mod tokens;

pub use maps::AttentionMaps;
pub use save::{SavePlan, Saver};
pub use tokens::tokens_from_json;

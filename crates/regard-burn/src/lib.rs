#![doc = include_str!("../README.md")]

mod attention;
mod composed;
mod error;
mod extension;
mod flex;
mod multi_head_attention;
mod owned;

pub use attention::{attention, rotate};
pub use error::Error;
pub use multi_head_attention::{MultiHeadAttention, MultiHeadAttentionConfig};

//! Layers around the kernel: projections and multi-head attention.

mod linear;
mod multi_head_attention;
#[cfg(feature = "safetensors")]
mod weights;

pub use linear::Linear;
pub use multi_head_attention::{Attended, MultiHeadAttention, Projection};

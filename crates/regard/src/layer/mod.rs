//! Layers around the kernel: projections, multi-head attention, and caches of keys and values.

mod backward;
mod cache;
mod kv_cache;
mod linear;
mod multi_head_attention;
mod paged_kv_cache;
mod paged_view;
mod projection;
#[cfg(feature = "safetensors")]
mod weights;

pub use backward::{ForwardPass, MultiHeadAttentionGradients, OptionGradients, ProjectionGradients};
pub use kv_cache::KvCache;
pub use linear::{Linear, LinearGradients};
pub use multi_head_attention::MultiHeadAttention;
pub use paged_kv_cache::PagedKvCache;
pub use paged_view::PagedView;
pub use projection::{Attended, Projection};

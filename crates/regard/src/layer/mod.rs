//! Layers around the kernel: projections, multi-head attention, and caches of keys and values.

mod cache;
mod kv_cache;
mod linear;
mod multi_head_attention;
mod paged_kv_cache;
mod paged_view;
#[cfg(feature = "safetensors")]
mod weights;

pub use kv_cache::KvCache;
pub use linear::Linear;
pub use multi_head_attention::{Attended, MultiHeadAttention, Projection};
pub use paged_kv_cache::PagedKvCache;
pub use paged_view::PagedView;

//! Exact multi-head self-attention.

mod attention;
mod config;
mod element;
mod error;
mod kernel;
pub mod layer;
mod mask;
mod parallelism;
pub mod position;
pub mod reference;
mod shape;
mod view;

pub use attention::{
    AttentionOutput, HeadRows, attention, attention_probs, attention_scratch_bytes, attention_with,
};
pub use config::AttentionConfig;
pub use element::Element;
pub use error::AttentionError;
pub use half::{bf16, f16};
pub use kernel::{Isa, Workspace};
pub use mask::{Mask, QueryPosition, Window};
pub use parallelism::Parallelism;
pub use shape::AttentionShape;
pub use view::{Layout, TensorView, TensorViewMut};

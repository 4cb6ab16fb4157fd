//! Exact multi-head self-attention: fast on the machine you have, in memory that grows with the sequence and
//! not with its square, and open to being looked into.
//!
//! # Attention in one page
//!
//! A sequence of positions, each a vector, is projected three times. The *query* of a position says what it
//! looks for, its *key* what it has to offer, its *value* what it carries:
//!
//! > Attention(Q, K, V) = softmax(Q·Kᵀ / √d_k) · V
//!
//! 1. Every query meets every key in a dot product: the *score*. It is divided by √d_k, or else long vectors
//!    would make the next step all or nothing.
//! 2. Softmax turns the scores of a row into *probabilities*: positive numbers that sum to 1.
//! 3. The output at a position is the sum of all values, weighted by these probabilities.
//! 4. *Multi-head*: the same in several smaller subspaces side by side, concatenated and projected back, so
//!    that different heads can look for different things ([`layer::MultiHeadAttention`]).
//! 5. Nothing in this knows the order of the positions, so [`position`] encodings are added.
//!
//! Time grows with the square of the sequence. Memory does not have to: [`attention`] goes through the keys in
//! blocks, keeps for each row the largest score and the sum of exponentials so far, and rescales when a
//! larger one comes (`docs/2-online-softmax.md`). The result is exact: the same sum, in another order.
//!
//! # Use
//!
//! ```
//! use regard::{AttentionConfig, Layout, Mask, QueryPosition, TensorView, TensorViewMut, attention};
//!
//! let shape = [1, 4, 10, 32]; // batch, heads, sequence, head_dim
//! let len = shape.iter().product();
//! let query: Vec<f32> = (0..len).map(|i| (i as f32 * 0.1).sin()).collect();
//! let key: Vec<f32> = (0..len).map(|i| (i as f32 * 0.2).cos()).collect();
//! let value: Vec<f32> = (0..len).map(|i| i as f32 / len as f32).collect();
//! let mut output = vec![0.0; len];
//!
//! let layout = Layout::BatchHeadSeqDim;
//! attention(
//!     TensorView::new(&query, shape, layout)?,
//!     TensorView::new(&key, shape, layout)?,
//!     TensorView::new(&value, shape, layout)?,
//!     TensorViewMut::new(&mut output, shape, layout)?,
//!     &AttentionConfig::new().with_mask(Mask::causal(QueryPosition::TopLeft)),
//! )?;
//! assert_eq!(output[..32], value[..32]); // the first position sees itself alone
//! # Ok::<(), regard::AttentionError>(())
//! ```
//!
//! [`attention_with`] also returns each row's log-sum-exp and reuses its memory; [`attention_probs`] recomputes
//! chosen rows of probabilities from it. [`attention_statistics`] says what each row attends to, and what each key
//! receives, at any length. Masks are in [`Mask`], every other option in [`AttentionConfig`].
//!
//! # Promises
//!
//! What happens to empty rows, NaN, infinities and odd shapes, how large the error may be, and when bits are
//! equal is written down in `NUMERICS.md`, each line beside the test that holds it. The instruction set is
//! chosen at run time ([`Isa`]); `REGARD_ISA` forces one.

mod attention;
mod bias;
mod config;
mod dropout;
mod element;
mod error;
mod gradients;
mod kernel;
pub mod layer;
mod mask;
mod packed;
mod parallelism;
mod partial;
pub mod position;
pub mod reference;
mod shape;
mod statistics;
mod view;

pub use attention::{
    AttentionOutput, HeadBlock, attention, attention_probs, attention_scratch_bytes, attention_with,
};
pub use bias::RelativeBias;
pub use config::AttentionConfig;
pub use dropout::{Dropout, DropoutOrigin};
pub use element::Element;
pub use error::AttentionError;
pub use gradients::{
    AttentionGradients, BackwardInputs, attention_backward, attention_backward_scratch_bytes,
};
pub use half::{bf16, f16};
pub use kernel::{Isa, Workspace};
pub use mask::{Mask, QueryPosition, Window};
pub use packed::{PackedBatch, PackedLengths, attention_packed, attention_packed_backward};
pub use parallelism::Parallelism;
pub use partial::{Partial, merge_partials};
pub use shape::AttentionShape;
pub use statistics::{
    AttentionStatistics, KeySets, StatisticsRequest, attention_statistics,
    attention_statistics_scratch_bytes, attention_with_statistics,
};
pub use view::{Layout, TensorView, TensorViewMut};

/// The README's example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

//! What each head does with one text: the analysis behind `regard view`.
//!
//! A bare list of the strongest attention weights says little. In all-MiniLM-L6-v2 a head that always looks at
//! the word before (L0.H2, probability 1.000) wins almost every row, and another sends *every* word to `cat`
//! (L5.H11). So each link carries what is usual for its key, and heads are grouped by what they do in this text.
//!
//! # Words
//! A *query* is the token that looks, a *key* the token looked at, `P(q, k)` the probability that head gives.
//! *Special* tokens are those the tokenizer adds around the text (`[CLS]`, `[SEP]`). In a causal model the first token
//! takes what heads have no other use for, whatever word it is (the attention sink; Xiao et al. 2023, section
//! 3.1). Both stand *aside*: they are listed only if asked for, and are no queries of the text; all others are *of
//! the text*. A first token that a query looks at at least [`LINK_MIN_LIFT`] times as much as the others do counts as a
//! key of the text for that query. Probabilities are never renormalised, whatever is left out of a list.
//!
//! - **usual** of a link q → k: the mean of `P(o, k)` over the other queries o of the text, with o ≠ q and o ≠ k
//!   (a token's look at itself says nothing about the others), and in a causal model o after k (the others
//!   cannot see k). There is none if no such query exists.
//! - **lift** = `P(q, k)` / usual. There is none without usual, or where usual is 0.
//!
//! # Kinds
//! [`HeadKind`] lists them in order of precedence: a head's row has the first kind whose condition holds.
//! *Previous*, *next*, *topic* and *special* describe the head over the whole text; *link* and *ahead* describe
//! one query's strongest key of the text, so they can differ from row to row.
//!
//! # Cost
//! One pass over each head's probabilities, a few rows at a time: time O(seq_len²), memory O(seq_len) per thread,
//! and one window of probabilities for the picture ([`HeatMap`]).

mod head;
mod head_id;
mod heat_map;
mod kind;
#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod layer_tests;
mod link;
mod options;
mod statistics;
#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests;
mod text_table;
mod verification;
mod viewer;

pub use head::{HeadView, QueryRow};
pub use head_id::{HeadId, NotAHead};
pub use heat_map::HeatMap;
pub use kind::{HeadKind, LINK_MIN_LIFT, LINK_MIN_OFFSET, LINK_MIN_PROB};
pub use link::Link;
pub use options::{Queries, ViewOptions};
pub use statistics::{HeadStatistics, Topic};
pub use verification::Verification;
pub use viewer::{OnHead, Viewed, Viewer};

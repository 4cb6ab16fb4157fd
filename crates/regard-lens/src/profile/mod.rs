//! What every head does over a whole text of any length, in a few numbers: the analysis behind `regard heads`.
//!
//! [`profile`] runs a model over a text and sums up each head's probabilities with
//! [`regard::attention_statistics`]: memory is O(tokens), and no matrix of tokens by tokens exists. Beside each head's
//! [`Scores`] stand two controls: what equal weights would score on the same text ([`Profiled::uniform`]), and what the same
//! head scores on the text's tokens in shuffled order ([`Control`]). A head has a [`Role`] where a score reaches the
//! role's threshold and three times what equal weights score, over at least thirty rows.
//!
//! # Rows
//! Means are over the *rows of the text*: queries that are not special tokens, nor, in a causal model, the first token,
//! which takes what heads have no other use for (Xiao et al. 2023, section 3.1). Both stand *aside*. As keys they count,
//! unless [`ProfileOptions::no_sink`] leaves them out.
//!
//! # Other readings of the same run
//! - [`ProfileOptions::no_sink`]: keys that stand aside are forbidden, so that what each row gives to the other keys is
//!   divided by its sum; [`HeadProfile::kept`] says how much that was. Exact, in the same pass.
//! - [`ProfileOptions::norm`]: a_ij·‖f(x_j)‖ divided by its sum over j, f(x) = (x·W_V + b_V)·W_O^h being what a head adds
//!   for a whole a (Kobayashi et al. 2020). As softmax(s + ln‖f‖) is just that, it is a bias for each key, exact and in the
//!   same pass. The norms cost O(tokens·head_dim²) a head.
//! - [`Unit::Word`]: pieces of words are merged; attention to a word is the sum over its pieces, attention from it their
//!   mean (Clark et al. 2019, section 4.1). This reads each row of probabilities once more, a block of rows at a time:
//!   O(tokens) memory still, but several times the time.

mod control;
mod dense;
mod layer_call;
mod options;
mod profiler;
mod ranking;
mod received;
mod result;
mod role;
mod run;
mod streamed;
#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests;
mod totals;
mod uniform;
mod units;
mod value_norms;
mod verification;
mod words;

pub use control::shuffled;
pub use options::{ProfileOptions, Selection, TopKeysOf, Unit};
pub use profiler::Profiler;
pub use ranking::RoleRank;
pub use received::{ReceivedBy, ReceivedFrom};
pub use result::{
    Control, Counted, HeadProfile, Profile, Profiled, Region, Scores, Thumbnail, TopKeys, distance_bin_start,
};
pub use role::{CONTROL_FACTOR, MIN_ROWS, Role};
pub use run::profile;

//! Standard tests of what heads do, each with the rivals that need no model and with an untrained model beside it.
//!
//! - [`syntax`]: does a head's strongest word stand in a relation of syntax to the word that looks ([`read_conllu`])?
//! - [`coreference`]: does a pronoun's strongest candidate mean the same ([`read_coreference`])?
//! - [`repeats`]: previous tokens, duplicate tokens and induction on repeated random tokens.
//! - [`needle`]: does the last position look at a fact hidden in a long text?
//! - [`agreement`]: does a verb look at its subject past nouns of the other number?
//!
//! What is chosen (a head, an offset, a rule) is chosen on one part of the data and reported on another.
//! Attention shows where a head reads, not why, and not whether it matters.

pub mod agreement;
mod conllu;
pub mod coreference;
mod coreference_file;
mod interval;
mod lines;
mod look;
pub mod needle;
mod random;
pub mod repeats;
pub mod syntax;
mod untrained;
mod vocabulary;
mod words;

pub use conllu::{UdSentence, UdWord, count_relations, read_conllu};
pub use coreference_file::{Book, Mention, read_coreference};
pub use interval::{Interval, interval};
pub use look::{OnText, TextChecks};
pub use words::{Alignment, WordText};

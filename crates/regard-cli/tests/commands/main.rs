//! The command as its users run it: on the tiny models of golden/tiny, on the built-in one, and on all-MiniLM-L6-v2
//! (`scripts/fetch-minilm`).
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

#[cfg(feature = "builtin")]
mod builtin;
mod common;
mod evidence;
mod fill;
mod heads;
mod probe;
mod view;

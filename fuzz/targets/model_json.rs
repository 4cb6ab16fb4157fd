//! `config.json` or `tokenizer.json` of arbitrary bytes; the first byte says which.
#![no_main]

use libfuzzer_sys::fuzz_target;
use regard_fuzz::model::{catchable_panics, load_with};

fuzz_target!(init: catchable_panics(), |data: &[u8]| {
    let Some((which, data)) = data.split_first() else { return };
    load_with(if which % 2 == 0 { "config.json" } else { "tokenizer.json" }, data);
});

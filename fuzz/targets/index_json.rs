//! The index of a sharded model, of arbitrary bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use regard_fuzz::model::{catchable_panics, load_with};

fuzz_target!(init: catchable_panics(), |data: &[u8]| load_with("model.safetensors.index.json", data));

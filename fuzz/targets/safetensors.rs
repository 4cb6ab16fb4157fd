//! A weight file of arbitrary bytes, for a model and for a layer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use regard::layer::MultiHeadAttention;
use regard_fuzz::model::{catchable_panics, load_with};

fuzz_target!(init: catchable_panics(), |data: &[u8]| {
    load_with("model.safetensors", data);
    if let Ok(file) = safetensors::SafeTensors::deserialize(data) {
        for heads in [[1, 1], [4, 2]] {
            let _ = MultiHeadAttention::from_safetensors(&file, "", heads);
        }
    }
});

//! GGUF files as paths, and damaged ones.
#![cfg(feature = "gguf")]
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod common;

use common::golden::TinyGolden;
use common::tiny::{Random, TempDir};
use regard_lens::{LensError, Model};

fn bytes() -> Vec<u8> {
    std::fs::read(TinyGolden::dir("llama_gguf").join("model.gguf")).unwrap()
}

/// Loads a directory with these bytes as its GGUF file, and runs it.
fn load(bytes: &[u8]) -> Result<(), LensError> {
    let dir = TempDir::new();
    std::fs::write(dir.path().join("a.gguf"), bytes).unwrap();
    let model = Model::load(dir.path())?;
    let tokens = model.tokenize("The cat")?;
    model.next_token(&tokens, 1).map(|_| ())
}

#[test]
fn gguf__file_or_directory__same_model_under_its_own_name() {
    let dir = TinyGolden::dir("llama_gguf");
    let (whole, file) = (Model::load(&dir).unwrap(), Model::load(&dir.join("model.gguf")).unwrap());
    assert_eq!((whole.info().name.as_str(), file.info().name.as_str()), ("llama_gguf", "model"));
    assert_eq!(whole.info().sha256, file.info().sha256);
}

#[test]
fn gguf__several_files__asks_for_one() {
    let dir = TempDir::new();
    for name in ["b.gguf", "a.gguf"] {
        std::fs::write(dir.path().join(name), bytes()).unwrap();
    }
    let error = Model::load(dir.path()).unwrap_err();
    assert!(error.to_string().contains("found a.gguf, b.gguf; name the file"), "{error}");
    Model::load(&dir.path().join("b.gguf")).unwrap();
}

#[test]
fn gguf__a_tensor_that_the_layout_has_no_place_for__is_refused() {
    let mut changed = bytes();
    let name = b"blk.1.attn_q.weight";
    let place = changed.windows(name.len()).position(|window| window == name).unwrap();
    changed[place..][..name.len()].copy_from_slice(b"blk.9.attn_q.weight");
    let line = load(&changed).unwrap_err().to_string();
    assert!(line.contains("blk: expected layers 0 to 1 (llama.block_count), found layer 9"), "{line}");
    changed[place..][..name.len()].copy_from_slice(b"blk.1.attn_q.biases");
    let line = load(&changed).unwrap_err().to_string();
    assert!(line.contains("expected a tensor blk.1.attn_q.weight, found none"), "{line}");
}

#[test]
fn gguf__sizes_unlike_the_tensors__are_refused() {
    let mut changed = bytes();
    let key = b"llama.feed_forward_length";
    let place = changed.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
    changed[place..][..4].copy_from_slice(&96u32.to_le_bytes());
    let error = load(&changed).unwrap_err();
    assert!(
        matches!(&error, LensError::TensorShape { expected, found, .. }
        if expected == &[96, 32] && found == &[64, 32]),
        "{error:?}"
    );
}

#[test]
fn gguf__damaged_at_random__is_a_model_or_an_error_and_never_a_panic() {
    let whole = bytes();
    load(&whole).unwrap();
    let mut random = Random(11);
    for _ in 0..300 {
        let mut changed = whole.clone();
        for _ in 0..1 + random.below(4) {
            let place = random.below(changed.len());
            changed[place] = random.next() as u8;
        }
        if random.below(4) == 0 {
            changed.truncate(random.below(changed.len()));
        }
        if let Err(error) = load(&changed) {
            assert!(!error.to_string().chars().any(char::is_control), "{error}");
        }
    }
}

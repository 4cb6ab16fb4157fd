//! The small model that is part of the program.
#![cfg(feature = "builtin")]
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

use std::path::Path;

use regard_lens::view::{HeadView, Link, Queries, ViewOptions, Viewer};
use regard_lens::{Model, Predicts, TokenizedText};

const TIRED: &str = "The cat sat on the mat because it was tired";
const SOFT: &str = "The cat sat on the mat because it was soft";

/// Every head's row of the text's `it`.
fn seen_from_it(model: &Model, text: &str) -> (TokenizedText, Vec<HeadView>) {
    let tokens = model.tokenize(text).unwrap();
    let it = tokens.tokens.iter().position(|token| token.text == "it").unwrap();
    let mut heads = Vec::new();
    let mut on_head = |head| {
        heads.push(head);
        Ok(())
    };
    let options = ViewOptions {
        queries: Queries::One(it),
        top: 3,
        keep_special: false,
        map_size: [0, 0],
        map_head: None,
    };
    let mut viewer = Viewer::new(&tokens, model.info(), options, &mut on_head);
    model.run(&tokens, &mut viewer).unwrap();
    drop(viewer);
    (tokens, heads)
}

#[test]
fn builtin__files__are_at_most_8_MB_and_one_model() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("builtin");
    let files = ["config.json", "tokenizer.json", "model.safetensors"];
    let bytes: u64 = files.iter().map(|file| folder.join(file).metadata().unwrap().len()).sum();
    assert!(bytes <= 8_000_000, "{bytes}");
    let (model, loaded) = (Model::builtin().unwrap(), Model::load(&folder).unwrap());
    assert_eq!(model.info().name, "built-in small model");
    assert_eq!(model.info().sha256, loaded.info().sha256);
    assert_eq!((model.info().predicts, model.info().dtype.as_str()), (Predicts::MaskedToken, "F16"));
    assert!(model.info().built_in && !loaded.info().built_in);
    assert!(model.pronoun_head().is_some() && model.pronoun_head() == loaded.pronoun_head());
}

#[test]
fn builtin__words_of_the_demonstration__are_one_token_each() {
    let model = Model::builtin().unwrap();
    for word in ["cat", "mat", "tired", "soft", "it", "Cat", "sat"] {
        let tokens = model.tokenize(word).unwrap();
        assert_eq!(tokens.tokens.len(), 3, "{word}");
        assert_eq!(tokens.tokens[1].text, word.to_lowercase());
    }
}

#[test]
fn builtin__demonstration__links_it_to_the_cat_if_tired_and_to_the_mat_if_soft() {
    let model = Model::builtin().unwrap();
    let head = model.pronoun_head().unwrap();
    for (text, antecedent) in [(TIRED, "cat"), (SOFT, "mat")] {
        let (tokens, heads) = seen_from_it(&model, text);
        let row = &heads.iter().find(|view| view.id == head).unwrap().rows[0];
        let Link { key, prob, lift, .. } = row.top[0];
        println!("{text}: {head} it → {} {prob:.3}, lift {lift:?}", tokens.tokens[key].text);
        assert_eq!(tokens.tokens[key].text, antecedent);
        assert!(lift.is_some_and(|lift| lift >= 2.0), "{lift:?}");
    }
}

#[test]
fn builtin__mask__is_filled_with_a_noun_of_the_text() {
    let model = Model::builtin().unwrap();
    for (text, antecedent) in [
        ("The cat sat on the mat because the [MASK] was tired", "cat"),
        ("The cat sat on the mat because the [MASK] was soft", "mat"),
    ] {
        let filled = model.fill(&model.tokenize(text).unwrap(), 3).unwrap();
        assert!(filled[0].predictions.iter().any(|word| word.text == antecedent), "{text}: {filled:?}");
    }
}

#[test]
fn from_memory__bytes_that_are_no_model__are_refused_by_the_name_given() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("builtin");
    let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
    let (config, tokenizer, weights) =
        (read("config.json"), read("tokenizer.json"), read("model.safetensors"));
    let load = |config: &[u8], weights: &[u8]| Model::from_memory("mine", config, &tokenizer, weights.into());
    assert!(load(&config, &weights).is_ok());
    for cut in [0, 7, 100, weights.len() - 1] {
        let error = load(&config, &weights[..cut]).unwrap_err().to_string();
        assert!(error.contains("mine") && error.contains("model.safetensors"), "{error}");
    }
    let error = load(b"{}", &weights).unwrap_err().to_string();
    assert!(error.contains("mine") && error.contains("config.json"), "{error}");
}

#[test]
fn pronoun_head__not_of_the_model_or_no_head__is_none() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("builtin");
    let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
    let (tokenizer, weights) = (read("tokenizer.json"), read("model.safetensors"));
    let config: serde_json::Value = serde_json::from_slice(&read("config.json")).unwrap();
    for head in ["L99.H0", "L0.H99", "third"] {
        let mut config = config.clone();
        config["regard"]["pronoun_head"] = head.into();
        let config = serde_json::to_vec(&config).unwrap();
        let model = Model::from_memory("mine", &config, &tokenizer, weights.as_slice().into()).unwrap();
        assert_eq!(model.pronoun_head(), None, "{head}");
    }
}

//! Configurations of the other layouts that are inconsistent or do not run here.
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod common;

use common::golden::TinyGolden;
use common::tiny::TempDir;
use regard_lens::{LensError, Model};
use serde_json::{Value, json};

/// A tiny model with some fields of its configuration changed; a field becomes absent with null.
fn load_changed(name: &str, changes: &Value) -> Result<Model, LensError> {
    let (source, dir) = (TinyGolden::dir(name), TempDir::new());
    for file in ["tokenizer.json", "model.safetensors"] {
        std::fs::copy(source.join(file), dir.path().join(file)).unwrap();
    }
    let config = std::fs::read(source.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    for (field, value) in changes.as_object().unwrap() {
        config[field] = value.clone();
    }
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    Model::load(dir.path())
}

fn assert_refused(name: &str, changes: Value, reason: &str) {
    let line = load_changed(name, &changes).map(|_| ()).unwrap_err().to_string();
    assert!(line.contains(reason) && !line.contains('\n'), "{name} {changes}: {line}");
}

#[test]
fn llama__configuration_that_does_not_run__is_refused_by_field() {
    let rope = |rope: Value| json!({ "rope_parameters": rope });
    let cases = [
        (json!({ "num_key_value_heads": 3 }), "expected a multiple of num_key_value_heads (3), found 4"),
        (json!({ "num_key_value_heads": 0 }), "num_key_value_heads: expected 1 to 1024, found 0"),
        (json!({ "num_attention_heads": 3, "head_dim": null }), "hidden_size: expected a multiple of"),
        (json!({ "head_dim": 0 }), "head_dim: expected 1 to 4096, found 0"),
        (json!({ "head_dim": 5 }), "expected shape [20, 16], found [16, 16]"),
        (json!({ "max_position_embeddings": 0 }), "max_position_embeddings: expected 1 to"),
        (json!({ "rms_norm_eps": -1.0 }), "rms_norm_eps: expected a finite number, not negative"),
        (json!({ "hidden_act": "tanh" }), "hidden_act: expected one of"),
        (
            json!({ "attention_bias": true }),
            "expected a tensor model.layers.0.self_attn.q_proj.bias, found none",
        ),
        (
            json!({ "num_hidden_layers": 1 }),
            "layers: expected layers 0 to 0 (num_hidden_layers), found layer 1",
        ),
        (json!({ "vocab_size": 1 << 25 }), "vocab_size: expected 1 to 16777216"),
        (rope(json!({ "rope_type": "longrope" })), "rope_type: expected \"default\", \"linear\""),
        (rope(json!({ "rope_type": "linear" })), "rope_parameters.factor: expected a number, found none"),
        (rope(json!({ "rope_type": "linear", "factor": 0.0 })), "rotary factor (positive)"),
        (rope(json!({ "rope_type": "yarn", "factor": -1.0 })), "rotary factor (positive)"),
        (rope(json!({ "rope_type": "default", "rope_theta": 0.0 })), "rotary base (positive)"),
        (rope(json!({ "rope_type": "dynamic", "factor": 1e300 })), "rotary"),
        (
            rope(json!({ "rope_type": "default", "partial_rotary_factor": 0.5 })),
            "partial_rotary_factor: expected 1",
        ),
        (
            rope(json!({ "rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 0 })),
            "rope_parameters.original_max_position_embeddings: expected 1 to",
        ),
    ];
    for (changes, reason) in cases {
        assert_refused("llama", changes, reason);
    }
}

#[test]
fn llama__older_names_of_rotary_scaling__mean_the_same() {
    let new = TinyGolden::load_model("llama_yarn");
    let rope = json!({ "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16 });
    let changes = json!({ "rope_parameters": null, "rope_scaling": rope, "rope_theta": 10000.0 });
    let old = load_changed("llama_yarn", &changes).unwrap();
    let run = |model: &Model| {
        let tokens = model.tokenize("The cat sat on the mat").unwrap();
        model.run(&tokens, &mut common::NoObserver).unwrap()
    };
    assert_eq!(run(&new), run(&old));
}

#[test]
fn gpt2__configuration_that_does_not_run__is_refused_by_field() {
    for (changes, reason) in [
        (json!({ "n_head": 3 }), "n_embd: expected a multiple of n_head (3), found 16"),
        (json!({ "n_embd": u64::MAX }), "n_embd: expected 1 to 65536"),
        (json!({ "n_inner": null }), "expected shape [16, 64], found [16, 20]"),
        (json!({ "n_positions": 0 }), "n_positions: expected 1 to"),
        (json!({ "activation_function": "tanh" }), "activation_function: expected one of"),
        (json!({ "add_cross_attention": true }), "add_cross_attention: expected false"),
        (json!({ "tie_word_embeddings": false }), "expected a tensor lm_head.weight, found none"),
        (json!({ "n_layer": 1 }), "h: expected layers 0 to 0 (n_layer), found layer 1"),
    ] {
        assert_refused("gpt2", changes, reason);
    }
}

#[test]
fn encoders__configuration_that_does_not_run__is_refused_by_field() {
    assert_refused(
        "roberta",
        json!({ "pad_token_id": 39 }),
        "expected more than pad_token_id + 1 (40), found 40",
    );
    assert_refused("roberta", json!({ "pad_token_id": 1u64 << 40 }), "pad_token_id: expected 0 to");
    assert_refused(
        "roberta",
        json!({ "model_type": "bert" }),
        "expected a tensor embeddings.word_embeddings",
    );
    assert_refused(
        "distilbert",
        json!({ "n_heads": 5 }),
        "dim: expected a multiple of n_heads (5), found 16",
    );
    assert_refused("distilbert", json!({ "n_layers": 1 }), "layers 0 to 0 (n_layers), found layer 1");
    assert_refused(
        "bert",
        json!({ "tie_word_embeddings": false }),
        "cls.predictions.decoder.weight, found none",
    );
}

#[test]
fn run__text_beyond_its_positions__is_refused() {
    for (name, most) in [("roberta", 38), ("gpt2", 48), ("llama", 64), ("llama_dynamic", 24)] {
        let model = TinyGolden::load_model(name);
        assert_eq!(model.info().max_tokens, most, "{name}");
        let error = model.tokenize(&" cat".repeat(100)).unwrap_err();
        assert!(matches!(error, LensError::TextTooLong { limit, .. } if limit == most), "{error:?}");
    }
}

#[test]
fn logits__position_that_does_not_exist_or_states_of_another_model__are_an_error() {
    let (model, other) = (TinyGolden::load_model("llama"), TinyGolden::load_model("gpt2"));
    let tokens = model.tokenize("The cat").unwrap();
    let mut hidden = model.run(&tokens, &mut common::NoObserver).unwrap();
    assert!(model.logits(&hidden, &[]).unwrap().is_empty());
    for position in [hidden.seq_len, usize::MAX] {
        assert!(matches!(model.logits(&hidden, &[position]), Err(LensError::Attention(_))));
    }
    assert_eq!(other.logits(&hidden, &[0]).unwrap().len(), other.vocabulary_size());
    hidden.model_dim = 8;
    assert!(matches!(model.logits(&hidden, &[0]), Err(LensError::Attention(_))));
    hidden.model_dim = 0;
    assert!(model.logits(&hidden, &[0]).is_err());
}

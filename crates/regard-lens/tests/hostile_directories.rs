//! Model directories whose configuration, index, links or tokenizer are wrong: each is refused with a reason.
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod common;

use std::path::Path;

use common::tiny::{TempDir, TinyBert, load_and_run};
use regard_lens::{LensError, Model};
use serde_json::{Value, json};

/// What loading says about a model after a change to it.
#[track_caller]
fn refusal(change: impl FnOnce(&mut TinyBert)) -> LensError {
    let dir = TempDir::new();
    let mut model = TinyBert::new();
    change(&mut model);
    model.write(dir.path());
    Model::load(dir.path()).unwrap_err()
}

#[track_caller]
fn assert_config_refused(field: &str, value: Value, reason: &str) {
    let line = refusal(|model| model.config[field] = value.clone()).to_string();
    assert!(line.contains("config.json") && line.contains(reason), "{field} {value}: {line}");
    assert!(!line.contains('\n'), "{line}");
}

#[test]
fn config__a_model_that_does_not_run_here__refused_by_the_field_that_says_so() {
    assert_config_refused("model_type", json!("t5"), "model_type: expected \"bert\"");
    assert_config_refused("model_type", Value::Null, "or \"llama\", found none");
    assert_config_refused("position_embedding_type", json!("relative_key"), "expected \"absolute\"");
    assert_config_refused("is_decoder", json!(true), "is_decoder: expected false");
    assert_config_refused("hidden_act", json!("tanh"), "hidden_act: expected one of [\"gelu\"");
    // Of another family, so without BERT's fields: still the family is named.
    let line = refusal(|model| model.config = json!({ "model_type": "mamba", "d_model": 8 })).to_string();
    assert!(line.contains("model_type: expected \"bert\"") && line.contains("found \"mamba\""), "{line}");
}

#[test]
fn config__sizes_out_of_bounds__refused() {
    for field in [
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
        "type_vocab_size",
    ] {
        for value in [json!(0), json!(u64::MAX), json!(1u64 << 40)] {
            assert_config_refused(field, value, &format!("{field}: expected 1 to "));
        }
        for value in [json!(-1), json!(8.5), json!("8"), json!([8]), Value::Null] {
            assert_config_refused(field, value, "invalid");
        }
    }
    assert_config_refused(
        "num_hidden_layers",
        json!(1025),
        "num_hidden_layers: expected 1 to 1024, found 1025",
    );
    assert_config_refused(
        "num_attention_heads",
        json!(3),
        "expected a multiple of num_attention_heads (3), found 8",
    );
    assert_config_refused("layer_norm_eps", json!(-1e-3), "layer_norm_eps: expected a finite number");
}

#[test]
fn config__sizes_unlike_the_weights__refused_with_both_shapes() {
    let cases = [
        ("hidden_size", 16, "expected shape [12, 16], found [12, 8]"),
        ("intermediate_size", 32, "expected shape [32, 8], found [16, 8]"),
        ("vocab_size", 13, "expected shape [13, 8], found [12, 8]"),
        ("max_position_embeddings", 1 << 20, "expected shape [1048576, 8], found [16, 8]"),
        ("type_vocab_size", 1, "expected shape [1, 8], found [2, 8]"),
        ("num_hidden_layers", 3, "expected a tensor encoder.layer.2.attention.self.query.weight, found none"),
        ("num_hidden_layers", 1, "expected layers 0 to 0 (num_hidden_layers), found layer 1"),
    ];
    for (field, value, reason) in cases {
        let line = refusal(|model| model.config[field] = json!(value)).to_string();
        assert!(line.contains("model.safetensors") && line.contains(reason), "{field} {value}: {line}");
    }
}

#[test]
fn config__not_an_object_of_fields__refused() {
    let nested = format!("{{\"model_type\":\"bert\",\"x\":{}", "[".repeat(500_000));
    let texts: [&[u8]; 8] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{\"model_type\":1}",
        b"{\"model_type\":\"bert\"}",
        nested.as_bytes(),
    ];
    for text in texts {
        let dir = TempDir::new();
        TinyBert::new().write(dir.path());
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        let error = Model::load(dir.path()).unwrap_err();
        let nothing = matches!(&error, LensError::Config { field: "model_type", .. });
        assert!(matches!(error, LensError::Json { .. }) || nothing, "{error:?}");
    }
    let twice = TinyBert::new().config.to_string().replacen('{', "{\"hidden_size\":8,", 1);
    let dir = TempDir::new();
    TinyBert::new().write(dir.path());
    std::fs::write(dir.path().join("config.json"), twice).unwrap();
    let line = Model::load(dir.path()).unwrap_err().to_string();
    assert!(line.contains("duplicate field `hidden_size`"), "{line}");
}

#[test]
fn config__larger_than_any_real_one__refused() {
    let dir = TempDir::new();
    TinyBert::new().write(dir.path());
    std::fs::write(dir.path().join("config.json"), " ".repeat((1 << 20) + 1)).unwrap();
    let error = Model::load(dir.path()).unwrap_err();
    assert!(matches!(error, LensError::TooLarge { limit: 1_048_576, found: 1_048_577, .. }), "{error:?}");
}

#[test]
fn messages__words_from_files__never_reach_a_terminal_raw() {
    let evil = "\u{1b}[31mred\u{7}\u{202e}\n";
    let errors = [
        refusal(|model| model.config["model_type"] = json!(evil)),
        refusal(|model| model.config["hidden_act"] = json!(evil)),
        refusal(|model| model.config = json!({ "model_type": "bert", "hidden_size": evil })),
        refusal(|model| model.tokenizer["version"] = json!(evil)),
        refusal(|model| model.tokenizer["model"]["vocab"][evil] = json!(99)),
        refusal(|model| model.tokenizer["normalizer"] = json!({ "type": evil })),
        refusal(|model| model.tokenizer["truncation"]["strategy"] = json!(evil)),
    ];
    for error in errors {
        let line = error.to_string();
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
    }
}

#[test]
fn directory__a_file_missing__refused_by_name() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let dir = TempDir::new();
        TinyBert::new().write(dir.path());
        std::fs::remove_file(dir.path().join(file)).unwrap();
        let error = Model::load(dir.path()).unwrap_err();
        assert!(matches!(&error, LensError::MissingFile { file: f, .. } if *f == file), "{error:?}");
        assert!(error.to_string().contains(file), "{error}");
    }
}

#[test]
fn directory__absent_or_a_file__refused() {
    let dir = TempDir::new();
    let error = Model::load(&dir.path().join("absent")).unwrap_err();
    assert!(matches!(error, LensError::Read { .. }), "{error:?}");

    TinyBert::new().write(dir.path());
    let error = Model::load(&dir.path().join("model.safetensors")).unwrap_err();
    assert!(matches!(error, LensError::NotADirectory { .. }), "{error:?}");

    let pickle = dir.path().join("pytorch_model.bin");
    std::fs::write(&pickle, b"PK\x03\x04").unwrap();
    let error = Model::load(&pickle).unwrap_err();
    assert!(matches!(error, LensError::ForeignFormat { .. }), "{error:?}");

    std::fs::create_dir(dir.path().join("odd")).unwrap();
    std::fs::create_dir(dir.path().join("odd/config.json")).unwrap();
    let line = Model::load(&dir.path().join("odd")).unwrap_err().to_string();
    assert!(line.contains("config.json: cannot be read: not a regular file"), "{line}");
}

#[cfg(unix)]
#[test]
fn directory__a_link_out_of_it__refused() {
    use std::os::unix::fs::symlink;
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let (inside, outside) = (TempDir::new(), TempDir::new());
        TinyBert::new().write(inside.path());
        TinyBert::new().write(outside.path());
        std::fs::remove_file(inside.path().join(file)).unwrap();
        symlink(outside.path().join(file), inside.path().join(file)).unwrap();
        let error = Model::load(inside.path()).unwrap_err();
        assert!(matches!(&error, LensError::LinkLeavesFolder { .. }), "{error:?}");
        assert!(error.to_string().contains("copy the file into the directory"), "{error}");
    }
    // A link that stays inside is a file like any other; so is the directory itself behind a link.
    let (dir, links) = (TempDir::new(), TempDir::new());
    TinyBert::new().write(dir.path());
    std::fs::rename(dir.path().join("config.json"), dir.path().join("real.json")).unwrap();
    symlink("real.json", dir.path().join("config.json")).unwrap();
    symlink(dir.path(), links.path().join("model")).unwrap();
    load_and_run(&links.path().join("model")).unwrap();
}

#[cfg(unix)]
#[test]
fn directory__a_link_to_nowhere_or_itself__refused() {
    for target in ["nowhere", "config.json"] {
        let dir = TempDir::new();
        TinyBert::new().write(dir.path());
        std::fs::remove_file(dir.path().join("config.json")).unwrap();
        std::os::unix::fs::symlink(target, dir.path().join("config.json")).unwrap();
        let error = Model::load(dir.path()).unwrap_err();
        assert!(matches!(error, LensError::Read { .. }), "{error:?}");
    }
}

#[cfg(unix)]
#[test]
fn directory__a_hugging_face_cache__links_elsewhere_than_its_blobs_are_refused() {
    let cache = TempDir::new();
    let repository = cache.path().join("models--a--b");
    let snapshot = repository.join("snapshots/1");
    TinyBert::new().write(&snapshot);
    std::fs::create_dir(repository.join("blobs")).unwrap();
    std::fs::write(cache.path().join("secret"), "{}").unwrap();
    std::fs::remove_file(snapshot.join("config.json")).unwrap();
    std::os::unix::fs::symlink("../../../secret", snapshot.join("config.json")).unwrap();
    let error = Model::load(&snapshot).unwrap_err();
    assert!(matches!(error, LensError::LinkLeavesFolder { .. }), "{error:?}");
}

/// What loading says about a sharded model after a change to its index.
fn index_refusal(change: impl FnOnce(&mut Value)) -> LensError {
    let dir = TempDir::new();
    TinyBert::new().write_sharded(dir.path(), 2);
    let path = dir.path().join("model.safetensors.index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut index);
    std::fs::write(&path, index.to_string()).unwrap();
    Model::load(dir.path()).unwrap_err()
}

const SHARD: &str = "model-00001-of-00002.safetensors";
const TENSOR: &str = "embeddings.word_embeddings.weight";

#[test]
fn index__a_name_that_is_not_a_plain_file__refused() {
    let names = [
        "../model.safetensors",
        "..",
        "",
        "sub/model.safetensors",
        "sub\\model.safetensors",
        "/etc/model.safetensors",
        "C:model.safetensors",
        "\\\\server\\model.safetensors",
        "file:///x.safetensors",
        ".hidden.safetensors",
        "model.bin",
        "/dev/zero",
        "a\u{0}b.safetensors",
        "e\u{301}.safetensors",
        "\u{1b}[31m.safetensors",
    ];
    for name in names {
        let error = index_refusal(|index| index["weight_map"][TENSOR] = json!(name));
        assert!(matches!(error, LensError::Index { .. }), "{name:?}: {error:?}");
        assert!(error.to_string().contains("expected the plain name of a .safetensors file"), "{error}");
    }
    let long = format!("{}.safetensors", "n".repeat(250));
    assert!(matches!(
        index_refusal(|index| index["weight_map"][TENSOR] = json!(long)),
        LensError::Index { .. }
    ));
}

#[test]
fn index__unlike_its_shards__refused() {
    let error = index_refusal(|index| index["weight_map"][TENSOR] = json!("absent.safetensors"));
    assert!(
        matches!(&error, LensError::Read { path, .. } if path.ends_with("absent.safetensors")),
        "{error:?}"
    );

    let error = index_refusal(|index| index["weight_map"]["extra"] = json!(SHARD));
    assert!(matches!(&error, LensError::MissingTensor { tensor, .. } if tensor == "extra"), "{error:?}");

    let error = index_refusal(|index| {
        index["weight_map"].as_object_mut().unwrap().remove(TENSOR);
    });
    assert!(matches!(&error, LensError::MissingTensor { tensor, .. } if tensor == TENSOR), "{error:?}");
}

#[test]
fn index__not_a_map_of_names__refused() {
    for map in
        [Value::Null, json!([]), json!({ "a": 1 }), json!({ "a": null }), json!("a"), json!({ "a": [] })]
    {
        let error = index_refusal(|index| index["weight_map"] = map);
        assert!(matches!(error, LensError::Json { .. }), "{error:?}");
    }
    let error = index_refusal(|index| *index = json!({}));
    assert!(error.to_string().contains("missing field `weight_map`"), "{error}");
    let error = index_refusal(|index| index["weight_map"]["n".repeat(513)] = json!(SHARD));
    assert!(error.to_string().contains("a name of 513 bytes, more than 512"), "{error}");
}

#[test]
fn index__a_tensor_twice_or_too_many__refused() {
    let load = |index: &str| {
        let dir = TempDir::new();
        TinyBert::new().write_sharded(dir.path(), 2);
        std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
        Model::load(dir.path()).unwrap_err().to_string()
    };
    let line = load(&format!(r#"{{"weight_map":{{"a":"{SHARD}","a":"{SHARD}"}}}}"#));
    assert!(line.contains("the key \"a\" twice"), "{line}");
    let entries: Vec<String> = (0..=65_536).map(|i| format!("\"{i}\":\"{SHARD}\"")).collect();
    let line = load(&format!("{{\"weight_map\":{{{}}}}}", entries.join(",")));
    assert!(line.contains("more than 65536 entries"), "{line}");
    let entries: Vec<String> = (0..257).map(|i| format!("\"{i}\":\"{i}.safetensors\"")).collect();
    let line = load(&format!("{{\"weight_map\":{{{}}}}}", entries.join(",")));
    assert!(line.contains("shards: expected at most 256, found 257"), "{line}");
    let nested = format!("{{\"weight_map\":{}", "{\"a\":".repeat(500_000));
    assert!(load(&nested).contains("model.safetensors.index.json"));
}

#[cfg(unix)]
#[test]
fn index__a_shard_that_is_a_link_out__refused() {
    let (dir, outside) = (TempDir::new(), TempDir::new());
    TinyBert::new().write_sharded(dir.path(), 2);
    std::fs::rename(dir.path().join(SHARD), outside.path().join(SHARD)).unwrap();
    std::os::unix::fs::symlink(outside.path().join(SHARD), dir.path().join(SHARD)).unwrap();
    let error = Model::load(dir.path()).unwrap_err();
    assert!(matches!(error, LensError::LinkLeavesFolder { .. }), "{error:?}");
}

#[test]
fn tokenizer__ids_beyond_the_embeddings__refused() {
    let error = refusal(|model| model.tokenizer["model"]["vocab"]["dog"] = json!(12));
    let LensError::TokenWithoutEmbedding { token, id: 12, limit: 12 } = &error else { panic!("{error:?}") };
    assert_eq!(token, "dog");
    assert!(
        error.to_string().contains("tokenizer.json and the weights are not of the same model"),
        "{error}"
    );
    let error = refusal(|model| model.tokenizer["model"]["vocab"]["cat"] = json!(u32::MAX));
    assert!(matches!(error, LensError::TokenWithoutEmbedding { id: u32::MAX, .. }), "{error:?}");
}

#[test]
fn tokenizer__a_template_with_an_id_that_no_vocabulary_lists__refused() {
    let error = refusal(|model| {
        model.tokenizer["post_processor"]["special_tokens"]["[CLS]"]["ids"] = json!([4_000_000]);
    });
    assert!(matches!(error, LensError::TokenWithoutEmbedding { id: 4_000_000, .. }), "{error:?}");
}

#[test]
fn tokenizer__one_that_does_not_work__is_an_error_and_not_a_panic() {
    let cases: [fn(&mut Value); 8] = [
        |tokenizer| *tokenizer = json!({}),
        |tokenizer| *tokenizer = json!(null),
        |tokenizer| tokenizer["model"] = json!({ "type": "WordPiece" }),
        // These panic inside the tokenizers crate.
        |tokenizer| tokenizer["post_processor"]["single"][0]["SpecialToken"]["id"] = json!("[NONE]"),
        |tokenizer| {
            tokenizer["normalizer"] = json!({ "type": "Precompiled", "precompiled_charsmap": "AAAA" })
        },
        |tokenizer| tokenizer["pre_tokenizer"] = json!({ "type": "FixedLength", "length": 0 }),
        |tokenizer| tokenizer["post_processor"]["single"][1]["Sequence"]["id"] = json!("B"),
        |tokenizer| tokenizer["model"]["unk_token"] = json!("[NONE]"),
    ];
    for (number, case) in cases.into_iter().enumerate() {
        let error = refusal(|model| case(&mut model.tokenizer));
        assert!(
            matches!(&error, LensError::Tokenizer { path, .. } if path.ends_with("tokenizer.json")),
            "{number}: {error:?}"
        );
    }
}

#[test]
fn tokenizer__truncation_shorter_than_its_special_tokens__is_off_all_the_same() {
    let dir = TempDir::new();
    let mut model = TinyBert::new();
    for max_length in [0, 1] {
        model.tokenizer["truncation"]["max_length"] = json!(max_length);
        model.write(dir.path());
        assert_eq!(Model::load(dir.path()).unwrap().tokenize("the cat").unwrap().tokens.len(), 4);
    }
}

#[test]
fn load__a_path_of_no_use__is_an_error() {
    for path in ["", "/", "\u{0}"] {
        assert!(Model::load(Path::new(path)).is_err(), "{path:?}");
    }
}

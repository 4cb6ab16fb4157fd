//! Directories in every form that is read, with a tiny random model.
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod common;

use common::NoObserver;
use common::tiny::{TEXT, TempDir, TinyBert, load_and_run};
use regard::AttentionError;
use regard_lens::{AttentionObserver, LayerAttention, LensError, Model};
use safetensors::Dtype;
use serde_json::json;

#[test]
fn tiny_bert__one_file__runs_and_says_what_it_is() {
    let dir = TempDir::new();
    TinyBert::new().write(dir.path());
    let model = Model::load(dir.path()).unwrap();
    let info = model.info();
    assert_eq!(info.name, dir.path().file_name().unwrap().to_str().unwrap());
    assert_eq!((info.layers, info.heads, info.causal), (2, 2, false));
    assert_eq!((info.dtype.as_str(), info.max_tokens), ("F32", 16));
    assert_eq!(info.sha256.len(), 64);

    // Its tokenizer.json truncates and pads to 4 tokens; that is off.
    let tokens = model.tokenize(TEXT).unwrap();
    let pieces: Vec<&str> = tokens.tokens.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(pieces, ["[CLS]", "the", "cat", "sat", "un", "##able", "[SEP]"]);
    assert_eq!(model.tokenize("cat").unwrap().tokens.len(), 3);

    let hidden = model.run(&tokens, &mut NoObserver).unwrap();
    assert_eq!((hidden.seq_len, hidden.model_dim, hidden.data.len()), (7, 8, 56));
    assert!(hidden.data.iter().all(|x| x.is_finite()));
}

#[test]
fn tiny_bert__shards__same_hidden_states_as_one_file() {
    let (whole, sharded) = (TempDir::new(), TempDir::new());
    TinyBert::new().write(whole.path());
    TinyBert::new().write_sharded(sharded.path(), 3);
    assert_eq!(load_and_run(whole.path()).unwrap(), load_and_run(sharded.path()).unwrap());
    let hash = |dir: &TempDir| Model::load(dir.path()).unwrap().info().sha256.clone();
    assert_ne!(hash(&whole), hash(&sharded));
    assert_eq!(hash(&sharded), hash(&sharded));
}

#[test]
fn tiny_bert__half_precision_weights__same_as_their_values_in_f32() {
    type Round = fn(f32) -> f32;
    let f16: Round = |x| half::f16::from_f32(x).to_f32();
    let bf16: Round = |x| half::bf16::from_f32(x).to_f32();
    for (dtype, round) in [(Dtype::F16, f16), (Dtype::BF16, bf16)] {
        let (narrow, wide) = (TempDir::new(), TempDir::new());
        let model = TinyBert::new();
        model.write_json(narrow.path());
        std::fs::write(narrow.path().join("model.safetensors"), model.weights(dtype)).unwrap();
        model.mapped(round).write(wide.path());
        assert_eq!(load_and_run(narrow.path()).unwrap(), load_and_run(wide.path()).unwrap());
        assert_eq!(Model::load(narrow.path()).unwrap().info().dtype, format!("{dtype:?}"));
    }
}

#[test]
fn tiny_bert__other_names_for_the_same_tensors__same_hidden_states() {
    let plain = TempDir::new();
    let model = TinyBert::new();
    model.write(plain.path());
    let expected = load_and_run(plain.path()).unwrap();
    // As BertForMaskedLM saves it, and as the oldest checkpoints call the layer norms.
    let prefixed = model.renamed(|name| format!("bert.{name}"));
    let old = prefixed.renamed(|name| {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    });
    for model in [prefixed, old] {
        let dir = TempDir::new();
        model.write(dir.path());
        assert_eq!(load_and_run(dir.path()).unwrap(), expected);
    }
}

#[test]
fn tiny_bert__other_activations__change_the_hidden_states() {
    let run = |activation: &str| {
        let dir = TempDir::new();
        let mut model = TinyBert::new();
        model.config["hidden_act"] = json!(activation);
        model.write(dir.path());
        load_and_run(dir.path()).unwrap().data
    };
    let gelu = run("gelu");
    let difference = |other: &[f32]| common::golden::max_abs_difference(&gelu, other);
    let approximate = run("gelu_new");
    assert!((1e-6..1e-2).contains(&difference(&approximate)), "{}", difference(&approximate));
    assert_eq!(approximate, run("gelu_pytorch_tanh"));
    assert!(difference(&run("relu")) > 1e-2);
}

#[cfg(unix)]
#[test]
fn tiny_bert__a_hugging_face_cache__its_links_into_blobs_are_read_and_name_the_model() {
    let cache = TempDir::new();
    let repository = cache.path().join("models--some-org--tiny-bert");
    let (blobs, snapshot) = (repository.join("blobs"), repository.join("snapshots/0123abc"));
    TinyBert::new().write(&blobs);
    std::fs::create_dir_all(&snapshot).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::os::unix::fs::symlink(format!("../../blobs/{file}"), snapshot.join(file)).unwrap();
    }
    let model = Model::load(&snapshot).unwrap();
    assert_eq!(model.info().name, "some-org/tiny-bert");
}

/// Checks every layer's attention against its own probabilities.
#[derive(Default)]
struct CheckLayers {
    layers: Vec<usize>,
}

impl AttentionObserver for CheckLayers {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        self.layers.push(attention.layer);
        let [_, heads, seq_len, head_dim] = attention.query.shape();
        assert_eq!((heads, seq_len, head_dim), (2, 7, 4));
        assert_eq!(attention.key.shape(), [1, 2, 7, 4]);
        assert_eq!(attention.value.shape(), [1, 2, 7, 4]);
        assert_eq!(attention.output.shape(), [1, 2, 7, 4]);
        assert_eq!(attention.log_sum_exp.len(), 14);
        let mut probs = vec![f32::NAN; 3 * 7];
        for head in 0..heads {
            attention.probs(head, 2..5, &mut probs)?;
            for (row, probs) in (2..5).zip(probs.chunks(7)) {
                assert!((probs.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                for d in 0..4 {
                    let value = |key: usize| attention.value.at([0, head, key, d]);
                    let expected: f32 = probs.iter().enumerate().map(|(key, prob)| prob * value(key)).sum();
                    assert!((attention.output.at([0, head, row, d]) - expected).abs() < 1e-5);
                }
            }
        }
        let outside = attention.probs(2, 0..3, &mut probs).unwrap_err();
        assert!(matches!(outside, LensError::Attention(AttentionError::OutOfBounds { .. })), "{outside:?}");
        let outside = attention.probs(0, 5..8, &mut probs).unwrap_err();
        assert!(matches!(outside, LensError::Attention(AttentionError::OutOfBounds { .. })), "{outside:?}");
        Ok(())
    }
}

#[test]
fn observer__every_layer__sees_attention_whose_probabilities_give_its_output() {
    let dir = TempDir::new();
    TinyBert::new().write(dir.path());
    let model = Model::load(dir.path()).unwrap();
    let mut observer = CheckLayers::default();
    model.run(&model.tokenize(TEXT).unwrap(), &mut observer).unwrap();
    assert_eq!(observer.layers, [0, 1]);
}

struct StopAt(usize);

impl AttentionObserver for StopAt {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        assert!(attention.layer <= self.0);
        if attention.layer == self.0 { Err(LensError::Observer("seen enough".into())) } else { Ok(()) }
    }
}

#[test]
fn observer__an_error__stops_the_run_and_is_returned() {
    let dir = TempDir::new();
    TinyBert::new().write(dir.path());
    let model = Model::load(dir.path()).unwrap();
    let error = model.run(&model.tokenize(TEXT).unwrap(), &mut StopAt(0)).unwrap_err();
    assert_eq!(error.to_string(), "seen enough");
}

#[test]
fn run__tokens_of_another_model__are_an_error_and_not_a_panic() {
    let dir = TempDir::new();
    TinyBert::new().write(dir.path());
    let model = Model::load(dir.path()).unwrap();
    let good = model.tokenize(TEXT).unwrap();

    let mut foreign = good.clone();
    foreign.tokens[2].id = 12;
    let error = model.run(&foreign, &mut NoObserver).unwrap_err();
    assert!(matches!(error, LensError::TokenWithoutEmbedding { id: 12, limit: 12, .. }), "{error:?}");

    let mut empty = good.clone();
    empty.tokens.clear();
    assert!(matches!(model.run(&empty, &mut NoObserver), Err(LensError::EmptyText)));

    let mut long = good;
    long.tokens = vec![long.tokens[1].clone(); 17];
    let error = model.run(&long, &mut NoObserver).unwrap_err();
    assert!(matches!(error, LensError::TextTooLong { found: 17, limit: 16 }), "{error:?}");
}

#[test]
fn tokenize__any_text__offsets_lie_on_characters_of_the_text() {
    let dir = TempDir::new();
    TinyBert::new().write(dir.path());
    let model = Model::load(dir.path()).unwrap();
    for text in
        ["thé cát 😀 sat", "e\u{301}a \u{202e}cat", "\u{1b}[31mcat", "猫 the 猫", "[CLS] [MASK] [SEP]"]
    {
        for token in model.tokenize(text).unwrap().tokens {
            assert!(text.get(token.start..token.end).is_some(), "{text:?}: {token:?}");
        }
    }
}

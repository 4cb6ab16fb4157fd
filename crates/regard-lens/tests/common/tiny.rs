//! A tiny BERT directory with random weights, written without any download.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use regard_lens::{HiddenStates, LensError, Model};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::NoObserver;

pub const TEXT: &str = "the cat sat unable";

/// A directory that is removed when it goes out of scope.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("lens-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A leftover in the target directory harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A tensor to be written: shape and numbers, row-major.
#[derive(Clone)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub numbers: Vec<f32>,
}

/// Everything that a model directory holds.
#[derive(Clone)]
pub struct TinyBert {
    pub config: Value,
    pub tokenizer: Value,
    pub tensors: BTreeMap<String, Tensor>,
}

impl TinyBert {
    /// 2 layers, 2 heads, hidden size 8, 16 positions, 12 tokens.
    pub fn new() -> Self {
        let (dim, inner, vocabulary, positions) = (8, 16, VOCABULARY.len(), 16);
        let mut tensors = BTreeMap::new();
        let mut random = Random(7);
        let mut add = |name: String, shape: &[usize]| {
            let scale = if name.contains("LayerNorm.weight") { (1.0, 0.1) } else { (0.0, 0.5) };
            let numbers = (0..shape.iter().product()).map(|_| scale.0 + scale.1 * random.signed()).collect();
            tensors.insert(name, Tensor { shape: shape.to_vec(), numbers });
        };
        for (table, rows) in [("word", vocabulary), ("position", positions), ("token_type", 2)] {
            add(format!("embeddings.{table}_embeddings.weight"), &[rows, dim]);
        }
        let mut norms = vec!["embeddings.LayerNorm".to_owned()];
        for layer in 0..2 {
            let prefix = format!("encoder.layer.{layer}");
            for (linear, rows, columns) in [
                ("attention.self.query", dim, dim),
                ("attention.self.key", dim, dim),
                ("attention.self.value", dim, dim),
                ("attention.output.dense", dim, dim),
                ("intermediate.dense", inner, dim),
                ("output.dense", dim, inner),
            ] {
                add(format!("{prefix}.{linear}.weight"), &[rows, columns]);
                add(format!("{prefix}.{linear}.bias"), &[rows]);
            }
            norms.push(format!("{prefix}.attention.output.LayerNorm"));
            norms.push(format!("{prefix}.output.LayerNorm"));
        }
        for norm in norms {
            add(format!("{norm}.weight"), &[dim]);
            add(format!("{norm}.bias"), &[dim]);
        }
        Self { config: config(vocabulary), tokenizer: tokenizer(), tensors }
    }

    /// The same model with every tensor's name changed.
    pub fn renamed(&self, name: impl Fn(&str) -> String) -> Self {
        let tensors = self.tensors.iter().map(|(old, tensor)| (name(old), tensor.clone())).collect();
        Self { tensors, ..self.clone() }
    }

    /// The same model with every number changed.
    pub fn mapped(&self, number: impl Fn(f32) -> f32) -> Self {
        let mut new = self.clone();
        new.tensors.values_mut().flat_map(|tensor| &mut tensor.numbers).for_each(|x| *x = number(*x));
        new
    }

    /// Writes `config.json`, `tokenizer.json` and `model.safetensors` in F32.
    pub fn write(&self, dir: &Path) {
        self.write_json(dir);
        std::fs::write(dir.join("model.safetensors"), self.weights(Dtype::F32)).unwrap();
    }

    pub fn write_json(&self, dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("config.json"), self.config.to_string()).unwrap();
        std::fs::write(dir.join("tokenizer.json"), self.tokenizer.to_string()).unwrap();
    }

    /// Writes the weights in `count` shards with an index.
    pub fn write_sharded(&self, dir: &Path, count: usize) {
        self.write_json(dir);
        let shard_name = |shard: usize| format!("model-{:05}-of-{count:05}.safetensors", shard + 1);
        let mut shards = vec![BTreeMap::new(); count];
        let mut weight_map = BTreeMap::new();
        for (i, (name, tensor)) in self.tensors.iter().enumerate() {
            shards[i % count].insert(name.clone(), tensor.clone());
            weight_map.insert(name.clone(), shard_name(i % count));
        }
        for (shard, tensors) in shards.into_iter().enumerate() {
            let bytes = Self { tensors, ..self.clone() }.weights(Dtype::F32);
            std::fs::write(dir.join(shard_name(shard)), bytes).unwrap();
        }
        let index = json!({ "metadata": { "total_size": 1 }, "weight_map": weight_map });
        std::fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }

    /// The weight file's bytes in a storage type.
    pub fn weights(&self, dtype: Dtype) -> Vec<u8> {
        let encode = |x: f32| match dtype {
            Dtype::F32 => x.to_le_bytes().to_vec(),
            Dtype::F16 => half::f16::from_f32(x).to_le_bytes().to_vec(),
            Dtype::BF16 => half::bf16::from_f32(x).to_le_bytes().to_vec(),
            Dtype::F64 => f64::from(x).to_le_bytes().to_vec(),
            other => panic!("{other:?}"),
        };
        let bytes: Vec<Vec<u8>> = self
            .tensors
            .values()
            .map(|tensor| tensor.numbers.iter().copied().flat_map(encode).collect())
            .collect();
        let views = self.tensors.iter().zip(&bytes).map(|((name, tensor), bytes)| {
            (name, TensorView::new(dtype, tensor.shape.clone(), bytes).unwrap())
        });
        safetensors::serialize(views, None).unwrap()
    }
}

/// Loads a directory and runs it on [`TEXT`].
pub fn load_and_run(dir: &Path) -> Result<HiddenStates, LensError> {
    let model = Model::load(dir)?;
    let tokens = model.tokenize(TEXT)?;
    model.run(&tokens, &mut NoObserver)
}

const VOCABULARY: [&str; 12] =
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "un", "##able", "mat", "."];

fn config(vocabulary: usize) -> Value {
    json!({
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": vocabulary,
        "max_position_embeddings": 16,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
    })
}

/// Word pieces, with truncation and padding to 4 switched on.
fn tokenizer() -> Value {
    let vocabulary: serde_json::Map<_, _> =
        VOCABULARY.iter().enumerate().map(|(id, piece)| ((*piece).to_owned(), json!(id))).collect();
    let special = |id: usize| {
        json!({
            "id": id, "content": VOCABULARY[id], "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    let cls = json!({ "SpecialToken": { "id": "[CLS]", "type_id": 0 } });
    let sep = json!({ "SpecialToken": { "id": "[SEP]", "type_id": 0 } });
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    json!({
        "version": "1.0",
        "truncation": { "max_length": 4, "strategy": "LongestFirst", "stride": 0 },
        "padding": {
            "strategy": { "Fixed": 4 }, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
        },
        "added_tokens": (0..5).map(special).collect::<Vec<_>>(),
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true,
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, text, sep],
            "pair": [cls, text, sep],
            "special_tokens": {
                "[CLS]": { "id": "[CLS]", "ids": [2], "tokens": ["[CLS]"] },
                "[SEP]": { "id": "[SEP]", "ids": [3], "tokens": ["[SEP]"] },
            },
        },
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary,
        },
    })
}

/// A small generator of numbers (SplitMix64): the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// In [−1, 1).
    fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

//! What is exported today has the form of the directories that Hugging Face transformers was seen to load
//! (golden/generate_trained.py).
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use regard_train::corpus::Documents;
use regard_train::export::Storage;
use regard_train::fit::{Entry, Keeping, Progress, Recipe, Watch, fit};
use regard_train::model::{Architecture, Family};
use regard_train::objective::{Mixture, Objective};
use safetensors::SafeTensors;

struct Silence;

impl Watch for Silence {
    fn step(&mut self, _: &Progress) {}

    fn logged(&mut self, _: &Entry) {}

    fn note(&mut self, _: &str) {}
}

/// A directory after one step on generated sentences.
fn trained(name: &str, objective: Objective, architecture: Architecture) -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&out);
    let recipe = Recipe {
        architecture,
        objective,
        mixture: Mixture { sentences: 1.0, restored: 0.8, seq_len: 32 },
        batch_size: 4,
        accumulation: 1,
        steps: 1,
        learning_rate: 1e-3,
        warmup: 0,
        weight_decay: 0.01,
        clip: 1.0,
        dropout: 0.0,
        seed: 1,
    };
    let (snapshots, storage) = (Vec::new(), Storage::F32);
    let keeping = Keeping { out: out.clone(), log_every: 1, checkpoint_every: 1, snapshots, storage };
    fit(&Documents::default(), &recipe, &keeping, &AtomicBool::new(false), &mut Silence).unwrap();
    out
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn shapes(dir: &Path) -> BTreeMap<String, Vec<usize>> {
    let bytes = fs::read(dir.join("model.safetensors")).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    metadata.tensors().into_iter().map(|(name, info)| (name, info.shape.clone())).collect()
}

fn config(dir: &Path) -> BTreeMap<String, serde_json::Value> {
    serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap()
}

#[test]
fn export__llama__has_the_form_that_transformers_loads() {
    let sizes = Architecture {
        family: Family::Llama,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        dim: 16,
        inner_dim: 48,
        vocabulary: 700,
        positions: 64,
    };
    let (out, golden) =
        (trained("llama", Objective::Causal, sizes), workspace().join("golden/trained/llama"));
    assert_eq!(config(&out), config(&golden));
    assert_eq!(shapes(&out), shapes(&golden));
}

#[test]
fn export__bert__has_the_names_that_transformers_loads() {
    let sizes = Architecture {
        family: Family::Bert,
        layers: 3,
        heads: 4,
        kv_heads: 4,
        dim: 128,
        inner_dim: 512,
        vocabulary: 700,
        positions: 48,
    };
    let (out, builtin) =
        (trained("bert", Objective::Restore, sizes), workspace().join("crates/regard-lens/builtin"));
    let names = |dir: &Path| shapes(dir).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&out), names(&builtin));
    let mut named = config(&builtin);
    // Written by `regard-train evaluate --name-head`; transformers keeps fields that it does not know.
    assert!(named.remove("regard").is_some());
    let fields = |config: BTreeMap<String, serde_json::Value>| config.into_keys().collect::<Vec<_>>();
    assert_eq!(fields(config(&out)), fields(named));
}

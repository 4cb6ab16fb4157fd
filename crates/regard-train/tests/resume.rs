//! A run that is stopped and taken up again gives the bits of one that was not.
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use regard_train::TrainError;
use regard_train::corpus::Documents;
use regard_train::export::Storage;
use regard_train::fit::{Ending, Entry, Keeping, Progress, Recipe, Watch, fit, is_finished, snapshot};
use regard_train::model::{Architecture, Family};
use regard_train::objective::{Mixture, Objective};

/// Stops after a step.
struct StopAfter<'a> {
    step: u64,
    stop: &'a AtomicBool,
}

impl Watch for StopAfter<'_> {
    fn step(&mut self, progress: &Progress) {
        if progress.step == self.step {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn logged(&mut self, _: &Entry) {}

    fn note(&mut self, _: &str) {}
}

fn recipe(objective: Objective) -> Recipe {
    let family = if objective == Objective::Causal { Family::Llama } else { Family::Bert };
    Recipe {
        architecture: Architecture {
            family,
            layers: 2,
            heads: 2,
            kv_heads: if family == Family::Llama { 1 } else { 2 },
            dim: 16,
            inner_dim: 32,
            vocabulary: 900,
            positions: 64,
        },
        objective,
        mixture: Mixture { sentences: 1.0, restored: 0.8, seq_len: 32 },
        batch_size: 4,
        accumulation: 2,
        steps: 7,
        learning_rate: 1e-2,
        warmup: 2,
        weight_decay: 0.01,
        clip: 1.0,
        dropout: 0.1,
        seed: 5,
    }
}

fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    path
}

/// Runs until the end, or until it stops after a step.
fn run(recipe: &Recipe, out: &Path, stop_after: u64) -> Result<Ending, TrainError> {
    let stop = AtomicBool::new(false);
    let mut watch = StopAfter { step: stop_after, stop: &stop };
    let out = out.to_owned();
    let (snapshots, storage) = (vec![3, recipe.steps], Storage::F32);
    let keeping = Keeping { out, log_every: 3, checkpoint_every: 2, snapshots, storage };
    fit(&Documents::default(), recipe, &keeping, &stop, &mut watch)
}

#[test]
fn fit__stopped_and_taken_up_again__gives_the_bits_of_an_uninterrupted_run() {
    for objective in [Objective::Restore, Objective::Causal] {
        let recipe = recipe(objective);
        let (whole, parts) =
            (folder(&format!("{objective:?}-whole")), folder(&format!("{objective:?}-parts")));
        assert_eq!(run(&recipe, &whole, 0).unwrap(), Ending::Finished);
        for step in [1, 4] {
            assert_eq!(run(&recipe, &parts, step).unwrap(), Ending::Stopped { step });
            assert!(!parts.join("model.safetensors").exists());
        }
        assert_eq!(run(&recipe, &parts, 0).unwrap(), Ending::Finished);
        for file in ["model.safetensors", "log.jsonl", "tokenizer.json", "config.json"] {
            let (whole, parts) = (fs::read(whole.join(file)).unwrap(), fs::read(parts.join(file)).unwrap());
            assert!(whole == parts, "{objective:?}: {file} differs");
        }
        let weights = |dir: &Path| fs::read(dir.join("model.safetensors")).unwrap();
        for step in [3, recipe.steps] {
            let (whole, parts) = (snapshot(&whole, step), snapshot(&parts, step));
            assert!(weights(&whole) == weights(&parts), "{objective:?}: the model of step {step} differs");
        }
        assert_ne!(weights(&snapshot(&whole, 3)), weights(&whole));
        assert_eq!(weights(&snapshot(&whole, recipe.steps)), weights(&whole));
    }
}

#[test]
fn fit__other_options_in_the_same_directory__is_refused_and_changes_nothing() {
    let out = folder("other-options");
    let recipe = recipe(Objective::Restore);
    run(&recipe, &out, 1).unwrap();
    let other = Recipe { seed: 6, ..recipe.clone() };
    let error = run(&other, &out, 0).unwrap_err();
    assert!(error.to_string().contains("another run has begun here"), "{error}");
    assert!(is_finished(&other, &out).is_err() && !is_finished(&recipe, &out).unwrap());
    assert_eq!(run(&recipe, &out, 0).unwrap(), Ending::Finished);
    assert!(is_finished(&recipe, &out).unwrap());
}

#[test]
fn fit__fewer_positions_than_the_probe_has_tokens__trains() {
    let mut recipe = recipe(Objective::Restore);
    recipe.architecture.positions = 32;
    let out = folder("few-positions");
    assert_eq!(run(&recipe, &out, 0).unwrap(), Ending::Finished);
    let log = fs::read_to_string(out.join("log.jsonl")).unwrap();
    assert!(log.lines().count() > 1 && !log.contains("null"), "{log}");
}

#[test]
fn fit__sentences_longer_than_the_positions__is_an_error_that_names_the_option() {
    let mut recipe = recipe(Objective::Restore);
    recipe.architecture.positions = 10;
    recipe.mixture.seq_len = 8;
    let error = run(&recipe, &folder("no-positions"), 0).unwrap_err();
    assert!(matches!(error, TrainError::Option { name: "--positions", .. }), "{error}");
}

#[test]
fn fit__model_of_the_lens__loads_what_was_trained() {
    let out = folder("lens");
    run(&recipe(Objective::Restore), &out, 0).unwrap();
    let model = regard_lens::Model::load(&out).unwrap();
    let tokens = model.tokenize("The cat sat on the mat because it was tired").unwrap();
    assert_eq!(tokens.tokens.len(), 12);
    assert_eq!((model.info().layers, model.info().heads), (2, 2));
}

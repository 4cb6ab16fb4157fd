//! The evaluation, on the model that is built in and on one that has learned nothing.
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

use std::fs;
use std::path::{Path, PathBuf};

use regard_train::evaluate::{evaluate, name_head};

fn builtin() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../regard-lens/builtin")
}

/// A copy of the built-in model whose weights are changed.
fn copy(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(builtin().join(file), folder.join(file)).unwrap();
    }
    let mut weights = fs::read(builtin().join("model.safetensors")).unwrap();
    change(&mut weights);
    fs::write(folder.join("model.safetensors"), weights).unwrap();
    folder
}

#[test]
fn evaluate__built_in_model__chooses_the_head_that_its_configuration_names() {
    let report = evaluate(&builtin(), 60).unwrap();
    let named = regard_lens::Model::load(&builtin()).unwrap().pronoun_head().unwrap();
    let figures = |head: &str| {
        let found = report.dev_heads.iter().find(|dev| dev.head == head).unwrap();
        found.figures.map(|figures| figures.above.share())
    };
    // With few pairs another head may do as well.
    let (chosen, named) = (figures(&report.head), figures(&named.to_string()));
    assert!((0..2).all(|group| (chosen[group] - named[group]).abs() < 0.1), "{chosen:?} {named:?}");
    let group = &report.unseen_pairs;
    assert!(group.head.above.share() > 0.8 && group.head.both.share() > 0.6, "{group:?}");
    // Nothing that does not read the adjective is right about both members of a pair.
    assert!(group.rules.nearest.share() <= 0.5 && group.rules.first.share() <= 0.5);
    assert!(group.rules.any_key > 0.05 && group.rules.any_key < 0.2);
    let (restored, heads) = (group.restored.unwrap(), &group.ablated);
    assert_eq!(heads.len(), 5);
    assert!(restored.above.share() >= restored.first.share() && restored.first.share() > 0.7, "{restored:?}");
}

#[test]
fn evaluate__weights_of_zero__finds_no_head_and_restores_nothing() {
    let zeros = copy("zeros", |weights| {
        let header = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
        weights[8 + header..].fill(0);
    });
    let report = evaluate(&zeros, 20).unwrap();
    for group in [&report.unseen_pairs, &report.unseen_frames] {
        // Every key gets the same.
        assert_eq!((group.head.above.count, group.head.both.count), (0, 0));
        assert_eq!(group.restored.unwrap().above.count, 0);
    }
}

#[test]
fn name_head__written__is_read_by_the_lens() {
    let folder = copy("named", |_| {});
    name_head(&folder, "L2.H3").unwrap();
    let model = regard_lens::Model::load(&folder).unwrap();
    assert_eq!(model.pronoun_head(), "L2.H3".parse().ok());
}

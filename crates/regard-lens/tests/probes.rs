//! The probes on real data and real models, where they are there.
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};

use regard_lens::Model;
use regard_lens::probe::syntax::{Direction, NearestRule, Side, SyntaxPicks, score_syntax};
use regard_lens::probe::{UdSentence, read_conllu};

/// Says on the real standard error that a test does not run: `eprintln!` would be captured.
fn skip(why: &str) {
    std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes()).unwrap();
}

fn treebank(part: &str) -> Option<Vec<UdSentence>> {
    let Some(data) = std::env::var_os("REGARD_DATA") else {
        skip("REGARD_DATA is not set; it names the folder with ud-english-ewt");
        return None;
    };
    let file = PathBuf::from(data).join(format!("ud-english-ewt/en_ewt-ud-{part}.conllu"));
    if !file.is_file() {
        skip(&format!("{} is not there", file.display()));
        return None;
    }
    Some(read_conllu(&file).unwrap())
}

fn model(name: &str) -> Option<Model> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").join(name);
    if !dir.is_dir() {
        skip(&format!(
            "models/{name} is not there; scripts/fetch-minilm and scripts/fetch-smollm2 fetch models"
        ));
        return None;
    }
    Some(Model::load(&dir).unwrap())
}

#[test]
fn ewt_test__rules_without_a_model__reach_what_was_counted_without_this_code() {
    let Some(test) = treebank("test") else { return };
    assert_eq!((test.len(), test.iter().map(|sentence| sentence.words.len()).sum::<usize>()), (2077, 25_094));
    for (relation, parts_of_speech, side, expected) in [
        ("nsubj", &["VERB", "ADJ"][..], Side::Right, 0.8026),
        ("obj", &["VERB"], Side::Left, 0.9445),
        ("det", &["NOUN", "PROPN"], Side::Right, 0.7775),
        ("case", &["NOUN", "PROPN", "PRON", "NUM"], Side::Right, 0.6912),
        ("aux", &["VERB", "ADJ"], Side::Right, 0.9436),
    ] {
        let parts_of_speech = parts_of_speech.iter().map(|&part| part.to_owned()).collect();
        let found =
            NearestRule { parts_of_speech, side }.accuracy(&test, relation, Direction::DependentToHead);
        assert!((found - expected).abs() < 1e-4, "{relation}: {found}");
    }
}

#[test]
fn minilm__objects__a_head_finds_their_verb_far_above_any_offset_and_an_untrained_one_does_not() {
    let (Some(mut dev), Some(mut test), Some(model)) =
        (treebank("dev"), treebank("test"), model("all-MiniLM-L6-v2"))
    else {
        return;
    };
    dev.truncate(300);
    test.truncate(300);
    let quiet = |_: usize, _: usize| ();
    let picks =
        |model: &Model| [&dev, &test].map(|sentences| SyntaxPicks::new(model, sentences, &quiet).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/all-MiniLM-L6-v2");
    let (trained, untrained) = (picks(&model), picks(&Model::untrained(&path, 1).unwrap()));
    let rows = score_syntax(
        (&dev, &test),
        [&trained[0], &trained[1]],
        Some([&untrained[0], &untrained[1]]),
        &["obj".to_owned()],
        1,
    );
    let row = &rows[0];
    assert!(row.head.test > row.offset.test + 0.1, "{row:?}");
    assert!(row.untrained.as_ref().unwrap().test < row.head.test - 0.1, "{row:?}");
    assert!(
        row.rule.test > row.head.test && row.wins == ["rule"],
        "the rule without a model is better: {row:?}"
    );
    assert!(trained[1].checks.verification.rows > 100 && trained[1].checks.verification.max_abs_error < 1e-5);
    assert_eq!(trained[1].skipped(), 0);
}

#[cfg(feature = "gguf")]
#[test]
fn smollm2__repeated_random_tokens__have_the_induction_heads_that_it_is_known_for() {
    use regard_lens::probe::repeats::probe_repeats;

    let Some(model) = model("SmolLM2-135M-Instruct") else { return };
    let found = probe_repeats(&model, 1, &|_, _| ()).unwrap();
    let strong = found.heads.iter().filter(|head| head.induction > 0.5).count();
    assert!(strong >= 5, "{strong}");
    let known = found.heads.iter().find(|head| (head.layer, head.head) == (18, 6)).unwrap();
    assert!((known.induction - 0.93).abs() < 0.06, "{known:?}");
    assert!(found.heads.iter().all(|head| head.induction_by_entry <= 0.5 + 1e-6));
    let loss = found.loss.unwrap();
    assert!(loss[3] < loss[0] / 4.0, "{loss:?}");
    assert!(found.checks.verification.max_abs_error < 1e-4, "{:?}", found.checks);
}

#[cfg(feature = "gguf")]
#[test]
fn smollm2__verbs__are_those_of_the_probe_and_not_told_without_heads() {
    use regard_lens::Interventions;
    use regard_lens::probe::agreement::{generate_items, probe_agreement, probe_verbs};
    use regard_lens::view::HeadId;

    let Some(model) = model("SmolLM2-135M-Instruct") else { return };
    let quiet = |_: usize, _: usize| ();
    let items: Vec<_> = generate_items(3).into_iter().step_by(9).collect();
    let whole = probe_verbs(&model, &items, &Interventions::new(), &quiet).unwrap();
    let probe = probe_agreement(&model, &items, &quiet).unwrap();
    for (kind, share) in probe.verbs.unwrap().into_iter().enumerate() {
        let of_kind = || items.iter().zip(&whole).filter(|(item, _)| item.attractors.len() == kind);
        let right = of_kind().filter(|(_, right)| **right == Some(true)).count();
        assert_eq!(share, Some(right as f64 / of_kind().count() as f64), "{kind} attractors");
    }
    let right = |answers: &[Option<bool>]| answers.iter().filter(|answer| **answer == Some(true)).count();
    assert!(right(&whole) * 4 > items.len() * 3, "{whole:?}");
    let info = model.info();
    let all = (0..info.layers).flat_map(|layer| (0..info.heads).map(move |head| HeadId { layer, head }));
    let without = Interventions::without(&all.collect::<Vec<_>>());
    let none = probe_verbs(&model, &items, &without, &quiet).unwrap();
    assert!(right(&none) < right(&whole), "{none:?}");
}

#[test]
fn untrained__same_seed__is_the_same_model_and_another_seed_another() {
    let dir = common::tiny::TempDir::new();
    common::tiny::TinyBert::new().write(dir.path());
    let run = |model: &Model| {
        model.run(&model.tokenize(common::tiny::TEXT).unwrap(), &mut common::NoObserver).unwrap().data
    };
    let [one, again, other] = [1, 1, 2].map(|seed| run(&Model::untrained(dir.path(), seed).unwrap()));
    assert_eq!(one, again);
    assert_ne!(one, other);
    assert_ne!(one, run(&Model::load(dir.path()).unwrap()));
}

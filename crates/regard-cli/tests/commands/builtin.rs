//! The command on a fresh machine: no model named, none fetched.

use serde_json::Value;

use crate::common::{regard, run};

const TIRED: &str = "The cat sat on the mat because it was tired";
const SOFT: &str = "The cat sat on the mat because it was soft";

fn written(arguments: &[&str]) -> String {
    run(regard().args(arguments)).written()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&written(&[arguments, &["--json"]].concat())).unwrap()
}

#[test]
fn view__no_model__shows_the_built_in_one_and_its_link_from_it() {
    for (text, antecedent) in [(TIRED, "cat"), (SOFT, "mat")] {
        let page = written(&["view", text]);
        let link = page
            .lines()
            .find(|line| line.trim_start().starts_with("link"))
            .unwrap_or_else(|| panic!("{page}"));
        assert!(link.split_whitespace().nth(1) == Some(antecedent), "{page}");
        assert!(page.contains("built-in small model") && !page.contains("does not know"), "{page}");
        let head = regard_lens::Model::builtin().unwrap().pronoun_head().unwrap().to_string();
        assert!(link.contains(&head), "{head}: {page}");
    }
}

#[test]
fn view__words_that_the_model_does_not_know__are_named_in_one_line() {
    let page = written(&["view", "The unputdownable cat saw 猫 because it was tired"]);
    // Broken where the page ends.
    let words = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("The built-in small model does not know unputdownable (read in"), "{page}");
    assert!(words.contains("猫 (at all)"), "{page}");
    let found = json(&["view", "The unputdownable cat saw 猫 because it was tired"]);
    assert_eq!(found["model"]["built_in"], true);
    let words = found["unknown_words"].as_array().unwrap();
    assert_eq!(words.len(), 2);
    assert_eq!((&words[0]["text"], &words[1]["pieces"]), (&"unputdownable".into(), &0.into()));
    assert!(words[0]["pieces"].as_u64().unwrap() > 1);
    assert_eq!(json(&["view", TIRED])["unknown_words"], Value::Array(Vec::new()));
}

#[test]
fn fill__no_model__fills_the_mask_and_says_which_model() {
    let page = written(&["fill", "The cat sat on the mat because the [MASK] was tired"]);
    assert!(page.contains("cat") && page.ends_with("  built-in small model\n"), "{page}");
    let page = written(&["fill", "The zyzzyva sat on the [MASK]"]);
    assert!(page.contains("built-in small model, which does not know zyzzyva (read in"), "{page}");
}

#[test]
fn view__longer_than_the_built_in_model_reads__says_so() {
    assert!(run(regard().args(["view", &"word ".repeat(600)])).refusal(1).contains("602"));
}

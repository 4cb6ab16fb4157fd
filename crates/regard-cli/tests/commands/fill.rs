//! `regard fill`, and `regard view` of a decoder, with the tiny models of golden/tiny.

use serde_json::Value;

use crate::common::{Ran, regard, run, tiny};

fn of(command: &str, model: &str, arguments: &[&str]) -> Ran {
    run(regard().arg(command).arg("--model").arg(tiny(model)).args(arguments))
}

fn json(command: &str, model: &str, arguments: &[&str]) -> Value {
    serde_json::from_str(&of(command, model, &[arguments, &["--json"]].concat()).written()).unwrap()
}

/// Probabilities that fall and are shares of a whole.
fn check_top(top: &Value, count: usize) {
    let probs: Vec<f64> = top.as_array().unwrap().iter().map(|one| one["prob"].as_f64().unwrap()).collect();
    assert_eq!(probs.len(), count);
    assert!(probs.windows(2).all(|pair| pair[0] >= pair[1]) && probs.iter().sum::<f64>() <= 1.0, "{probs:?}");
}

#[test]
fn fill__masks__each_has_its_place_and_words() {
    let found = json("fill", "distilbert", &["the [MASK] sat on the [MASK]", "--top", "3"]);
    assert_eq!(found["schema"], "regard-fill/1");
    let places = found["places"].as_array().unwrap();
    assert_eq!(places.iter().map(|place| place["index"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 6]);
    places.iter().for_each(|place| check_top(&place["top"], 3));
    let page = of("fill", "distilbert", &["the [MASK] sat on the [MASK]"]).written();
    assert!(page.contains("  the …\n") && page.contains("  the [MASK] sat on the …\n"), "{page}");
    assert_eq!(page.matches('%').count(), 10, "{page}");
}

#[test]
fn fill__model_with_another_mask__takes_the_usual_one() {
    let found = json("fill", "roberta", &["The cat[MASK] on the mat"]);
    assert_eq!(found["text"], "The cat<mask> on the mat");
    check_top(&found["places"][0]["top"], 5);
}

#[test]
fn fill__decoder__says_what_follows_the_text() {
    let found = json("fill", "llama", &["The cat sat"]);
    assert_eq!(found["model"]["causal"], true);
    let tokens = json("view", "llama", &["The cat sat"])["tokens"].as_array().unwrap().len();
    assert_eq!(found["places"][0]["index"], tokens);
    check_top(&found["places"][0]["top"], 5);
}

#[test]
fn fill__nothing_to_fill__says_what_to_write() {
    let said = of("fill", "bert", &["the cat"]).refusal(1);
    assert_eq!(said, "regard: the text has no [MASK] to fill: write [MASK] where a word is missing");
}

#[test]
fn view__decoder__sets_the_first_token_aside_and_never_looks_ahead() {
    let text = "The cat sat on the mat because it was tired";
    let found = json("view", "llama", &[text, "--at", "it", "--top", "20"]);
    let query = found["rows"][0]["query"].as_u64().unwrap();
    for row in found["rows"].as_array().unwrap() {
        assert!(!["next", "ahead"].contains(&row["kind"].as_str().unwrap()));
        for link in row["top"].as_array().unwrap() {
            let key = link["key"].as_u64().unwrap();
            assert!(key > 0 && key <= query, "{link}");
        }
    }
    let plain = of("view", "llama", &[text, "--plain"]).written();
    assert!(plain.contains("heads look mostly at the first token (The)."));
    let page = of("view", "llama", &[text]).written();
    assert!(page.contains("what is missing went to the first token"));
}

//! What `regard view` was made to show.

use serde_json::Value;

use super::{SOFT, TIRED, model, view};

/// The row of one head in the JSON of a text seen from `it`.
fn row(document: &Value, layer: u64, head: u64) -> &Value {
    let rows = document["rows"].as_array().expect("rows are an array");
    rows.iter().find(|row| row["layer"] == layer && row["head"] == head).expect("every head has a row")
}

fn close(found: &Value, expected: f64, tolerance: f64) -> bool {
    (found.as_f64().expect("a number") - expected).abs() <= tolerance
}

fn seen_from_it(text: &str) -> Option<Value> {
    let written = view(&model()?, &["--at", "it", "--json", text]).written();
    Some(serde_json::from_str(&written).expect("the output is JSON"))
}

#[test]
fn it__tired__L3_H1_links_it_to_cat_more_than_usual() {
    let Some(document) = seen_from_it(TIRED) else { return };
    let row = row(&document, 3, 1);
    let first = &row["top"][0];
    assert_eq!((&row["kind"], &first["token"]), (&"link".into(), &"cat".into()));
    assert!(close(&first["prob"], 0.487, 0.002), "{first}");
    assert!(close(&first["usual"], 0.12, 0.005), "{first}");
    assert!(close(&first["lift"], 4.1, 0.05), "{first}");
}

#[test]
fn it__tired__L5_H11_sends_it_to_cat_as_it_sends_every_word() {
    let Some(document) = seen_from_it(TIRED) else { return };
    let row = row(&document, 5, 11);
    let first = &row["top"][0];
    assert_eq!((&row["kind"], &first["token"]), (&"topic".into(), &"cat".into()));
    assert!(close(&first["prob"], 0.683, 0.002), "{first}");
    assert!(close(&first["usual"], 0.605, 0.002), "{first}");
}

#[test]
fn it__soft__L3_H1_prefers_mat_to_cat() {
    let Some(document) = seen_from_it(SOFT) else { return };
    let top = &row(&document, 3, 1)["top"];
    assert_eq!((&top[0]["token"], &top[1]["token"]), (&"mat".into(), &"cat".into()));
    assert!(close(&top[0]["prob"], 0.204, 0.002), "{top}");
    assert!(close(&top[1]["prob"], 0.169, 0.002), "{top}");
}

#[test]
fn default_view__cat_sentence__names_L3_H1_as_the_link_head() {
    let Some(model) = model() else { return };
    let written = view(&model, &[TIRED]).written();
    let link = written.lines().find(|line| line.trim_start().starts_with("link")).expect("there is a link");
    assert!(link.contains("cat") && link.contains("49 %") && link.contains("L3.H1"), "{link}");
    assert!(written.contains("L3.H1: it sends 49 % to cat; the other words send 12 %"), "{written}");
}

#[test]
fn verification__sampled_rows__are_within_a_few_rounding_errors() {
    let Some(document) = seen_from_it(TIRED) else { return };
    let error = document["verify"]["max_abs_error"].as_f64().unwrap();
    assert!(error > 0.0 && error < 5e-6, "{error}");
}

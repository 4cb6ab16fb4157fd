//! The JSON that other programs read.

use serde_json::Value;

use super::{TIRED, model, view};

fn parse(written: &str) -> Value {
    serde_json::from_str(written).expect("the output is JSON")
}

#[test]
fn document__fields__come_in_the_documented_order() {
    let Some(model) = model() else { return };
    let written = view(&model, &["--json", "--at", "it", "--top", "1", TIRED]).written();
    let mut from = 0;
    for field in [
        "schema",
        "regard_version",
        "model",
        "name",
        "sha256",
        "layers",
        "heads",
        "causal",
        "dtype",
        "built_in",
        "tokens",
        "index",
        "id",
        "text",
        "start",
        "end",
        "word",
        "special",
        "rows",
        "layer",
        "head",
        "kind",
        "query",
        "query_token",
        "entropy",
        "special_mass",
        "covered",
        "top",
        "key",
        "token",
        "prob",
        "usual",
        "lift",
        "verify",
        "max_abs_error",
    ] {
        let found = written[from..].find(&format!("\"{field}\":"));
        from += found.unwrap_or_else(|| panic!("{field} is missing or out of order"));
    }
    let document = parse(&written);
    assert_eq!(document["schema"], "regard-view/1");
    assert_eq!(document["rows"].as_array().unwrap().len(), 72);
    assert_eq!(document["tokens"][2]["text"], "cat");
    assert_eq!(document["model"]["heads"], 12);
}

#[test]
fn document__without_at__has_the_shown_heads_only() {
    let Some(model) = model() else { return };
    let document = parse(&view(&model, &["--json", TIRED]).written());
    let heads: Vec<String> = document["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!("{} L{}.H{}", row["kind"].as_str().unwrap(), row["layer"], row["head"]))
        .collect();
    let shown =
        ["previous L0.H2", "next L1.H8", "special L2.H7", "ahead L2.H8", "link L3.H1", "topic L5.H11"];
    assert_eq!(heads, shown);
}

#[test]
fn document__special_tokens__are_listed_only_on_request_and_never_renormalised() {
    let Some(model) = model() else { return };
    let of = |more: &[&str]| {
        let arguments =
            [&["--json", "--at", "it", "--top", "12", "--head", "L2.H7"], more, &[TIRED]].concat();
        parse(&view(&model, &arguments).written())["rows"][0].clone()
    };
    let (without, with) = (of(&[]), of(&["--keep-special"]));
    let sum = |row: &Value| -> f64 {
        row["top"].as_array().unwrap().iter().map(|link| link["prob"].as_f64().unwrap()).sum()
    };
    assert_eq!(without["top"].as_array().unwrap().len(), 10);
    assert_eq!(with["top"].as_array().unwrap().len(), 12);
    assert!((sum(&with) - 1.0).abs() < 1e-5);
    assert!((sum(&without) + without["special_mass"].as_f64().unwrap() - 1.0).abs() < 1e-5);
    assert!((sum(&without) - without["covered"].as_f64().unwrap()).abs() < 1e-5);
    assert_eq!(with["kind"], without["kind"]);
}

#[test]
fn stream__all_words__is_a_header_a_row_a_line_and_a_footer() {
    let Some(model) = model() else { return };
    let written = view(&model, &["--json", "--all", TIRED]).written();
    let lines: Vec<Value> = written.lines().map(parse).collect();
    assert_eq!(lines.len(), 1 + 72 * 10 + 1);
    assert_eq!(lines[0]["tokens"].as_array().unwrap().len(), 12);
    assert!(lines[721]["verify"]["max_abs_error"].is_number());

    let one = parse(&view(&model, &["--json", "--at", "it", TIRED]).written());
    let of_it: Vec<&Value> = lines.iter().filter(|line| line["query"] == 8).collect();
    assert_eq!(of_it, one["rows"].as_array().unwrap().iter().collect::<Vec<_>>(), "the same rows either way");
    let with_at = view(&model, &["--json", "--all", "--at", "it", TIRED]).written();
    assert_eq!(with_at.lines().count(), 1 + 72 + 1);
}

#[test]
fn stream__threads__change_no_bit() {
    let Some(model) = model() else { return };
    let mut written = ["1", "2", "5"].map(|threads| {
        let mut command = super::regard();
        command.env("RAYON_NUM_THREADS", threads).arg("view").arg("--model").arg(&model);
        super::run(command.args(["--json", "--all", TIRED])).written()
    });
    written.reverse();
    assert_eq!(written[0], written[1]);
    assert_eq!(written[1], written[2]);
}

#[test]
fn document__one_word__has_null_where_there_is_nothing_to_compare_with() {
    let Some(model) = model() else { return };
    let document = parse(&view(&model, &["--json", "--at", "hi", "Hi"]).written());
    let first = &document["rows"][0]["top"][0];
    assert_eq!(
        (&first["token"], &first["usual"], &first["lift"]),
        (&"hi".into(), &Value::Null, &Value::Null)
    );
}

//! Rules and exit codes.

use serde_json::Value;

use super::{TEXT, of, scratch, tiny};

#[test]
fn check__rules_that_hold__are_listed_and_end_with_0() {
    let rules = scratch("rules-ok.txt");
    std::fs::write(&rules, "# heads of a tiny model\n\nL0.H0 entropy > 0\n any max_prob <= 1 \n").unwrap();
    let written = of(&tiny("bert"), &["check", rules.to_str().unwrap(), TEXT]).written();
    let lines: Vec<&str> = written.lines().collect();
    assert!(lines[0].starts_with("ok    L0.H0 entropy > 0  "), "{written}");
    assert!(lines[1].starts_with("ok    any max_prob <= 1  "), "{written}");
    assert!(written.contains("of f64 on"));
}

#[test]
fn check__a_rule_that_fails__ends_with_1_and_says_the_value() {
    let ran =
        of(&tiny("bert"), &["check", "--rule", "L0.H0 entropy > 99", "--rule", "all entropy >= 0", TEXT]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), "regard: 1 of 2 rules does not hold\n"));
    assert!(ran.stdout.starts_with("FAIL  L0.H0 entropy > 99  "), "{}", ran.stdout);
    assert!(ran.stdout.lines().nth(1).unwrap().starts_with("ok  "), "{}", ran.stdout);
}

#[test]
fn check__json__says_which_rules_hold() {
    let ran = of(
        &tiny("llama"),
        &["check", "--json", "--rule", "L1.H1 induction >= 2", "--rule", "any broad > 0", TEXT],
    );
    assert_eq!(ran.code, Some(1));
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&document["schema"], &document["holds"]), (&"regard-check/1".into(), &false.into()));
    let rules = document["rules"].as_array().unwrap();
    assert_eq!((&rules[0]["rule"], &rules[0]["holds"]), (&"L1.H1 induction >= 2".into(), &false.into()));
    assert!(rules[0]["value"].is_number() && rules[1]["holds"].as_bool().unwrap());
    assert_eq!((&rules[0]["layer"], &rules[0]["head"]), (&1.into(), &1.into()));
}

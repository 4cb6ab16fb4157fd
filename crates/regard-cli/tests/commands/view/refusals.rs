//! Requests that cannot be met: one clear line each, and the right exit code.

use std::ffi::OsStr;

use super::{Ran, TIRED, model, regard, run, view};

/// Checks that a run wrote nothing but one harmless line that says `expected`.
fn assert_refused(ran: &Ran, code: i32, expected: &[&str]) {
    let line = ran.stderr.strip_suffix('\n').expect("the message ends its line");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{line}");
    assert!(line.starts_with("regard: "), "{line}");
    assert!(!line.chars().any(char::is_control) && !line.contains('\u{202e}'), "{line:?}");
    for part in expected {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
}

#[cfg(not(feature = "builtin"))]
#[test]
fn model__none__says_how_to_get_one() {
    assert_refused(&run(regard().args(["view", "a"])), 2, &["scripts/fetch-minilm", "--model org/name"]);
}

#[test]
fn model__missing_or_broken__says_what_is_wrong() {
    assert_refused(
        &run(regard().args(["view", "--model", "no\x1b[31mwhere", "a"])),
        1,
        &["no\\u{1b}[31mwhere"],
    );
    let empty = env!("CARGO_TARGET_TMPDIR");
    assert_refused(&run(regard().args(["view", "--model", empty, "a"])), 1, &["config.json"]);
}

#[test]
fn flags__wrong__are_one_line() {
    for (arguments, expected) in [
        (&["view", "--modle", "x"][..], "--model"),
        (&["view", "--top", "0", "a"], "from 1"),
        (&["view", "--color", "sometimes", "a"], "auto, always, never"),
        (&["view", "--json", "--plain", "a"], "--plain"),
        (&["view", "--all", "a"], "add --json"),
        (&["view", "--head", "3.1", "a"], "L3.H1"),
        (&["vieW"], "vieW"),
        (&["view", "--\x1b[31m\u{202e}"], "\\u{1b}[31m\\u{202e}"),
    ] {
        assert_refused(&run(regard().args(arguments)), 2, &[expected]);
    }
}

#[test]
fn text__none_empty_or_several__is_a_usage_error() {
    for (arguments, expected) in [
        (&[""][..], "empty"),
        (&[" \n\t "], "empty"),
        (&[], "empty"),
        (&["The", "cat", "sat"], "quotes"),
        (&["a", "--file", "b"], "not both"),
    ] {
        let ran = run(regard().args(["view", "--model", "x"]).args(arguments));
        assert_refused(&ran, 2, &[expected]);
    }
}

#[test]
fn text__file_missing__names_it_harmlessly() {
    let ran = run(regard().args(["view", "--model", "x", "--file", "no\x1b[31m\u{202e}file"]));
    assert_refused(&ran, 1, &["cannot open no\\u{1b}[31m\\u{202e}file"]);
}

#[cfg(unix)]
#[test]
fn text__not_utf8__says_what_to_do() {
    use std::os::unix::ffi::OsStrExt;
    let ran = run(regard().args(["view", "--model", "x"]).arg(OsStr::from_bytes(b"bad\xff")));
    assert_refused(&ran, 1, &["UTF-8", "iconv"]);
}

#[test]
fn text__too_long_for_the_model__says_both_numbers() {
    let Some(model) = model() else { return };
    assert_refused(&view(&model, &[&"word ".repeat(600)]), 1, &["602", "512"]);
}

#[test]
fn text__nothing_that_the_model_reads__is_refused() {
    let Some(model) = model() else { return };
    assert_refused(&view(&model, &["\u{200b}"]), 2, &["empty"]);
}

#[test]
fn at__ambiguous_or_unknown__lists_the_candidates() {
    let Some(model) = model() else { return };
    assert_refused(&view(&model, &["--at", "the", TIRED]), 2, &["2 times", "1 The, 5 the"]);
    assert_refused(&view(&model, &["--at", "dog", TIRED]), 2, &["0 [CLS], 1 The, 2 cat"]);
    assert_refused(&view(&model, &["--at", "12", TIRED]), 2, &["from 0 to 11"]);
}

#[test]
fn at__the_second_an_index_or_from_the_end__is_accepted() {
    let Some(model) = model() else { return };
    for (at, token) in [("the#2", "token 5"), ("7", "token 7"), ("-1", "token 10"), ("CAT", "token 2")] {
        let written = view(&model, &["--plain", "--at", at, TIRED]).written();
        assert!(written.contains(token), "{at}: {written}");
    }
    let written = view(&model, &["--plain", "--at", "unaffable", "an unaffable man"]).written();
    assert!(written.contains("una is the first of the 3 tokens of unaffable"), "{written}");
}

#[test]
fn head__outside_the_model__names_the_range() {
    let Some(model) = model() else { return };
    for head in ["L6.H0", "L0.H12"] {
        assert_refused(&view(&model, &["--head", head, TIRED]), 2, &["L0.H0 to L5.H11"]);
    }
}

#[test]
fn help__asked_for__is_on_stdout() {
    for arguments in [&["--help"][..], &["view", "--help"], &["--version"]] {
        assert!(run(regard().args(arguments)).written().contains("regard"));
    }
}

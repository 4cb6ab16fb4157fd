//! Requests that cannot be met: one clear line each, and the right exit code.

use super::{TEXT, of, scratch, tiny};

#[test]
fn request__impossible__is_one_line_and_exit_code_2() {
    let empty = scratch("rules-empty.txt");
    std::fs::write(&empty, "# nothing\n").unwrap();
    let empty = empty.to_str().unwrap();
    for (arguments, expected) in [
        (&["heads", ""][..], "empty"),
        (&["heads", "--json", "--csv", TEXT], "--csv"),
        (&["heads", "--rows", "9:3", TEXT], "B after A"),
        (&["heads", "--rows", "0:9999", TEXT], "rows: expected a range within 0:"),
        (&["heads", "--rows", "9999:", TEXT], "rows: expected a range within 0:"),
        (&["heads", "--layers", "99", TEXT], "no such head"),
        (&["heads", "--layers", "one", TEXT], "1,5:8"),
        (&["head", "L9.H9", TEXT], "no head L9.H9"),
        (&["head", "nine", TEXT], "L3.H1"),
        (&["head", "L0.H0", "--top", "33", TEXT], "from 1 to 32"),
        (&["head", "L0.H0", "--top", "99999999999999999999", TEXT], "from 1 to 32"),
        (&["head", "L0.H0", "--region", "0:5", TEXT], "0:40,0:40"),
        (&["head", "L0.H0", "--region", "0:5,0:9999", TEXT], "region: keys"),
        (&["view", "--received", TEXT], "--at"),
        (&["view", "--no-sink", TEXT], "--received"),
        (&["check", "--rule", "L0.H0 luck > 1", TEXT], "no number luck"),
        (&["check", "--rule", "L9.H9 entropy > 1", TEXT], "no head L9.H9"),
        (&["check", "--rule", "\u{1b}[31m entropy > 1", TEXT], "\\u{1b}[31m"),
        (&["check"], "no rules"),
        (&["check", empty, TEXT], "no rules"),
    ] {
        let ran = of(&tiny("bert"), arguments);
        let line = ran.stderr.strip_suffix('\n').expect("the message ends its line");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}: {line}");
        assert!(line.starts_with("regard: ") && line.contains(expected), "{arguments:?}: {line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

#[test]
fn check__rules_file_missing__is_exit_code_1() {
    let ran = of(&tiny("bert"), &["check", "no-such-file", TEXT]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("cannot open no-such-file"), "{}", ran.stderr);
}

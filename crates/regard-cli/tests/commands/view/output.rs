//! What people see.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use unicode_width::UnicodeWidthStr;

use super::{TIRED, model, regard, run, view, without_costs};
use crate::common::without_styles;

const ACCENTS: &str =
    "The naïve café owner wasn't unaffable: \"Déjà vu,\" she said, re-reading the unputdownable e-mail.";

fn sample_texts() -> Vec<String> {
    let long = "The harbour was quiet, and nobody saw the small boat leave before it was dark. ".repeat(20);
    [TIRED, ACCENTS, "?", "I ❤️ 🐈 and 👩‍🚀 too", "猫は疲れていたので、マットの上に座った", &long]
        .map(str::to_owned)
        .to_vec()
}

#[test]
fn terminal__cat_sentence__looks_like_this() {
    let Some(model) = model() else { return };
    insta::assert_snapshot!("terminal_cat", without_costs(&view(&model, &[TIRED]).written()));
}

#[test]
fn terminal__chosen_head_and_word__looks_like_this() {
    let Some(model) = model() else { return };
    let written = view(&model, &["--at", "unaffable", "--head", "L2.H7", "--top", "3", ACCENTS]).written();
    insta::assert_snapshot!("terminal_accents", without_costs(&written));
}

#[test]
fn plain__cat_sentence__reads_like_this() {
    let Some(model) = model() else { return };
    insta::assert_snapshot!("plain_cat", without_costs(&view(&model, &["--plain", TIRED]).written()));
}

#[test]
fn terminal__any_text_and_width__fits() {
    let Some(model) = model() else { return };
    for text in sample_texts() {
        for columns in [40, 60, 80, 120] {
            for color in ["never", "always"] {
                let mut command = regard();
                command.env("COLUMNS", columns.to_string()).arg("view").arg("--model").arg(&model);
                let scale: &[&str] = if columns % 40 == 0 { &["--log"] } else { &[] };
                let written = run(command.args(["--color", color, &text]).args(scale)).written();
                for line in without_styles(&written).lines() {
                    assert!(line.width() <= columns, "{columns}, {color}: {line:?}");
                    // In colours, blanks are cells of the picture.
                    assert!(color == "always" || line == line.trim_end(), "blanks at the end of {line:?}");
                }
            }
        }
    }
}

#[test]
fn log__picture__has_its_own_scale_and_the_numbers_stay() {
    let Some(model) = model() else { return };
    let [plain, log] = [&[TIRED][..], &["--log", TIRED]].map(|arguments| view(&model, arguments).written());
    assert!(plain.contains("░░ 5 %") && log.contains("░░ 0.08 %"), "{log}");
    let is_shade = |c: char| ['░', '▒', '▓', '█'].contains(&c);
    let shaded = |view: &str| view.chars().filter(|&c| is_shade(c)).count();
    assert!(shaded(&log) > shaded(&plain));
    let numbers = |view: &str| -> Vec<String> {
        let above = view.lines().take_while(|line| !line.contains(is_shade));
        above.map(str::to_owned).collect()
    };
    assert!(numbers(&plain).len() > 10);
    assert_eq!(numbers(&plain), numbers(&log));
    let refused = run(regard().args(["view", "--log", "--json", "text"])).refusal(2);
    assert!(refused.contains("--json"), "{refused}");
}

#[test]
fn colours__by_default__are_off_where_no_terminal_reads() {
    let Some(model) = model() else { return };
    assert!(!view(&model, &[TIRED]).written().contains('\x1b'));
    assert!(!view(&model, &["--color", "never", TIRED]).written().contains('\x1b'));
    assert!(view(&model, &["--color", "always", TIRED]).written().contains("\x1b[48;5;"));
    let mut command = regard();
    command.env("COLORTERM", "truecolor").arg("view").arg("--model").arg(&model);
    assert!(run(command.args(["--color", "always", TIRED])).written().contains("\x1b[48;2;"));
}

#[test]
fn text__from_argument_file_and_pipe__is_the_same() {
    let Some(model) = model() else { return };
    let argument = without_costs(&view(&model, &[TIRED]).written());
    let file = scratch("text.txt");
    fs::write(&file, format!("{TIRED}\n")).unwrap();
    let from_file = without_costs(&view(&model, &["--file", file.to_str().unwrap()]).written());
    assert_eq!(from_file, argument);
    for arguments in [&["-"][..], &[]] {
        let mut command = regard();
        command.arg("view").arg("--model").arg(&model).args(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{TIRED}\r\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(without_costs(&String::from_utf8(output.stdout).unwrap()), argument);
    }
}

#[test]
fn output__nobody_reads__ends_in_silence_with_success() {
    let Some(model) = model() else { return };
    let mut command = regard();
    command.arg("view").arg("--model").arg(&model).args(["--json", "--all", &TIRED.repeat(5)]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn text__hostile__is_spelled_out_in_every_form() {
    let Some(model) = model() else { return };
    let hostile = "The \x1b[2Jcat\x07 \u{202e}sat\u{200b} because it was\u{9b}1m";
    for form in [&["--color", "never"][..], &["--plain"], &["--json"], &["--json", "--all"]] {
        let written = view(&model, &[form, &[hostile]].concat()).written();
        assert_harmless(&written);
    }
}

#[test]
fn vocabulary__hostile__is_spelled_out_in_every_form() {
    let Some(model) = model() else { return };
    let evil = model_with_evil_vocabulary(&model);
    for form in [&["--color", "never"][..], &["--plain"], &["--json"], &["--json", "--all", "--keep-special"]]
    {
        let written = view(&evil, &[form, &[TIRED]].concat()).written();
        assert_harmless(&written);
        assert!(written.contains("u{1b}") || written.contains("u001b"), "the token is there: {written}");
    }
    let refusal = view(&evil, &["--at", "dog", TIRED]);
    assert_harmless(&refusal.stderr);
    assert!(refusal.stderr.contains("\\u{1b}[31m\\u{202e}"), "{}", refusal.stderr);
}

fn assert_harmless(written: &str) {
    for c in written.chars() {
        let bidi_or_invisible =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!((!c.is_control() || c == '\n') && !bidi_or_invisible, "{c:?} in {written:?}");
    }
}

/// The model with a `[CLS]` that is spelled with an escape sequence and a direction override.
fn model_with_evil_vocabulary(model: &Path) -> PathBuf {
    let evil = scratch("evil-vocabulary");
    fs::create_dir_all(&evil).unwrap();
    for file in ["config.json", "model.safetensors"] {
        let copy = evil.join(file);
        if !copy.is_file() {
            fs::hard_link(model.join(file), &copy)
                .or_else(|_| fs::copy(model.join(file), &copy).map(drop))
                .unwrap();
        }
    }
    let tokenizer = fs::read_to_string(model.join("tokenizer.json")).unwrap();
    fs::write(evil.join("tokenizer.json"), tokenizer.replace("[CLS]", "\\u001b[31m\\u202eCLS")).unwrap();
    evil
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

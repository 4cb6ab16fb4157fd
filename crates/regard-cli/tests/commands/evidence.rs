//! `regard explain`, `ablate`, `compare`, `rollout`, and what `view` takes and gives, as their users run them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use crate::common::{Ran, minilm, regard, run as run_command, tiny, without_styles};

const TIRED: &str = "The cat sat on the mat because it was tired";
const SOFT: &str = "The cat sat on the mat because it was soft";

fn run(model: &Path, arguments: &[&str]) -> Ran {
    run_command(regard().args(arguments).arg("--model").arg(model))
}

fn json(model: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&run(model, &[arguments, &["--json"]].concat()).written()).unwrap()
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("evidence-{}-{name}", std::process::id()))
}

/// Key and q·k of each row of the table that `regard explain` prints, and by what q·k is divided.
fn printed_column(page: &str) -> (Vec<(String, f64)>, f64) {
    let divisor = page.split("÷ √32 = ").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    let rows = page.lines().skip_while(|line| !line.trim_start().starts_with("key")).skip(1);
    let rows = rows.take_while(|line| !line.trim_start().starts_with("together"));
    let cells = rows.map(|line| {
        let mut words = line.split_whitespace();
        (words.next().unwrap().to_owned(), words.next().unwrap().parse().unwrap())
    });
    (cells.collect(), divisor)
}

#[test]
fn explain__cat_sentence__its_printed_column_gives_0_487_again() {
    let Some(model) = minilm() else { return };
    for columns in ["40", "60", "80", "120"] {
        let mut command = regard();
        command.env("COLUMNS", columns).args(["explain", "--from", "it", "--head", "L3.H1", TIRED]);
        let page = run_command(command.arg("--model").arg(&model)).written();
        let (rows, divisor) =
            printed_column(&page.replace("√32\n  = ", "√32 = ").replace("÷\n  √32", "÷ √32"));
        assert_eq!(rows.len(), 12, "{page}");
        let term = |dot: f64| (dot / divisor).exp();
        let sum: f64 = rows.iter().map(|(_, dot)| term(*dot)).sum();
        let cat = rows.iter().find(|(key, _)| key == "cat").unwrap().1;
        assert!((term(cat) / sum - 0.487).abs() < 5e-4, "{}", term(cat) / sum);
        assert!(page.contains("0.4873"), "{page}");
    }
}

#[test]
fn explain__no_head__is_the_one_that_view_pictures() {
    for name in ["bert", "llama"] {
        let pictured = run(&tiny(name), &["view", "the cat sat on the mat"]).written();
        let found = json(&tiny(name), &["explain", "the cat sat on the mat"]);
        let head = format!("L{}.H{}: ", found["layer"], found["head"]);
        assert!(pictured.lines().any(|line| line.trim_start().starts_with(&head)), "{head} {pictured}");
    }
}

#[test]
fn explain__json__holds_every_step() {
    let Some(model) = minilm() else { return };
    let found = json(&model, &["explain", "--from", "it", "--head", "L3.H1", TIRED]);
    assert_eq!(found["schema"], "regard-explain/1");
    let keys = found["keys"].as_array().unwrap();
    let number = |value: &Value| value.as_f64().unwrap();
    let scale = number(&found["softmax_scale"]);
    let largest = number(&found["max_score"]);
    for key in keys {
        let score = number(&key["dot"]) * scale;
        assert!((score - number(&key["score"])).abs() < 1e-12);
        let exp = (score - largest).exp();
        assert!((exp - number(&key["exp"])).abs() < 1e-12);
        assert!((exp / number(&found["sum_exp"]) - number(&key["prob"])).abs() < 1e-12);
        assert!((number(&key["prob"]) - number(&key["kernel_prob"])).abs() < 1e-6);
        assert!((number(&key["prob"]) * number(&key["value_size"]) - number(&key["added"])).abs() < 1e-12);
    }
    assert!((keys.iter().map(|key| number(&key["prob"])).sum::<f64>() - 1.0).abs() < 1e-12);
    let two = json(&model, &["explain", "--from", "it", "--head", "L3.H1", "--keys", "cat,the#2", TIRED]);
    assert_eq!(two["keys"].as_array().unwrap().len(), 2);
    assert_eq!(two["keys"][0], keys[2]);
    assert!(number(&found["verify"]["max_abs_error"]) < 5e-6);
}

#[test]
fn explain__decoder_with_shared_keys__says_what_it_cannot_see_and_who_shares() {
    let model = tiny("llama");
    let page = run(&model, &["explain", "--from", "cat", "--head", "L1.H1", TIRED]).written();
    assert!(page.contains("cannot see"), "{page}");
    assert!(page.contains("which heads") && page.contains("share"), "{page}");
    let found = json(&model, &["explain", "--from", "cat", "--head", "L1.H1", TIRED]);
    let query = found["query"].as_u64().unwrap();
    for key in found["keys"].as_array().unwrap() {
        let is_visible = key["key"].as_u64().unwrap() <= query;
        assert_eq!((key["visible"].as_bool(), key["dot"].is_null()), (Some(is_visible), !is_visible));
    }
    let page = run(&model, &["explain", "--from", "it", "--head", "L1.H1", "--top", "2", TIRED]).written();
    assert!(page.contains("others") && page.contains("later"), "{page}");
    let scaled = run(&tiny("gpt2_scaled"), &["explain", "--head", "L1.H1", TIRED]).written();
    assert!(scaled.contains("scores are q·k × "), "its scale is not 1/√d: {scaled}");
}

#[test]
fn ablate__decoder__has_a_loss_and_random_heads_of_the_same_layer() {
    let arguments = ["ablate", "L1.H0", TIRED, "--random", "2"];
    let found = json(&tiny("llama"), &arguments);
    assert_eq!((&found["schema"], &found["measured"]), (&"regard-ablate/1".into(), &"next_tokens".into()));
    let values = |part: &Value| -> Vec<f64> {
        part["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    };
    let loss = |part: &Value| -values(part).iter().sum::<f64>() / values(part).len() as f64;
    for part in [&found["whole"], &found["ablated"], &found["random"][0]] {
        assert!((part["loss"].as_f64().unwrap() - loss(part)).abs() < 1e-12);
    }
    let change = found["ablated"]["change"].as_f64().unwrap();
    assert!((change - (loss(&found["ablated"]) - loss(&found["whole"]))).abs() < 1e-12 && change != 0.0);
    for control in found["random"].as_array().unwrap() {
        let head = control["heads"][0].as_str().unwrap();
        assert!(head.starts_with("L1.") && head != "L1.H0");
    }
    let page = run(&tiny("llama"), &arguments).written();
    assert!(
        page.contains("whole model") && page.contains("without L1.H0") && page.contains("nats"),
        "{page}"
    );
    let again = json(&tiny("llama"), &arguments);
    assert_eq!(found["random"], again["random"], "the same seed");
}

#[test]
fn ablate__every_way__runs_on_every_kind_of_model() {
    for name in ["bert", "distilbert", "gpt2", "llama"] {
        for way in [
            &["--with", "zero"][..],
            &["--with", "mean"],
            &["--with", "frozen", "--pattern-from", TIRED],
            &["--keep-patterns"],
        ] {
            let arguments = [&["ablate", "L0.H1,L1.H0", TIRED, "--positions", "2"], way].concat();
            let page = run(&tiny(name), &arguments).written();
            assert!(page.contains("L0.H1, L1.H0") && page.contains("This is what the model loses"), "{page}");
        }
        let frozen =
            ["ablate", "L1.H0", TIRED, "--with", "frozen", "--pattern-from", TIRED, "--positions", "2"];
        let change = json(&tiny(name), &frozen)["ablated"]["change"].as_f64().unwrap();
        assert!(change.abs() < 1e-4, "{name}: its own attention changes nothing, {change}");
    }
}

#[test]
fn ablate__model_without_a_head_for_words__says_so() {
    let Some(model) = minilm() else { return };
    let page = run(&model, &["ablate", "L3.H1", TIRED]).written();
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains("no head that predicts words") && page.contains("8 random other heads"), "{page}");
    let found = json(&model, &["ablate", "L3.H1", TIRED, "--random", "0"]);
    assert_eq!((&found["measured"], &found["whole"]["loss"]), (&"hidden_states".into(), &Value::Null));
    assert_eq!(found["random"].as_array().unwrap().len(), 0);
}

#[test]
fn compare__minimal_pair__ranks_heads_by_what_moved() {
    let Some(model) = minilm() else { return };
    let found = json(&model, &["compare", "--at", "it", TIRED, "--text-b", SOFT]);
    assert_eq!(found["schema"], "regard-compare/1");
    let heads = found["heads"].as_array().unwrap();
    assert_eq!(heads.len(), 72);
    let moved: Vec<f64> = heads.iter().map(|head| head["total_variation"].as_f64().unwrap()).collect();
    assert!(moved.windows(2).all(|pair| pair[0] >= pair[1]));
    let page = run(&model, &["compare", "--at", "it", TIRED, "--text-b", SOFT]).written();
    let line = page.lines().find(|line| line.contains("L3.H1")).unwrap();
    assert!(line.contains("cat") && line.contains("49 %") && line.contains("mat") && line.contains("20 %"));
    assert!(page.contains("B has soft for tired."), "{page}");
    let longer = "The small black cat sat on the mat because it was tired";
    let page = run(&model, &["compare", TIRED, "--text-b", longer]).written();
    assert!(page.contains("only B has small, black"), "{page}");
}

#[test]
fn compare__causal_model_and_a_later_difference__says_why_nothing_moves() {
    let page = run(&tiny("llama"), &["compare", "--at", "it", TIRED, "--text-b", SOFT]).written();
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains("No head moves its attention") && page.contains("stands before it"), "{page}");
}

#[test]
fn compare__two_models__need_one_tokenizer_and_size() {
    let (llama, yarn) = (tiny("llama"), tiny("llama_yarn"));
    let found = json(&llama, &["compare", TIRED, "--model-b", yarn.to_str().unwrap()]);
    assert_eq!(
        (&found["a"]["model"]["name"], &found["b"]["model"]["name"]),
        (&"llama".into(), &"llama_yarn".into())
    );
    let bert = tiny("bert");
    let said = run(&llama, &["compare", TIRED, "--model-b", bert.to_str().unwrap()]).refusal(2);
    assert!(said.contains("compare models"), "{said}");
}

#[test]
fn rollout__json__sums_to_one() {
    let found = json(&tiny("bert"), &["rollout", "--at", "1", "the cat sat on the mat"]);
    assert_eq!(found["schema"], "regard-rollout/1");
    for part in ["rollout", "last_layer"] {
        let sum: f64 = found[part].as_array().unwrap().iter().map(|mass| mass.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{part}");
    }
}

#[test]
fn view__without_a_head__shows_another_later_layer_and_says_so() {
    let Some(model) = minilm() else { return };
    let whole = json(&model, &["view", "--at", "it", TIRED]);
    let without = json(&model, &["view", "--at", "it", "--without", "L3.H1,L2.H0", TIRED]);
    assert_eq!(without["without"], serde_json::json!(["L2.H0", "L3.H1"]));
    assert!(whole.get("without").is_none());
    let rows = |document: &Value| document["rows"].as_array().unwrap().clone();
    let (whole, without) = (rows(&whole), rows(&without));
    assert_eq!(whole[..36], without[..36], "nothing before the first ablated head's output changes");
    assert_ne!(whole[36..48], without[36..48]);
    for form in ["--plain", "--color=never"] {
        let page = run(&model, &["view", form, "--without", "L3.H1", TIRED]).written();
        let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(page.contains("Without L3.H1: its output is 0"), "{page}");
    }
}

#[test]
fn view__saved_and_read_again__is_the_same_view() {
    for name in ["bert", "llama"] {
        let text = "the cat sat on the mat";
        let (maps, tokens) = (scratch(&format!("{name}.safetensors")), scratch(&format!("{name}.json")));
        let Ran { code, stdout, stderr: said } =
            run(&tiny(name), &["view", "--json", "--at", "1", text, "--save", maps.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{said}");
        let size = fs::metadata(&maps).unwrap().len().div_ceil(1000);
        assert!(said.contains(&format!("writing {size} kB to ")), "{said}");
        let saved: Value = serde_json::from_str(&stdout).unwrap();
        let spellings = saved["tokens"].as_array().unwrap().iter().map(|token| token["text"].clone());
        fs::write(&tokens, Value::from_iter(spellings).to_string()).unwrap();
        let mut command = regard();
        command.args(["view", "--json", "--at", "1", "--attention"]).arg(&maps).arg("--tokens").arg(&tokens);
        let read: Value = serde_json::from_str(&run_command(&mut command).written()).unwrap();
        let probs = |document: &Value| -> Vec<Value> {
            let rows = document["rows"].as_array().unwrap();
            rows.iter().map(|row| serde_json::json!([row["kind"], row["entropy"], row["top"]])).collect()
        };
        assert_eq!(probs(&saved), probs(&read), "{name}");
        assert!(read["verify"]["max_row_sum_error"].as_f64().unwrap() < 1e-6);
        let mut command = regard();
        let page = run_command(command.args(["view", "--attention"]).arg(&maps).arg("--tokens").arg(&tokens))
            .written();
        assert!(page.contains("rows sum to 1 within"), "{page}");
        fs::remove_file(maps).unwrap();
        fs::remove_file(tokens).unwrap();
    }
}

#[test]
fn pages__any_width_and_colour__fit() {
    let Some(model) = minilm() else { return };
    let long = "Nobody saw the unputdownable café owner's boat leave. ".repeat(8);
    for columns in [40, 60, 80, 120] {
        for color in ["never", "always"] {
            for arguments in [
                &["explain", "--head", "L3.H1", &long][..],
                &["ablate", "L3.H1,L2.H0", &long, "--random", "3"],
                &["compare", &long, "--text-b", TIRED, "--at", "saw#1", "--at-b", "it"],
                &["rollout", "猫は疲れていたので、マットの上に座った"],
                &["view", "--without", "L3.H1,L2.H0,L0.H0", &long],
            ] {
                let mut command = regard();
                command.env("COLUMNS", columns.to_string()).args(arguments).args(["--color", color]);
                let page = run_command(command.arg("--model").arg(&model)).written();
                for line in without_styles(&page).lines() {
                    assert!(line.width() <= columns, "{columns}, {color}: {line:?}");
                    assert!(color == "always" || line == line.trim_end(), "blanks at the end of {line:?}");
                }
            }
        }
    }
}

#[test]
fn text__hostile__is_spelled_out_by_every_command() {
    let Some(model) = minilm() else { return };
    let hostile = "The \x1b[2Jcat\x07 \u{202e}sat\u{200b} because it was\u{9b}1m";
    for arguments in [
        &["explain", "--head", "L3.H1", hostile][..],
        &["ablate", "L3.H1", hostile, "--random", "1"],
        &["ablate", "L3.H1", hostile, "--with", "frozen", "--pattern-from", hostile, "--random", "1"],
        &["compare", hostile, "--text-b", "The \x1b[31m\u{202e}dog was here and it"],
        &["rollout", hostile],
    ] {
        for form in [&["--color", "never"][..], &["--json"]] {
            let page = run(&model, &[arguments, form].concat()).written();
            let is_hidden = |c: char| {
                c.is_control() && c != '\n' || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
            };
            assert!(!page.chars().any(is_hidden), "{page:?}");
        }
    }
}

#[test]
fn requests__that_make_no_sense__are_one_line_with_a_remedy() {
    let model = tiny("llama");
    for (arguments, said) in [
        (&["explain", "--head", "L99.H0", TIRED][..], "L0.H0 to L"),
        (&["explain", "--head", "3.1", TIRED], "L3.H1"),
        (&["explain", "--head", "L0.H0", "--from", "dog", TIRED], "no token"),
        (&["explain", "--head", "L0.H0", "--keys", "dog", TIRED], "no token"),
        (&["ablate", "L0.H0", TIRED, "--with", "frozen"], "--pattern-from"),
        (&["ablate", "L0.H0", TIRED, "--pattern-from", SOFT], "--with frozen"),
        (&["ablate", "L0.H0", TIRED, "--with", "frozen", "--pattern-from", "The cat"], "as many tokens"),
        (&["ablate", "L0.H0,L9.H9", TIRED], "no head L9.H9"),
        (&["ablate", "L0", TIRED], "L3.H1"),
        (&["ablate", "L0.H0", TIRED, "--with", "one"], "zero, mean, frozen"),
        (&["ablate", "L0.H0", TIRED, "--random", "65"], "64"),
        (&["ablate", "L0.H0", "The"], "longer text"),
        (&["compare", TIRED], "--text-b"),
        (&["compare", TIRED, "--at", "tired", "--text-b", "The cat"], "--at-b"),
        (&["rollout", "--at", "99", TIRED], "no token 99"),
        (&["view", "--without", "L7.H0", TIRED], "no head L7.H0"),
        (&["view", "--save-heads", "L0.H0", TIRED], "--save"),
        (&["view", "--save", "x", "--save-heads", "L9.H0", TIRED], "no head L9.H0"),
        (&["view", "--attention", "x", "--tokens", "y"], "--model"),
    ] {
        let line = run(&model, arguments).refusal(2);
        assert!(line.contains(said), "{said:?} is not in {line:?}");
    }
    for (arguments, said) in [
        (&["view", "--attention", "x"][..], "--tokens"),
        (&["view", "--tokens", "x", "a"], "--attention"),
        (&["view", "--attention", "x", "--tokens", "y", "--without", "L0.H0"], "--without"),
        (&["view", "--attention", "x", "--tokens", "y", "--save", "z"], "--save"),
        (&["view", "--attention", "x", "--tokens", "y", "a text"], "leave the text out"),
    ] {
        let line = run_command(regard().args(arguments)).refusal(2);
        assert!(line.contains(said), "{said:?} is not in {line:?}");
    }
    for command in ["explain", "ablate", "compare", "rollout"] {
        let more: &[&str] = match command {
            "explain" => &["--head", "L0.H0"],
            "ablate" => &["L0.H0"],
            "compare" => &["--text-b", SOFT],
            _ => &[],
        };
        let page = run_command(regard().arg(command).args(more).arg(TIRED)).written();
        assert!(page.contains("built-in small model"), "without --model: {page}");
        let help = run_command(regard().args([command, "--help"])).written();
        assert!(help.contains("Exit codes") && help.contains("--json"), "{help}");
    }
}

#[test]
fn attention__wrong_files__are_one_line_with_a_remedy() {
    let (maps, tokens) = (scratch("wrong.npy"), scratch("wrong.json"));
    let view = || {
        let mut command = regard();
        command.args(["view", "--attention"]).arg(&maps).arg("--tokens").arg(&tokens);
        run_command(&mut command)
    };
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 2, 2), }\n";
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    let start = file.len();
    file.extend([1.0f32, 0.0, 0.5, 0.5].iter().flat_map(|number| number.to_le_bytes()));
    fs::write(&maps, &file).unwrap();
    assert!(view().refusal(1).contains("cannot open"));
    for (json, said) in [
        ("[\"a\", \"b\", \"c\"]", "expected 2 tokens, as the matrices have, found 3"),
        ("[1, 2]", "convert_ids_to_tokens"),
        ("no json", "convert_ids_to_tokens"),
    ] {
        fs::write(&tokens, json).unwrap();
        let line = view().refusal(1);
        assert!(line.contains(said), "{line}");
    }
    fs::write(&tokens, "[\"a\\u001b[31m\", \"\\u202eb\"]").unwrap();
    let page = view().written();
    assert!(page.contains("\\u{1b}[31m") && page.contains("\\u{202e}b"), "{page}");
    file[start + 4..start + 8].copy_from_slice(&0.7f32.to_le_bytes());
    fs::write(&maps, &file).unwrap();
    let line = view().refusal(1);
    assert!(line.contains("L0.H0, row 0") && line.contains("after the softmax"), "{line}");
    fs::write(&maps, b"\x80\x04 a pickle").unwrap();
    assert!(view().refusal(1).contains("pickle"));
    fs::remove_file(maps).unwrap();
    fs::remove_file(tokens).unwrap();
}

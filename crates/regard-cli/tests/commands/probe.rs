//! `regard probe`, with the tiny models of golden/tiny and small files of annotations.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use crate::common::{Ran, regard, run, tiny};

/// The cat saw a mouse. (twice, so that there is something to split)
const CONLLU: &str = "# text = The cat saw a mouse.\n\
    1\tThe\tthe\tDET\t_\t_\t2\tdet\t_\t_\n2\tcat\tcat\tNOUN\t_\t_\t3\tnsubj\t_\t_\n\
    3\tsaw\tsee\tVERB\t_\t_\t0\troot\t_\t_\n4\ta\ta\tDET\t_\t_\t5\tdet\t_\t_\n\
    5\tmouse\tmouse\tNOUN\t_\t_\t3\tobj\t_\tSpaceAfter=No\n6\t.\t.\tPUNCT\t_\t_\t3\tpunct\t_\t_\n\n\
    1\tA\ta\tDET\t_\t_\t2\tdet\t_\t_\n2\tdog\tdog\tNOUN\t_\t_\t3\tnsubj\t_\t_\n3\tran\trun\tVERB\t_\t_\t0\troot\t_\t_\n\n";

/// The king saw Anna . He sang .
const BOOK: &str = "#begin document (x); part 0\nx\t0\t0\tThe\t_\t(0\nx\t0\t1\tking\t_\t0)\nx\t0\t2\tsaw\t_\t_\n\
    x\t0\t3\tAnna\t_\t(1)\nx\t0\t4\t.\t_\t_\n\nx\t0\t0\tHe\t_\t(0)\nx\t0\t1\tsang\t_\t_\n#end document\n";

fn scratch(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("probe-{}-{name}", std::process::id()));
    fs::write(&path, text).unwrap();
    path
}

fn probe(model: &str, columns: usize, arguments: &[&str]) -> Ran {
    run(regard()
        .env("COLUMNS", columns.to_string())
        .arg("probe")
        .arg("--model")
        .arg(tiny(model))
        .args(arguments))
}

#[track_caller]
fn assert_refused(ran: Ran, code: i32, expected: &str) {
    let line = ran.refusal(code);
    assert!(line.contains(expected), "{expected:?} is not in {line:?}");
}

fn json(model: &str, arguments: &[&str]) -> Value {
    let found: Value =
        serde_json::from_str(&probe(model, 80, &[arguments, &["--json"]].concat()).written()).unwrap();
    assert_eq!(found["schema"], "regard-probe/1");
    assert!(found["verify"]["max_abs_error"].as_f64().unwrap() < 1e-4, "{}", found["verify"]);
    assert!(found["verify"]["rows"].as_u64().unwrap() > 0);
    // layers × heads × tokens² f32
    let (tokens, of) =
        (found["longest_text"].as_u64().unwrap(), |size: &str| found["model"][size].as_u64().unwrap());
    assert!(tokens > 0);
    assert_eq!(found["dense_bytes"], of("layers") * of("heads") * tokens * tokens * 4);
    found
}

#[test]
fn ud__two_sentences__has_a_row_for_each_relation_and_direction() {
    let file = scratch("ud.conllu", CONLLU);
    let file = file.to_str().unwrap();
    let found = json("bert", &["--task", "ud", "--dev", file, "--test", file]);
    let rows = found["result"]["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().step_by(2).map(|row| row["relation"].as_str().unwrap()).collect();
    assert_eq!(names, ["nsubj", "obj", "det"]);
    assert_eq!(found["result"]["unit"], "word");
    for row in rows {
        assert_eq!(row["rule"]["test"], 1.0, "the rule is fitted on the same sentences: {row}");
        assert!(row["untrained"].is_object() && row["head"]["test"].is_number());
    }
    let half = json("bert", &["--task", "ud", file, "--no-control"]);
    assert_eq!(half["result"]["sentences"], serde_json::json!([1, 1]));
    assert!(half["result"]["rows"][0]["untrained"].is_null());
}

#[test]
fn ud__same_seed__gives_the_same_bytes_on_any_number_of_threads() {
    let file = scratch("threads.conllu", &CONLLU.repeat(6));
    let on = |threads: &str| {
        let mut command = regard();
        command.env("RAYON_NUM_THREADS", threads).args(["probe", "--task", "ud", "--json", "--model"]);
        run(command.arg(tiny("gpt2")).arg(&file)).written()
    };
    assert_eq!(on("1"), on("3"));
}

#[test]
fn coref__two_books__asks_about_their_pronouns() {
    let file = scratch("king.conll", BOOK);
    let file = file.to_str().unwrap();
    let found = json("bert", &["--task", "coref", "--dev", file, "--test", file, "--length", "40"]);
    let result = &found["result"];
    assert_eq!((result["test_pronouns"].as_u64(), result["skipped_pronouns"].as_u64()), (Some(1), Some(0)));
    let of = |name: &str| {
        let rivals = result["rivals"].as_array().unwrap();
        rivals.iter().find(|rival| rival["name"] == name).unwrap()["test"].as_f64().unwrap()
    };
    assert_eq!((of("nearest"), of("first_of_sentence"), of("chance")), (0.0, 1.0, 0.5));
}

#[test]
fn agreement__models_that_predict__are_asked_for_the_verb() {
    let items = scratch("items.txt", "The *cat* near the ~dogs~ is/are\nThe *cats* are/is\n");
    let items = items.to_str().unwrap();
    for model in ["bert", "gpt2"] {
        let found = json(model, &["--task", "agreement", items]);
        let trained = &found["result"]["trained"];
        assert_eq!(trained["items"], serde_json::json!([1, 1]), "{model}");
        // Whether a tiny vocabulary has a verb as one token is another matter.
        assert!(trained["verbs"].is_array(), "{model}");
        let heads = found["model"]["layers"].as_u64().unwrap() * found["model"]["heads"].as_u64().unwrap();
        assert_eq!(trained["heads"].as_array().unwrap().len() as u64, heads, "{model}");
    }
}

#[test]
fn pages__any_width__fit_and_say_what_attention_does_not_show() {
    let ud = scratch("width.conllu", CONLLU);
    let book = scratch("width.conll", BOOK);
    let (ud, book) = (ud.to_str().unwrap(), book.to_str().unwrap());
    for columns in [40, 60, 80, 120] {
        for arguments in [
            &["--task", "ud", ud][..],
            &["--task", "coref", "--length", "40", "--dev", book, "--test", book],
            &["--task", "agreement", "--limit", "8"],
        ] {
            let page = probe("bert", columns, arguments).written();
            for line in page.lines() {
                assert!(line.width() <= columns && line == line.trim_end(), "{columns}: {line:?}");
            }
            let words = page.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains("Attention shows where a head reads, not why."), "{words}");
            assert!(!words.contains("tracks syntax"));
        }
    }
}

#[test]
fn csv__ud__has_all_columns_and_guards_its_cells() {
    let file = scratch("csv.conllu", &CONLLU.replace("det", "=cmd"));
    let csv = probe("bert", 40, &["--task", "ud", "--csv", file.to_str().unwrap()]).written();
    let lines: Vec<&str> = csv.lines().collect();
    assert!(
        lines[0].starts_with("relation,from,pairs,head,right,95 %,untrained,offset,is,rule,"),
        "{}",
        lines[0]
    );
    assert!(lines.iter().any(|line| line.starts_with("'=cmd,d→h,")), "{lines:#?}");
    assert!(
        !lines.iter().any(|line| line.split(',').any(|cell| cell.starts_with(['=', '+', '-', '@']))),
        "{lines:#?}"
    );
}

#[test]
fn requests__that_make_no_sense__are_refused_with_a_remedy() {
    let file = scratch("refused.conllu", CONLLU);
    let file = file.to_str().unwrap();
    for (arguments, expected) in [
        (&["--task", "ud"][..], "--dev FILE"),
        (&["--task", "coref"], "LitBank"),
        (&["--task", "syntax"], "agreement"),
        (&[], "--task"),
        (&["--task", "ud", "--dev", file], "--test"),
        (&["--task", "ud", file, "--dev", file, "--test", file], "--dev"),
        (&["--task", "induction", file], "leave FILE out"),
        (&["--task", "needle", file, file], "one FILE"),
        (&["--task", "needle", "--dev", file, "--test", file], "ud and coref"),
        (&["--task", "ud", file, "--json", "--csv"], "--csv"),
        (&["--task", "ud", file, "--limit", "0"], "from 1"),
    ] {
        assert_refused(probe("bert", 80, arguments), 2, expected);
    }
}

#[test]
fn data__broken_or_missing__is_refused_by_its_line() {
    let broken = scratch("broken.conllu", "1\tThe\x1b[31m\n");
    assert_refused(
        probe("bert", 80, &["--task", "ud", broken.to_str().unwrap()]),
        1,
        "broken.conllu:1: expected 10 fields",
    );
    assert_refused(probe("bert", 80, &["--task", "ud", "no-such-file"]), 1, "no-such-file: cannot be read");
    let broken = scratch("broken.conll", "x\t0\t0\tThe\t_\t7)\n");
    assert_refused(
        probe("bert", 80, &["--task", "coref", broken.to_str().unwrap()]),
        1,
        "broken.conll:1: expected the end",
    );
    assert_refused(probe("bert", 80, &["--task", "coref", env!("CARGO_TARGET_TMPDIR")]), 1, ".conll");
    let broken = scratch("broken.txt", "The keys are/is\n");
    assert_refused(
        probe("bert", 80, &["--task", "agreement", broken.to_str().unwrap()]),
        1,
        "broken.txt:1: expected an item",
    );
}

#[test]
fn model__too_small_for_a_task__is_refused_with_a_reason() {
    for task in ["induction", "needle"] {
        assert_refused(probe("bert", 80, &["--task", task, "--length", "20"]), 1, "expected");
    }
}

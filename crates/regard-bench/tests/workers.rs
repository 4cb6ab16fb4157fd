//! Workers as processes.
#![allow(non_snake_case)]

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// The Python workers.
const SCRIPTS: [&str; 2] = ["torch_worker.py", "onnxruntime_worker.py"];

fn request(changes: &[(&str, Value)]) -> Value {
    let mut request = json!({
        "op": "layer_forward", "batch": 4, "heads": 8, "kv_heads": 8, "seq_q": 1024, "seq_kv": 1024,
        "head_dim": 64, "mask": "none", "dtype": "f32", "threads": 1, "seconds": 0, "seed": 1
    });
    for (name, value) in changes {
        request[name] = value.clone();
    }
    request
}

fn answers(engine: &str, requests: &[Value]) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regard-bench"));
    // candle takes its number of threads from here.
    let command = command.args(["worker", "--engine", engine]).env("RAYON_NUM_THREADS", "1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for request in requests {
        writeln!(stdin, "{request}").unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn worker__peak_extra_bytes__are_what_a_layer_keeps_between_its_steps() {
    let answers = answers("regard", &[request(&[])]);
    // Queries, keys and values of 4 · 1024 positions of 512 numbers, their attention, and its projection.
    let kept = 5 * 4 * 1024 * 512 * 4;
    let peak = answers[0]["peak_extra_bytes"].as_u64();
    // Only Linux keeps the record, and not everywhere may a process reset it.
    let known = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    assert_eq!(peak.is_some(), known, "{answers:?}");
    // What the allocator still has of the call of 64 positions that loads the code is not seen again.
    let least = kept - kept / 16;
    let peak = peak.unwrap_or(kept);
    assert!((least..kept + (32 << 20)).contains(&peak), "{peak}, expected at least {least}");
}

#[test]
fn worker__one_answer_a_line__in_order() {
    let small = [("seq_q", json!(20)), ("seq_kv", json!(20)), ("threads", json!(2))];
    let op = |op: &str| request(&[&small[..], &[("op", json!(op))]].concat());
    let answers = answers(
        "regard",
        &[op("forward"), op("statistics"), op("forward_backward"), json!("{"), op("decode")],
    );
    let kinds: Vec<bool> = answers.iter().map(|answer| answer.get("error").is_none()).collect();
    assert_eq!(kinds, [true, true, true, false, true], "{answers:?}");
    let names: Vec<&String> = answers[2]["samples"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["d_key", "d_query", "d_value", "output"]);
    // The forward's output is the same however it is asked for.
    assert_eq!(answers[0]["samples"]["output"], answers[2]["samples"]["output"]);
    assert_eq!(answers[0]["samples"]["output"], answers[4]["samples"]["output"]);
    assert_eq!(answers[0]["samples"]["output"], answers[1]["samples"]["output"]);
}

#[test]
fn gemm__sgemm__is_the_product_of_the_stated_matrices() {
    let sizes = [("op", json!("sgemm")), ("batch", json!(1)), ("heads", json!(1)), ("kv_heads", json!(1))];
    let shape = [("seq_q", json!(4)), ("seq_kv", json!(8)), ("head_dim", json!(2))];
    let answers = answers("gemm", &[request(&[&sizes[..], &shape].concat())]);
    // By peers/protocol.py's `value`, in whole numbers and f64: every second element of 4 × 8.
    let expected = [
        -0.3771, 1.4154, 0.1974, -0.3443, -0.0844, 0.5525, 0.107, -0.0155, -0.2591, -0.9582, -0.3787,
        -0.7402, 0.4161, -0.5369, 0.0552, 0.6472,
    ];
    let found = answers[0]["samples"]["output"].as_array().unwrap();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found.as_f64().unwrap() - expected).abs() < 1e-4, "{found} {expected}");
    }
}

/// Requests of every kind of mask, type and operation that a Rust peer may do.
#[cfg(any(feature = "candle", feature = "burn"))]
fn attention_requests() -> Vec<Value> {
    let base = [("batch", json!(1)), ("heads", json!(4)), ("kv_heads", json!(4)), ("head_dim", json!(32))];
    let sizes = [("seq_q", json!(90)), ("seq_kv", json!(90)), ("op", json!("forward"))];
    let base = [&base[..], &sizes].concat();
    let changes = [
        vec![],
        vec![("mask", json!("causal"))],
        vec![("mask", json!("causal")), ("seq_kv", json!(50))],
        vec![("mask", json!("causal")), ("seq_q", json!(50))],
        vec![("mask", json!("window:7"))],
        vec![("mask", json!("lengths")), ("batch", json!(3))],
        vec![("mask", json!("causal")), ("batch", json!(3)), ("kv_heads", json!(2))],
        vec![("dtype", json!("f16"))],
        vec![("dtype", json!("bf16")), ("mask", json!("causal"))],
        vec![("op", json!("decode")), ("seq_q", json!(1)), ("seq_kv", json!(300))],
        vec![("op", json!("forward_backward"))],
        vec![("op", json!("forward_backward")), ("mask", json!("causal")), ("batch", json!(2))],
        vec![("op", json!("forward_backward")), ("mask", json!("window:7")), ("kv_heads", json!(1))],
    ];
    changes.into_iter().map(|changes| request(&[&base[..], &changes].concat())).collect()
}

#[cfg(any(feature = "candle", feature = "burn"))]
fn assert_agrees_with_regard(engine: &str, expected_count: usize) {
    let requests = attention_requests();
    let (ours, theirs) = (answers("regard", &requests), answers(engine, &requests));
    let mut compared = 0;
    for ((request, ours), theirs) in requests.iter().zip(&ours).zip(&theirs) {
        let Some(samples) = theirs["samples"].as_object() else {
            assert!(theirs["error"].is_string(), "{engine} {request}: {theirs}");
            continue;
        };
        compared += 1;
        let most = match request["dtype"].as_str() {
            Some("f32") => 1e-4,
            Some("f16") => 5e-3,
            _ => 4e-2,
        };
        assert!(samples.keys().eq(ours["samples"].as_object().unwrap().keys()), "{engine} {request}");
        for (name, theirs) in samples {
            let pairs = theirs.as_array().unwrap().iter().zip(ours["samples"][name].as_array().unwrap());
            for (theirs, ours) in
                pairs.map(|(theirs, ours)| (theirs.as_f64().unwrap(), ours.as_f64().unwrap()))
            {
                assert!((theirs - ours).abs() <= most, "{engine} {request} {name}: {theirs} {ours}");
            }
        }
    }
    assert_eq!(compared, expected_count, "{engine}: {theirs:?}");
}

#[cfg(feature = "candle")]
#[test]
fn candle__both_ways__agree_with_regard_or_refuse() {
    assert_agrees_with_regard("candle", 9);
    assert_agrees_with_regard("candle-composed", 13);
}

#[cfg(feature = "burn")]
#[test]
fn burn__agrees_with_regard_or_refuses() {
    assert_agrees_with_regard("burn", 11);
}

#[cfg(not(all(feature = "candle", feature = "burn")))]
#[test]
fn worker__an_engine_that_is_not_built__says_how_to_build_it() {
    for (engine, feature, built) in
        [("candle", "candle", cfg!(feature = "candle")), ("burn", "burn", cfg!(feature = "burn"))]
    {
        if !built {
            let error = answers(engine, &[request(&[])])[0]["error"].as_str().unwrap().to_string();
            assert!(error.contains(&format!("--features {feature}")), "{error}");
        }
    }
}

/// The constants of inputs.rs, by the definition and by the arrays of the Python workers.
#[test]
fn python__self_test__computes_the_same_inputs() {
    let python = std::env::var_os("REGARD_BENCH_PYTHON").unwrap_or("python3".into());
    for script in SCRIPTS {
        let path = format!("{}/peers/{script}", env!("CARGO_MANIFEST_DIR"));
        let Ok(output) = Command::new(&python).args([&path, "--self-test"]).output() else {
            return eprintln!("SKIPPED: no Python");
        };
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A worker without its library says so, and how to get it, and goes on.
#[test]
fn python__without_its_library__answers_with_the_way_to_get_it() {
    let python = std::env::var_os("REGARD_BENCH_PYTHON").unwrap_or("python3".into());
    for script in SCRIPTS {
        let path = format!("{}/peers/{script}", env!("CARGO_MANIFEST_DIR"));
        // Without site packages there is none.
        let mut command = Command::new(&python);
        let command = command.args(["-I", "-S", "-c"]).arg(format!(
            "import sys, runpy; sys.path.insert(0, {:?}); sys.argv = ['worker']; runpy.run_path({path:?}, \
             run_name='__main__')",
            format!("{}/peers", env!("CARGO_MANIFEST_DIR"))
        ));
        let Ok(mut child) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
            return eprintln!("SKIPPED: no Python");
        };
        writeln!(child.stdin.take().unwrap(), "{}\n{{", request(&[])).unwrap();
        let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(output.lines().count(), 2, "{script}: {output}");
        for line in output.lines() {
            let answer: Value = serde_json::from_str(line).unwrap();
            assert!(answer["error"].as_str().unwrap().contains("pip install -r"), "{script}: {answer}");
        }
    }
}

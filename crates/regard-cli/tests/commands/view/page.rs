//! The page that a browser shows, as a file.

use std::fs::{create_dir_all, read_dir, read_to_string, remove_dir_all, write};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{TIRED, model, regard, run, view};

/// A folder of the test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("regard-page-{name}-{}", std::process::id()));
    let _ = remove_dir_all(&folder);
    create_dir_all(&folder).unwrap();
    folder
}

fn data(html: &str) -> Value {
    let start = html.find("id=\"data\">").expect("the page has data") + "id=\"data\">".len();
    let end = start + html[start..].find("</script>").expect("the data ends");
    serde_json::from_str(&html[start..end]).expect("the data is JSON")
}

fn shorts(packed: &Value) -> Vec<u16> {
    let bytes = STANDARD.decode(packed.as_str().expect("packed")).expect("base64");
    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
}

#[test]
fn html__cat_sentence__holds_every_key_of_every_head_within_1e_5() {
    let Some(model) = model() else { return };
    let folder = folder("cat");
    let path = folder.join("cat.html");
    let said =
        view(&model, &["--html", path.to_str().unwrap(), "--at", "it", "--head", "L3.H1", TIRED]).written();
    assert!(said.contains("cat.html: 0.") && said.contains("72 heads; all 12 rows, 12 keys each"), "{said}");
    let html = read_to_string(&path).unwrap();
    let data = data(&html);
    assert_eq!([&data["schema"], &data["labels"]["list"][8]], ["regard-page/1", "it"]);
    assert_eq!((data["focus"].as_u64(), data["head"]["layer"].as_u64()), (Some(8), Some(3)));
    assert_eq!(data["heads"].as_array().unwrap().len(), 72);
    assert_eq!(data["readings"].as_array().unwrap().len(), 4);

    let written = view(&model, &["--json", "--at", "it", "--keep-special", "--top", "12", TIRED]).written();
    let exact: Value = serde_json::from_str(&written).unwrap();
    let top = &data["readings"][0]["top"];
    let (keys, probs) = (shorts(&top["keys"]), shorts(&top["probs"]));
    for (head, row) in exact["rows"].as_array().unwrap().iter().enumerate() {
        let place = (head * 12 + 8) * 12;
        for link in row["top"].as_array().unwrap() {
            let (key, prob) = (link["key"].as_u64().unwrap(), link["prob"].as_f64().unwrap());
            let at = (place..place + 12).find(|&at| u64::from(keys[at]) == key).expect("every key is kept");
            assert!((f64::from(probs[at]) / 65_535.0 - prob).abs() < 1e-5, "head {head}, key {key}");
        }
    }
    let cat = (3 * 12 + 1) * 144 + 8 * 12;
    assert_eq!(keys[cat], 2);
    assert!((f64::from(probs[cat]) / 65_535.0 - 0.487).abs() < 5e-4);
    assert!(html.contains("<bdi>cat</bdi> 0.487"), "the table that needs no script has it");
    remove_dir_all(folder).unwrap();
}

#[test]
fn html__hostile_text__is_text() {
    let Some(model) = model() else { return };
    let folder = folder("hostile");
    let path = folder.join("page.html");
    let hostile = "</script><script>alert(1)</script> <img src=x> \u{202e}abc שלום 🐈";
    view(&model, &["--html", path.to_str().unwrap(), hostile]).written();
    let html = read_to_string(&path).unwrap();
    assert_eq!((html.matches("<script").count(), html.matches("</script").count()), (2, 2));
    assert!(!html.contains("<img") && !html.contains('\u{202e}'));
    remove_dir_all(folder).unwrap();
}

#[test]
fn html__where_it_cannot_be_written__fails_and_leaves_what_was_there() {
    let Some(model) = model() else { return };
    let folder = folder("refused");
    let nowhere = folder.join("none/page.html");
    for path in [&nowhere, &folder] {
        let ran = view(&model, &["--html", path.to_str().unwrap(), TIRED]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
        assert!(ran.stderr.contains("cannot write"), "{}", ran.stderr);
    }
    assert_eq!(read_dir(&folder).unwrap().count(), 0);
    remove_dir_all(folder).unwrap();
}

#[test]
fn html__with_another_form_of_output__is_refused() {
    for arguments in [
        ["view", "--html", "x.html", "--json", "text"],
        ["view", "--html", "x.html", "--plain", "text"],
        ["heads", "--html", "x.html", "--json", "text"],
        ["heads", "--html", "x.html", "--csv", "text"],
    ] {
        let ran = run(regard().args(arguments));
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains("--html"), "{}", ran.stderr);
    }
}

#[test]
fn html__heads_of_a_file__has_roles_and_controls_and_the_rows_asked_for() {
    let Some(model) = model() else { return };
    let folder = folder("heads");
    let (path, text) = (folder.join("page.html"), folder.join("text.txt"));
    write(&text, format!("{TIRED}. ").repeat(8)).unwrap();
    let ran = run(regard()
        .args(["heads", "--no-sink", "--layers", "0:2", "--rows", "10:60", "--at", "20", "--html"])
        .arg(&path)
        .arg("--file")
        .arg(&text)
        .arg("--model")
        .arg(&model));
    assert!(ran.written().contains("24 heads; rows 10:60 of 90"));
    let data = data(&read_to_string(&path).unwrap());
    assert_eq!(
        (data["plan"]["rows"]["start"].as_u64(), data["plan"]["rows"]["end"].as_u64()),
        (Some(10), Some(60))
    );
    assert_eq!((&data["readings"][0]["no_sink"], data["focus"].as_u64()), (&Value::Bool(true), Some(20)));
    assert_eq!(data["control"]["tokens"].as_u64(), Some(90));
    assert_eq!(data["shuffled"]["previous"].as_array().unwrap().len(), 24);
    let held =
        data["readings"].as_array().unwrap().iter().flat_map(|reading| reading["roles"].as_array().unwrap());
    assert!(held.filter(|bits| bits.as_u64() > Some(0)).count() > 0, "some head has a role");
    remove_dir_all(folder).unwrap();
}

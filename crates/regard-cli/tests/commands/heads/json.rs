//! The documents and tables that other programs read.

use serde_json::Value;

use super::{LONG, TEXT, minilm, of, tiny};

fn parse(written: &str) -> Value {
    assert_eq!(written.lines().count(), 1);
    serde_json::from_str(written).expect("the output is JSON")
}

#[test]
fn heads__document__has_an_entry_for_every_head_with_every_field() {
    for (model, causal) in [("bert", false), ("llama", true)] {
        let document = parse(&of(&tiny(model), &["heads", "--json", TEXT]).written());
        assert_eq!((&document["schema"], &document["unit"]), (&"regard-heads/1".into(), &"token".into()));
        let (layers, heads) = (&document["model"]["layers"], &document["model"]["heads"]);
        let count = layers.as_u64().unwrap() * heads.as_u64().unwrap();
        let entries = document["heads"].as_array().unwrap();
        assert_eq!(entries.len() as u64, count);
        for entry in entries {
            for field in
                ["entropy", "relative_entropy", "max_prob", "mean_distance", "first_token", "special"]
            {
                let number = entry[field].as_f64().unwrap_or_else(|| panic!("{field}: {entry}"));
                assert!(number >= 0.0);
            }
            assert!(entry["offsets"]["-1"].is_number() && entry["duplicate"].is_number());
            assert_eq!(entry["offsets"].as_object().unwrap().len(), if causal { 9 } else { 17 });
            assert_eq!(entry["induction"].is_number(), causal, "null in encoders");
            assert!(entry["roles"].is_array() && entry["shuffled"]["entropy"].is_number());
            assert!(entry["layer"].is_number() && entry["head"].is_number());
            let distance: f64 =
                entry["distance"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).sum();
            assert!((distance - 1.0).abs() < 1e-4, "{distance}");
        }
        let rows = document["verify"]["rows"].as_u64().unwrap();
        assert_eq!(rows, layers.as_u64().unwrap() * 64u64.div_ceil(layers.as_u64().unwrap()));
        assert!(document["verify"]["max_abs_error"].as_f64().unwrap() < 1e-5);
        let tokens = document["tokens"].as_array().unwrap().len() as u64;
        assert_eq!(document["dense_bytes"].as_u64().unwrap(), 4 * count * tokens * tokens);
        assert_eq!(document["control"]["tokens"].as_u64().unwrap(), tokens);
        assert!(document["uniform"]["offsets"]["-1"].is_number() && document["rows"]["rows"].is_number());
        assert!(document["seconds"].is_number());
        for role in document["roles"].as_array().unwrap() {
            assert!(
                role["best"]["score"].is_number() && role["least"].is_number() && role["rows"].is_number()
            );
        }
    }
}

#[test]
fn heads__words__say_so_and_count_them() {
    let Some(model) = minilm() else { return };
    let text = "The unputdownable book was unputdownable";
    let token = parse(&of(&model, &["heads", "--json", text]).written());
    let word = parse(&of(&model, &["heads", "--json", "--words", text]).written());
    assert_eq!(word["unit"], "word");
    assert_eq!(word["rows"]["rows"], 5);
    assert!(token["rows"]["rows"].as_u64().unwrap() > 5);
}

#[test]
fn heads__minilm__its_previous_next_and_special_heads_have_their_roles() {
    let Some(model) = minilm() else { return };
    let document = parse(&of(&model, &["heads", "--json", LONG]).written());
    let roles = |layer: usize, head: usize| document["heads"][layer * 12 + head]["roles"].clone();
    assert_eq!(roles(0, 2)[0], "previous");
    assert_eq!(roles(1, 8)[0], "next");
    assert!(roles(2, 7).as_array().unwrap().iter().any(|role| role == "special"));
}

#[test]
fn heads__selection__leaves_the_others_out() {
    let document =
        parse(&of(&tiny("bert"), &["heads", "--json", "--layers", "1", "--heads", "0:1", TEXT]).written());
    let heads = document["heads"].as_array().unwrap();
    assert_eq!((heads.len(), &heads[0]["layer"], &heads[0]["head"]), (1, &1.into(), &0.into()));
}

#[test]
fn csv__every_head__is_a_line_with_as_many_cells_as_the_heading() {
    let written = of(&tiny("llama"), &["heads", "--csv", TEXT]).written();
    let lines: Vec<&str> = written.lines().collect();
    let document = parse(&of(&tiny("llama"), &["heads", "--json", TEXT]).written());
    let heads = document["heads"].as_array().unwrap();
    assert_eq!(lines.len(), 1 + heads.len());
    assert!(lines[0].starts_with("model,unit,layer,head,roles,rows,entropy,"), "{}", lines[0]);
    assert!(lines[0].ends_with(",offset_-1,offset_0"));
    let cells = lines[0].split(',').count();
    for (line, head) in lines[1..].iter().zip(heads) {
        let values: Vec<&str> = line.split(',').collect();
        assert_eq!(values.len(), cells, "{line}");
        assert_eq!(values[6].parse::<f64>().unwrap(), head["entropy"].as_f64().unwrap());
        assert!(!values.iter().any(|cell| cell.starts_with(['=', '+', '-', '@'])));
    }
}

#[test]
fn csv__model_named_as_a_formula__is_guarded() {
    let copy = super::scratch("=cmd,1");
    std::fs::create_dir_all(&copy).unwrap();
    for file in std::fs::read_dir(tiny("bert")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let written = of(&copy, &["heads", "--csv", TEXT]).written();
    assert!(written.lines().nth(1).unwrap().starts_with("\"'=cmd,1\",token,0,0,"), "{written}");
}

#[test]
fn head__document__has_its_numbers_keys_and_region() {
    let arguments = ["head", "L1.H0", "--json", "--top", "3", "--region", "2:6,1:4", TEXT];
    let document = parse(&of(&tiny("llama"), &arguments).written());
    assert_eq!(document["schema"], "regard-head/1");
    let tokens = document["tokens"].as_array().unwrap().len();
    let head = &document["head"];
    assert_eq!((&head["layer"], &head["head"]), (&1.into(), &0.into()));
    assert_eq!(head["top"]["keys"].as_array().unwrap().len(), 3 * tokens);
    assert_eq!(head["received"].as_array().unwrap().len(), tokens);
    let region = &document["region"];
    assert_eq!(region["probs"].as_array().unwrap().len(), 4 * 3);
    assert_eq!((&region["rows"]["start"], &region["keys"]["end"]), (&2.into(), &4.into()));
    // The row of token 2 sees keys 0 to 2; its key 3 is ahead.
    assert_eq!(region["probs"][2], 0.0);
    let first = region["probs"].as_array().unwrap()[..3].iter().map(|p| p.as_f64().unwrap()).sum::<f64>();
    assert!(first > 0.0 && first <= 1.0);
}

#[test]
fn received__document__has_every_head_and_its_strongest_queries() {
    let document = parse(
        &of(&tiny("llama"), &["view", "--json", "--received", "--at", "3", "--top", "2", TEXT]).written(),
    );
    assert_eq!((&document["schema"], &document["at"]), (&"regard-received/1".into(), &3.into()));
    let tokens = document["tokens"].as_array().unwrap().len() as u64;
    for head in document["heads"].as_array().unwrap() {
        assert_eq!(head["visible_queries"].as_u64().unwrap(), tokens - 3);
        let top = head["top"].as_array().unwrap();
        assert_eq!(top.len(), 2);
        assert!(top.iter().all(|query| query["query"].as_u64().unwrap() >= 3));
        let sum: f64 = top.iter().map(|query| query["prob"].as_f64().unwrap()).sum();
        assert!(sum <= head["received"].as_f64().unwrap() + 1e-5);
    }
}

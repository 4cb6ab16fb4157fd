//! SmolLM2-135M-Instruct, a real decoder of the Llama layout in 4 bits.
#![cfg(feature = "gguf")]
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod common;

use std::io::Write;
use std::path::Path;

use regard_lens::view::{Queries, ViewOptions, Viewer};
use regard_lens::{AttentionObserver, LayerAttention, LensError, Model, Predicts};

/// The model, or `None` and a line that says so where it has not been fetched.
fn load() -> Option<Model> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/SmolLM2-135M-Instruct");
    if !dir.is_dir() {
        // The real standard error: `eprintln!` would be captured by the test harness.
        let line = "SKIPPED: models/SmolLM2-135M-Instruct is not there; scripts/fetch-smollm2 fetches it\n";
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return None;
    }
    Some(Model::load(&dir).unwrap())
}

#[test]
fn smollm2__the_capital_of_france__is_paris() {
    let Some(model) = load() else { return };
    let tokens = model.tokenize("The capital of France is the city of").unwrap();
    let predictions = model.next_token(&tokens, 3).unwrap();
    assert_eq!(predictions[0].text, " Paris", "{predictions:?}");
    assert!(predictions[0].prob > predictions[1].prob && predictions[0].prob < 1.0);
}

#[test]
fn smollm2__its_info_and_tokens__are_those_of_the_file() {
    let Some(model) = load() else { return };
    let info = model.info();
    assert_eq!((info.layers, info.heads, info.causal, info.max_tokens), (30, 9, true, 8192));
    assert_eq!((info.predicts, info.name.as_str()), (Predicts::NextToken, "SmolLM2-135M-Instruct"));
    // What the file calls "smollm": every digit is a word, and no token is added.
    let tokens = model.tokenize("The cat sat in 1984").unwrap();
    let pieces: Vec<&str> = tokens.tokens.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(pieces, ["The", "Ġcat", "Ġsat", "Ġin", "Ġ", "1", "9", "8", "4"]);
}

/// Keeps the weight that one head gives from each token to another.
struct Column {
    layer: usize,
    head: usize,
    key: usize,
    probs: Vec<f32>,
}

impl AttentionObserver for Column {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        if attention.layer == self.layer {
            let tokens = attention.query.shape()[2];
            let mut rows = vec![0.0; tokens * tokens];
            attention.probs(self.head, 0..tokens, &mut rows)?;
            self.probs = rows.iter().skip(self.key).step_by(tokens).copied().collect();
        }
        Ok(())
    }
}

#[test]
fn smollm2__the_cat_sentence__its_topic_head_is_where_it_was_found_without_this_code() {
    let Some(model) = load() else { return };
    let tokens = model.tokenize("The cat sat on the mat because it was tired").unwrap();
    let mut column = Column { layer: 13, head: 8, key: 1, probs: Vec::new() };
    model.run(&tokens, &mut column).unwrap();
    // 0.804 by a forward pass in NumPy.
    assert!((column.probs[7] - 0.804).abs() < 5e-3, "{:?}", column.probs);
    assert_eq!(column.probs[0], 0.0, "no look ahead");
}

#[test]
fn smollm2__a_view__checks_itself_and_has_no_link_ahead() {
    let Some(model) = load() else { return };
    let tokens = model.tokenize("The cat sat on the mat because it was tired").unwrap();
    let options =
        ViewOptions { queries: Queries::All, top: 3, keep_special: false, map_size: [0, 0], map_head: None };
    let mut rows = 0;
    let mut on_head = |head: regard_lens::view::HeadView| {
        for row in &head.rows {
            rows += 1;
            assert!(row.top.iter().all(|link| link.key <= row.query), "{:?}", head.id);
            assert!(row.strongest.is_none_or(|link| link.key <= row.query));
        }
        assert_eq!(head.statistics.next, 0.0);
        Ok(())
    };
    let mut viewer = Viewer::new(&tokens, model.info(), options, &mut on_head);
    model.run(&tokens, &mut viewer).unwrap();
    let verification = viewer.finish().verification;
    assert_eq!(rows, 30 * 9 * tokens.tokens.len());
    assert!(verification.rows >= 100 && verification.max_abs_error < 1e-4, "{verification:?}");
}

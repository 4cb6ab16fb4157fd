//! Pages of findings made up for tests: any length, hostile text, always the same numbers.

use std::collections::BTreeMap;

use regard_lens::profile::{Counted, HeadProfile, Profiled, Thumbnail, TopKeys};
use regard_lens::view::Verification;
use regard_lens::{Predicts, Token};

use super::plan::MAX_PAGE_BYTES;
use super::*;

/// Looks like text, and is none.
const WORDS: [&str; 12] =
    ["It", "was", "the", "best", "of", "times", ",", "unaffable", "harbour", "and", "lamplight", "."];

/// What a page must show as it is.
pub(super) const HOSTILE: [&str; 9] = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "\"'><b>",
    "שלום",
    "\u{202e}desrever",
    "🐈‍⬛",
    "&amp;",
    "{{table}}",
    "-->",
];

fn text(units: usize, words: &[&str]) -> TokenizedText {
    let mut text = String::new();
    let tokens = (0..units).map(|index| {
        let word = words[index % words.len()];
        let start = text.len();
        text.push_str(word);
        text.push(' ');
        let end = start + word.len();
        Token {
            index,
            id: index as u32,
            text: word.to_owned(),
            start,
            end,
            word: Some(index),
            special: false,
        }
    });
    let tokens = tokens.collect();
    TokenizedText { text, tokens }
}

fn model(layers: usize, heads: usize) -> ModelInfo {
    ModelInfo {
        name: "made-up".into(),
        sha256: "0".repeat(64),
        layers,
        heads,
        causal: true,
        dtype: "F32".into(),
        max_tokens: 1 << 20,
        predicts: Predicts::NextToken,
        built_in: false,
    }
}

/// A head that looks at the first token with `sink`, at a place `back` before with the rest.
fn head(id: HeadId, units: usize, plan: &Plan, no_sink: bool) -> HeadProfile {
    let back = 1 + (id.layer * 7 + id.head * 3) % 11;
    let sink = if no_sink { 0.0 } else { [0.9, 0.5, 0.1][(id.layer + id.head) % 3] };
    let mut scores = Scores::default();
    scores.entropy = 1.0 + id.head as f32 / 10.0;
    scores.relative_entropy = 0.25;
    scores.max_prob = f32::max(sink, 1.0 - sink);
    scores.mean_distance = back as f32;
    scores.first_token = sink;
    scores.induction = Some(0.2);
    scores.offsets =
        (-8..=0).map(|offset| (offset, if offset == -(back as i64) { 1.0 - sink } else { 0.0 })).collect();
    let bins = 2 * (units.ilog2() as usize + 1) + 1;
    scores.distance = vec![0.0; bins];
    scores.distance[bins / 2 - 1 - back.ilog2() as usize] = 1.0 - sink;
    let mut received = vec![1.0 - sink; units];
    received[0] = sink * units as f32;
    let rows: Vec<usize> = plan.rows.clone().collect();
    let (mut keys, mut probs) = (Vec::new(), Vec::new());
    for &row in &rows {
        let mut top = vec![(row.saturating_sub(back) as u32, (1.0 - sink) * 0.9), (0, sink * 0.9)];
        top.sort_by(|a, b| b.1.total_cmp(&a.1));
        top.resize(plan.top_k.max(2), (TopKeys::NO_KEY, 0.0));
        keys.extend(top[..plan.top_k].iter().map(|pair| pair.0));
        probs.extend(top[..plan.top_k].iter().map(|pair| pair.1));
    }
    let side = plan.side;
    let per_block = units as f32 / side as f32;
    let cell = |row: usize, column: usize| match (row == column, column == 0) {
        (true, true) => per_block,
        (true, false) => per_block * (1.0 - sink),
        (false, true) => per_block * sink,
        (false, false) => 0.0,
    };
    let sums = (0..side).flat_map(|row| (0..side).map(move |column| cell(row, column))).collect();
    HeadProfile {
        id,
        scores,
        roles: vec![],
        kept: no_sink.then_some(0.4),
        shuffled: None,
        top: Some(TopKeys { rows, top_k: plan.top_k, keys, probs }),
        received,
        thumbnail: Some(Thumbnail { rows: side, columns: side, of_rows: units, of_columns: units, sums }),
    }
}

fn reading(layers: usize, heads: usize, units: usize, plan: &Plan, (no_sink, norm): (bool, bool)) -> Reading {
    let ids = (0..layers).flat_map(|layer| (0..heads).map(move |head| HeadId { layer, head }));
    let mut uniform = Scores::default();
    uniform.distance = vec![0.02; 2 * (units.ilog2() as usize + 1) + 1];
    uniform.offsets = (-8..=0).map(|offset| (offset, 0.001)).collect();
    let offsets: BTreeMap<i64, usize> = (-8..=0).map(|offset| (offset, units)).collect();
    let profiled = Profiled {
        heads: ids.take(plan.heads).map(|id| head(id, units, plan, no_sink)).collect(),
        uniform,
        counted: Counted { rows: units, duplicate: units, induction: units, offsets },
        region: None,
        verification: Verification::default(),
    };
    Reading { no_sink, norm, profiled }
}

/// The page of a made-up model on a made-up text.
pub(super) fn made_up(layers: usize, heads: usize, text: &TokenizedText, readings: usize) -> Page {
    let info = model(layers, heads);
    let units: Vec<Range<usize>> = (0..text.tokens.len()).map(|token| token..token + 1).collect();
    let (all_labels, label_bytes) = Labels::all(text, &units);
    let ways = &[(false, false), (true, false), (false, true), (true, true)][..readings];
    let sizes = Sizes {
        units: units.len(),
        heads: layers * heads,
        readings,
        distance_bins: 2 * (units.len().ilog2() as usize + 1) + 1,
        other_bytes: FIXED_BYTES + label_bytes + TABLE_BYTES,
    };
    let focus = units.len() * 3 / 4;
    let plan = Plan::new(&sizes, &(0..units.len()), focus);
    let ways = &ways[..plan.readings];
    let readings: Vec<Reading> =
        ways.iter().map(|&way| reading(layers, heads, units.len(), &plan, way)).collect();
    let control = Control { tokens: units.len().min(2048), seed: 0 };
    let shuffled = readings[0].profiled.heads.iter().map(|head| head.scores.clone()).collect();
    let labels = all_labels.unwrap_or_else(|| Labels::some(text, &units, &plan.rows, named_keys(&readings)));
    let findings = Findings {
        model: &info,
        text,
        unit: Unit::Token,
        rows: 0..units.len(),
        units,
        heads_in_all: layers * heads,
        plan,
        labels,
        focus,
        head: None,
        readings,
        shuffled: Some((control, shuffled)),
    };
    finish(&findings, None).expect("numbers become JSON")
}

/// Writes a page where the browser's tests look for it, if they asked.
fn keep(name: &str, page: &Page) {
    if let Some(folder) = std::env::var_os("REGARD_PAGES") {
        std::fs::write(Path::new(&folder).join(name), &page.html).expect("the folder is there");
    }
}

#[test]
fn page__8192_tokens_of_270_heads__is_below_3_MB_with_both_readings() {
    let page = made_up(30, 9, &text(8192, &WORDS), 2);
    keep("long.html", &page);
    assert!(page.html.len() < MAX_PAGE_BYTES, "{}", page.html.len());
    // The room is used.
    assert!(page.html.len() > MAX_PAGE_BYTES * 8 / 10, "{}", page.html.len());
}

#[test]
fn page__any_size_and_label__is_below_3_MB() {
    let long_words: Vec<String> =
        (0..40).map(|place| format!("<{}{place}", "<\u{301}\"".repeat(40))).collect();
    let long_words: Vec<&str> = long_words.iter().map(String::as_str).collect();
    for (layers, heads, units) in [(1, 1, 1), (1, 1, 70_000), (6, 12, 512), (32, 32, 20_000), (80, 64, 3_000)]
    {
        let page = made_up(layers, heads, &text(units, &long_words), 4);
        let bytes = page.html.len();
        assert!(bytes < MAX_PAGE_BYTES, "{layers} layers, {heads} heads, {units} tokens: {bytes} bytes");
    }
}

#[test]
fn page__hostile_tokens__are_text_and_no_markup() {
    let page = made_up(2, 2, &text(45, &HOSTILE), 2);
    keep("hostile.html", &page);
    assert_eq!(page.html.matches("<script").count(), 2);
    assert!(!page.html.contains("<img") && !page.html.contains("<b>") && !page.html.contains('\u{202e}'));
    assert!(page.html.contains("&lt;script&gt;"), "the table has them");
    assert!(page.html.contains("\\u003cscript>"), "and the data");
}

#[test]
fn page__1500_tokens__holds_all_rows_of_a_small_model() {
    let page = made_up(4, 4, &text(1500, &WORDS), 4);
    keep("tokens-1500.html", &page);
    assert!(page.summary.contains("all 1500 rows"), "{}", page.summary);
}

#[test]
fn page__same_findings__are_the_same_bytes() {
    let text = text(100, &WORDS);
    assert_eq!(made_up(2, 3, &text, 2).html, made_up(2, 3, &text, 2).html);
}

//! The analysis on small matrices that can be checked by hand.

use super::head::{ROWS_AT_ONCE, look_at_head};
use super::text_table::TextTable;
use super::*;
use crate::error::LensError;
use crate::token::{Token, TokenizedText};

/// A text of one-letter words between two special tokens; `words` gives each token's word.
pub(super) fn text(words: &[usize]) -> TokenizedText {
    let special = |index: usize, text: &str| Token {
        index,
        id: 0,
        text: text.into(),
        start: 0,
        end: 0,
        word: None,
        special: true,
    };
    let mut tokens = vec![special(0, "[CLS]")];
    tokens.extend(words.iter().enumerate().map(|(i, &word)| Token {
        index: i + 1,
        id: 1,
        text: "a".into(),
        start: i,
        end: i + 1,
        word: Some(word),
        special: false,
    }));
    tokens.push(special(words.len() + 1, "[SEP]"));
    TokenizedText { text: "a".repeat(words.len()), tokens }
}

pub(super) fn options(queries: Queries) -> ViewOptions {
    ViewOptions { queries, top: 2, keep_special: false, map_size: [0, 0], map_head: None }
}

fn look(table: &TextTable, options: &ViewOptions, matrix: &[f32]) -> Result<HeadView, LensError> {
    let tokens = table.len();
    assert_eq!(matrix.len(), tokens * tokens);
    let mut scratch = vec![f32::NAN; ROWS_AT_ONCE.min(tokens) * tokens];
    look_at_head(HeadId { layer: 2, head: 7 }, table, options, &mut scratch, &|rows, probs| {
        probs.copy_from_slice(&matrix[rows.start * tokens..rows.end * tokens]);
        Ok(())
    })
}

/// [CLS] a b c d [SEP]: d looks at a with 0.6, the others hardly.
#[rustfmt::skip]
const LINK: [f32; 36] = [
    0.0, 0.9, 0.1, 0.0, 0.0, 0.0, // [CLS]: must not count as an other
    0.1, 0.7, 0.1, 0.1, 0.0, 0.0, // a: its look at itself must not count
    0.4, 0.1, 0.3, 0.1, 0.1, 0.0,
    0.4, 0.2, 0.2, 0.1, 0.1, 0.0,
    0.1, 0.6, 0.1, 0.1, 0.0, 0.1,
    0.0, 0.9, 0.1, 0.0, 0.0, 0.0,
];

#[test]
fn usual__other_queries__leaves_out_query_key_and_special_rows() {
    let table = TextTable::new(&text(&[0, 1, 2, 3]), false);
    let head = look(&table, &options(Queries::One(4)), &LINK).unwrap();
    let row = &head.rows[0];
    let link = row.top[0];
    assert_eq!((link.key, link.prob), (1, 0.6));
    assert!((link.usual.unwrap() - 0.15).abs() < 1e-7, "mean of b's 0.1 and c's 0.2: {link:?}");
    assert!((link.lift.unwrap() - 4.0).abs() < 1e-5);
    assert_eq!(row.kind, HeadKind::Link);
}

#[test]
fn usual__causal_model__counts_only_queries_that_see_the_key() {
    let mut matrix = LINK;
    matrix[8] = 0.0; // a cannot see b
    let table = TextTable::new(&text(&[0, 1, 2, 3]), true);
    let head = look(&table, &options(Queries::One(4)), &matrix).unwrap();
    let to_b = head.rows[0].top[1];
    assert_eq!(to_b.key, 2);
    assert!((to_b.usual.unwrap() - 0.2).abs() < 1e-7, "c alone: {to_b:?}");
}

#[test]
fn usual__no_other_queries__is_none_and_so_is_lift() {
    let table = TextTable::new(&text(&[0]), false);
    let head =
        look(&table, &options(Queries::One(1)), &[0.2, 0.6, 0.2, 0.1, 0.8, 0.1, 0.2, 0.6, 0.2]).unwrap();
    let row = &head.rows[0];
    assert_eq!((row.top.len(), row.top[0].key), (1, 1));
    assert_eq!((row.top[0].usual, row.top[0].lift), (None, None));
    assert_eq!(head.statistics.topic, None, "one word is no topic");
    assert_eq!((head.statistics.previous, head.statistics.next), (0.0, 0.0), "[CLS] is not the word before");
}

#[test]
fn usual__zero__lift_is_none() {
    let mut matrix: Vec<f32> = (0..36).map(|i| if i % 6 == i / 6 { 0.5 } else { 0.0 }).collect();
    matrix[4 * 6 + 1] = 0.5;
    let table = TextTable::new(&text(&[0, 1, 2, 3]), false);
    let head = look(&table, &options(Queries::One(4)), &matrix).unwrap();
    let row = &head.rows[0];
    assert_eq!((row.top[0].key, row.top[0].usual, row.top[0].lift), (1, Some(0.0), None));
    assert_eq!(row.kind, HeadKind::Link);
}

#[test]
fn row__numbers__are_of_all_keys_and_top_of_the_text_only() {
    let table = TextTable::new(&text(&[0, 1, 2, 3]), false);
    let row = &look(&table, &options(Queries::One(4)), &LINK).unwrap().rows[0];
    let entropy = -(0.6f64 * 0.6f64.ln() + 4.0 * 0.1 * 0.1f64.ln());
    assert!((f64::from(row.entropy) - entropy).abs() < 1e-6);
    assert!((row.special_mass - 0.2).abs() < 1e-7);
    assert!((row.covered - 0.7).abs() < 1e-6);
    assert_eq!(row.top.iter().map(|link| link.key).collect::<Vec<_>>(), [1, 2], "equal keys in text order");
}

#[test]
fn row__keep_special__lists_special_tokens_without_changing_the_kind() {
    let table = TextTable::new(&text(&[0, 1, 2, 3]), false);
    let keep = ViewOptions { keep_special: true, ..options(Queries::One(2)) };
    let row = &look(&table, &keep, &LINK).unwrap().rows[0];
    assert_eq!(row.top[0].key, 0);
    let usual = row.top[0].usual.unwrap();
    assert!((usual - 0.2).abs() < 1e-7, "mean of a, c and d on [CLS]: {usual}");
    assert_eq!(row.strongest.unwrap().key, 2);
}

#[test]
fn queries__all__gives_the_rows_that_one_gives() {
    let table = TextTable::new(&text(&[0, 1, 2, 3]), false);
    let all = look(&table, &options(Queries::All), &LINK).unwrap();
    assert_eq!(all.rows.len(), 4);
    for row in &all.rows {
        let one = look(&table, &options(Queries::One(row.query)), &LINK).unwrap();
        assert_eq!(&one.rows[0], row);
        assert_eq!(one.statistics, all.statistics);
    }
}

#[test]
fn kinds__head_over_the_text__are_told_apart() {
    let table = TextTable::new(&text(&[0, 1, 2, 3, 4]), false);
    // Each query of the text gives 0.7 to one key and the rest to [CLS].
    let kind_of = |key_of: &dyn Fn(usize) -> usize| {
        let mut matrix = vec![0.0; 49];
        for query in 0..7 {
            matrix[query * 7] += 0.3;
            matrix[query * 7 + key_of(query)] += 0.7;
        }
        look(&table, &options(Queries::One(4)), &matrix).unwrap()
    };
    let previous = kind_of(&|query| query.saturating_sub(1));
    assert_eq!(previous.rows[0].kind, HeadKind::Previous);
    assert!((previous.statistics.previous - 0.7).abs() < 1e-6, "the first word has none before it");
    let next = kind_of(&|query| (query + 1).min(6));
    assert_eq!(next.rows[0].kind, HeadKind::Next);
    assert!((next.statistics.next - 0.7).abs() < 1e-6);
    let topic = kind_of(&|_| 2);
    assert_eq!(topic.rows[0].kind, HeadKind::Topic);
    let found = topic.statistics.topic.unwrap();
    assert_eq!((found.key, found.wins, found.queries), (2, 5, 5));
    assert!((found.mass - 0.7).abs() < 1e-6);
    let special = kind_of(&|_| 6);
    assert_eq!(special.rows[0].kind, HeadKind::Special);
    assert!((special.statistics.special_mass - 1.0).abs() < 1e-6);
    assert_eq!(kind_of(&|query| query).rows[0].kind, HeadKind::Other, "everyone looks at themselves");
}

#[test]
fn example__of_a_kind__is_the_key_that_the_kind_is_about() {
    let table = TextTable::new(&text(&[0, 1, 2]), false);
    // Queries of the text look at one key with 0.7, at themselves with 0.2 and at [SEP] with 0.1.
    let example = |key_of: &dyn Fn(usize) -> usize, query: usize| {
        let mut matrix = vec![0.0; 25];
        for query in 0..5 {
            matrix[query * 5 + key_of(query)] += 0.7;
            matrix[query * 5 + query] += 0.2;
            matrix[query * 5 + 4] += 0.1;
        }
        let row = look(&table, &options(Queries::One(query)), &matrix).unwrap().rows[0].clone();
        (row.kind, row.example.key, row.example.prob)
    };
    assert_eq!(example(&|query| query.saturating_sub(1), 3), (HeadKind::Previous, 2, 0.7));
    assert_eq!(
        example(&|query| query.saturating_sub(1), 1),
        (HeadKind::Previous, 0, 0.7),
        "[CLS] is before it"
    );
    assert_eq!(example(&|query| (query + 1).min(4), 1), (HeadKind::Next, 2, 0.7));
    assert_eq!(example(&|query| if query == 1 { 3 } else { 2 }, 1), (HeadKind::Topic, 2, 0.0));
    assert_eq!(example(&|_| 0, 1), (HeadKind::Special, 0, 0.7));
    assert_eq!(example(&|query| query, 2), (HeadKind::Other, 2, 0.9));
    // [CLS] has nothing before it.
    assert_eq!(example(&|query| query.saturating_sub(1), 0), (HeadKind::Previous, 0, 0.9));
}

#[test]
fn topic__key_of_exactly_half__is_none() {
    let table = TextTable::new(&text(&[0, 1, 2, 3]), false);
    let mut matrix = vec![0.0; 36];
    for (query, key) in [(0, 0), (1, 2), (2, 2), (3, 4), (4, 1), (5, 5)] {
        matrix[query * 6 + key] = 1.0;
    }
    assert_eq!(look(&table, &options(Queries::One(1)), &matrix).unwrap().statistics.topic, None);
    matrix[3 * 6 + 4] = 0.0;
    matrix[3 * 6 + 2] = 1.0;
    assert_eq!(look(&table, &options(Queries::One(1)), &matrix).unwrap().statistics.topic.unwrap().wins, 3);
}

#[test]
fn link__pieces_of_one_word__is_none() {
    let table = TextTable::new(&text(&[0, 0, 0, 0]), false);
    assert_eq!(look(&table, &options(Queries::One(4)), &LINK).unwrap().rows[0].kind, HeadKind::Other);
}

#[test]
fn query__special_token__is_no_link() {
    let table = TextTable::new(&text(&[0, 1, 2, 3]), false);
    assert_eq!(look(&table, &options(Queries::One(5)), &LINK).unwrap().rows[0].kind, HeadKind::Other);
}

#[test]
fn probabilities__nan__is_an_error_naming_the_head() {
    let table = TextTable::new(&text(&[0, 1, 2, 3]), false);
    let mut matrix = LINK;
    matrix[35] = f32::NAN;
    let error = look(&table, &options(Queries::One(1)), &matrix).unwrap_err().to_string();
    assert!(error.contains("L2.H7") && error.contains("NaN"), "{error}");
}

#[test]
fn text__longer_than_a_block__is_seen_whole() {
    let words: Vec<usize> = (0..3 * ROWS_AT_ONCE).collect();
    let table = TextTable::new(&text(&words), false);
    let tokens = table.len();
    let matrix: Vec<f32> = (0..tokens * tokens)
        .map(|i| if i / tokens == (i % tokens) + 1 { 0.75 } else { 0.25 / (tokens - 1) as f32 })
        .collect();
    let head = look(&table, &options(Queries::One(tokens - 2)), &matrix).unwrap();
    assert!((head.statistics.previous - 0.75).abs() < 1e-6);
    assert_eq!(head.rows[0].top[0].key, tokens - 3);
}

/// A causal head over five words, no special tokens: all look at the first, the last one at the second, too.
#[rustfmt::skip]
const SINK: [f32; 25] = [
    1.0, 0.0, 0.0, 0.0, 0.0,
    0.9, 0.1, 0.0, 0.0, 0.0,
    0.8, 0.1, 0.1, 0.0, 0.0,
    0.7, 0.1, 0.1, 0.1, 0.0,
    0.4, 0.4, 0.1, 0.05, 0.05,
];

/// Five one-letter words, nothing around them.
fn bare_text() -> TokenizedText {
    let mut text = text(&[0, 1, 2, 3, 4]);
    text.tokens.retain(|token| !token.special);
    for (index, token) in text.tokens.iter_mut().enumerate() {
        token.index = index;
    }
    text
}

#[test]
fn sink__first_token_of_a_causal_model__stands_aside_and_hides_no_link() {
    let table = TextTable::new(&bare_text(), true);
    let head = look(&table, &options(Queries::One(4)), &SINK).unwrap();
    let row = &head.rows[0];
    assert_eq!(head.statistics.topic, None, "no topic head");
    assert!((head.statistics.special_mass - 0.7).abs() < 1e-6, "mean of 0.9, 0.8, 0.7 and 0.4");
    assert_eq!((row.top[0].key, row.top[0].prob, row.kind), (1, 0.4, HeadKind::Link));
    assert!((row.top[0].usual.unwrap() - 0.1).abs() < 1e-7, "the two between them");
    assert_eq!(row.example.key, 1);
    let third = &look(&table, &options(Queries::One(3)), &SINK).unwrap().rows[0];
    assert_eq!((third.kind, third.example.key), (HeadKind::Special, 0));
    // The same numbers where every token may look ahead: the first one is a topic.
    let head = look(&TextTable::new(&bare_text(), false), &options(Queries::One(4)), &SINK).unwrap();
    assert_eq!(head.statistics.topic.map(|topic| topic.key), Some(0));
}

#[test]
fn sink__a_query_that_looks_at_it_twice_as_much_as_others__links_to_it() {
    let mut matrix = SINK;
    matrix[5..25].copy_from_slice(&[
        0.2, 0.8, 0.0, 0.0, 0.0, 0.2, 0.1, 0.7, 0.0, 0.0, 0.2, 0.1, 0.1, 0.6, 0.0, 0.4, 0.1, 0.1, 0.1, 0.3,
    ]);
    let table = TextTable::new(&bare_text(), true);
    let row = &look(&table, &options(Queries::One(4)), &matrix).unwrap().rows[0];
    assert_eq!(row.strongest.map(|link| link.key), Some(0));
    assert_eq!((row.kind, row.example.key), (HeadKind::Link, 0));
    assert!(row.top.iter().all(|link| link.key > 0), "it is not listed all the same");
    matrix[20] = 0.39;
    let row = &look(&table, &options(Queries::One(4)), &matrix).unwrap().rows[0];
    assert_eq!(row.strongest.map(|link| link.key), Some(4));
}

#[test]
fn top__causal_model__has_no_key_that_the_query_cannot_see() {
    let table = TextTable::new(&bare_text(), true);
    let wide = ViewOptions { top: 9, keep_special: true, ..options(Queries::All) };
    let head = look(&table, &wide, &SINK).unwrap();
    assert_eq!(head.rows.len(), 5);
    for row in &head.rows {
        assert_eq!(row.top.len(), row.query + 1);
    }
}

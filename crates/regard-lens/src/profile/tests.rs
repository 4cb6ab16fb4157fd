//! Roles on attention made by hand.

use super::dense::row_numbers;
use super::options::{ProfileOptions, Unit};
use super::result::{Counted, Scores};
use super::role::{MIN_ROWS, Role};
use super::totals::Totals;
use super::uniform::uniform;
use super::units::Units;
use crate::token::{Token, TokenizedText};

/// Words of one token each, by id; `special` are the places of special tokens.
fn text(ids: &[u32], special: &[usize]) -> TokenizedText {
    let tokens = ids.iter().enumerate().map(|(index, &id)| Token {
        index,
        id,
        text: format!("w{id}"),
        start: index,
        end: index + 1,
        word: (!special.contains(&index)).then_some(index),
        special: special.contains(&index),
    });
    TokenizedText { text: "a".repeat(ids.len()), tokens: tokens.collect() }
}

/// [CLS], sixty words twice over, [SEP].
fn repeated() -> TokenizedText {
    let ids: Vec<u32> = [100].into_iter().chain(0..60).chain(0..60).chain([101]).collect();
    text(&ids, &[0, 121])
}

/// The scores of a head whose row i gives `share` to each of `keys(i)` that it sees, and the rest to all evenly.
fn scores(units: &Units, share: f64, keys: impl Fn(usize) -> Vec<usize>) -> Scores {
    let mut totals = Totals::new(units);
    for row in units.counted_rows() {
        let chosen: Vec<usize> = keys(row).into_iter().filter(|&key| units.sees(row, key)).collect();
        let rest = (1.0 - share * chosen.len() as f64) / f64::from(units.visible[row]);
        let mut probs: Vec<f64> =
            (0..units.len()).map(|key| if units.sees(row, key) { rest } else { 0.0 }).collect();
        chosen.into_iter().for_each(|key| probs[key] += share);
        totals.add(row, &row_numbers(units, row, &probs));
    }
    totals.finish()
}

fn units(text: &TokenizedText, causal: bool) -> Units {
    Units::new(text, causal, &ProfileOptions::default()).unwrap()
}

fn roles(units: &Units, scores: &Scores) -> Vec<Role> {
    let totals = uniform(units);
    Role::of(scores, &totals.finish(), &totals.counted())
}

fn copies(text: &TokenizedText, row: usize) -> Vec<usize> {
    let tokens = &text.tokens;
    (0..tokens.len()).filter(|&key| key != row && tokens[key].id == tokens[row].id).collect()
}

#[test]
fn role__heads_of_an_encoder_made_by_hand__are_named() {
    let text = repeated();
    let units = units(&text, false);
    let at = |offset: i64| move |row: usize| vec![(row as i64 + offset) as usize];
    let of = |share: f64, keys: &dyn Fn(usize) -> Vec<usize>| roles(&units, &scores(&units, share, keys));
    assert_eq!(of(0.8, &at(-1)), [Role::Previous, Role::Local]);
    assert_eq!(of(0.8, &at(1)), [Role::Next, Role::Local]);
    assert_eq!(of(0.8, &at(0)), [Role::Itself, Role::Local]);
    assert_eq!(of(0.8, &at(-5)), [Role::Local], "five back, and nearer than nine");
    assert_eq!(of(0.8, &|row| copies(&text, row)), [Role::Duplicate], "copies lie sixty away");
    assert_eq!(of(0.8, &|_| vec![121]), [Role::Special]);
    assert_eq!(of(0.8, &|_| vec![0]), [Role::Special, Role::FirstToken]);
    assert_eq!(of(0.0, &|_| vec![]), [Role::Broad]);
    assert_eq!(of(0.02, &|row| copies(&text, row)), [Role::Broad], "too little to be called so");
}

#[test]
fn role__heads_of_a_decoder_made_by_hand__know_induction_from_copies() {
    // Three times, so that the rows with copies are enough.
    let ids: Vec<u32> = (0..60).map(|i| i % 20).collect();
    let text = text(&ids, &[]);
    let units = units(&text, true);
    let earlier = |row: usize| copies(&text, row).into_iter().rfind(|&key| key < row);
    let of = |share: f64, keys: &dyn Fn(usize) -> Vec<usize>| roles(&units, &scores(&units, share, keys));
    let after = |row: usize| earlier(row).map(|key| key + 1).into_iter().collect();
    assert_eq!(of(0.8, &after)[0], Role::Induction);
    assert!(!of(0.8, &after).contains(&Role::Duplicate));
    let on_copy = |row: usize| earlier(row).into_iter().collect();
    assert_eq!(of(0.8, &on_copy)[0], Role::Duplicate);
    assert!(!of(0.8, &on_copy).contains(&Role::Induction));
    assert_eq!(of(0.8, &|_| vec![0])[0], Role::FirstToken);
    assert_eq!(scores(&units, 0.8, |_| vec![]).offsets.len(), 9, "nothing ahead");
}

#[test]
fn induction__the_token_after_itself__is_no_target() {
    // In "a a", the second a follows an earlier copy, itself; in "b", nothing does.
    let text = text(&[7, 1, 1, 2], &[]);
    let units = units(&text, true);
    assert_eq!(units.targets, [0, 0, 1, 0]);
    assert_eq!(units.copies, [0, 0, 1, 0]);
    let found = scores(&units, 1.0, |row| vec![row]);
    assert_eq!((found.induction, found.duplicate), (Some(1.0), Some(0.0)));
}

#[test]
fn induction__encoder__is_known_only_if_asked_for() {
    let text = repeated();
    let with = ProfileOptions { induction_in_encoders: true, ..ProfileOptions::default() };
    for (options, known) in [(ProfileOptions::default(), false), (with, true)] {
        let units = Units::new(&text, false, &options).unwrap();
        let found = scores(&units, 0.8, |row| if row > 60 { vec![row - 59] } else { vec![] });
        assert_eq!(found.induction.is_some(), known);
        assert_eq!(roles(&units, &found).contains(&Role::Induction), known);
    }
}

#[test]
fn role__too_few_rows__is_none() {
    for (rows, expected) in [(MIN_ROWS - 1, false), (MIN_ROWS, true)] {
        // One row more: the first token stands aside.
        let text = text(&(0..=rows as u32).collect::<Vec<_>>(), &[]);
        let units = units(&text, true);
        let found = scores(&units, 0.9, |row| vec![row - 1]);
        assert_eq!(roles(&units, &found).contains(&Role::Previous), expected, "{rows}");
    }
}

#[test]
fn role__what_equal_weights_score__has_to_be_beaten_three_times() {
    let role = Role::Duplicate;
    let counted = Counted { duplicate: 99, ..Counted::default() };
    let of = |duplicate| Scores { duplicate: Some(duplicate), ..Scores::default() };
    assert!(role.holds(&of(0.61), &of(0.2), &counted));
    assert!(!role.holds(&of(0.59), &of(0.2), &counted));
    assert!(!role.holds(&of(0.09), &of(0.001), &counted), "the threshold counts, too");
    assert!(!role.holds(&Scores::default(), &of(0.001), &counted), "no row, no role");
    assert!(Role::Broad.least(&Scores { relative_entropy: 1.0, ..Scores::default() }) == 0.9);
}

#[test]
fn role__letters_and_names__are_distinct() {
    for (place, role) in Role::ALL.iter().enumerate() {
        for other in &Role::ALL[..place] {
            assert!(role.letter() != other.letter() && role.name() != other.name());
        }
        assert_eq!(serde_json::to_value(role).unwrap(), role.name());
    }
}

#[test]
fn units__words__merge_pieces_and_leave_special_tokens_alone() {
    let mut text = text(&[100, 1, 2, 3, 1, 2, 101], &[0, 6]);
    for (place, word) in [(1, 0), (2, 0), (3, 1), (4, 2), (5, 2)] {
        text.tokens[place].word = Some(word);
    }
    let options = ProfileOptions { unit: Unit::Word, ..ProfileOptions::default() };
    let units = Units::new(&text, false, &options).unwrap();
    assert_eq!(units.spans, [0..1, 1..3, 3..4, 4..6, 6..7]);
    assert_eq!(units.copies, [0, 1, 0, 1, 0], "the same pieces are the same word");
    assert_eq!(units.special, [true, false, false, false, true]);
}

//! What a profile says of every head of the tiny models, against dense f64 matrices and the definitions written out.
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod common;

use common::golden::TinyGolden;
use regard::reference::Reference;
use regard_lens::profile::{
    Profile, ProfileOptions, Profiler, ReceivedBy, Role, Scores, Selection, TopKeysOf, Unit, profile,
    shuffled,
};
use regard_lens::view::HeadId;
use regard_lens::{AttentionObserver, LayerAttention, LensError, Model, TokenizedText};

const TINY: [&str; 9] = [
    "bert",
    "distilbert",
    "gpt2",
    "gpt2_scaled",
    "llama",
    "llama_dynamic",
    "llama_gguf",
    "llama_yarn",
    "roberta",
];
/// Words that repeat, some of several tokens in the tiny vocabularies.
const TEXT: &str = "the cat sat on the mat because the cat was unable to sit";

type Matrix = Vec<Vec<f64>>;

/// Every head's probabilities, and the same weighted by what values add, by the textbook in f64.
#[derive(Default)]
struct Dense {
    probs: Vec<(HeadId, Matrix)>,
    weighted: Vec<(HeadId, Matrix)>,
}

impl AttentionObserver for Dense {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        let [_, heads, tokens, _] = attention.query.shape();
        let [_, kv_heads, _, dim] = attention.value.shape();
        let reference =
            Reference::<f64>::new(attention.query, attention.key, attention.value, &attention.config)?;
        let projection = attention.output_projection;
        for head in 0..heads {
            let id = HeadId { layer: attention.layer, head };
            let rows = (0..tokens).map(|row| reference.row([0, head, row]).map(|row| row.probs));
            let probs: Matrix = rows.collect::<Result<_, _>>()?;
            let norms: Vec<f64> = (0..tokens)
                .map(|key| {
                    let added = projection.weight().chunks(projection.in_features()).map(|weights| {
                        let value = |c| attention.value.at([0, head / (heads / kv_heads), key, c]);
                        (0..dim)
                            .map(|c| f64::from(weights[head * dim + c]) * f64::from(value(c)))
                            .sum::<f64>()
                    });
                    added.map(|x| x * x).sum::<f64>().sqrt()
                })
                .collect();
            let weighted = probs.iter().map(|row| {
                let sizes: Vec<f64> = row.iter().zip(&norms).map(|(p, norm)| p * norm).collect();
                divided_by_sum(sizes)
            });
            self.weighted.push((id, weighted.collect()));
            self.probs.push((id, probs));
        }
        Ok(())
    }
}

fn divided_by_sum(row: Vec<f64>) -> Vec<f64> {
    let sum: f64 = row.iter().sum();
    row.into_iter().map(|x| if sum > 0.0 { x / sum } else { 0.0 }).collect()
}

/// A text with its units: the first token of each, and the end.
struct Units {
    starts: Vec<usize>,
    ids: Vec<Vec<u32>>,
    special: Vec<bool>,
    aside: Vec<bool>,
    causal: bool,
}

impl Units {
    fn new(text: &TokenizedText, causal: bool, unit: Unit) -> Self {
        let tokens = &text.tokens;
        let begins = |place: usize| {
            place == 0
                || unit == Unit::Token
                || tokens[place].word.is_none()
                || tokens[place].word != tokens[place - 1].word
        };
        let mut starts: Vec<usize> = (0..tokens.len()).filter(|&place| begins(place)).collect();
        starts.push(tokens.len());
        let ids =
            starts.windows(2).map(|w| tokens[w[0]..w[1]].iter().map(|token| token.id).collect()).collect();
        let special: Vec<bool> = starts.windows(2).map(|w| tokens[w[0]].special).collect();
        let aside = special.iter().enumerate().map(|(i, special)| *special || causal && i == 0).collect();
        Self { starts, ids, special, aside, causal }
    }

    fn len(&self) -> usize {
        self.ids.len()
    }

    fn merged(&self, tokens: &Matrix) -> Matrix {
        let span = |unit: usize| self.starts[unit]..self.starts[unit + 1];
        let cell = |row: usize, key: usize| {
            let sum: f64 = span(row).map(|i| tokens[i][span(key)].iter().sum::<f64>()).sum();
            sum / span(row).len() as f64
        };
        (0..self.len()).map(|row| (0..self.len()).map(|key| cell(row, key)).collect()).collect()
    }

    fn sees(&self, row: usize, key: usize, no_sink: bool) -> bool {
        (!self.causal || key <= row) && !(no_sink && self.aside[key])
    }
}

fn mean(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let numbers: Vec<f64> = numbers.collect();
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

/// Compares a head's scores with the definitions on its matrix by units; returns the largest error, relative above 1.
fn compare(
    scores: &Scores,
    matrix: &Matrix,
    units: &Units,
    rows: std::ops::Range<usize>,
    no_sink: bool,
) -> f64 {
    let len = units.len();
    let sees = |i: usize, j: usize| units.sees(i, j, no_sink);
    let visible = |i: usize| (0..len).filter(|&j| sees(i, j)).count();
    let rows: Vec<usize> = rows.filter(|&i| !units.aside[i] && visible(i) > 0).collect();
    let over = |number: &dyn Fn(usize) -> f64| mean(rows.iter().map(|&i| number(i))).unwrap_or(0.0);
    let mass = |i: usize, keys: &dyn Fn(usize) -> bool| -> f64 {
        (0..len).filter(|&j| keys(j)).map(|j| matrix[i][j]).sum()
    };
    let entropy = |i: usize| matrix[i].iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum::<f64>();
    let distance = |i: usize| (0..len).map(|j| matrix[i][j] * i.abs_diff(j) as f64).sum::<f64>();
    let copy = |i: usize, j: usize| units.ids[i] == units.ids[j] && i != j;
    let target = |i: usize, j: usize| j > 0 && j <= i && copy(i, j - 1);
    let where_any = |is: &dyn Fn(usize, usize) -> bool| {
        let rows = rows.iter().filter(|&&i| (0..len).any(|j| sees(i, j) && is(i, j)));
        mean(rows.map(|&i| mass(i, &|j| is(i, j))))
    };
    let mut worst = 0.0f64;
    let mut check = |found: f32, expected: f64| {
        let error = (f64::from(found) - expected).abs() / expected.abs().max(1.0);
        assert!(!error.is_nan());
        worst = worst.max(error);
    };
    check(scores.entropy, over(&entropy));
    let choosing = rows.iter().filter(|&&i| visible(i) > 1);
    check(
        scores.relative_entropy,
        mean(choosing.map(|&i| entropy(i) / (visible(i) as f64).ln())).unwrap_or(0.0),
    );
    check(scores.max_prob, over(&|i| matrix[i].iter().copied().fold(0.0, f64::max)));
    check(scores.mean_distance, over(&distance));
    check(scores.first_token, over(&|i| matrix[i][0]));
    check(scores.special, over(&|i| mass(i, &|j| units.special[j])));
    for offset in -8i64..=8 {
        let key = |i: usize| usize::try_from(i as i64 + offset).ok().filter(|&j| j < len && sees(i, j));
        let expected = mean(rows.iter().filter_map(|&i| key(i).map(|j| matrix[i][j])));
        assert_eq!(scores.offsets.contains_key(&offset), offset <= 0 || !units.causal);
        check(scores.offset(offset), expected.unwrap_or(0.0));
    }
    let expected = where_any(&copy);
    assert_eq!(scores.duplicate.is_some(), expected.is_some());
    check(scores.duplicate.unwrap_or(0.0), expected.unwrap_or(0.0));
    let expected = where_any(&target).filter(|_| units.causal);
    assert_eq!(scores.induction.is_some(), expected.is_some());
    check(scores.induction.unwrap_or(0.0), expected.unwrap_or(0.0));
    let bins = scores.distance.len();
    for (bin, &found) in scores.distance.iter().enumerate() {
        let start = regard_lens::profile::distance_bin_start(bins, bin);
        let ends = if start == 0 { 0..1 } else { start.abs()..2 * start.abs() };
        let inside = |i: usize, j: usize| {
            let distance = j as i64 - i as i64;
            distance.signum() == start.signum() && ends.contains(&distance.abs())
        };
        check(found, over(&|i| mass(i, &|j| inside(i, j))));
    }
    worst
}

struct Case {
    model: Model,
    text: TokenizedText,
    dense: Dense,
}

fn open(name: &str) -> Option<Case> {
    if name == "llama_gguf" && cfg!(not(feature = "gguf")) {
        return None;
    }
    let model = TinyGolden::load_model(name);
    let text = model.tokenize(TEXT).unwrap();
    let mut dense = Dense::default();
    model.run(&text, &mut dense).unwrap();
    Some(Case { model, text, dense })
}

impl Case {
    fn profile(&self, options: ProfileOptions) -> Profile {
        profile(&self.model, &self.text, options, &mut |_, _| ()).unwrap()
    }

    /// Every head of a profile against the definitions.
    fn check(&self, name: &str, options: ProfileOptions) {
        let found = self.profile(options.clone());
        let units = Units::new(&self.text, self.model.info().causal, options.unit);
        let rows = options.rows.clone().unwrap_or(0..units.len());
        assert_eq!(found.units.len(), units.len());
        let dense = if options.norm { &self.dense.weighted } else { &self.dense.probs };
        assert_eq!(found.profiled.heads.len(), dense.len());
        let mut worst = 0.0f64;
        for (head, (id, matrix)) in found.profiled.heads.iter().zip(dense) {
            assert_eq!(head.id, *id);
            let mut matrix = matrix.clone();
            if options.no_sink {
                let aside =
                    |token: usize| units.aside[units.starts.partition_point(|&start| start <= token) - 1];
                for row in &mut matrix {
                    let kept = row.iter().enumerate().map(|(j, p)| if aside(j) { 0.0 } else { *p });
                    *row = divided_by_sum(kept.collect());
                }
            }
            worst = worst.max(compare(
                &head.scores,
                &units.merged(&matrix),
                &units,
                rows.clone(),
                options.no_sink,
            ));
        }
        let verified = found.profiled.verification;
        println!("{name}: {} units, max error {worst:.1e}, verified {verified:?}", units.len());
        assert!(worst <= 1e-5, "{name}: {worst}");
        assert!(
            verified.rows >= 64.min(rows.len()) && verified.max_abs_error <= 1e-5,
            "{name}: {verified:?}"
        );
    }
}

#[test]
fn scores__every_tiny_model_and_reading__are_those_of_the_dense_matrix() {
    for name in TINY {
        let Some(case) = open(name) else { continue };
        let rows = Some(3..11);
        for (no_sink, norm, unit) in [
            (false, false, Unit::Token),
            (true, false, Unit::Token),
            (false, true, Unit::Token),
            (true, true, Unit::Token),
            (false, false, Unit::Word),
            (true, true, Unit::Word),
        ] {
            let options =
                ProfileOptions { no_sink, norm, unit, control_tokens: 0, ..ProfileOptions::default() };
            let label = format!("{name}, no_sink {no_sink}, norm {norm}, {unit:?}");
            case.check(&label, options.clone());
            case.check(&format!("{label}, rows 3:11"), ProfileOptions { rows: rows.clone(), ..options });
        }
    }
}

#[test]
fn uniform__every_tiny_model__is_what_equal_weights_score() {
    for name in TINY {
        let Some(case) = open(name) else { continue };
        for (no_sink, unit) in [(false, Unit::Token), (true, Unit::Token), (true, Unit::Word)] {
            let options = ProfileOptions { no_sink, unit, control_tokens: 0, ..ProfileOptions::default() };
            let found = case.profile(options);
            let units = Units::new(&case.text, case.model.info().causal, unit);
            let len = units.len();
            let sees =
                |i: usize| (0..len).map(|j| if units.sees(i, j, no_sink) { 1.0 } else { 0.0 }).collect();
            let equal: Matrix = (0..len).map(|i| divided_by_sum(sees(i))).collect();
            let worst = compare(&found.profiled.uniform, &equal, &units, 0..len, no_sink);
            assert!(worst <= 1e-6, "{name}: {worst}");
        }
    }
}

#[test]
fn kept__without_what_stands_aside__is_the_mass_that_was_left() {
    let case = open("llama").unwrap();
    let found = case.profile(ProfileOptions { no_sink: true, ..ProfileOptions::default() });
    let units = Units::new(&case.text, true, Unit::Token);
    for (head, (_, matrix)) in found.profiled.heads.iter().zip(&case.dense.probs) {
        let rows = (0..units.len()).filter(|&i| !units.aside[i]);
        let kept =
            |i: usize| (0..units.len()).filter(|&j| !units.aside[j]).map(|j| matrix[i][j]).sum::<f64>();
        let expected = mean(rows.map(kept)).unwrap();
        assert!((f64::from(head.kept.unwrap()) - expected).abs() < 1e-5, "{}", head.id);
    }
    assert_eq!(case.profile(ProfileOptions::default()).profiled.heads[0].kept, None);
}

#[test]
fn top_received_thumbnail_region__both_units__are_those_of_the_dense_matrix() {
    for (name, unit) in
        [("llama", Unit::Token), ("llama", Unit::Word), ("bert", Unit::Token), ("bert", Unit::Word)]
    {
        let case = open(name).unwrap();
        let units = Units::new(&case.text, case.model.info().causal, unit);
        let (len, tokens) = (units.len(), case.text.tokens.len());
        let id = HeadId { layer: 1, head: 1 };
        let options = ProfileOptions {
            unit,
            top_k: 3,
            top_keys_of: TopKeysOf::Rows(vec![5, 2, 999]),
            received: true,
            thumbnail: Some([4, 5]),
            region: Some((id, 2..7, 1..6)),
            ..ProfileOptions::default()
        };
        let found = case.profile(options).profiled;
        for (head, (_, matrix)) in found.heads.iter().zip(&case.dense.probs) {
            let matrix = units.merged(matrix);
            let top = head.top.as_ref().unwrap();
            assert_eq!(top.rows, [5, 2]);
            for (place, &row) in top.rows.iter().enumerate() {
                let mut expected: Vec<(usize, f64)> = matrix[row].iter().copied().enumerate().collect();
                expected.retain(|(key, _)| units.sees(row, *key, false));
                expected.sort_by(|a, b| b.1.total_cmp(&a.1));
                let found: Vec<(usize, f32)> = top.row(place).collect();
                assert_eq!(found.len(), expected.len().min(3));
                for ((key, prob), (_, expected)) in found.into_iter().zip(expected) {
                    assert!((f64::from(prob) - expected).abs() < 1e-6);
                    assert!((matrix[row][key] - expected).abs() < 1e-6);
                }
            }
            let thumbnail = head.thumbnail.as_ref().unwrap();
            assert_eq!((thumbnail.rows, thumbnail.columns), (4, 5));
            let mut blocks = vec![0.0; 20];
            for (i, row) in matrix.iter().enumerate() {
                for (j, p) in row.iter().enumerate() {
                    blocks[i * 4 / len * 5 + j * 5 / len] += p;
                }
            }
            for (found, expected) in thumbnail.sums.iter().zip(blocks) {
                assert!((f64::from(*found) - expected).abs() < 1e-5);
            }
            for (key, found) in head.received.iter().enumerate() {
                let expected: f64 = matrix.iter().map(|row| row[key]).sum();
                assert!((f64::from(*found) - expected).abs() < 1e-5);
            }
        }
        let region = found.region.unwrap();
        let (_, matrix) = case.dense.probs.iter().find(|(other, _)| *other == id).unwrap();
        for (place, found) in region.probs.iter().enumerate() {
            assert!((f64::from(*found) - matrix[2 + place / 5][1 + place % 5]).abs() < 1e-6);
        }
        assert!(tokens >= len);
    }
}

#[test]
fn received_by__one_token__is_its_column() {
    for name in ["bert", "llama"] {
        let case = open(name).unwrap();
        let mut layers = vec![];
        let mut hear = |layer| layers.push(layer);
        let options = ProfileOptions { top_k: 3, ..ProfileOptions::default() };
        let of = (&case.text, case.model.info());
        let mut observer = ReceivedBy::new(of, 4, options, &mut hear).unwrap();
        case.model.run(&case.text, &mut observer).unwrap();
        let (found, verification) = observer.finish();
        assert!(verification.rows > 0 && verification.max_abs_error < 1e-5);
        assert_eq!(layers.len(), case.model.info().layers);
        for (head, (id, matrix)) in found.iter().zip(&case.dense.probs) {
            assert_eq!(head.id, *id);
            let total: f64 = matrix.iter().map(|row| row[4]).sum();
            assert!((f64::from(head.received) - total).abs() < 1e-5);
            let strongest = matrix.iter().map(|row| row[4]).fold(0.0, f64::max);
            let (query, prob) = head.top[0];
            assert!(
                (f64::from(prob) - strongest).abs() < 1e-6 && (matrix[query][4] - strongest).abs() < 1e-6
            );
            assert_eq!(head.top.len(), 3);
            assert!(!case.model.info().causal || head.top.iter().all(|(query, _)| *query >= 4));
        }
    }
}

#[test]
fn received_by__without_sinks_weighted_of_some_rows_and_heads__is_what_the_profile_says() {
    for name in ["bert", "llama"] {
        let case = open(name).unwrap();
        for (no_sink, norm) in [(true, false), (false, true), (true, true)] {
            let options = ProfileOptions {
                no_sink,
                norm,
                rows: Some(2..7),
                layers: Selection::one(1),
                heads: Selection::one(0),
                received: true,
                control_tokens: 0,
                top_k: 2,
                ..ProfileOptions::default()
            };
            let mut quiet = |_| ();
            let of = (&case.text, case.model.info());
            let mut observer = ReceivedBy::new(of, 4, options.clone(), &mut quiet).unwrap();
            case.model.run(&case.text, &mut observer).unwrap();
            let (found, verification) = observer.finish();
            assert!(verification.rows > 0 && verification.max_abs_error < 1e-5, "{verification:?}");
            let expected = profile(&case.model, &case.text, options.clone(), &mut |_, _| ()).unwrap();
            let expected = &expected.profiled.heads[0];
            assert_eq!((found.len(), found[0].id), (1, expected.id));
            let received = expected.received[4];
            assert!((found[0].received - received).abs() < 1e-5, "{found:?} {received}");
            assert!(found[0].top.iter().all(|(query, _)| (2..7).contains(query)));
            let aside = ReceivedBy::new(of, 0, options, &mut quiet);
            assert_eq!(aside.is_err(), no_sink);
        }
    }
}

#[test]
fn shuffled__tokens_or_words__are_the_same_ones_with_what_stands_aside_in_place() {
    for (name, unit) in [("bert", Unit::Token), ("bert", Unit::Word), ("llama", Unit::Token)] {
        let case = open(name).unwrap();
        let causal = case.model.info().causal;
        let found = shuffled(&case.text, causal, unit, (999, 5)).unwrap().unwrap();
        let ids = |text: &TokenizedText| text.tokens.iter().map(|token| token.id).collect::<Vec<_>>();
        let (mut before, mut after) = (ids(&case.text), ids(&found));
        assert_ne!(before, after);
        for (place, token) in case.text.tokens.iter().enumerate() {
            assert_eq!(found.tokens[place].index, place);
            if token.special || causal && place == 0 {
                assert_eq!(found.tokens[place].id, token.id);
            }
        }
        assert_eq!(shuffled(&case.text, causal, unit, (999, 5)).unwrap().unwrap(), found, "the same seed");
        assert_ne!(shuffled(&case.text, causal, unit, (999, 6)).unwrap().unwrap(), found, "another seed");
        before.sort_unstable();
        after.sort_unstable();
        assert_eq!(before, after);
        let cut = shuffled(&case.text, causal, unit, (8, 5)).unwrap().unwrap();
        assert_eq!(cut.tokens.len(), 8);
        assert_eq!(cut.tokens[7].special, case.text.tokens.last().unwrap().special);
        assert!(shuffled(&case.text, causal, unit, (1, 5)).unwrap().is_none());
    }
}

#[test]
fn profile__threads__change_no_bit() {
    let case = open("llama").unwrap();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let options = ProfileOptions { norm: true, received: true, ..ProfileOptions::default() };
        pool.install(|| case.profile(options))
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn profile__one_token__has_no_rows_and_no_roles() {
    let case = open("llama").unwrap();
    let mut text = case.text.clone();
    text.tokens.truncate(1);
    let found = profile(&case.model, &text, ProfileOptions::default(), &mut |_, _| ()).unwrap();
    assert_eq!((found.profiled.counted.rows, found.control.clone()), (0, None));
    assert!(found.profiled.heads.iter().all(|head| head.roles.is_empty() && head.scores.entropy == 0.0));
    assert!(found.ranking().is_empty());
}

#[test]
fn profile__impossible_requests__are_errors() {
    let case = open("bert").unwrap();
    let len = case.text.tokens.len();
    let id = HeadId { layer: 0, head: 0 };
    let options = ProfileOptions::default;
    for (wrong, expected) in [
        (ProfileOptions { rows: Some(0..len + 1), ..options() }, "rows: expected a range within 0:"),
        (ProfileOptions { rows: Some(3..3), ..options() }, "rows: expected a range within 0:"),
        (ProfileOptions { top_k: 33, ..options() }, "at most 32"),
        (ProfileOptions { thumbnail: Some([0, 1]), ..options() }, "from 1 to 64"),
        (
            ProfileOptions { region: Some((HeadId { layer: 99, head: 0 }, 0..1, 0..1)), ..options() },
            "found L99.H0",
        ),
        (ProfileOptions { region: Some((id, 0..len + 1, 0..1)), ..options() }, "region: rows"),
        (ProfileOptions { region: Some((id, 0..1, 5..5)), ..options() }, "region: keys"),
    ] {
        let error = profile(&case.model, &case.text, wrong.clone(), &mut |_, _| ()).unwrap_err();
        assert!(error.to_string().contains(expected), "{wrong:?}: {error}");
    }
    let empty = TokenizedText { text: String::new(), tokens: vec![] };
    let mut hear = |_| ();
    let refused = Profiler::new(&empty, case.model.info(), options(), &mut hear).err().unwrap();
    assert!(matches!(refused, LensError::EmptyText));
    assert!(matches!(shuffled(&empty, false, Unit::Token, (9, 0)), Err(LensError::EmptyText)));
}

#[test]
fn selection__layers_and_heads__are_the_ones_looked_at() {
    let case = open("bert").unwrap();
    let options =
        ProfileOptions { layers: Selection::one(1), heads: Selection::one(0), ..ProfileOptions::default() };
    let found = case.profile(options);
    let ids: Vec<HeadId> = found.profiled.heads.iter().map(|head| head.id).collect();
    assert_eq!(ids, [HeadId { layer: 1, head: 0 }]);
    assert!(found.profiled.heads[0].shuffled.is_some());
    let ranking = found.ranking();
    assert!(ranking.iter().all(|rank| rank.runner_up.is_none() && rank.shuffled.is_some()));
    assert!(ranking.iter().any(|rank| rank.role == Role::Broad));
}

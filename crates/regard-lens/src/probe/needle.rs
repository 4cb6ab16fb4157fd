//! Whether the last position looks at a fact hidden in a long text, and whether the model answers with it.
//!
//! A sentence `The secret word of the castle is river.` stands at some depth of a filler, and the text ends with
//! the same sentence cut off before the word, or in a masked language model masked there. What the last position
//! (the mask) gives to the word in the fact is a head's mass; that the word is its strongest key is a hit (Wu et
//! al. 2025, retrieval score, for one token). A head that looks for what followed the same words before
//! (induction) does this, too.

use serde::Serialize;

use super::interval::{Interval, RESAMPLING_SEED, interval};
use super::look::{OnText, TextChecks, each_text, look};
use super::random::Random;
use super::words::strongest;
use crate::error::LensError;
use crate::model::{Model, Predicts};
use crate::token::TokenizedText;

/// Where the fact stands, in hundredths of the filler.
pub const DEPTHS: [usize; 5] = [0, 25, 50, 75, 100];
/// Texts at each depth: every other one chooses heads.
const SAMPLES: usize = 6;

const PLACES: [&str; 6] = ["castle", "garden", "library", "harbour", "station", "museum"];
const WORDS: [&str; 12] = [
    "river", "apple", "winter", "music", "silver", "bread", "horse", "paper", "summer", "stone", "yellow",
    "glass",
];
const FILLER: [&str; 16] = [
    "The road follows the coast for a few miles and then turns inland.",
    "Most of the shops open early and close in the afternoon.",
    "Nobody could say how long the rain would last.",
    "A small bridge crosses the water behind the old mill.",
    "The children played outside until it was dark.",
    "There was not much to see from the window of the train.",
    "He wrote a letter to his brother and put it in a drawer.",
    "The bus was late again, and people began to walk.",
    "In spring the fields are full of flowers.",
    "She read the report twice before she signed it.",
    "The meeting went on for hours without a result.",
    "They painted the fence and repaired the roof.",
    "A dog was asleep in front of the door.",
    "The price of wood went up a little every year.",
    "It takes about ten minutes to walk to the market.",
    "The lights went out, and somebody laughed.",
];

/// How a needle is looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct NeedleOptions {
    /// Tokens of each text, about.
    pub length: usize,
    /// Sentences to hide it in, instead of our own.
    pub filler: Option<String>,
    /// Which facts, places and sentences.
    pub seed: u64,
}

/// What one head does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NeedleHead {
    /// The layer, from 0.
    pub layer: usize,
    /// The head, from 0.
    pub head: usize,
    /// Mean mass on the word, on the texts on which heads are ranked.
    pub dev: f64,
    /// Mean mass on the word, on the others.
    pub test: f64,
    /// Where `test` may lie, texts being drawn again.
    pub interval: Option<Interval>,
    /// The same for each of [`DEPTHS`].
    pub by_depth: [f64; 5],
    /// Share of the other texts in which no token but special ones and the last gets more.
    pub hits: f64,
}

/// What came of one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Needle {
    /// Every head, by falling `dev`.
    pub heads: Vec<NeedleHead>,
    /// Texts that rank, and texts that report.
    pub texts: [usize; 2],
    /// Tokens of the shortest and the longest text.
    pub tokens: [usize; 2],
    /// What evenly spread attention would give the word.
    pub uniform: f64,
    /// Share of all texts of each depth that the model completes with the word; `None` where it predicts nothing.
    pub answers: Option<[f64; 5]>,
    /// How exact the attention was, and how long the texts were.
    #[serde(skip)]
    pub checks: TextChecks,
}

/// A text with its needle.
struct Text {
    depth: usize,
    tokens: TokenizedText,
    /// Tokens of the word.
    word: Vec<usize>,
    /// The position that looks.
    from: usize,
    id: u32,
}

/// What one text gave: mass and hit of each head, and whether the answer was right.
struct Found {
    heads: Vec<(f64, bool)>,
    answer: Option<bool>,
}

/// Hides facts and looks for them.
///
/// # Errors
/// [`LensError::Probe`] if `length` has no room for the fact and the question or the model takes less; as
/// [`Model::run`].
pub fn probe_needle(
    model: &Model,
    options: &NeedleOptions,
    on_text: OnText<'_>,
) -> Result<Needle, LensError> {
    let info = model.info();
    let mut random = Random::new(options.seed);
    let mut texts = Vec::new();
    for depth in 0..DEPTHS.len() {
        for _ in 0..SAMPLES {
            texts.push(build(model, options, depth, &mut random)?);
        }
    }
    let looked = each_text(&texts, on_text, |text, checks| look_at(model, text, checks))?;
    let found: Vec<(&Text, &Found, bool)> = texts
        .iter()
        .zip(&looked.found)
        .enumerate()
        .map(|(number, (text, found))| (text, found, number.is_multiple_of(2)))
        .collect();
    let mean = |values: &mut dyn Iterator<Item = f64>| {
        let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
        if count == 0 { 0.0 } else { sum / f64::from(count) }
    };
    let score = |number: usize| {
        let mass = |wanted: &dyn Fn(&Text, bool) -> bool| {
            mean(&mut found.iter().filter(|f| wanted(f.0, f.2)).map(|(_, found, _)| found.heads[number].0))
        };
        NeedleHead {
            layer: number / info.heads,
            head: number % info.heads,
            dev: mass(&|_, ranks| ranks),
            test: mass(&|_, ranks| !ranks),
            interval: {
                let millionths = |mass: f64| (mass * 1e6).round() as i64;
                let reporting = found.iter().filter(|(.., ranks)| !ranks);
                let masses: Vec<[i64; 2]> =
                    reporting.map(|(_, found, _)| [millionths(found.heads[number].0), 1_000_000]).collect();
                interval(&masses, RESAMPLING_SEED)
            },
            by_depth: std::array::from_fn(|depth| mass(&|text, ranks| !ranks && text.depth == depth)),
            hits: mean(
                &mut found
                    .iter()
                    .filter(|f| !f.2)
                    .map(|(_, found, _)| f64::from(u8::from(found.heads[number].1))),
            ),
        }
    };
    let mut heads: Vec<NeedleHead> = (0..info.layers * info.heads).map(score).collect();
    heads.sort_by(|a, b| b.dev.total_cmp(&a.dev).then((a.layer, a.head).cmp(&(b.layer, b.head))));
    let lengths = || texts.iter().map(|text| text.tokens.tokens.len());
    let answers = (info.predicts != Predicts::Nothing).then(|| {
        std::array::from_fn(|depth| {
            let right =
                |(_, found, _): &(&Text, &Found, bool)| f64::from(u8::from(found.answer == Some(true)));
            mean(&mut found.iter().filter(|f| f.0.depth == depth).map(right))
        })
    });
    let uniform = |text: &Text| {
        text.word.len() as f64 / if info.causal { text.from + 1 } else { text.tokens.tokens.len() } as f64
    };
    Ok(Needle {
        heads,
        texts: [texts.len().div_ceil(2), texts.len() / 2],
        tokens: [lengths().min().unwrap_or(0), lengths().max().unwrap_or(0)],
        uniform: mean(&mut texts.iter().map(uniform)),
        answers,
        checks: looked.checks,
    })
}

/// Sentences of a text, of ours or the user's.
fn sentences(filler: Option<&str>) -> Vec<String> {
    let Some(filler) = filler else { return FILLER.map(str::to_owned).to_vec() };
    let words: Vec<&str> = filler.split_whitespace().collect();
    let ends = |word: &&str| word.ends_with(['.', '!', '?']);
    let parts = words.split_inclusive(ends).flat_map(|sentence| sentence.chunks(60));
    parts.map(|sentence| sentence.join(" ")).collect()
}

fn build(
    model: &Model,
    options: &NeedleOptions,
    depth: usize,
    random: &mut Random,
) -> Result<Text, LensError> {
    let length = options.length.min(model.info().max_tokens);
    let place = PLACES[random.below(PLACES.len())];
    let fact = format!("The secret word of the {place} is");
    let tail = match model.mask_token() {
        Some(mask) => format!("{fact} {mask}."),
        None => fact.clone(),
    };
    // The word must be one token after a blank, in this vocabulary.
    let mut words = WORDS;
    random.choose(&mut words, WORDS.len());
    let one_token = |word: &&&str| {
        let text = format!("{fact} {word}");
        model.tokenize(&text).is_ok_and(|tokens| of_bytes(&tokens, fact.len()..text.len()).len() == 1)
    };
    let word = *words.iter().find(one_token).unwrap_or(&words[0]);
    let fact = format!("{fact} {word}.");

    let mut all = sentences(options.filler.as_deref());
    let own = options.filler.is_none();
    let mut filler: Vec<String> = Vec::new();
    let count = |text: &str| -> Result<usize, LensError> {
        match model.tokenize(text) {
            Ok(tokens) => Ok(tokens.tokens.iter().filter(|token| !token.special).count()),
            Err(LensError::EmptyText) => Ok(0),
            Err(error) => Err(error),
        }
    };
    let mut room = length.saturating_sub(3 + count(&fact)? + count(&tail)?);
    let start = if own { 0 } else { random.below(all.len().max(1)) };
    if !own {
        all.rotate_left(start);
    }
    'fill: loop {
        if own {
            random.choose(&mut all, FILLER.len());
        }
        for sentence in &all {
            let tokens = count(sentence)? + 1;
            if tokens > room {
                break 'fill;
            }
            room -= tokens;
            filler.push(sentence.clone());
        }
        if !own {
            break;
        }
    }
    if filler.is_empty() {
        let problem = format!(
            "expected room for a fact, a question and some filler, found --length {length}; give a larger --length, or \
             a filler with shorter sentences"
        );
        return Err(LensError::Probe { problem });
    }
    let before = filler.len() * DEPTHS[depth] / 100;
    let mut parts: Vec<&str> = filler.iter().map(String::as_str).collect();
    parts.insert(before, &fact);
    let fact_start: usize = parts[..before].iter().map(|part| part.len() + 1).sum();
    parts.push(&tail);
    let text = parts.join(" ");
    let tokens = model.with_beginning(model.tokenize(&text)?)?;
    let end = fact_start + fact.len() - 1;
    let word_tokens = of_bytes(&tokens, end - word.len()..end);
    let mask = model.mask_token().and_then(|mask| tokens.tokens.iter().rposition(|token| token.text == mask));
    let from = mask.or_else(|| tokens.tokens.iter().rposition(|token| !token.special)).unwrap_or(0);
    let id = word_tokens.first().map_or(0, |&token| tokens.tokens[token].id);
    Ok(Text { depth, word: word_tokens, from, id, tokens })
}

/// The tokens that begin in these bytes, a blank before them not counted.
fn of_bytes(text: &TokenizedText, bytes: std::ops::Range<usize>) -> Vec<usize> {
    let begins = |stretch: &str| stretch.len() - stretch.trim_start().len();
    let tokens = text.tokens.iter().filter(|token| {
        let stretch = text.text.get(token.start..token.end).unwrap_or_default();
        !token.special && !stretch.trim().is_empty() && bytes.contains(&(token.start + begins(stretch)))
    });
    tokens.map(|token| token.index).collect()
}

fn look_at(model: &Model, text: &Text, checks: &mut TextChecks) -> Result<Found, LensError> {
    let tokens = &text.tokens.tokens;
    let mut heads = Vec::new();
    let mut row = vec![0.0; tokens.len()];
    let hidden = look(model, &text.tokens, checks, &mut |attention| {
        for head in 0..model.info().heads {
            attention.probs(head, text.from..text.from + 1, &mut row)?;
            let shares: Vec<f64> = row.iter().map(|&share| f64::from(share)).collect();
            let mass = text.word.iter().map(|&token| shares[token]).sum();
            let best = strongest(&shares, |token| !tokens[token].special && token != text.from);
            heads.push((mass, best.is_some_and(|best| text.word.contains(&best))));
        }
        Ok(())
    })?;
    let answer = match model.info().predicts {
        Predicts::Nothing => None,
        _ => Some(model.predictions(&hidden, text.from, 1)?.first().is_some_and(|first| first.id == text.id)),
    };
    Ok(Found { heads, answer })
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn sentences__of_a_users_text__end_where_sentences_do_and_are_bounded() {
        assert_eq!(sentences(Some("One two. Three!  Four\nfive")), ["One two.", "Three!", "Four five"]);
        assert!(
            sentences(Some(&"word ".repeat(1000))).iter().all(|sentence| sentence.split(' ').count() <= 60)
        );
        assert!(sentences(Some("")).is_empty());
        assert_eq!(sentences(None).len(), FILLER.len());
    }
}

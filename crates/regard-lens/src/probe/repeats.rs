//! Previous tokens, duplicate tokens and induction, on random tokens that are repeated.
//!
//! A sequence is a token to begin with and [`PERIOD`] different random words, [`REPEATS`] times over (Olsson et
//! al. 2022, "prefix matching"). Random words leave a head nothing to go by but their places and that they were
//! there before.

use regard::{StatisticsRequest, Workspace, attention_statistics};
use serde::Serialize;

use super::look::{OnText, TextChecks, each_text, look};
use super::random::Random;
use crate::error::LensError;
use crate::model::{Model, Predicts};

/// Different tokens of a sequence.
pub const PERIOD: usize = 25;
/// How often they come.
pub const REPEATS: usize = 4;
/// How many sequences.
pub const SAMPLES: usize = 10;

/// The scores of one head, means over rows of all sequences.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RepeatScores {
    /// The layer, from 0.
    pub layer: usize,
    /// The head, from 0.
    pub head: usize,
    /// Mass on the token before, over random tokens that have one.
    pub previous: f64,
    /// Mass on other copies of the same token, over rows that can see one.
    pub duplicate: f64,
    /// Mass on tokens that followed an earlier copy, over rows that have such tokens before them or are one: at
    /// most 1.
    pub induction: f64,
    /// The same, as a mean over the tokens that followed: with 75 such rows and 150 such tokens at most 0.5.
    pub induction_by_entry: f64,
}

/// What came of one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Repeats {
    /// Every head, in order.
    pub heads: Vec<RepeatScores>,
    /// Rows behind `previous`, `duplicate` and `induction`, of all sequences.
    pub rows: [usize; 3],
    /// Mean −ln of the probability of each token in each repeat, in nats, in models that predict the next token.
    pub loss: Option<[f64; REPEATS]>,
    /// How many words the tokens are drawn from.
    pub vocabulary: usize,
    /// How exact the attention was, and how long the texts were.
    #[serde(skip)]
    pub checks: TextChecks,
}

/// Runs the model on repeated random tokens; the seed decides which.
///
/// # Errors
/// [`LensError::Probe`] if the vocabulary has too few words or the model too few positions; as [`Model::run`].
pub fn probe_repeats(model: &Model, seed: u64, on_text: OnText<'_>) -> Result<Repeats, LensError> {
    let words = model.ordinary_words()?;
    if words.len() < PERIOD {
        let problem = format!(
            "expected a vocabulary with {PERIOD} or more words of small letters, found {}; use another model",
            words.len()
        );
        return Err(LensError::Probe { problem });
    }
    let mut random = Random::new(seed);
    let sequences: Vec<Vec<u32>> = (0..SAMPLES)
        .map(|_| {
            let mut drawn = words.clone();
            random.choose(&mut drawn, PERIOD);
            drawn[..PERIOD].repeat(REPEATS)
        })
        .collect();
    let looked = each_text(&sequences, on_text, |ids, checks| one_sequence(model, ids, checks))?;

    let info = model.info();
    let mut totals = vec![[0.0; 3]; info.layers * info.heads];
    let (mut rows, mut entries) = ([0; 3], 0);
    let mut loss = [0.0; REPEATS];
    for sequence in &looked.found {
        for (total, sums) in totals.iter_mut().zip(&sequence.sums) {
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
        rows.iter_mut().zip(sequence.rows).for_each(|(rows, more)| *rows += more);
        entries += sequence.entries;
        loss.iter_mut().zip(sequence.loss.unwrap_or_default()).for_each(|(loss, more)| *loss += more);
    }
    let score = |(number, total): (usize, &[f64; 3])| RepeatScores {
        layer: number / info.heads,
        head: number % info.heads,
        previous: total[0] / rows[0].max(1) as f64,
        duplicate: total[1] / rows[1].max(1) as f64,
        induction: total[2] / rows[2].max(1) as f64,
        induction_by_entry: total[2] / entries.max(1) as f64,
    };
    let predicts = info.predicts == Predicts::NextToken;
    Ok(Repeats {
        heads: totals.iter().enumerate().map(score).collect(),
        rows,
        loss: predicts.then(|| loss.map(|loss| loss / (SAMPLES * PERIOD) as f64)),
        vocabulary: words.len(),
        checks: looked.checks,
    })
}

/// Sums over the rows of one sequence.
struct Sequence {
    /// For each head: previous, duplicate, induction.
    sums: Vec<[f64; 3]>,
    rows: [usize; 3],
    entries: usize,
    loss: Option<[f64; REPEATS]>,
}

fn one_sequence(model: &Model, ids: &[u32], checks: &mut TextChecks) -> Result<Sequence, LensError> {
    let text = model.text_of_ids(ids)?;
    let all_ids: Vec<u32> = text.tokens.iter().map(|token| token.id).collect();
    let first = text.tokens.iter().take_while(|token| token.special).count();
    let random = first..first + ids.len();
    let causal = model.info().causal;
    // Rows with a random token before them, with a copy in sight, with a token that followed an earlier copy.
    let counts = |row: usize| {
        let place = row - first;
        [place > 0, place >= PERIOD || !causal, place >= PERIOD]
    };
    let mut rows = [0; 3];
    random
        .clone()
        .for_each(|row| rows.iter_mut().zip(counts(row)).for_each(|(n, counts)| *n += usize::from(counts)));
    let entries = random.clone().map(|row| (row - first) / PERIOD).sum();

    let request = StatisticsRequest::new().with_offsets(&[-1]).with_token_ids(&all_ids);
    let mut sums = Vec::new();
    let mut workspace = Workspace::new();
    let hidden = look(model, &text, checks, &mut |attention| {
        let found = attention_statistics(
            attention.query,
            attention.key,
            &request,
            &attention.config,
            &mut workspace,
        )?;
        for head in 0..model.info().heads {
            let mut sum = [0.0; 3];
            for row in random.clone() {
                let at = head * all_ids.len() + row;
                let masses = [found.offset_mass[at], found.same_token_mass[at], found.induction_mass[at]];
                for ((sum, mass), counts) in sum.iter_mut().zip(masses).zip(counts(row)) {
                    *sum += if counts { f64::from(mass) } else { 0.0 };
                }
            }
            sums.push(sum);
        }
        Ok(())
    })?;
    let predicts = model.info().predicts == Predicts::NextToken && first > 0;
    let loss = predicts.then(|| -> Result<_, LensError> {
        let mut loss = [0.0; REPEATS];
        for (repeat, loss) in loss.iter_mut().enumerate() {
            let begin = first + repeat * PERIOD;
            let positions: Vec<usize> = (begin - 1..begin + PERIOD - 1).collect();
            let logits = model.logits(&hidden, &positions)?;
            let rows = logits.chunks_exact(model.vocabulary_size());
            *loss = rows.zip(&all_ids[begin..]).map(|(row, &id)| nats(row, id)).sum();
        }
        Ok(loss)
    });
    Ok(Sequence { sums, rows, entries, loss: loss.transpose()? })
}

/// −ln of the softmax at `id`.
fn nats(logits: &[f32], id: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
    sum.ln() - f64::from(logits[id as usize] - largest)
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn nats__two_equal_logits__are_ln_two() {
        assert!((nats(&[3.0, 3.0], 1) - std::f64::consts::LN_2).abs() < 1e-12);
        assert!((nats(&[1000.0, 0.0], 1) - 1000.0).abs() < 1e-9);
    }
}

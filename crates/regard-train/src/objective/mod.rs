//! What a model learns to say: examples, each a pure function of a seed, a step and a number.

mod causal;
mod masked;
mod repeated;
mod restore;

use fastrand::Rng;

use crate::corpus::Corpus;
use crate::error::TrainError;
use crate::random::{Purpose, rng};
use crate::sentences;
use crate::vocabulary::Vocabulary;

use repeated::RepeatedNouns;
use restore::Lexicon;
pub use restore::words;

/// What is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// Masked tokens from both sides (Devlin et al. 2019, section 3.1).
    Masked,
    /// The next token.
    Causal,
    /// The noun that a pronoun or a mask stands for, read at its place; and masked tokens in a part of the examples.
    Restore,
}

/// Tokens, and what is to be said where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Example {
    /// The tokens, special ones included.
    pub tokens: Vec<u32>,
    /// Positions, and the token that is right there.
    pub labels: Vec<(usize, u32)>,
}

/// Examples of one length, filled up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// `[batch_size, seq_len]` tokens.
    pub tokens: Vec<u32>,
    /// Tokens of each example.
    pub lens: Vec<usize>,
    /// Length that all have been filled up to.
    pub seq_len: usize,
    /// Places in `tokens`, and what is right there.
    pub labels: Vec<(usize, u32)>,
}

impl Batch {
    /// Puts examples together.
    pub fn new(examples: &[Example], pad: u32) -> Self {
        let seq_len = examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
        let mut batch = Self { tokens: Vec::new(), lens: Vec::new(), seq_len, labels: Vec::new() };
        for example in examples {
            let start = batch.tokens.len();
            batch.labels.extend(example.labels.iter().map(|&(at, token)| (start + at, token)));
            batch.tokens.extend(&example.tokens);
            batch.tokens.resize(start + seq_len, pad);
            batch.lens.push(example.tokens.len());
        }
        batch
    }
}

/// How examples are mixed.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Mixture {
    /// Share of generated sentences among the examples.
    pub sentences: f64,
    /// Share of examples of which nouns are restored, the others being masked (restore only).
    pub restored: f64,
    /// Tokens of an example from the data, special ones included.
    pub seq_len: usize,
}

/// Where examples come from.
#[derive(Debug)]
pub struct Examples<'a> {
    vocabulary: &'a Vocabulary,
    corpus: &'a Corpus,
    objective: Objective,
    mixture: Mixture,
    seed: u64,
    lexicon: Lexicon,
    repeated: RepeatedNouns,
}

impl<'a> Examples<'a> {
    /// Examples of a corpus and, for their share, of generated sentences.
    ///
    /// # Errors
    /// [`TrainError::TooLittleText`] if the corpus is shorter than an example and sentences are not all there is.
    pub fn new(
        (vocabulary, corpus): (&'a Vocabulary, &'a Corpus),
        objective: Objective,
        mixture: Mixture,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let found = corpus.tokens.len();
        if mixture.sentences < 1.0 && found < mixture.seq_len {
            return Err(TrainError::TooLittleText { expected: mixture.seq_len, found });
        }
        let lexicon = Lexicon::new(vocabulary)?;
        let repeated = match objective {
            Objective::Restore => RepeatedNouns::new(corpus, vocabulary, mixture.seq_len),
            _ => RepeatedNouns::default(),
        };
        Ok(Self { vocabulary, corpus, objective, mixture, seed, lexicon, repeated })
    }

    /// The examples of a step: the same for the same seed and step.
    pub fn batch(&self, step: u64, size: usize) -> Batch {
        // Spread evenly: every step has the same shares, to within one.
        let share = |count: usize, share: f64| (count as f64 * share).round() as usize;
        let generated = share(size, self.mixture.sentences);
        let restored = |of: usize| share(of, self.mixture.restored);
        let examples: Vec<Example> = (0..size)
            .map(|index| {
                let rng = &mut rng(self.seed, Purpose::Examples, step, index as u64);
                match index < generated {
                    true => self.sentence(index < restored(generated), rng),
                    false => self.window(index - generated < restored(size - generated), rng),
                }
            })
            .collect();
        Batch::new(&examples, self.vocabulary.special().pad)
    }

    /// From a generated sentence.
    fn sentence(&self, restored: bool, rng: &mut Rng) -> Example {
        let text = sentences::training_text(rng);
        match self.objective {
            Objective::Restore if restored => self.lexicon.restore(&text, self.vocabulary, rng),
            Objective::Causal => causal::example(&self.lexicon.spelled_out(&text, rng), self.vocabulary),
            _ => masked::example(&self.lexicon.spelled_out(&text, rng), self.vocabulary, rng),
        }
    }

    /// From the data.
    fn window(&self, restored: bool, rng: &mut Rng) -> Example {
        let len = self.mixture.seq_len;
        if self.objective == Objective::Restore
            && restored
            && let Some(example) = self.repeated.example(self.corpus, self.vocabulary, len, rng)
        {
            return example;
        }
        let special = match self.objective {
            Objective::Causal => 1,
            _ => 2,
        };
        let from = rng.usize(..=self.corpus.tokens.len() - len);
        let tokens = self.corpus.window(from, len - special);
        match self.objective {
            Objective::Causal => causal::example(tokens, self.vocabulary),
            _ => masked::example(tokens, self.vocabulary, rng),
        }
    }
}

#[cfg(test)]
mod tests;

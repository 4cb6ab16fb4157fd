//! Nouns restored in real text: where "the X" stands twice, the second becomes a pronoun or a mask.

use std::collections::{HashMap, HashSet};

use fastrand::Rng;

use super::Example;
use crate::corpus::Corpus;
use crate::sentences::words::{Class, Form};
use crate::vocabulary::Vocabulary;

/// Words after which a noun has ended: what stands between "the" and one of them is no adjective.
const AFTER_NOUN: &[&str] = &[
    ".", ",", ";", ":", "!", "?", "and", "of", "was", "is", "had", "in", "to", "that", "with", "on", "at",
    "for", "as", "who", "which", "but", "were", "from", "by", "would", "could", "when",
];
/// Rarer words are not learned well enough to be asked for.
const LEAST_OFTEN: usize = 60;

/// Places of a corpus where a noun stands twice.
#[derive(Debug, Default)]
pub(super) struct RepeatedNouns {
    /// Positions of the two nouns, each after its "the".
    places: Vec<(usize, usize)>,
    /// The pronoun of the nouns that are people; all others are `it`.
    people: HashMap<u32, u32>,
    it: u32,
}

impl RepeatedNouns {
    /// Finds the places within examples of a length.
    pub(super) fn new(corpus: &Corpus, vocabulary: &Vocabulary, seq_len: usize) -> Self {
        let (Some(the), Some(it)) = (vocabulary.token("the"), vocabulary.token("it")) else {
            return Self::default();
        };
        let after: HashSet<u32> = AFTER_NOUN.iter().filter_map(|word| vocabulary.token(word)).collect();
        let is_word = |text: &str| text.len() > 2 && text.chars().all(char::is_alphabetic);
        let nouns: HashSet<u32> = vocabulary
            .tokens()
            .into_iter()
            .filter(|(_, text)| is_word(text))
            .map(|(token, _)| token)
            .collect();
        let mut start = 0;
        let mut found: Vec<(usize, usize)> = Vec::new();
        let mut often: HashMap<u32, usize> = HashMap::new();
        for &end in &corpus.ends {
            let mut last: HashMap<u32, usize> = HashMap::new();
            for (i, three) in corpus.tokens[start..end].windows(3).enumerate() {
                if three[0] == the && nouns.contains(&three[1]) && after.contains(&three[2]) {
                    let at = start + i + 1;
                    *often.entry(three[1]).or_default() += 1;
                    if let Some(before) =
                        last.insert(three[1], at).filter(|&before| at - before < seq_len / 2)
                    {
                        found.push((before, at));
                    }
                }
            }
            start = end;
        }
        let places = found.into_iter().filter(|&(at, _)| often[&corpus.tokens[at]] >= LEAST_OFTEN).collect();
        let people = [Class::Man, Class::Woman].into_iter().flat_map(|class| {
            let pronoun = vocabulary.token(class.pronoun(Form::Subject));
            class.nouns().iter().filter_map(move |noun| Some((vocabulary.token(noun)?, pronoun?)))
        });
        Self { places, people: people.collect(), it }
    }

    /// A window with both nouns in it, of which the second is asked for. `None` if no noun of the corpus repeats.
    pub(super) fn example(
        &self,
        corpus: &Corpus,
        vocabulary: &Vocabulary,
        seq_len: usize,
        rng: &mut Rng,
    ) -> Option<Example> {
        let &(before, at) = self.places.get(rng.usize(..self.places.len().max(1)))?;
        let special = vocabulary.special();
        let len = seq_len - 2;
        // The window starts at the first noun's "the" at the latest, and holds the second noun.
        let slack = (len - 1).saturating_sub(at - (before - 1)).min(before - 1);
        let mut from = before - 1 - rng.usize(..=slack);
        let document = corpus.ends.partition_point(|&end| end <= at);
        from = from.max(if document == 0 { 0 } else { corpus.ends[document - 1] });
        let mut example = Example { tokens: vec![special.first], labels: Vec::new() };
        for (i, &token) in corpus.window(from, len).iter().enumerate() {
            let noun = corpus.tokens[at];
            match from + i {
                // Its "the".
                i if i + 1 == at => {}
                i if i == at => {
                    example.labels.push((example.tokens.len(), noun));
                    let pronoun = self.people.get(&noun).copied().unwrap_or(self.it);
                    example.tokens.push(if rng.u8(..3) == 0 { special.mask } else { pronoun });
                }
                _ => example.tokens.push(token),
            }
        }
        example.tokens.push(special.last);
        Some(example)
    }
}

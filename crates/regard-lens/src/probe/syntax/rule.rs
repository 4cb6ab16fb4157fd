//! The rival without a model: the nearest word of certain parts of speech.

use serde::Serialize;

use super::{Direction, pairs};
use crate::probe::conllu::UdSentence;

/// Where a rule looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Among the words before.
    Left,
    /// Among the words after.
    Right,
    /// On both sides; of two equally near words the one before.
    Either,
}

/// The nearest word whose part of speech is one of these. Parts of speech are the gold ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NearestRule {
    /// Universal parts of speech.
    pub parts_of_speech: Vec<String>,
    /// On which side.
    pub side: Side,
}

impl NearestRule {
    /// The word that the rule picks for `word`.
    pub fn pick(&self, sentence: &UdSentence, word: usize) -> Option<usize> {
        let fits = |other: &usize| self.parts_of_speech.contains(&sentence.words[*other].part_of_speech);
        let left = || (0..word).rev().find(fits);
        let right = || (word + 1..sentence.words.len()).find(fits);
        match self.side {
            Side::Left => left(),
            Side::Right => right(),
            Side::Either => match (left(), right()) {
                (Some(left), Some(right)) => Some(if word - left <= right - word { left } else { right }),
                (left, right) => left.or(right),
            },
        }
    }

    /// The share of a relation's pairs whose partner the rule picks; 0 without pairs.
    pub fn accuracy<'a>(
        &self,
        sentences: impl IntoIterator<Item = &'a UdSentence>,
        relation: &str,
        direction: Direction,
    ) -> f64 {
        let (mut right, mut all) = (0, 0);
        for sentence in sentences {
            for [word, partner] in pairs(sentence, relation, direction) {
                all += 1;
                right += usize::from(self.pick(sentence, word) == Some(partner));
            }
        }
        if all == 0 { 0.0 } else { right as f64 / all as f64 }
    }

    /// The best rule for a relation on some sentences: for each side, parts of speech are added one by one while
    /// the best addition helps.
    pub fn fit(sentences: &[&UdSentence], relation: &str, direction: Direction) -> Self {
        let concerned: Vec<(&UdSentence, [usize; 2])> = sentences
            .iter()
            .flat_map(|sentence| pairs(sentence, relation, direction).map(move |pair| (*sentence, pair)))
            .collect();
        let mut tags: Vec<&str> = concerned
            .iter()
            .map(|(sentence, [_, partner])| sentence.words[*partner].part_of_speech.as_str())
            .collect();
        tags.sort_unstable();
        tags.dedup();
        // A treebank has 17; a file may have any number.
        tags.truncate(32);
        let score = |rule: &Self| {
            let right = concerned
                .iter()
                .filter(|(sentence, [word, partner])| rule.pick(sentence, *word) == Some(*partner));
            right.count()
        };
        let mut best = (0, Self { parts_of_speech: Vec::new(), side: Side::Left });
        for side in [Side::Left, Side::Right, Side::Either] {
            let mut rule = (0, Self { parts_of_speech: Vec::new(), side });
            loop {
                let mut better: Option<(usize, Self)> = None;
                for tag in tags.iter().filter(|tag| !rule.1.parts_of_speech.iter().any(|old| old == *tag)) {
                    let mut longer = rule.1.clone();
                    longer.parts_of_speech.push((*tag).to_owned());
                    let found = score(&longer);
                    if found > better.as_ref().map_or(rule.0, |(found, _)| *found) {
                        better = Some((found, longer));
                    }
                }
                match better {
                    Some(better) => rule = better,
                    None => break,
                }
            }
            if rule.0 > best.0 {
                best = rule;
            }
        }
        best.1
    }
}

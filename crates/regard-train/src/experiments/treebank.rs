//! Heads and relations of syntax, on the English Web Treebank.

use regard_lens::Model;
use regard_lens::probe::syntax::{Direction, HeadScore, SyntaxPicks, SyntaxRow, score_syntax};
use regard_lens::probe::{Alignment, Interval, UdSentence};

use super::{Note, Settings, data};
use crate::error::TrainError;

/// The relation of every word but the first to the word before it, as if it were one of syntax: its heads are those that
/// look at neighbours.
pub(super) const NEIGHBOURS: &str = "neighbour";

/// A head that finds a relation this much more often than any fixed offset does is called syntactic (Voita et al. 2019,
/// section 5.2.1: ten points).
pub(super) const SYNTACTIC: f64 = 0.10;

/// Sentences that choose heads, and sentences that report.
pub(super) struct Treebank {
    parts: [Vec<UdSentence>; 2],
    /// Those of the file that are left out, because one of the models does not take them.
    left_out: usize,
    seed: u64,
}

/// What a model's heads pick in both parts.
pub(super) type Picks = [SyntaxPicks; 2];

impl Treebank {
    /// The sentences that every one of the models takes, so that all are asked the same.
    pub(super) fn for_models(settings: &Settings, models: &[&Model]) -> Result<Self, TrainError> {
        let mut parts = data::treebank(settings)?;
        let count = |parts: &[Vec<UdSentence>; 2]| parts.iter().map(Vec::len).sum::<usize>();
        let all = count(&parts);
        for part in &mut parts {
            part.retain(|sentence| models.iter().all(|model| Alignment::new(model, &sentence.text).is_ok()));
        }
        Ok(Self { left_out: all - count(&parts), parts, seed: settings.seed })
    }

    /// Which sentences are asked about, in words.
    pub(super) fn sizes(&self) -> String {
        let [dev, test] = &self.parts;
        format!(
            "UD English EWT: {} sentences choose, {} report, {} are too long for a model and left out",
            dev.len(),
            test.len(),
            self.left_out
        )
    }

    /// What a model's heads look at.
    pub(super) fn picks(&self, model: &Model, what: &str, note: &mut Note<'_>) -> Result<Picks, TrainError> {
        note(&format!("what the heads of {what} look at"));
        let [dev, test] = &self.parts;
        let silent = |_: usize, _: usize| ();
        Ok([SyntaxPicks::new(model, dev, &silent)?, SyntaxPicks::new(model, test, &silent)?])
    }

    /// A row for each relation and direction; [`NEIGHBOURS`] is one.
    pub(super) fn rows(&self, picks: &Picks, relations: &[&str]) -> Vec<SyntaxRow> {
        let [dev, test] = &self.parts;
        let (neighbours, relations): (Vec<&str>, Vec<&str>) =
            relations.iter().copied().partition(|&relation| relation == NEIGHBOURS);
        let score = |dev: &[UdSentence], test: &[UdSentence], relations: &[&str]| {
            let relations: Vec<String> = relations.iter().map(|&relation| relation.to_owned()).collect();
            score_syntax((dev, test), [&picks[0], &picks[1]], None, &relations, self.seed)
        };
        let mut rows = Vec::new();
        if !neighbours.is_empty() {
            rows.extend(score(&in_order(dev), &in_order(test), &neighbours));
        }
        rows.extend(score(dev, test, &relations));
        rows
    }
}

/// The same sentences, each word hanging on the one before.
fn in_order(sentences: &[UdSentence]) -> Vec<UdSentence> {
    let mut sentences = sentences.to_vec();
    for sentence in &mut sentences {
        for (at, word) in sentence.words.iter_mut().enumerate() {
            word.head = at.checked_sub(1);
            word.relation = NEIGHBOURS.to_owned();
        }
    }
    sentences
}

/// Who looks at whom, as in `det, dependent to head`.
pub(super) fn looks(row: &SyntaxRow) -> String {
    match (row.relation.as_str(), row.direction) {
        (NEIGHBOURS, Direction::DependentToHead) => "previous word".to_owned(),
        (NEIGHBOURS, Direction::HeadToDependent) => "next word".to_owned(),
        (relation, Direction::DependentToHead) => format!("{relation}, dependent to head"),
        (relation, Direction::HeadToDependent) => format!("{relation}, head to dependent"),
    }
}

/// A share in per cent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

/// What a rule without a model finds; a neighbour is a fixed offset, and the nearest word of any part of speech.
pub(super) fn control(row: &SyntaxRow, found: String) -> String {
    if row.relation == NEIGHBOURS { "by definition".to_owned() } else { found }
}

/// An interval in per cent after what it is of, as in ` (82–84)`.
pub(super) fn bounds(interval: Option<Interval>) -> String {
    interval.map_or(String::new(), |found| format!(" ({:.0}–{:.0})", 100.0 * found.low, 100.0 * found.high))
}

/// A head's share with the interval, and its name, as in `83.1 (82–84) L1.H2`.
pub(super) fn head(head: &HeadScore) -> String {
    format!("{}{} L{}.H{}", percent(head.test), bounds(head.interval), head.layer, head.head)
}

//! Picks against the annotation.

use std::collections::HashMap;

use serde::Serialize;

use super::picks::SyntaxPicks;
use super::rule::NearestRule;
use super::{Direction, pairs};
use crate::probe::conllu::UdSentence;
use crate::probe::interval::{Interval, interval};

/// The fixed offsets that are tried, on both sides.
const MAX_OFFSET: isize = 8;

/// The distances, in words, for which accuracies are given apart: from, to.
pub const DISTANCES: [[usize; 2]; 3] = [[1, 1], [2, 3], [4, usize::MAX]];

/// How often a head picks the partner.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadScore {
    /// The layer, from 0.
    pub layer: usize,
    /// The head, from 0.
    pub head: usize,
    /// On the file on which it was chosen as the best of all heads.
    pub dev: f64,
    /// On the other file.
    pub test: f64,
    /// Of `test`, sentences drawn again.
    pub interval: Option<Interval>,
    /// Of `test`, for each of [`DISTANCES`]; `None` without pairs.
    pub by_distance: [Option<f64>; 3],
}

/// How often the word at a fixed offset is the partner; beyond the sentence, its first or last word.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OffsetScore {
    /// Words to the right.
    pub offset: isize,
    /// On the file on which it was chosen.
    pub dev: f64,
    /// On the other file.
    pub test: f64,
}

/// How often the nearest word of certain parts of speech is the partner.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleScore {
    /// The rule.
    pub rule: NearestRule,
    /// On the file on which it was chosen.
    pub dev: f64,
    /// On the other file.
    pub test: f64,
    /// Of `test`, for each of [`DISTANCES`]; `None` without pairs.
    pub by_distance: [Option<f64>; 3],
}

/// One relation in one direction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SyntaxRow {
    /// As annotated, as in `"nsubj"`.
    pub relation: String,
    /// Who looks at whom.
    pub direction: Direction,
    /// Pairs in the file on which all is chosen.
    pub dev_pairs: usize,
    /// Pairs in the other file, on which all is reported.
    pub test_pairs: usize,
    /// Pairs of `test_pairs` at each of [`DISTANCES`].
    pub pairs_by_distance: [usize; 3],
    /// The best head.
    pub head: HeadScore,
    /// For how many of the rows, this one included, it is the best head.
    pub shared: usize,
    /// The best offset.
    pub offset: OffsetScore,
    /// The best rule.
    pub rule: RuleScore,
    /// The best head of the untrained model.
    pub untrained: Option<HeadScore>,
    /// Which of `"head"`, `"offset"` and `"rule"` is right most often on `test`; also those whose distance to it
    /// may be chance: sentences drawn again, the 95 % interval of the difference has 0 in it.
    pub wins: Vec<&'static str>,
}

/// What is chosen on one file and reported on the other.
struct Files<'a> {
    dev: Vec<(usize, &'a UdSentence)>,
    test: Vec<(usize, &'a UdSentence)>,
    seed: u64,
}

/// Scores the picks for each relation in both directions. `dev` and `test` are the sentences and what the model
/// picks in them; `untrained` is the same from an untrained model. Sentences that the model could not take are
/// left out everywhere.
pub fn score_syntax(
    (dev, test): (&[UdSentence], &[UdSentence]),
    picks: [&SyntaxPicks; 2],
    untrained: Option<[&SyntaxPicks; 2]>,
    relations: &[String],
    seed: u64,
) -> Vec<SyntaxRow> {
    fn taken<'a>(sentences: &'a [UdSentence], picks: &SyntaxPicks) -> Vec<(usize, &'a UdSentence)> {
        let all = sentences.iter().enumerate();
        all.filter(|(index, _)| picks.sentences.get(*index).is_some_and(Option::is_some)).collect()
    }
    let files = Files { dev: taken(dev, picks[0]), test: taken(test, picks[1]), seed };
    let rows = relations.iter().flat_map(|relation| {
        let files = &files;
        Direction::ALL.map(|direction| files.row(relation, direction, picks, untrained))
    });
    let mut rows: Vec<SyntaxRow> = rows.collect();
    let mut uses: HashMap<[usize; 2], usize> = HashMap::new();
    rows.iter().for_each(|row| *uses.entry([row.head.layer, row.head.head]).or_default() += 1);
    rows.iter_mut().for_each(|row| row.shared = uses[&[row.head.layer, row.head.head]]);
    rows
}

impl Files<'_> {
    fn row(
        &self,
        relation: &str,
        direction: Direction,
        picks: [&SyntaxPicks; 2],
        untrained: Option<[&SyntaxPicks; 2]>,
    ) -> SyntaxRow {
        let (dev, test) =
            (Pairs::new(&self.dev, relation, direction), Pairs::new(&self.test, relation, direction));
        let (head, of_head) = best_head(&dev, &test, picks, self.seed);
        let untrained = untrained.map(|picks| best_head(&dev, &test, picks, self.seed).0);

        let offsets = (-MAX_OFFSET..=MAX_OFFSET).filter(|&offset| offset != 0);
        let at = |offset: isize| {
            move |sentence: &UdSentence, word: usize| {
                Some(word.saturating_add_signed(offset).min(sentence.words.len() - 1))
            }
        };
        let scored = offsets.map(|offset| (offset, dev.mark(|_, sentence, word| at(offset)(sentence, word))));
        // The first of equals, so that the choice is the same on every machine.
        let (offset, on_dev) = scored.reduce(|a, b| if b.1.share() > a.1.share() { b } else { a }).unwrap();
        let of_offset = test.mark(|_, sentence, word| at(offset)(sentence, word));
        let offset = OffsetScore { offset, dev: on_dev.share(), test: of_offset.share() };

        let sentences: Vec<&UdSentence> = self.dev.iter().map(|(_, sentence)| *sentence).collect();
        let rule = NearestRule::fit(&sentences, relation, direction);
        let of_rule = test.mark(|_, sentence, word| rule.pick(sentence, word));
        let dev_share = dev.mark(|_, sentence, word| rule.pick(sentence, word)).share();
        let by_distance = of_rule.by_distance(&test);
        let rule = RuleScore { rule, dev: dev_share, test: of_rule.share(), by_distance };

        let wins =
            winners([("head", &of_head), ("offset", &of_offset), ("rule", &of_rule)], &test, self.seed);
        SyntaxRow {
            relation: relation.to_owned(),
            direction,
            dev_pairs: dev.pairs.len(),
            test_pairs: test.pairs.len(),
            pairs_by_distance: std::array::from_fn(|d| test.at_distance(d).count()),
            head,
            shared: 0,
            offset,
            rule,
            untrained,
            wins,
        }
    }
}

/// The pairs of one relation and direction, with their sentences.
struct Pairs<'a> {
    pairs: Vec<(usize, &'a UdSentence, [usize; 2])>,
}

/// Which pairs a rival gets right.
struct Marks(Vec<bool>);

impl<'a> Pairs<'a> {
    fn new(sentences: &[(usize, &'a UdSentence)], relation: &str, direction: Direction) -> Self {
        let of = |&(index, sentence): &(usize, &'a UdSentence)| {
            let pairs = pairs(sentence, relation, direction).map(|pair| (index, sentence, pair));
            pairs.collect::<Vec<_>>()
        };
        Self { pairs: sentences.iter().flat_map(of).collect() }
    }

    fn mark(&self, pick: impl Fn(usize, &UdSentence, usize) -> Option<usize>) -> Marks {
        let right = |&(index, sentence, [word, partner]): &(usize, &UdSentence, [usize; 2])| {
            pick(index, sentence, word) == Some(partner)
        };
        Marks(self.pairs.iter().map(right).collect())
    }

    fn mark_head(&self, picks: &SyntaxPicks, head: usize) -> Marks {
        self.mark(|index, _, word| picks.sentences[index].as_ref()?.of(head, word))
    }

    /// The pairs, by their number, at one of [`DISTANCES`].
    fn at_distance(&self, distance: usize) -> impl Iterator<Item = usize> + '_ {
        let [from, to] = DISTANCES[distance];
        let within = move |&[a, b]: &[usize; 2]| (from..=to).contains(&a.abs_diff(b));
        self.pairs.iter().enumerate().filter(move |(_, (_, _, pair))| within(pair)).map(|(number, _)| number)
    }

    /// Gain and count of each sentence.
    fn groups(&self, gain: impl Fn(usize) -> i64) -> Vec<[i64; 2]> {
        let mut groups: Vec<(usize, [i64; 2])> = Vec::new();
        for (number, (index, ..)) in self.pairs.iter().enumerate() {
            if groups.last().is_none_or(|(last, _)| last != index) {
                groups.push((*index, [0, 0]));
            }
            if let Some((_, [gains, count])) = groups.last_mut() {
                *gains += gain(number);
                *count += 1;
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }
}

impl Marks {
    fn share(&self) -> f64 {
        share(self.0.iter().filter(|right| **right).count(), self.0.len()).unwrap_or(0.0)
    }

    fn by_distance(&self, pairs: &Pairs<'_>) -> [Option<f64>; 3] {
        std::array::from_fn(|distance| {
            let right = pairs.at_distance(distance).filter(|&number| self.0[number]).count();
            share(right, pairs.at_distance(distance).count())
        })
    }
}

fn share(right: usize, all: usize) -> Option<f64> {
    (all > 0).then(|| right as f64 / all as f64)
}

/// The best head on `dev`, the first of equals, with its marks on `test`.
fn best_head(
    dev: &Pairs<'_>,
    test: &Pairs<'_>,
    [on_dev, on_test]: [&SyntaxPicks; 2],
    seed: u64,
) -> (HeadScore, Marks) {
    let scored = (0..on_dev.num_heads).map(|head| (head, dev.mark_head(on_dev, head).share()));
    let (best, dev_share) = scored.reduce(|a, b| if b.1 > a.1 { b } else { a }).unwrap_or((0, 0.0));
    let marks = test.mark_head(on_test, best);
    let score = HeadScore {
        layer: best / on_dev.heads_per_layer.max(1),
        head: best % on_dev.heads_per_layer.max(1),
        dev: dev_share,
        test: marks.share(),
        interval: interval(&test.groups(|number| i64::from(marks.0[number])), seed),
        by_distance: marks.by_distance(test),
    };
    (score, marks)
}

fn winners(rivals: [(&'static str, &Marks); 3], test: &Pairs<'_>, seed: u64) -> Vec<&'static str> {
    let best = rivals.iter().map(|(_, marks)| marks.share()).fold(0.0, f64::max);
    let Some((first, leader)) = rivals.iter().find(|(_, marks)| marks.share() == best) else {
        return Vec::new();
    };
    if test.pairs.is_empty() {
        return Vec::new();
    }
    let mut wins = vec![*first];
    for (name, marks) in rivals.iter().filter(|(name, _)| name != first) {
        let gain = |number: usize| i64::from(leader.0[number]) - i64::from(marks.0[number]);
        if interval(&test.groups(gain), seed).is_some_and(|interval| interval.low <= 0.0) {
            wins.push(name);
        }
    }
    wins
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;
    use crate::probe::conllu::UdWord;
    use crate::probe::words::WordText;

    fn sentence(words: &[(&str, usize, &str)]) -> UdSentence {
        let words: Vec<UdWord> = words
            .iter()
            .map(|(tag, head, relation)| UdWord {
                part_of_speech: (*tag).to_owned(),
                head: head.checked_sub(1),
                relation: (*relation).to_owned(),
            })
            .collect();
        UdSentence { text: WordText::spaced(words.iter().map(|_| "a")), words }
    }

    /// The big cat sees the mouse.
    fn big_cat() -> UdSentence {
        sentence(&[
            ("DET", 3, "det"),
            ("ADJ", 3, "amod"),
            ("NOUN", 4, "nsubj"),
            ("VERB", 0, "root"),
            ("DET", 6, "det"),
            ("NOUN", 4, "obj"),
        ])
    }

    #[test]
    fn score__attention_made_by_hand__is_what_counting_gives() {
        let sentences = vec![big_cat(); 3];
        // Head 0 is right about the first article only; head 1 about both; head 2 picks nothing.
        let one = [
            vec![Some(2), None, None, None, Some(0), None],
            vec![Some(2), None, None, None, Some(5), None],
            vec![None; 6],
        ]
        .concat();
        let picks = SyntaxPicks::by_hand(3, &vec![one; 3]);
        let rows = score_syntax((&sentences, &sentences), [&picks; 2], Some([&picks; 2]), &["det".into()], 1);
        let row = &rows[0];
        assert_eq!((row.direction, row.test_pairs), (Direction::DependentToHead, 6));
        assert_eq!((row.head.head, row.head.test, row.head.dev), (1, 1.0, 1.0));
        assert_eq!(row.pairs_by_distance, [3, 3, 0]);
        assert_eq!(row.head.by_distance, [Some(1.0), Some(1.0), None]);
        // Two words on, or the last word of the sentence: both articles.
        assert_eq!((row.offset.offset, row.offset.test), (2, 1.0));
        assert_eq!(
            (row.rule.rule.parts_of_speech.as_slice(), row.rule.test),
            (&["NOUN".to_owned()][..], 1.0)
        );
        assert_eq!(row.wins, ["head", "offset", "rule"], "equally good");
        assert_eq!(row.head.interval, Some(Interval { low: 1.0, high: 1.0 }));
        // Nobody looks from nouns to articles: the rule wins.
        assert_eq!((rows[1].head.test, rows[1].wins.as_slice()), (0.0, &["rule"][..]));
        assert_eq!((rows[0].shared, rows[1].shared), (1, 1));
    }

    #[test]
    fn score__relation_that_does_not_occur__has_no_winner() {
        let sentences = vec![big_cat()];
        let picks = SyntaxPicks::by_hand(1, &[vec![None; 6]]);
        let rows = score_syntax((&sentences, &sentences), [&picks; 2], None, &["vocative".into()], 1);
        assert!(
            rows.iter().all(|row| row.wins.is_empty() && row.test_pairs == 0 && row.head.interval.is_none())
        );
    }
}

//! The pronouns of a book, and among what each must choose.

use crate::probe::coreference_file::{Book, Mention};

/// How many sentences before the pronoun's own have candidates.
const SENTENCES_BACK: usize = 1;

/// Third-person pronouns, by what they can stand for.
const GROUPS: [&[&str]; 4] = [
    &["he", "him", "his", "himself"],
    &["she", "her", "hers", "herself"],
    &["it", "its", "itself"],
    &["they", "them", "their", "theirs", "themselves"],
];

/// A pronoun and its candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pronoun {
    /// Its word in the book.
    pub word: usize,
    /// What it means.
    pub entity: u32,
    /// Mentions before it, in the order of the text.
    pub candidates: Vec<Mention>,
    /// Of each candidate: whether it is a pronoun of the same kind (he, him, his, himself).
    pub same_kind: Vec<bool>,
    /// Whether the candidate stands in the pronoun's own sentence.
    pub same_sentence: Vec<bool>,
}

impl Pronoun {
    /// Whether a candidate means the same.
    pub fn is_right(&self, candidate: usize) -> bool {
        self.candidates.get(candidate).is_some_and(|mention| mention.entity == self.entity)
    }

    /// The smallest candidate around a word, the last of equals.
    pub fn around(&self, word: usize) -> Option<usize> {
        let around = self
            .candidates
            .iter()
            .enumerate()
            .filter(|(_, mention)| (mention.first..=mention.last).contains(&word));
        around
            .min_by_key(|(place, mention)| (mention.last - mention.first, usize::MAX - place))
            .map(|(place, _)| place)
    }

    /// How many words lie between the pronoun and the end of its nearest antecedent, counted 1 for neighbours.
    pub fn distance(&self) -> usize {
        let right = self.candidates.iter().filter(|mention| mention.entity == self.entity);
        right.map(|mention| self.word - mention.last).min().unwrap_or(0)
    }

    /// The candidate that ends last, the smallest of those.
    pub(super) fn nearest(&self) -> Option<usize> {
        (0..self.candidates.len())
            .max_by_key(|&place| (self.candidates[place].last, self.candidates[place].first))
    }

    /// The first candidate of the pronoun's sentence, or of the one before if its own has none: where English has
    /// its subjects.
    pub(super) fn first_of_sentence(&self) -> Option<usize> {
        let own = self.same_sentence.iter().position(|same| *same);
        own.or(if self.candidates.is_empty() { None } else { Some(0) })
    }

    /// The nearest pronoun of the same kind, or the nearest candidate if there is none.
    pub(super) fn nearest_of_kind(&self) -> Option<usize> {
        self.same_kind.iter().rposition(|same| *same).or_else(|| self.nearest())
    }
}

fn group(word: &str) -> Option<usize> {
    let word = word.to_lowercase();
    GROUPS.iter().position(|group| group.contains(&word.as_str()))
}

/// The annotated pronouns of a book that have an earlier mention of the same entity, and those of them that are
/// asked about: with an antecedent in reach and another entity to confuse it with.
pub fn pronouns(book: &Book) -> Vec<Pronoun> {
    with_antecedent(book).filter(is_asked).collect()
}

/// How many annotated third-person pronouns have an earlier mention of the same entity anywhere in the book.
pub fn count_pronouns(book: &Book) -> usize {
    singles(book)
        .filter(|own| book.mentions.iter().any(|m| m.entity == own.entity && m.last < own.first))
        .count()
}

fn singles(book: &Book) -> impl Iterator<Item = &Mention> {
    book.mentions.iter().filter(|own| own.first == own.last && group(&book.words[own.first]).is_some())
}

fn is_asked(pronoun: &Pronoun) -> bool {
    let right = (0..pronoun.candidates.len()).filter(|&place| pronoun.is_right(place)).count();
    right > 0 && right < pronoun.candidates.len()
}

fn with_antecedent(book: &Book) -> impl Iterator<Item = Pronoun> {
    singles(book).map(|own| {
        let word = own.first;
        let kind = group(&book.words[word]);
        let sentence = book.sentences[word];
        let in_reach = |mention: &&Mention| {
            mention.last < word && book.sentences[mention.first] + SENTENCES_BACK >= sentence
        };
        let candidates: Vec<Mention> = book.mentions.iter().filter(in_reach).copied().collect();
        let same_kind =
            |mention: &Mention| mention.first == mention.last && group(&book.words[mention.first]) == kind;
        Pronoun {
            word,
            entity: own.entity,
            same_kind: candidates.iter().map(same_kind).collect(),
            same_sentence: candidates
                .iter()
                .map(|mention| book.sentences[mention.first] == sentence)
                .collect(),
            candidates,
        }
    })
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    /// `The king 's son sang . Anna saw him and he saw her .`
    fn book() -> Book {
        let mention = |first, last, entity| Mention { first, last, entity };
        let words = "The king 's son sang . Anna saw him and he saw her .";
        Book {
            name: "x".into(),
            words: words.split(' ').map(str::to_owned).collect(),
            sentences: [vec![0; 6], vec![1; 8]].concat(),
            mentions: vec![
                mention(0, 2, 0),
                mention(0, 3, 1),
                mention(6, 6, 2),
                mention(8, 8, 1),
                mention(10, 10, 1),
                mention(12, 12, 2),
            ],
        }
    }

    #[test]
    fn pronouns__candidates__end_before_them_and_rivals_choose_as_they_say() {
        let found = pronouns(&book());
        assert_eq!(found.iter().map(|pronoun| pronoun.word).collect::<Vec<_>>(), [8, 10, 12]);
        let [him, he, her] = &found[..] else { panic!() };
        assert_eq!(him.candidates.len(), 3);
        assert_eq!(
            (him.nearest(), him.first_of_sentence(), him.nearest_of_kind()),
            (Some(2), Some(2), Some(2))
        );
        assert_eq!((he.nearest(), he.nearest_of_kind()), (Some(3), Some(3)));
        assert!(he.is_right(3) && !he.is_right(2));
        assert_eq!(
            (her.nearest(), her.nearest_of_kind(), her.first_of_sentence()),
            (Some(4), Some(4), Some(2))
        );
        assert_eq!((him.distance(), he.distance(), her.distance()), (5, 2, 6));
        assert_eq!(count_pronouns(&book()), 3);
    }

    #[test]
    fn around__nested_mentions__the_smallest_counts() {
        let found = pronouns(&book());
        assert_eq!(found[0].around(1), Some(0), "the king, not his son");
        assert_eq!(found[0].around(3), Some(1));
        assert_eq!(found[0].around(4), None);
    }
}

//! What a head does in a text, in one word.

use super::link::Link;
use super::statistics::HeadStatistics;

/// The least probability of a link.
pub const LINK_MIN_PROB: f32 = 0.2;
/// The least lift of a link.
pub const LINK_MIN_LIFT: f32 = 2.0;
/// The least distance of a link, in tokens.
pub const LINK_MIN_OFFSET: usize = 2;

/// Where usual is smaller, the telling score counts this much, so that no head wins by dividing by nothing.
const USUAL_FLOOR: f64 = 1e-6;

/// What a head does with one query of a text, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HeadKind {
    /// More than half of the mass, on average, goes to the token before. Averaged over the queries of the text
    /// that have a token of the text before them.
    Previous,
    /// More than half of the mass, on average, goes to the token after, likewise.
    Next,
    /// The same key of the text is the strongest, special tokens included in the contest, for more than half of
    /// the queries of the text, and for at least two of them.
    Topic,
    /// This query's strongest key of the text is at least [`LINK_MIN_OFFSET`] tokens back and in another word,
    /// has probability ≥ [`LINK_MIN_PROB`] and lift ≥ [`LINK_MIN_LIFT`] (a usual of 0 counts as enough lift).
    Link,
    /// The same with the key at least [`LINK_MIN_OFFSET`] tokens ahead.
    Ahead,
    /// More than half of the mass of the queries of the text goes to special tokens, or in a causal model to the
    /// first token.
    Special,
    /// None of these.
    Other,
}

impl HeadKind {
    /// All kinds, in order of precedence.
    pub const ALL: [Self; 7] =
        [Self::Previous, Self::Next, Self::Topic, Self::Link, Self::Ahead, Self::Special, Self::Other];

    /// The kind in one lower-case word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Previous => "previous",
            Self::Next => "next",
            Self::Topic => "topic",
            Self::Link => "link",
            Self::Ahead => "ahead",
            Self::Special => "special",
            Self::Other => "other",
        }
    }

    /// The first kind whose condition holds. `strongest` is the query's strongest key of the text, if the query
    /// is of the text itself, and `same_word` whether both are pieces of one word.
    pub(super) fn of(
        statistics: &HeadStatistics,
        query: usize,
        strongest: Option<&Link>,
        same_word: bool,
    ) -> Self {
        let strong = strongest.is_some_and(|link| !same_word && is_strong(link));
        let reaches = |from: usize, to: usize| strong && from >= to + LINK_MIN_OFFSET;
        let key = strongest.map_or(query, |link| link.key);
        if statistics.previous > 0.5 {
            Self::Previous
        } else if statistics.next > 0.5 {
            Self::Next
        } else if statistics.topic.is_some() {
            Self::Topic
        } else if reaches(query, key) {
            Self::Link
        } else if reaches(key, query) {
            Self::Ahead
        } else if statistics.special_mass > 0.5 {
            Self::Special
        } else {
            Self::Other
        }
    }
}

fn is_strong(link: &Link) -> bool {
    let lifted = link.usual.is_some_and(|usual| link.prob >= LINK_MIN_LIFT * usual);
    link.prob >= LINK_MIN_PROB && lifted
}

/// How telling a link is: probability × ln lift, in nats. Negative if the key gets less than usual; 0 if nothing
/// is known of what is usual.
pub(super) fn telling_score(link: &Link) -> f64 {
    link.usual.map_or(0.0, |usual| {
        let prob = f64::from(link.prob);
        if prob == 0.0 { 0.0 } else { prob * (prob / f64::from(usual).max(USUAL_FLOOR)).ln() }
    })
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::super::statistics::Topic;
    use super::*;

    fn plain() -> HeadStatistics {
        HeadStatistics { previous: 0.1, next: 0.1, special_mass: 0.3, topic: None }
    }

    fn link(key: usize, prob: f32, usual: Option<f32>) -> Link {
        Link::new(key, prob, usual)
    }

    #[test]
    fn kind__several_hold__first_in_precedence_wins() {
        let telling = link(1, 0.9, Some(0.1));
        let topic = Some(Topic { key: 1, wins: 4, queries: 5, mass: 0.6 });
        let mut all = HeadStatistics { previous: 0.6, next: 0.6, special_mass: 0.6, topic };
        let of = |statistics: &HeadStatistics| HeadKind::of(statistics, 5, Some(&telling), false);
        assert_eq!(of(&all), HeadKind::Previous);
        all.previous = 0.5;
        assert_eq!(of(&all), HeadKind::Next);
        all.next = 0.5;
        assert_eq!(of(&all), HeadKind::Topic);
        all.topic = None;
        assert_eq!(of(&all), HeadKind::Link);
        assert_eq!(HeadKind::of(&all, 2, Some(&telling), false), HeadKind::Special);
        all.special_mass = 0.5;
        assert_eq!(HeadKind::of(&all, 2, Some(&telling), false), HeadKind::Other);
    }

    #[test]
    fn link__at_its_thresholds__counts_and_just_below_does_not() {
        let kind = |query, link: Link| HeadKind::of(&plain(), query, Some(&link), false);
        assert_eq!(kind(3, link(1, 0.2, Some(0.1))), HeadKind::Link);
        assert_eq!(kind(2, link(1, 0.2, Some(0.1))), HeadKind::Other, "one token back is not a link");
        assert_eq!(kind(3, link(1, 0.199, Some(0.01))), HeadKind::Other);
        assert_eq!(kind(3, link(1, 0.3, Some(0.151))), HeadKind::Other);
    }

    #[test]
    fn link__key_after_the_query__is_ahead() {
        assert_eq!(HeadKind::of(&plain(), 1, Some(&link(3, 0.4, Some(0.1))), false), HeadKind::Ahead);
        assert_eq!(HeadKind::of(&plain(), 2, Some(&link(3, 0.4, Some(0.1))), false), HeadKind::Other);
    }

    #[test]
    fn link__within_one_word__is_none() {
        assert_eq!(HeadKind::of(&plain(), 5, Some(&link(1, 0.9, Some(0.1))), true), HeadKind::Other);
    }

    #[test]
    fn link__usual_zero_or_unknown__lifts_only_where_known() {
        assert_eq!(HeadKind::of(&plain(), 5, Some(&link(1, 0.9, Some(0.0))), false), HeadKind::Link);
        assert_eq!(HeadKind::of(&plain(), 5, Some(&link(1, 0.9, None)), false), HeadKind::Other);
        assert!(telling_score(&link(1, 0.9, Some(0.0))).is_finite());
        assert_eq!(telling_score(&link(1, 0.9, None)), 0.0);
    }

    #[test]
    fn telling_score__less_than_usual__is_negative() {
        assert!(telling_score(&link(1, 0.3, Some(0.4))) < 0.0);
        assert_eq!(telling_score(&link(1, 0.0, Some(0.4))), 0.0);
    }
}

//! A rule: which head, which number of it, and what the number has to be.

use regard_lens::profile::{HeadProfile, Profiled, Role};
use regard_lens::view::HeadId;
use serde::Serialize;

use crate::visible::visible;

/// A rule as it was written, and what it says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    pub(super) text: String,
    heads: Heads,
    claim: Claim,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Heads {
    One(HeadId),
    Any,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Claim {
    /// The head has the role.
    Is(Role),
    Compare(Number, Comparison, f64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    Entropy,
    RelativeEntropy,
    MaxProb,
    MeanDistance,
    Offset(i64),
    /// A role's score.
    Of(Role),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// Whether a rule holds, and the number that decided: of `any` and `all` heads, that of the one nearest to holding or to
/// failing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Outcome {
    pub(super) holds: bool,
    pub(super) value: Option<f32>,
    pub(super) layer: Option<usize>,
    pub(super) head: Option<usize>,
}

const NUMBERS: &str = "entropy, relative_entropy, max_prob, mean_distance, offset:-3 (-8 to 8) or a role";

impl Rule {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = |expected: String| format!("rule \"{}\": {expected}", visible(text));
        let words: Vec<&str> = text.split_whitespace().collect();
        let (heads, rest) = match &words[..] {
            [heads, rest @ ..] => (*heads, rest),
            [] => return Err(wrong("it is empty".into())),
        };
        let heads = match heads {
            "any" => Heads::Any,
            "all" => Heads::All,
            id => Heads::One(id.parse().map_err(|_| {
                wrong(format!("expected a head like L3.H1, any or all, and found {}", visible(id)))
            })?),
        };
        let roles = || Role::ALL.map(Role::name).join(", ");
        let role = |name: &str| Role::ALL.into_iter().find(|role| role.name() == name.replace('_', "-"));
        let claim = match rest {
            ["is", name] => Claim::Is(
                role(name)
                    .ok_or_else(|| wrong(format!("no role {}: there are {}", visible(name), roles())))?,
            ),
            [number, comparison, limit] => {
                let number = Number::parse(number, role).ok_or_else(|| {
                    wrong(format!("no number {}: there are {NUMBERS} ({})", visible(number), roles()))
                })?;
                let comparison = Comparison::parse(comparison).ok_or_else(|| {
                    wrong(format!("expected > >= < or <=, and found {}", visible(comparison)))
                })?;
                let limit = limit.parse().ok().filter(|limit: &f64| limit.is_finite());
                Claim::Compare(
                    number,
                    comparison,
                    limit.ok_or_else(|| wrong("expected a finite number at the end".into()))?,
                )
            }
            _ => return Err(wrong("expected HEAD NUMBER > LIMIT or HEAD is ROLE".into())),
        };
        Ok(Self { text: text.to_owned(), heads, claim })
    }

    /// The one head that it is about.
    pub(super) fn head(&self) -> Option<HeadId> {
        match self.heads {
            Heads::One(id) => Some(id),
            Heads::Any | Heads::All => None,
        }
    }

    pub(super) fn check(&self, profiled: &Profiled) -> Outcome {
        let about = |head: &&HeadProfile| self.head().is_none_or(|id| head.id == id);
        let each = profiled.heads.iter().filter(about).map(|head| (self.holds(head), head));
        let each: Vec<(bool, &HeadProfile)> = each.collect();
        // The one that decides: of `all` the worst, else the best; of equal ones the first.
        let worst = || each.iter().min_by(|a, b| self.rank(a.1).total_cmp(&self.rank(b.1)));
        let best = || each.iter().rev().max_by(|a, b| self.rank(a.1).total_cmp(&self.rank(b.1)));
        let deciding = if self.heads == Heads::All { worst() } else { best() };
        let holds = match self.heads {
            Heads::All => !each.is_empty() && each.iter().all(|(holds, _)| *holds),
            Heads::Any | Heads::One(_) => each.iter().any(|(holds, _)| *holds),
        };
        let deciding = deciding.map(|(_, head)| *head);
        Outcome {
            holds,
            value: deciding.and_then(|head| self.value(head)),
            layer: deciding.map(|head| head.id.layer),
            head: deciding.map(|head| head.id.head),
        }
    }

    fn value(&self, head: &HeadProfile) -> Option<f32> {
        match self.claim {
            Claim::Is(role) => role.score(&head.scores),
            Claim::Compare(number, ..) => number.of(head),
        }
    }

    /// Higher is nearer to holding.
    fn rank(&self, head: &HeadProfile) -> f64 {
        let value = self.value(head).map_or(f64::NEG_INFINITY, f64::from);
        match self.claim {
            Claim::Is(_) if self.holds(head) => f64::INFINITY,
            Claim::Is(_) => value,
            Claim::Compare(_, Comparison::Above | Comparison::AtLeast, _) => value,
            Claim::Compare(..) if value.is_finite() => -value,
            Claim::Compare(..) => value,
        }
    }

    fn holds(&self, head: &HeadProfile) -> bool {
        match self.claim {
            Claim::Is(role) => head.roles.contains(&role),
            Claim::Compare(number, comparison, limit) => number.of(head).is_some_and(|value| {
                let value = f64::from(value);
                match comparison {
                    Comparison::Above => value > limit,
                    Comparison::AtLeast => value >= limit,
                    Comparison::Below => value < limit,
                    Comparison::AtMost => value <= limit,
                }
            }),
        }
    }
}

impl Number {
    fn parse(name: &str, role: impl Fn(&str) -> Option<Role>) -> Option<Self> {
        Some(match name {
            "entropy" => Self::Entropy,
            "relative_entropy" => Self::RelativeEntropy,
            "max_prob" => Self::MaxProb,
            "mean_distance" => Self::MeanDistance,
            _ => match name.strip_prefix("offset:") {
                Some(offset) => Self::Offset(offset.parse().ok().filter(|offset| (-8..=8).contains(offset))?),
                None => Self::Of(role(name)?),
            },
        })
    }

    fn of(self, head: &HeadProfile) -> Option<f32> {
        let scores = &head.scores;
        match self {
            Self::Entropy => Some(scores.entropy),
            Self::RelativeEntropy => Some(scores.relative_entropy),
            Self::MaxProb => Some(scores.max_prob),
            Self::MeanDistance => Some(scores.mean_distance),
            Self::Offset(offset) => scores.offsets.get(&offset).copied(),
            Self::Of(role) => role.score(scores),
        }
    }
}

impl Comparison {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            ">" => Self::Above,
            ">=" => Self::AtLeast,
            "<" => Self::Below,
            "<=" => Self::AtMost,
            _ => return None,
        })
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;
    use crate::sample::head_profile;

    fn profiled(heads: Vec<HeadProfile>) -> Profiled {
        Profiled {
            heads,
            uniform: Default::default(),
            counted: Default::default(),
            region: None,
            verification: Default::default(),
        }
    }

    fn with_max_prob(head: usize, max_prob: f32, roles: &[Role]) -> HeadProfile {
        let mut profile = head_profile(0, head, roles);
        profile.scores.max_prob = max_prob;
        profile
    }

    #[test]
    fn rule__one_any_all__hold_for_the_right_heads_and_say_which_decided() {
        let found = profiled(vec![
            with_max_prob(0, 0.25, &[]),
            with_max_prob(1, 0.5, &[Role::Induction]),
            with_max_prob(2, 0.75, &[]),
        ]);
        for (rule, holds, head) in [
            ("L0.H1 max_prob > 0.4", true, 1),
            ("l0.h1 max_prob > 0.5", false, 1),
            ("L0.H1 max_prob >= 0.5", true, 1),
            ("any max_prob > 0.7", true, 2),
            ("any max_prob < 0.2", false, 0),
            ("all max_prob > 0.2", true, 0),
            ("all max_prob <= 0.7", false, 2),
            ("L0.H1 is induction", true, 1),
            ("any is induction", true, 1),
            ("all is induction", false, 0),
            ("L0.H0 is induction", false, 0),
        ] {
            let outcome = Rule::parse(rule).unwrap().check(&found);
            assert_eq!((outcome.holds, outcome.head), (holds, Some(head)), "{rule}");
        }
    }

    #[test]
    fn rule__number_that_no_row_shows__does_not_hold() {
        let found = profiled(vec![head_profile(0, 0, &[])]);
        for rule in ["L0.H0 induction < 0.5", "any duplicate >= 0", "L0.H0 offset:3 < 1"] {
            let outcome = Rule::parse(rule).unwrap().check(&found);
            assert_eq!((outcome.holds, outcome.value), (false, None), "{rule}");
        }
    }

    #[test]
    fn rule__malformed__says_what_was_expected() {
        for (rule, expected) in [
            ("", "empty"),
            ("L3 max_prob > 1", "a head like L3.H1"),
            ("L3.H1", "HEAD NUMBER > LIMIT"),
            ("L3.H1 max_prob", "HEAD NUMBER > LIMIT"),
            ("L3.H1 luck > 1", "no number luck"),
            ("L3.H1 offset:9 > 1", "no number offset:9"),
            ("L3.H1 max_prob = 1", "expected > >= < or <="),
            ("L3.H1 max_prob > NaN", "finite"),
            ("L3.H1 max_prob > 0.5 nats", "HEAD NUMBER > LIMIT"),
            ("L3.H1 is clever", "no role clever"),
            ("L3.H1 \u{1b}[31m > 1", "\\u{1b}[31m"),
        ] {
            let error = Rule::parse(rule).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\u{1b}'), "{rule:?}: {error}");
        }
    }
}

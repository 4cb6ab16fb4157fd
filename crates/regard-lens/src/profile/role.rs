//! What a head does, in one word.

use serde::Serialize;

use super::result::{Counted, Scores};

/// Fewer rows prove nothing.
pub const MIN_ROWS: usize = 30;
/// How many times what equal weights score a head has to score.
pub const CONTROL_FACTOR: f32 = 3.0;

/// The distances that [`Role::Local`] sums, on both sides.
const LOCAL: i64 = 8;

/// What a head does over a whole text. A head may have several roles; they are listed with the most particular first.
///
/// A head has a role if its score is at least the role's [threshold](Self::threshold) and at least [`CONTROL_FACTOR`]
/// times what equal weights score, over at least [`MIN_ROWS`] rows. Broad heads are near equal weights by definition and
/// are not compared with them. The shuffled text is no bar for a role: a head that looks one token back by position does so
/// in any order, and so does one that finds copies; it stands beside, and says which heads follow what the text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Looks at the token before: at least 0.5 (Clark et al. 2019).
    Previous,
    /// Looks at the token after, likewise.
    Next,
    /// Looks at the row's own token, likewise.
    Itself,
    /// Looks at what followed earlier copies of its token (Olsson et al. 2022), where there are any: at least 0.05. Most of a
    /// text repeats nothing; SmolLM2-135M's eight induction heads (above 0.5 on repeated random tokens) score 0.058 to 0.41
    /// on 8,192 tokens of a novel, where equal weights score 0.017.
    Induction,
    /// Looks at other copies of its token, where there are any: at least 0.1.
    Duplicate,
    /// Looks at what lies at most 8 away, itself included: at least 0.5.
    Local,
    /// Spreads its mass: an entropy of at least 0.9 of that of equal weights.
    Broad,
    /// Looks at special tokens: at least 0.6 (Clark et al. 2019).
    Special,
    /// Looks at the first token, whatever it is: at least 0.5. (Gu et al. 2025 count a head as a sink from 0.3.)
    FirstToken,
}

impl Role {
    /// All roles, the most particular first.
    pub const ALL: [Self; 9] = [
        Self::Previous,
        Self::Next,
        Self::Itself,
        Self::Induction,
        Self::Duplicate,
        Self::Local,
        Self::Broad,
        Self::Special,
        Self::FirstToken,
    ];

    /// In a grid of heads.
    pub fn letter(self) -> char {
        match self {
            Self::Previous => 'p',
            Self::Next => 'n',
            Self::Itself => 'o',
            Self::Induction => 'i',
            Self::Duplicate => 'd',
            Self::Local => 'l',
            Self::Broad => 'b',
            Self::Special => 's',
            Self::FirstToken => 'f',
        }
    }

    /// In a table, and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Previous => "previous",
            Self::Next => "next",
            Self::Itself => "itself",
            Self::Induction => "induction",
            Self::Duplicate => "duplicate",
            Self::Local => "local",
            Self::Broad => "broad",
            Self::Special => "special",
            Self::FirstToken => "first-token",
        }
    }

    /// The least score.
    pub fn threshold(self) -> f32 {
        match self {
            Self::Previous | Self::Next | Self::Itself | Self::Local | Self::FirstToken => 0.5,
            Self::Induction => 0.05,
            Self::Duplicate => 0.1,
            Self::Broad => 0.9,
            Self::Special => 0.6,
        }
    }

    /// The number that decides, from 0 to 1; `None` where no row of the text can have one.
    pub fn score(self, scores: &Scores) -> Option<f32> {
        match self {
            Self::Previous => scores.offsets.get(&-1).copied(),
            Self::Next => scores.offsets.get(&1).copied(),
            Self::Itself => scores.offsets.get(&0).copied(),
            Self::Induction => scores.induction,
            Self::Duplicate => scores.duplicate,
            Self::Local => {
                Some(scores.offsets.range(-LOCAL..=LOCAL).map(|(_, mass)| mass).sum::<f32>().min(1.0))
            }
            Self::Broad => Some(scores.relative_entropy),
            Self::Special => Some(scores.special),
            Self::FirstToken => Some(scores.first_token),
        }
    }

    /// Over how many rows the score is a mean.
    pub fn rows(self, counted: &Counted) -> usize {
        let at = |offset: i64| counted.offsets.get(&offset).copied().unwrap_or(0);
        match self {
            Self::Previous => at(-1),
            Self::Next => at(1),
            Self::Itself => at(0),
            Self::Induction => counted.induction,
            Self::Duplicate => counted.duplicate,
            Self::Local | Self::Broad | Self::Special | Self::FirstToken => counted.rows,
        }
    }

    /// The least score with this control: the threshold, or [`CONTROL_FACTOR`] times what equal weights score.
    pub fn least(self, uniform: &Scores) -> f32 {
        match (self, self.score(uniform)) {
            (Self::Broad, _) | (_, None) => self.threshold(),
            (_, Some(uniform)) => self.threshold().max(CONTROL_FACTOR * uniform),
        }
    }

    /// Whether a head with these scores has the role.
    pub fn holds(self, scores: &Scores, uniform: &Scores, counted: &Counted) -> bool {
        let enough = self.rows(counted) >= MIN_ROWS;
        enough && self.score(scores).is_some_and(|score| score >= self.least(uniform))
    }

    /// All roles of a head, the most particular first.
    pub fn of(scores: &Scores, uniform: &Scores, counted: &Counted) -> Vec<Self> {
        Self::ALL.into_iter().filter(|role| role.holds(scores, uniform, counted)).collect()
    }
}

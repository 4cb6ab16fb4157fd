//! Which head is best in each role.

use super::result::{HeadProfile, Profile};
use super::role::Role;
use crate::view::HeadId;

/// One role over all heads.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleRank {
    /// The role.
    pub role: Role,
    /// How many heads have it.
    pub heads: usize,
    /// The head with the highest score, whether it has the role or not.
    pub best: (HeadId, f32),
    /// The next one.
    pub runner_up: Option<(HeadId, f32)>,
    /// The least score that counts on this text.
    pub least: f32,
    /// Rows of which the scores are means.
    pub rows: usize,
    /// What equal weights score.
    pub uniform: Option<f32>,
    /// What the best head scores on the shuffled text.
    pub shuffled: Option<f32>,
}

impl Profile {
    /// The roles that this text can show (the score that counts is no more than 1, and a head has more than 0), those with
    /// heads first, each by falling best score.
    pub fn ranking(&self) -> Vec<RoleRank> {
        let profiled = &self.profiled;
        let rank = |role: Role| {
            let mut heads: Vec<(&HeadProfile, f32)> =
                profiled.heads.iter().filter_map(|head| Some((head, role.score(&head.scores)?))).collect();
            // Stable: of equal heads the first one stays first.
            heads.sort_by(|a, b| b.1.total_cmp(&a.1));
            let (best, score) = *heads.first()?;
            Some(RoleRank {
                role,
                heads: profiled.heads.iter().filter(|head| head.roles.contains(&role)).count(),
                best: (best.id, score),
                runner_up: heads.get(1).map(|(head, score)| (head.id, *score)),
                least: role.least(&profiled.uniform),
                rows: role.rows(&profiled.counted),
                uniform: role.score(&profiled.uniform),
                shuffled: best.shuffled.as_ref().and_then(|scores| role.score(scores)),
            })
        };
        let mut ranks: Vec<RoleRank> = Role::ALL
            .into_iter()
            .filter_map(rank)
            .filter(|rank| rank.rows > 0 && rank.least <= 1.0 && rank.best.1 > 0.0)
            .collect();
        ranks.sort_by(|a, b| (b.heads > 0).cmp(&(a.heads > 0)).then(b.best.1.total_cmp(&a.best.1)));
        ranks
    }
}

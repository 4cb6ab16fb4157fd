//! How far a share may be off, by drawing the same number of sentences again.

use serde::Serialize;

use super::random::Random;

/// How often sentences are drawn again.
const RESAMPLES: usize = 1000;
/// Decides the draws of probes that are given no seed of their own.
pub(super) const RESAMPLING_SEED: u64 = 1;

/// An interval in which 95 % of what was drawn again lies (Efron 1979, percentiles).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The 2.5th percentile.
    pub low: f64,
    /// The 97.5th.
    pub high: f64,
}

/// The interval of Σ gains / Σ counts, whole sentences (or books) being drawn: `[gain, count]` of each. `None`
/// without counts.
pub fn interval(groups: &[[i64; 2]], seed: u64) -> Option<Interval> {
    let groups: Vec<[i64; 2]> = groups.iter().copied().filter(|[_, count]| *count > 0).collect();
    if groups.is_empty() {
        return None;
    }
    let mut random = Random::new(seed);
    let mut shares: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let (mut gains, mut counts) = (0, 0);
            for _ in 0..groups.len() {
                let [gain, count] = groups[random.below(groups.len())];
                gains += gain;
                counts += count;
            }
            gains as f64 / counts as f64
        })
        .collect();
    shares.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| shares[((RESAMPLES as f64 * share) as usize).min(RESAMPLES - 1)];
    Some(Interval { low: at(0.025), high: at(0.975) })
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn interval__a_thousand_coins__is_as_wide_as_the_normal_distribution_says() {
        let coins: Vec<[i64; 2]> = (0..1000).map(|i| [i % 2, 1]).collect();
        let found = interval(&coins, 7).unwrap();
        let half = 1.96 * (0.25f64 / 1000.0).sqrt();
        assert!(
            (found.low - (0.5 - half)).abs() < 0.006 && (found.high - (0.5 + half)).abs() < 0.006,
            "{found:?}"
        );
        assert_eq!(interval(&coins, 7), Some(found), "the seed decides");
    }

    #[test]
    fn interval__groups_that_agree__counts_groups_not_words() {
        // Ten sentences of a hundred words each, all right or all wrong: ten draws, not a thousand.
        let groups: Vec<[i64; 2]> = (0..10).map(|i| [if i % 2 == 0 { 100 } else { 0 }, 100]).collect();
        let found = interval(&groups, 7).unwrap();
        assert!(found.high - found.low > 0.4, "{found:?}");
        assert_eq!(interval(&[[0, 0]], 7), None);
    }
}

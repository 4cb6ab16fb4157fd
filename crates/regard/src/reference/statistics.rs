use super::{Real, Reference};
use crate::error::AttentionError;
use crate::statistics::{KeySets, StatisticsRequest};

/// What one row attends to, by the definitions.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceRowStatistics {
    /// −Σ a·ln a over the keys and the sink.
    pub entropy: f64,
    /// Σ a·|p − j| / Σ a.
    pub mean_distance: f64,
    /// The probability of the sink.
    pub sink_prob: f64,
    /// The number of allowed keys.
    pub visible_keys: u32,
    /// The `top_k` most probable keys (fewer if fewer are allowed): key and probability; of equal scores the lower key
    /// comes first.
    pub top: Vec<(usize, f64)>,
    /// As [`AttentionStatistics::distance_mass`](crate::AttentionStatistics::distance_mass).
    pub distance_mass: Vec<f64>,
    /// Mass on key p + offset.
    pub offset_mass: Vec<f64>,
    /// Mass on each set.
    pub key_set_mass: Vec<f64>,
    /// Mass on j ≠ p with the token of p.
    pub same_token_mass: f64,
    /// Mass on j ≤ p whose j − 1 ≠ p has the token of p.
    pub induction_mass: f64,
    /// Mass on each block of keys of the thumbnail.
    pub thumbnail: Vec<f64>,
    /// Probabilities of all keys, `[seq_len_kv]`.
    pub probs: Vec<f64>,
    /// Which keys are allowed, `[seq_len_kv]`.
    pub allowed: Vec<bool>,
}

impl<R: Real> Reference<'_, R> {
    /// What the row at `[batch, head, query row]` attends to.
    ///
    /// # Errors
    /// [`AttentionError::OutOfBounds`] if there is no such row.
    ///
    /// # Panics
    /// If the request's arrays are not of the call's sizes.
    pub fn row_statistics(
        &self,
        at: [usize; 3],
        request: &StatisticsRequest<'_>,
    ) -> Result<ReferenceRowStatistics, AttentionError> {
        let row = self.row(at)?;
        let probs: Vec<f64> = row.probs.iter().map(|prob| prob.to_f64()).collect();
        let scores: Vec<Option<f64>> = row.scores.iter().map(|score| score.map(R::to_f64)).collect();
        let (p, key_len) = (self.position(at), self.key_len(at[0]));
        let own = usize::try_from(p).ok().filter(|&p| p < key_len);
        let first = at[0] * self.shape.seq_len_kv; // of the sequence's keys
        let mass = |is_counted: &dyn Fn(usize) -> bool| -> f64 {
            (0..probs.len()).filter(|&j| is_counted(j)).map(|j| probs[j]).sum()
        };
        let distance = |j: usize| (j as i128 - p).unsigned_abs();
        let outcome = |a: f64| if a == 0.0 { 0.0 } else { -a * a.ln() };
        let sink_prob = row.sink_prob.to_f64();
        let all: f64 = mass(&|_| true);
        let distances: f64 = (0..probs.len()).map(|j| probs[j] * distance(j) as f64).sum();
        let bins = request.num_distance_bins;
        let bin_of = |j: usize| match distance(j) {
            0 => bins,
            d => {
                let power = (127 - d.leading_zeros() as usize).min(bins - 1);
                if (j as i128) < p { bins - 1 - power } else { bins + 1 + power }
            }
        };
        let num_bins = if bins == 0 { 0 } else { 2 * bins + 1 };
        let same = |j: usize| match (own, request.token_ids) {
            (Some(own), Some(ids)) => ids[first + own] == ids[first + j],
            _ => false,
        };
        let KeySets { num_sets, members } = request.key_sets.unwrap_or(KeySets { num_sets: 0, members: &[] });
        let columns = request.thumbnail.map_or(0, |[_, columns]| columns);
        Ok(ReferenceRowStatistics {
            entropy: probs.iter().map(|&a| outcome(a)).sum::<f64>() + outcome(sink_prob),
            mean_distance: if row.allowed.contains(&true) { distances / all } else { 0.0 },
            sink_prob,
            visible_keys: row.allowed.iter().filter(|&&allowed| allowed).count() as u32,
            top: top(request.top_k, &scores, &probs),
            distance_mass: (0..num_bins).map(|bin| mass(&|j| bin_of(j) == bin)).collect(),
            offset_mass: (request.offsets.iter())
                .map(|&offset| mass(&|j| j as i128 == p + i128::from(offset)))
                .collect(),
            key_set_mass: (0..num_sets).map(|set| mass(&|j| members[first + j] >> set & 1 == 1)).collect(),
            same_token_mass: mass(&|j| same(j) && Some(j) != own),
            induction_mass: mass(&|j| {
                j.checked_sub(1).is_some_and(|before| same(before) && Some(before) != own) && j as i128 <= p
            }),
            thumbnail: (0..columns)
                .map(|cell| mass(&|j| j < key_len && j * columns / key_len == cell))
                .collect(),
            probs,
            allowed: row.allowed,
        })
    }
}

/// The largest of the allowed scores above −∞.
fn top(top_k: usize, scores: &[Option<f64>], probs: &[f64]) -> Vec<(usize, f64)> {
    let mut keys: Vec<usize> =
        (0..scores.len()).filter(|&j| scores[j].is_some_and(|score| score > f64::NEG_INFINITY)).collect();
    keys.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap_or(std::cmp::Ordering::Equal));
    keys.into_iter().take(top_k).map(|j| (j, probs[j])).collect()
}

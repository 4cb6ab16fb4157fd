//! Which probabilities are dropped: a pure function of a seed and of where a probability stands.

use crate::error::AttentionError;

/// Dropout of attention probabilities: each is set to 0 with probability `rate`, the others are divided by
/// 1 − rate (Srivastava et al. 2014; Vaswani et al. 2017, §5.4).
///
/// The choice is a hash of the seed, the sequence, the query head, the query's position and the key, so it is
/// the same in forward and backward, in any tiling, with any number of threads, on any machine. Log-sum-exp and
/// [`attention_probs`](crate::attention_probs) are of the undropped probabilities.
///
/// ```
/// use regard::Dropout;
/// let dropout = Dropout::new(0.25, 7);
/// let kept = (0..10_000).filter(|&key| dropout.keeps([0, 0], 3, key)).count();
/// assert!((7_300..7_700).contains(&kept));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Probability of being dropped, in [0, 1).
    pub rate: f32,
    /// Another seed drops others; use a new one for each training step and layer.
    pub seed: u64,
    /// Where this call's tensors stand in a larger whole.
    pub origin: DropoutOrigin,
}

/// The global place of a call's first sequence, head and key, for calls that compute a block of a larger
/// attention: what is dropped is then the same as in the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DropoutOrigin {
    /// Sequences before the call's first.
    pub sequence: u64,
    /// Query heads before the call's first.
    pub head: u64,
    /// Keys before the call's first; the positions of queries count from the same place.
    pub key: i64,
}

impl Dropout {
    /// Dropout at `rate` for a call that stands for itself.
    pub fn new(rate: f32, seed: u64) -> Self {
        Self { rate, seed, origin: DropoutOrigin::default() }
    }

    /// Sets where the call's tensors stand in a larger whole.
    pub fn with_origin(self, origin: DropoutOrigin) -> Self {
        Self { origin, ..self }
    }

    /// Whether the probability of `[sequence, head]` of the call, for a query at `position` (row + offset of the
    /// mask's [`QueryPosition`](crate::QueryPosition)) and a key, is kept.
    pub fn keeps(&self, at: [usize; 2], position: i64, key: usize) -> bool {
        let row = self.row(at, i128::from(position));
        draw(row.key, row.first.wrapping_add(key as u32)) >= row.threshold
    }

    pub(crate) fn check(&self) -> Result<(), AttentionError> {
        if (0.0..1.0).contains(&self.rate) {
            return Ok(());
        }
        Err(AttentionError::InvalidNumber { what: "dropout.rate (at least 0, below 1)", found: self.rate })
    }

    /// What is dropped of one attention row.
    pub(crate) fn row(&self, [sequence, head]: [usize; 2], position: i128) -> DropoutRow {
        let words = [
            self.origin.sequence.wrapping_add(sequence as u64),
            self.origin.head.wrapping_add(head as u64),
            (position as i64).wrapping_add(self.origin.key) as u64,
        ];
        let state = words.into_iter().fold(mix64(self.seed), |state, word| mix64(state ^ mix64(word)));
        DropoutRow {
            key: [state as u32, (state >> 32) as u32],
            first: self.origin.key as u32,
            threshold: (f64::from(self.rate) * 4_294_967_296.0) as u32,
            factor: (1.0 / (1.0 - f64::from(self.rate))) as f32,
        }
    }
}

/// What is dropped of one attention row.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DropoutRow {
    key: [u32; 2],
    /// Global index of the call's key 0.
    first: u32,
    threshold: u32,
    /// 1 / (1 − rate), for what is kept.
    pub(crate) factor: f32,
}

impl DropoutRow {
    /// What the probability of key `key` is multiplied with: 0 or `factor`.
    #[inline(always)]
    pub(crate) fn multiplier(&self, key: u32) -> f32 {
        if draw(self.key, self.first.wrapping_add(key)) >= self.threshold { self.factor } else { 0.0 }
    }

    /// Multiplies the numbers of keys `first..` with their multipliers.
    #[inline(always)]
    pub(crate) fn apply(&self, first: usize, numbers: &mut [f32]) {
        let first = first as u32;
        for (j, number) in numbers.iter_mut().enumerate() {
            *number *= self.multiplier(first.wrapping_add(j as u32));
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014), after its increment.
fn mix64(word: u64) -> u64 {
    let mut x = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// 32 random bits for one key of a row: two rounds of a multiply-xorshift hash (constants of Wellons' hash
/// prospector), with half of the row's key before each.
#[inline(always)]
fn draw(row: [u32; 2], key: u32) -> u32 {
    let mut x = key.wrapping_mul(0x9e37_79b9).wrapping_add(row[0]);
    x = (x ^ (x >> 16)).wrapping_mul(0x21f0_aaad) ^ row[1];
    x = (x ^ (x >> 15)).wrapping_mul(0x735a_2d97);
    x ^ (x >> 15)
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use super::*;

    /// Share of 1-bits of `a ^ b` and share of pairs dropped together, over many places.
    fn together(rate: f32, other: impl Fn(Dropout, [usize; 3]) -> bool) -> f64 {
        let dropout = Dropout::new(rate, 1);
        let mut both = 0u32;
        for (head, row, key) in
            (0..4).flat_map(|h| (0..200).flat_map(move |i| (0..200).map(move |j| (h, i, j))))
        {
            let dropped = !dropout.keeps([0, head], row as i64, key);
            both += u32::from(dropped && !other(dropout, [head, row, key]));
        }
        f64::from(both) / 160_000.0
    }

    #[test]
    fn dropout__neighbouring_places__drop_independently_at_the_rate() {
        for rate in [0.1f32, 0.5] {
            let share = together(rate, |d, [h, i, j]| d.keeps([0, h], i as i64, j));
            assert!((share - f64::from(rate)).abs() < 0.005, "rate {rate}: {share}");
            let square = f64::from(rate).powi(2);
            type Other = fn(Dropout, [usize; 3]) -> bool;
            let others: [(&str, Other); 7] = [
                ("next key", |d, [h, i, j]| d.keeps([0, h], i as i64, j + 1)),
                ("key 256 on", |d, [h, i, j]| d.keeps([0, h], i as i64, j + 256)),
                ("next row", |d, [h, i, j]| d.keeps([0, h], i as i64 + 1, j)),
                ("next row and key", |d, [h, i, j]| d.keeps([0, h], i as i64 + 1, j + 1)),
                ("next head", |d, [h, i, j]| d.keeps([0, h + 1], i as i64, j)),
                ("next sequence", |d, [h, i, j]| d.keeps([1, h], i as i64, j)),
                ("next seed", |d, [h, i, j]| Dropout::new(d.rate, d.seed + 1).keeps([0, h], i as i64, j)),
            ];
            for (what, other) in others {
                let share = together(rate, other);
                // 160,000 draws: five standard deviations.
                let deviation = (square * (1.0 - square) / 160_000.0).sqrt();
                assert!((share - square).abs() < 5.0 * deviation, "rate {rate}, {what}: {share}");
            }
        }
    }

    #[test]
    fn dropout__origin__moves_the_choice_and_changes_nothing_else() {
        let whole = Dropout::new(0.3, 9);
        let origin = DropoutOrigin { sequence: 2, head: 5, key: 1000 };
        let block = whole.with_origin(origin);
        for (position, key) in (0..40).flat_map(|p| (0..40).map(move |j| (p, j))) {
            let (a, b) =
                (whole.keeps([3, 6], 1000 + position, 1000 + key), block.keeps([1, 1], position, key));
            assert_eq!(a, b, "{position} {key}");
        }
    }
}

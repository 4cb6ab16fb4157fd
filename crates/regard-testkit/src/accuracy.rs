/// The accuracy rule of NUMERICS.md for one attention head.
///
/// With r the f64 reference and n a naive f32 implementation rounded to the storage type, a result x passes if
/// max|x − r| ≤ factor·max|n − r| + 2u·max|r| + 4·2⁻²⁴·(1 + max|s|)·max|r|, s the finite scores, and if NaN and
/// ±∞ stand in the same places.
#[derive(Debug, Clone, Copy)]
pub struct Accuracy {
    /// How many times the naive error is allowed: 2 for outputs, 3 for gradients.
    pub factor: f64,
    /// Unit roundoff u of the storage type: 2⁻²⁴, 2⁻¹¹ or 2⁻⁸.
    pub roundoff: f64,
    /// The largest finite |score| of the head.
    pub max_abs_score: f64,
    /// What max|r| is at least taken for in the rounding term: 0 for outputs; for gradients, the size of the
    /// terms that were summed.
    pub rounding_magnitude: f64,
    /// What max|r| is at least taken for in the last term: 0, or the size of the terms that were summed
    /// where max|r| says nothing about it (a head of very few elements, which may cancel to almost nothing).
    pub magnitude: f64,
    /// What probabilities are multiplied by besides inputs of ordinary size (dropout's 1/(1 − rate), a scale
    /// above 1): what exponentials lose below 2⁻¹²⁶ counts this often. 1 where there is nothing of the kind.
    pub underflow: f64,
}

/// What may be lost where exponentials underflow: below 2⁻¹²⁶ they are any number down to 0.
const UNDERFLOW: f64 = 64.0 * f32::MIN_POSITIVE as f64;

impl Accuracy {
    /// Checks `found` against `reference` and `naive`; returns the error as a share of what is allowed.
    ///
    /// # Errors
    /// A description of the first wrong pattern, or of the largest error if it is too large.
    pub fn check(&self, found: &[f32], reference: &[f64], naive: &[f32]) -> Result<f64, String> {
        if found.len() != reference.len() || naive.len() != reference.len() {
            let lens = (found.len(), reference.len(), naive.len());
            return Err(format!("lengths differ: found, reference, naive = {lens:?}"));
        }
        let (mut worst, mut worst_at, mut naive_worst, mut largest) = (0.0f64, 0, 0.0f64, 0.0f64);
        for (i, ((&x, &r), &n)) in found.iter().zip(reference).zip(naive).enumerate() {
            let x = f64::from(x);
            if !r.is_finite() || !x.is_finite() {
                if x.is_nan() == r.is_nan() && (r.is_nan() || x == r) {
                    continue;
                }
                return Err(format!("element {i}: found {x}, reference {r}"));
            }
            if (x - r).abs() > worst {
                (worst, worst_at) = ((x - r).abs(), i);
            }
            naive_worst = naive_worst.max((f64::from(n) - r).abs());
            largest = largest.max(r.abs());
        }
        let arithmetic = 4.0 * 2f64.powi(-24) * (1.0 + self.max_abs_score) * largest.max(self.magnitude);
        let allowed = self.factor * naive_worst
            + 2.0 * self.roundoff * largest.max(self.rounding_magnitude)
            + arithmetic
            + UNDERFLOW * self.underflow;
        if worst > allowed {
            let (x, r) = (found[worst_at], reference[worst_at]);
            return Err(format!(
                "element {worst_at}: found {x:e}, reference {r:e}, error {worst:e} > {allowed:e} (naive {naive_worst:e})"
            ));
        }
        Ok(if allowed == 0.0 { 0.0 } else { worst / allowed })
    }
}

/// Asserts that two slices differ by at most `tolerance` anywhere; returns the largest difference.
///
/// # Panics
/// If they do not, or if their lengths differ.
#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) -> f64 {
    assert_eq!(found.len(), expected.len(), "{what}: lengths");
    let mut worst = 0.0f64;
    for (i, (&x, &e)) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(x) - e).abs();
        assert!(difference <= tolerance, "{what}[{i}]: found {x}, expected {e}, tolerance {tolerance:e}");
        worst = worst.max(difference);
    }
    worst
}

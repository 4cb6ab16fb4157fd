//! Counts out of counts.

use serde::Serialize;

/// How many of how many, and where the true share may lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// How many.
    pub count: usize,
    /// Of how many.
    pub of: usize,
    /// Bounds of the 95 % interval (Wilson 1927), as if the cases were independent.
    pub interval: [f64; 2],
}

impl Share {
    /// Counts what is true.
    pub fn of(cases: impl Iterator<Item = bool>) -> Self {
        let (mut count, mut of) = (0, 0);
        for case in cases {
            count += usize::from(case);
            of += 1;
        }
        Self::new(count, of)
    }

    /// So many of so many.
    pub fn new(count: usize, of: usize) -> Self {
        Self { count, of, interval: wilson(count as f64, of as f64) }
    }

    /// From 0 to 1; 0 of nothing.
    pub fn share(&self) -> f64 {
        self.count as f64 / self.of.max(1) as f64
    }
}

fn wilson(count: f64, of: f64) -> [f64; 2] {
    const Z: f64 = 1.959_963_984_540_054;
    if of == 0.0 {
        return [0.0, 1.0];
    }
    let (share, z2) = (count / of, Z * Z / of);
    let centre = share + z2 / 2.0;
    let half = Z * (share * (1.0 - share) / of + z2 / (4.0 * of)).sqrt();
    [((centre - half) / (1.0 + z2)).max(0.0), ((centre + half) / (1.0 + z2)).min(1.0)]
}

impl std::fmt::Display for Share {
    /// As in `97.5 % (96–99)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [low, high] = self.interval.map(|bound| bound * 100.0);
        f.pad(&format!("{:.1} % ({low:.0}–{high:.0})", self.share() * 100.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share__known_counts__has_the_interval_of_the_textbook() {
        let share = Share::of((0..10).map(|i| i < 8));
        assert_eq!((share.count, share.of), (8, 10));
        // Brown, Cai and DasGupta 2001 give (0.490, 0.943) for 8 of 10.
        assert!((share.interval[0] - 0.490).abs() < 1e-3 && (share.interval[1] - 0.943).abs() < 1e-3);
        assert_eq!(Share::of(std::iter::empty()).interval, [0.0, 1.0]);
        assert_eq!(share.to_string(), "80.0 % (49–94)");
    }
}

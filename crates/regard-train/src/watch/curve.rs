//! A line of at most so many points, however many numbers it is told.

/// Points at most; twice as many are never needed to draw a line in a terminal.
const MOST: usize = 400;

/// Means of equal stretches of numbers, in order.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    /// Numbers of a stretch.
    stretch: u64,
    points: Vec<(f64, f64)>,
    sum: f64,
    count: u64,
}

impl Default for Curve {
    fn default() -> Self {
        Self { stretch: 1, points: Vec::new(), sum: 0.0, count: 0 }
    }
}

impl Curve {
    /// The next number, at `x`.
    pub(super) fn add(&mut self, x: f64, number: f64) {
        self.sum += number;
        self.count += 1;
        if self.count < self.stretch {
            return;
        }
        self.points.push((x, self.sum / self.count as f64));
        (self.sum, self.count) = (0.0, 0);
        if self.points.len() == MOST {
            let pairs = self.points.chunks_exact(2);
            self.points = pairs.map(|pair| (pair[1].0, (pair[0].1 + pair[1].1) / 2.0)).collect();
            self.stretch *= 2;
        }
    }

    /// Where a stretch ends, and its mean.
    pub(super) fn points(&self) -> &[(f64, f64)] {
        &self.points
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn curve__any_number_of_numbers__keeps_few_points_whose_mean_is_theirs() {
        for count in [1, 399, 400, 12_800] {
            let mut curve = Curve::default();
            (1..=count).for_each(|step| curve.add(f64::from(step), f64::from(step)));
            let points = curve.points();
            assert!(points.len() < MOST && points.last().unwrap().0 == f64::from(count), "{count}");
            let mean = points.iter().map(|point| point.1).sum::<f64>() / points.len() as f64;
            assert!((mean - f64::from(count + 1) / 2.0).abs() < 1e-9, "{count}: {mean}");
        }
    }
}

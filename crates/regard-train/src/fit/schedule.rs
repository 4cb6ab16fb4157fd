//! The learning rate at each step.

/// Linear warm-up, then a cosine down to a tenth (Loshchilov and Hutter 2017, equation 5).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// Steps until it is reached.
    pub warmup: u64,
    /// All steps.
    pub steps: u64,
}

impl Schedule {
    /// The rate of a step; steps count from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let done = (step - self.warmup) as f64 / self.steps.saturating_sub(self.warmup).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos());
        self.peak * (0.1 + 0.9 * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate__warm_up_and_decay__rises_to_the_peak_and_falls_to_a_tenth() {
        let schedule = Schedule { peak: 2.0, warmup: 4, steps: 104 };
        let rates: Vec<f64> = (0..=104).map(|step| schedule.rate(step)).collect();
        assert_eq!(&rates[..4], [0.5, 1.0, 1.5, 2.0]);
        assert!(rates[4..].windows(2).all(|pair| pair[1] < pair[0]));
        assert!((rates[54] - 1.1).abs() < 1e-12 && (rates[104] - 0.2).abs() < 1e-12);
    }
}

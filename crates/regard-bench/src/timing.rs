//! How a call is timed, and how its memory is measured: the same in every worker.

use std::fs;
use std::time::{Duration, Instant};

/// What timing a call gave.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Timing {
    /// Median, in seconds.
    pub(crate) median_s: f64,
    /// Fastest, in seconds.
    pub(crate) min_s: f64,
    /// Timed calls.
    pub(crate) runs: usize,
    /// What the first, untimed call added to the highest resident memory; `None` where that cannot be known.
    pub(crate) peak_extra_bytes: Option<u64>,
}

/// Fewest timed calls, unless one is very long.
const FEWEST: usize = 3;

/// One untimed call, then timed ones until `seconds` have passed, at least three; but only one if the untimed
/// one took longer than four times that.
///
/// # Errors
/// The call's own.
pub(crate) fn time(seconds: f64, mut call: impl FnMut() -> Result<(), String>) -> Result<Timing, String> {
    let peak = PeakMemory::start();
    let start = Instant::now();
    call()?;
    let first = start.elapsed();
    let peak_extra_bytes = peak.and_then(PeakMemory::extra_bytes);

    let fewest = if first.as_secs_f64() > 4.0 * seconds { 1 } else { FEWEST };
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < fewest || (fewest > 1 && start.elapsed().as_secs_f64() < seconds) {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let times: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    Ok(Timing { median_s: median(&times), min_s: times[0], runs: times.len(), peak_extra_bytes })
}

/// The median of ascending numbers; of an even count, the mean of the middle two.
///
/// # Panics
/// If there is none.
pub(crate) fn median(ascending: &[f64]) -> f64 {
    let middle = ascending.len() / 2;
    match ascending.len() % 2 {
        1 => ascending[middle],
        _ => (ascending[middle - 1] + ascending[middle]) / 2.0,
    }
}

/// Linux's record of the highest resident memory, set back to what is resident now.
struct PeakMemory {
    before_kib: u64,
}

impl PeakMemory {
    fn start() -> Option<Self> {
        fs::write("/proc/self/clear_refs", "5").ok()?;
        Some(Self { before_kib: status_kib("VmRSS:")? })
    }

    fn extra_bytes(self) -> Option<u64> {
        Some(status_kib("VmHWM:")?.saturating_sub(self.before_kib) * 1024)
    }
}

fn status_kib(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use super::*;

    #[test]
    fn time__a_short_call__runs_at_least_three_times_after_one_untimed() {
        let mut calls = 0;
        let timing = time(0.0, || {
            calls += 1;
            Ok(())
        });
        // Longer than four times nothing, so only one is timed.
        assert_eq!((timing.unwrap().runs, calls), (1, 2));
        let mut calls = 0;
        let timing = time(0.02, || {
            calls += 1;
            std::thread::sleep(Duration::from_millis(if calls == 1 { 1 } else { 15 }));
            Ok(())
        });
        let timing = timing.unwrap();
        assert_eq!((timing.runs, calls), (3, 4));
        assert!(timing.min_s >= 0.015 && timing.median_s >= timing.min_s);
    }

    #[test]
    fn time__a_failing_call__is_an_error() {
        assert_eq!(time(1.0, || Err("no".into())), Err("no".into()));
    }

    #[test]
    fn median__odd_and_even__are_the_middle() {
        assert_eq!((median(&[1.0, 5.0, 9.0]), median(&[1.0, 2.0, 4.0, 9.0])), (5.0, 3.0));
    }
}

//! What this process costs, and how far it is.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// What a run cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Costs {
    /// From the start of the process.
    pub(crate) seconds: f64,
    /// Peak resident memory, where it is known.
    pub(crate) peak_bytes: Option<u64>,
}

impl Costs {
    /// What this process has cost so far.
    pub(crate) fn since(started: Instant) -> Self {
        Self { seconds: started.elapsed().as_secs_f64(), peak_bytes: peak_memory_bytes() }
    }

    /// Rounded up.
    pub(crate) fn peak_megabytes(self) -> Option<u64> {
        self.peak_bytes.map(|bytes| bytes.div_ceil(1_000_000))
    }
}

/// Peak resident memory of this process in bytes, where the system tells (Linux).
fn peak_memory_bytes() -> Option<u64> {
    peak_of(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Says on a terminal's stderr how far the work is, once it has taken noticeably long.
pub(crate) struct Progress {
    started: Instant,
    /// What is counted, as in `layer`.
    what: &'static str,
    pub(crate) all: usize,
    shown: Option<usize>,
    enabled: bool,
}

impl Progress {
    /// Shorter work shows nothing: a line that flashes up is noise.
    const PATIENCE: Duration = Duration::from_secs(1);

    pub(crate) fn new(started: Instant, what: &'static str, all: usize) -> Self {
        Self { started, what, all, shown: None, enabled: stderr().is_terminal() }
    }

    /// Number `done`, from 0, is done.
    pub(crate) fn done(&mut self, done: usize) {
        if self.enabled && self.shown != Some(done) && self.started.elapsed() > Self::PATIENCE {
            self.shown = Some(done);
            // Losing the progress line is no reason to fail.
            let _ = write!(stderr(), "\r{} {} of {}", self.what, done + 1, self.all);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn peak_memory__status_of_linux__is_read_in_bytes() {
        assert_eq!(peak_of("Name:\tregard\nVmPeak:\t  9 kB\nVmHWM:\t  148224 kB\n"), Some(148_224 * 1024));
        assert_eq!(peak_of("Name:\tregard\n"), None);
        assert_eq!(peak_of("VmHWM:\t many kB\n"), None);
    }
}

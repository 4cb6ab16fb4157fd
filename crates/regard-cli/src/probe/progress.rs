//! How far a probe is.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Says on a terminal's stderr how many texts are done, once the work has taken noticeably long.
pub(super) struct Counter {
    started: Instant,
    what: &'static str,
    enabled: bool,
    /// When the line was last written.
    shown: Mutex<Option<Instant>>,
}

impl Counter {
    /// Shorter work shows nothing.
    const PATIENCE: Duration = Duration::from_secs(1);
    /// Between two lines.
    const PAUSE: Duration = Duration::from_millis(200);

    pub(super) fn new(started: Instant, what: &'static str) -> Self {
        Self { started, what, enabled: stderr().is_terminal(), shown: Mutex::new(None) }
    }

    /// `done` of `all` texts are done; called from any thread.
    pub(super) fn show(&self, done: usize, all: usize) {
        if !self.enabled || self.started.elapsed() < Self::PATIENCE {
            return;
        }
        let Ok(mut shown) = self.shown.try_lock() else { return };
        if shown.is_none_or(|shown| shown.elapsed() > Self::PAUSE) {
            *shown = Some(Instant::now());
            // Losing the progress line is no reason to fail.
            let _ = write!(stderr(), "\r\x1b[K{}: {done} of {all} texts", self.what);
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if self.shown.lock().is_ok_and(|shown| shown.is_some()) {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

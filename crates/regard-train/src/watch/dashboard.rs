//! The dashboard: a screen of its own on stderr's terminal, which comes back as it was.

use std::io::{Stderr, stderr};
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show as ShowCursor;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use regard_train::fit::{Entry, Progress, Watch};

use super::panel::Panel;

/// Between two pictures.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Dashboard {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    panel: Panel,
    drawn: Option<Instant>,
    /// Printed once the screen is as it was.
    last: Option<String>,
}

impl Dashboard {
    /// Takes the screen. Keys are not read: Ctrl-C stays a signal.
    pub(super) fn new(title: String) -> std::io::Result<Self> {
        let terminal = Terminal::new(CrosstermBackend::new(stderr()))?;
        execute!(stderr(), EnterAlternateScreen)?;
        let colors = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self { terminal, panel: Panel::new(title, colors), drawn: None, last: None })
    }

    fn draw(&mut self) {
        // A picture that cannot be drawn is no reason to stop training.
        let _ = self.terminal.draw(|frame| self.panel.draw(frame));
        self.drawn = Some(Instant::now());
    }
}

impl Watch for Dashboard {
    fn step(&mut self, progress: &Progress) {
        self.panel.step(progress);
        self.last = Some(format!("step {} of {}: {}", progress.step, progress.steps, super::speed(progress)));
        if self.drawn.is_none_or(|drawn| drawn.elapsed() >= PAUSE) {
            self.draw();
        }
    }

    fn logged(&mut self, entry: &Entry) {
        self.panel.logged(entry);
        self.draw();
    }

    fn note(&mut self, note: &str) {
        self.panel.note(note);
        self.draw();
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = execute!(stderr(), LeaveAlternateScreen, ShowCursor);
        if let Some(last) = &self.last {
            eprintln!("{last}");
        }
    }
}

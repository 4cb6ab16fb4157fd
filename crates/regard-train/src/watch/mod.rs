//! What is shown while a model trains, on stderr: a dashboard or a bar on a terminal, lines elsewhere.

mod curve;
mod dashboard;
mod lines;
mod panel;

use std::io::IsTerminal;

use regard_train::fit::{Progress, Watch};

use crate::arguments::Show;
use dashboard::Dashboard;
use lines::Lines;

/// What shows a run of so many steps; `title` says which run it is.
pub(crate) fn choose(show: Show, title: String, steps: u64) -> Box<dyn Watch> {
    let is_terminal = std::io::stderr().is_terminal();
    let fits = || terminal_size().is_some_and(|(columns, lines)| panel::fits(columns, lines));
    match show {
        Show::Dashboard => {}
        Show::Auto if is_terminal && fits() => {}
        _ => return Box::new(Lines::new(steps, show != Show::Lines && is_terminal)),
    }
    match Dashboard::new(title) {
        Ok(dashboard) => Box::new(dashboard),
        // A terminal that cannot be drawn on still has lines.
        Err(_) => Box::new(Lines::new(steps, false)),
    }
}

fn terminal_size() -> Option<(u16, u16)> {
    ratatui::crossterm::terminal::size().ok()
}

/// Speed and the time that is left, in words.
fn speed(progress: &Progress) -> String {
    let left = std::time::Duration::from_secs_f64(progress.seconds_left.clamp(0.0, 1e9));
    let left = indicatif::HumanDuration(left);
    format!("loss {:.3}, {:.0} tokens/s, {left} left", progress.loss, progress.tokens_per_second)
}

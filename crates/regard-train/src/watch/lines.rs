//! A line now and then, and a bar below them.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use regard_train::fit::{Entry, Progress, Watch};

use super::panel::MEASURES;
use super::speed;

pub(super) struct Lines {
    bar: Option<ProgressBar>,
    latest: Option<Progress>,
}

impl Lines {
    pub(super) fn new(steps: u64, with_bar: bool) -> Self {
        let bar = with_bar.then(|| {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, latest: None }
    }

    fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }
}

impl Watch for Lines {
    fn step(&mut self, progress: &Progress) {
        self.latest = Some(*progress);
        if let Some(bar) = &self.bar {
            bar.set_position(progress.step);
            bar.set_message(speed(progress));
        }
    }

    fn logged(&mut self, entry: &Entry) {
        let mut line = format!("step {:>6}  loss {:.4}", entry.step, entry.loss);
        for (name, of) in MEASURES {
            if let Some(head) = entry.heads.iter().max_by(|a, b| of(a).total_cmp(&of(b))) {
                line.push_str(&format!("  {name} L{}.H{} {:.2}", head.layer, head.head, of(head)));
            }
        }
        if let (None, Some(progress)) = (&self.bar, &self.latest) {
            line.push_str(&format!("  {}", speed(progress)));
        }
        self.line(&line);
    }

    fn note(&mut self, note: &str) {
        self.line(note);
    }
}

//! What is shown while a model trains: a bar on a terminal, lines elsewhere; all on stderr.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use regard_train::fit::{Entry, HeadMetrics, Progress, Watch};

pub(crate) struct Terminal {
    bar: Option<ProgressBar>,
    latest: Option<Progress>,
}

impl Terminal {
    pub(crate) fn new(steps: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
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

impl Watch for Terminal {
    fn step(&mut self, progress: &Progress) {
        self.latest = Some(*progress);
        if let Some(bar) = &self.bar {
            bar.set_position(progress.step);
            bar.set_message(speed(progress));
        }
    }

    fn logged(&mut self, entry: &Entry) {
        let mut line = format!("step {:>6}  loss {:.4}", entry.step, entry.loss);
        for (name, of) in [
            ("previous", (|head| head.previous) as fn(&HeadMetrics) -> f32),
            ("induction", |head| head.induction),
            ("sharpest", |head| 1.0 - head.entropy),
        ] {
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

fn speed(progress: &Progress) -> String {
    let left = HumanDuration(Duration::from_secs_f64(progress.seconds_left.max(0.0)));
    format!("loss {:.3}, {:.0} tokens/s, {left} left", progress.loss, progress.tokens_per_second)
}

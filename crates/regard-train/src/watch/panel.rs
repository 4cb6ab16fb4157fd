//! The dashboard's picture: the loss, what heads have come to do, and how long it takes.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, LineGauge, Paragraph};
use regard_train::fit::{Entry, HeadMetrics, Progress};

use super::curve::Curve;
use super::speed;

/// Notes that stay on the screen.
const NOTES: usize = 3;
/// Heads of one row of the table, at most.
const SHOWN_HEADS: usize = 16;
/// From nothing to all.
const SHADES: [char; 5] = ['·', '░', '▒', '▓', '█'];
const COLORS: [Color; 3] = [Color::Cyan, Color::Yellow, Color::Magenta];

/// A number of a head, from 0 to 1.
type Measure = (&'static str, fn(&HeadMetrics) -> f32);

/// What is said of each head.
pub(super) const MEASURES: [Measure; 3] = [
    ("previous", |head| head.previous),
    ("induction", |head| head.induction),
    ("sharpest", |head| 1.0 - head.entropy),
];

/// Whether a terminal is large enough.
pub(super) fn fits(columns: u16, lines: u16) -> bool {
    columns >= 60 && lines >= 18
}

/// What has been heard of a run.
#[derive(Debug, Default)]
pub(super) struct Panel {
    title: String,
    colors: bool,
    progress: Option<Progress>,
    loss: Curve,
    /// The highest head of each measure, by step.
    best: [Curve; 3],
    latest: Option<Entry>,
    notes: VecDeque<String>,
}

impl Panel {
    /// Nothing heard yet.
    pub(super) fn new(title: String, colors: bool) -> Self {
        Self { title, colors, ..Self::default() }
    }

    pub(super) fn step(&mut self, progress: &Progress) {
        self.loss.add(progress.step as f64, progress.loss);
        self.progress = Some(*progress);
    }

    pub(super) fn logged(&mut self, entry: &Entry) {
        for (curve, (_, of)) in self.best.iter_mut().zip(MEASURES) {
            let highest = entry.heads.iter().map(of).fold(0.0, f32::max);
            curve.add(entry.step as f64, f64::from(highest));
        }
        self.latest = Some(entry.clone());
    }

    pub(super) fn note(&mut self, note: &str) {
        if self.notes.len() == NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back(note.to_owned());
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let layers = self.latest.as_ref().map_or(0, |entry| rows(&entry.heads).len() as u16);
        // The charts keep half of the height, however many layers there are.
        let table = (layers + 2).min(frame.area().height / 3);
        let [title, gauge, charts, heads, notes] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Min(8),
            Constraint::Length(table),
            Constraint::Length(NOTES as u16),
        ])
        .areas(frame.area());
        frame.render_widget(Line::styled(self.title.clone(), Modifier::BOLD), title);
        self.gauge(frame, gauge);
        let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(charts);
        let loss = [("", self.loss.points())];
        self.chart(frame, left, " loss, nats a label ", &loss);
        let best: Vec<_> =
            MEASURES.iter().zip(&self.best).map(|((name, _), curve)| (*name, curve.points())).collect();
        self.chart(frame, right, " the highest head of each measure ", &best);
        self.heads(frame, heads);
        let lines: Vec<Line<'_>> = self.notes.iter().map(|note| Line::from(note.as_str())).collect();
        frame.render_widget(Paragraph::new(lines).style(self.style(Color::DarkGray)), notes);
    }

    fn style(&self, color: Color) -> Style {
        if self.colors { Style::new().fg(color) } else { Style::new() }
    }

    fn gauge(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(progress) = &self.progress else { return };
        let label = format!("{}/{}  {}", progress.step, progress.steps, speed(progress));
        let gauge = LineGauge::default()
            .ratio((progress.step as f64 / progress.steps.max(1) as f64).clamp(0.0, 1.0))
            .label(label)
            .filled_symbol("━")
            .unfilled_symbol("─")
            .filled_style(self.style(Color::Cyan))
            .unfilled_style(self.style(Color::DarkGray));
        frame.render_widget(gauge, area);
    }

    fn chart(&self, frame: &mut Frame<'_>, area: Rect, title: &str, series: &[(&str, &[(f64, f64)])]) {
        let steps = self.progress.map_or(1, |progress| progress.steps.max(1));
        let highest = series.iter().flat_map(|(_, points)| points.iter()).map(|point| point.1);
        let top = nice(highest.filter(|number| number.is_finite()).fold(0.0, f64::max));
        let datasets = series.iter().zip(COLORS).zip([Marker::Braille, Marker::Dot, Marker::Block]);
        let datasets = datasets.map(|(((name, points), color), marker)| {
            let marker = if self.colors { Marker::Braille } else { marker };
            let line = Dataset::default().data(points).marker(marker).graph_type(GraphType::Line);
            // An empty name would still get a legend.
            if name.is_empty() { line } else { line.name(*name) }.style(self.style(color))
        });
        let axis = |end: f64, labels: [String; 2]| Axis::default().bounds([0.0, end]).labels(labels);
        let chart = Chart::new(datasets.collect())
            .block(Block::bordered().title(title))
            .x_axis(axis(steps as f64, ["0".to_owned(), steps.to_string()]))
            .y_axis(axis(top, ["0".to_owned(), format!("{top}")]))
            .hidden_legend_constraints((Constraint::Percentage(60), Constraint::Percentage(60)));
        frame.render_widget(chart, area);
    }

    /// A line a layer: a shade for each head, by each measure.
    fn heads(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(entry) = &self.latest else { return };
        let rows = rows(&entry.heads);
        let width =
            rows.iter().map(|row| row.len()).max().unwrap_or(0).clamp("induction".len(), SHOWN_HEADS) + 2;
        let mut heading = vec![Span::raw(format!("{:<6}", "heads"))];
        heading.extend(MEASURES.iter().map(|(name, _)| Span::raw(format!("{name:<width$}"))));
        let mut lines = vec![Line::from(heading).style(self.style(Color::DarkGray))];
        let shown = usize::from(area.height).saturating_sub(2);
        for row in rows.iter().take(shown) {
            let mut line = vec![Span::raw(format!("{:<6}", format!("L{}", row[0].layer)))];
            for ((_, of), color) in MEASURES.iter().zip(COLORS) {
                let shades: String = row.iter().take(SHOWN_HEADS).map(|head| shade(of(head))).collect();
                line.push(Span::styled(format!("{shades:<width$}"), self.style(color)));
            }
            lines.push(Line::from(line));
        }
        let scale: String = SHADES.iter().collect();
        lines.push(Line::styled(
            format!("{scale} from 0 to 1, a character a head"),
            self.style(Color::DarkGray),
        ));
        frame.render_widget(Paragraph::new(lines), area);
    }
}

/// The heads of each layer.
fn rows(heads: &[HeadMetrics]) -> Vec<&[HeadMetrics]> {
    heads.chunk_by(|a, b| a.layer == b.layer).collect()
}

fn shade(number: f32) -> char {
    // NaN is nothing.
    let place = (number.clamp(0.0, 1.0) * SHADES.len() as f32) as usize;
    SHADES[place.min(SHADES.len() - 1)]
}

/// The next of 1, 2, 5, 10 … above a number.
fn nice(number: f64) -> f64 {
    if number <= 0.0 {
        return 1.0;
    }
    let unit = 10f64.powf(number.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * unit >= number).unwrap_or(10.0);
    // 2 · 0.1 is not 0.2 in binary.
    format!("{:.3e}", factor * unit).parse().unwrap_or(number)
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn drawn(panel: &Panel, columns: u16, lines: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
        terminal.draw(|frame| panel.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    fn half_way() -> Panel {
        let mut panel = Panel::new("restore, 2 layers × 3 heads × 48".to_owned(), false);
        for step in 1..=50u64 {
            let (loss, steps) = (5.0 / step as f64, 100);
            panel.step(&Progress { step, steps, loss, tokens_per_second: 1234.0, seconds_left: 60.0 });
        }
        let head =
            |layer, head, previous| HeadMetrics { layer, head, entropy: 0.5, previous, induction: 0.0 };
        let heads = (0..6).map(|place| head(place / 3, place % 3, place as f32 / 5.0)).collect();
        panel.logged(&Entry { step: 50, loss: 0.1, learning_rate: 1e-3, gradient_norm: 1.0, heads });
        ["one", "two", "three", "four"].iter().for_each(|note| panel.note(note));
        panel
    }

    #[test]
    fn panel__half_way__shows_progress_heads_and_the_latest_notes() {
        let page = drawn(&half_way(), 80, 24);
        for shown in [
            "restore, 2 layers × 3 heads × 48",
            "50/100  loss 0.100, 1234 tokens/s, 60 seconds left",
            "loss, nats a label",
            "previous",
            "L0    ·░▒",
            "L1    ▓██",
            "four",
        ] {
            assert!(page.contains(shown), "{shown:?} is not in\n{page}");
        }
        assert!(!page.contains("one"), "{page}");
        assert!(page.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), "the loss is drawn\n{page}");
    }

    #[test]
    fn panel__nothing_heard_or_hardly_any_room__draws() {
        for (columns, lines) in [(60, 18), (20, 5), (1, 1), (200, 60)] {
            drawn(&Panel::default(), columns, lines);
            drawn(&half_way(), columns, lines);
        }
    }

    #[test]
    fn nice__any_number__is_round_and_not_below() {
        assert_eq!([0.0, 0.13, 0.2, 1.0, 3.4, 8.7, 40.0].map(nice), [1.0, 0.2, 0.2, 1.0, 5.0, 10.0, 50.0]);
    }

    #[test]
    fn shade__any_number__is_one_of_them() {
        assert_eq!([-1.0, 0.0, 0.5, 1.0, 2.0, f32::NAN].map(shade), ['·', '·', '▒', '█', '█', '·']);
    }
}

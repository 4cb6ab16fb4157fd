//! Curves, and how they are drawn: as SVG.

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use serde::Serialize;

const SIZE: (u32, u32) = (760, 420);
/// Okabe and Ito's colours, which those who see fewer colours can tell apart.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
    RGBColor(140, 140, 140),
];

/// Least and greatest number on the horizontal axis, and on the vertical one.
type Frame = [[f64; 2]; 2];

/// Curves over a common axis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// One curve each.
    pub series: Vec<Series>,
}

/// An axis of a chart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Axis {
    /// What it measures, with the unit.
    pub label: String,
    /// Whether it is logarithmic.
    pub log: bool,
}

/// A curve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// What it is.
    pub name: String,
    /// x and y.
    pub points: Vec<[f64; 2]>,
}

impl Axis {
    pub(crate) fn linear(label: &str) -> Self {
        Self { label: label.to_owned(), log: false }
    }

    pub(crate) fn log(label: &str) -> Self {
        Self { label: label.to_owned(), log: true }
    }
}

impl Chart {
    /// The chart as SVG; points that are not finite, or not positive on a logarithmic axis, are left out.
    ///
    /// # Errors
    /// What the drawing library says.
    pub fn svg(&self) -> Result<String, String> {
        let mut svg = String::new();
        let drawn = match (range(&self.x, self, 0), range(&self.y, self, 1)) {
            (Some(x), Some(y)) => self.draw(&mut svg, [x, y]),
            _ => return Err(format!("{}: nothing to draw", self.title)),
        };
        drawn.map(|()| svg)
    }

    fn draw(&self, svg: &mut String, frame: Frame) -> Result<(), String> {
        let [across, up] = frame.map(|[least, most]| least..most);
        match (self.x.log, self.y.log) {
            (false, false) => self.draw_over(svg, across, up, frame),
            (true, false) => self.draw_over(svg, across.log_scale(), up, frame),
            (false, true) => self.draw_over(svg, across, up.log_scale(), frame),
            (true, true) => self.draw_over(svg, across.log_scale(), up.log_scale(), frame),
        }
    }

    fn draw_over<X, Y>(&self, svg: &mut String, x: X, y: Y, frame: Frame) -> Result<(), String>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let failed = |error: DrawingAreaErrorKind<std::io::Error>| error.to_string();
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let failed_area = |error| format!("{error}");
        area.fill(&WHITE).map_err(failed_area)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 17))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(x, y)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&|value| short(*value))
            .draw()
            .map_err(failed)?;
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            let points: Vec<(f64, f64)> =
                series.points.iter().filter(|point| self.can_show(point)).map(|&[x, y]| (x, y)).collect();
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
            let drawn = chart.draw_series(line).map_err(failed)?;
            drawn
                .label(&series.name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
            if points.len() < 30 {
                let dots = points.iter().map(|&point| Circle::new(point, 3, colour.filled()));
                chart.draw_series(dots).map_err(failed)?;
            }
        }
        if self.series.len() > 1 {
            let mut labels = chart.configure_series_labels();
            labels.position(self.emptiest_place(frame));
            labels.background_style(WHITE.mix(0.85)).border_style(BLACK.mix(0.3)).draw().map_err(failed)?;
        }
        area.present().map_err(failed_area)
    }

    /// Where the names of the curves cover least of them: the right side's middle, if nothing is there.
    fn emptiest_place(&self, frame: Frame) -> SeriesLabelPosition {
        use SeriesLabelPosition::{LowerLeft, LowerRight, MiddleLeft, MiddleRight, UpperLeft, UpperRight};
        let longest = self.series.iter().map(|series| series.name.chars().count()).max().unwrap_or(0);
        // Of the inner area, about 660 × 340: a line of names is 17 high, a letter 6.5 wide.
        let width = (50.0 + 6.5 * longest as f64) / 660.0;
        let height = (20.0 + 17.0 * self.series.len() as f64) / 340.0;
        let (right, top, middle) = (1.0 - width, 1.0 - height, 0.5 - height / 2.0);
        let places = [
            (MiddleRight, right, middle),
            (UpperLeft, 0.0, top),
            (UpperRight, right, top),
            (LowerRight, right, 0.0),
            (LowerLeft, 0.0, 0.0),
            (MiddleLeft, 0.0, middle),
        ];
        let points = self.along_curves(frame);
        let covered = |left: f64, bottom: f64| {
            let is_in = |&&[x, y]: &&[f64; 2]| {
                (left..=left + width).contains(&x) && (bottom..=bottom + height).contains(&y)
            };
            points.iter().filter(is_in).count()
        };
        // The first of equals.
        let best = places.into_iter().min_by_key(|&(_, left, bottom)| covered(left, bottom));
        best.map_or(MiddleRight, |(place, ..)| place)
    }

    /// Points on the curves, several between two that are given, as shares of the frame's width and height.
    fn along_curves(&self, frame: Frame) -> Vec<[f64; 2]> {
        let place = |value: f64, axis: &Axis, [least, most]: [f64; 2]| match axis.log {
            true => (value / least).ln() / (most / least).ln(),
            false => (value - least) / (most - least),
        };
        let curve = |series: &Series| {
            let shown = series.points.iter().filter(|point| self.can_show(point));
            let places: Vec<[f64; 2]> =
                shown.map(|&[x, y]| [place(x, &self.x, frame[0]), place(y, &self.y, frame[1])]).collect();
            let between = places.windows(2).flat_map(|pair| {
                let [from, to] = [pair[0], pair[1]];
                (0..8).map(move |part| {
                    let share = f64::from(part) / 8.0;
                    [0, 1].map(|axis| from[axis] + share * (to[axis] - from[axis]))
                })
            });
            between.chain(places.last().copied()).collect::<Vec<_>>()
        };
        self.series.iter().flat_map(curve).collect()
    }

    fn can_show(&self, [x, y]: &[f64; 2]) -> bool {
        [(x, &self.x), (y, &self.y)]
            .iter()
            .all(|(value, axis)| value.is_finite() && (!axis.log || **value > 0.0))
    }
}

/// Least and greatest number on an axis, a little widened.
fn range(axis: &Axis, chart: &Chart, which: usize) -> Option<[f64; 2]> {
    let shown = chart.series.iter().flat_map(|series| &series.points).filter(|point| chart.can_show(point));
    let numbers: Vec<f64> = shown.map(|point| point[which]).collect();
    let least = numbers.iter().copied().reduce(f64::min)?;
    let most = numbers.iter().copied().reduce(f64::max)?;
    Some(match axis.log {
        true => [least / 1.1, most * 1.1],
        false => {
            let margin = if most > least { (most - least) * 0.04 } else { 0.5 };
            [if least >= 0.0 { (least - margin).max(0.0) } else { least - margin }, most + margin]
        }
    })
}

/// A number beside an axis.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.0e}"),
        size if size >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

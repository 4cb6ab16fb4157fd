//! Pictures of a run: its loss, and what its heads came to do.

use std::path::Path;

use super::log::{HeadMetrics, Log};
use crate::chart::{Axis, Chart, Series};
use crate::error::TrainError;
use crate::export;

/// Draws `loss.svg` and `heads.svg` of a run's log beside it.
///
/// # Errors
/// [`TrainError`] of files, or of a log with no line.
pub(super) fn draw(dir: &Path, log: &Path) -> Result<(), TrainError> {
    let entries = Log::read(log)?;
    let over_steps = |of: &dyn Fn(&super::Entry) -> Option<f64>| -> Vec<[f64; 2]> {
        entries.iter().filter_map(|entry| Some([entry.step as f64, of(entry)?])).collect()
    };
    let loss = Chart {
        title: "Loss".to_owned(),
        x: Axis::linear("step"),
        y: Axis::linear("nats a label"),
        series: vec![Series { name: "loss".to_owned(), points: over_steps(&|entry| Some(entry.loss)) }],
    };
    // The head that ends highest, all the way; others would be a thicket.
    let best = |name: &str, of: fn(&HeadMetrics) -> f32| -> Option<Series> {
        let last = &entries.last()?.heads;
        let best = (0..last.len()).max_by(|&a, &b| of(&last[a]).total_cmp(&of(&last[b])))?;
        let points = over_steps(&|entry| entry.heads.get(best).map(|head| f64::from(of(head))));
        let head = &last[best];
        Some(Series { name: format!("{name}, L{}.H{}", head.layer, head.head), points })
    };
    let series = [
        best("previous token", |head| head.previous),
        best("induction", |head| head.induction),
        best("sharpest (1 − relative entropy)", |head| 1.0 - head.entropy),
    ];
    let heads = Chart {
        title: "The heads that end highest".to_owned(),
        x: Axis::linear("step"),
        y: Axis::linear("mean over rows"),
        series: series.into_iter().flatten().collect(),
    };
    for (name, chart) in [("loss.svg", loss), ("heads.svg", heads)] {
        let path = dir.join(name);
        let svg = chart.svg().map_err(|problem| TrainError::bad(&path, problem))?;
        export::put(&path, svg.as_bytes())?;
    }
    Ok(())
}

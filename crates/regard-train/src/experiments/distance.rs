//! Distance: how much of a gradient arrives from how far back, and what a step over a distance costs.

use std::hint::black_box;
use std::time::Instant;

use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{Lstm, LstmConfig, PaddingConfig1d};
use burn::tensor::{Device, Tensor, TensorData};
use regard::{AttentionConfig, Layout, TensorView, TensorViewMut};

use super::copy::{Copy, VOCABULARY};
use super::network::{Network, Sizes};
use super::report::{Report, Table};
use super::rivals::fitted;
use super::trial::{REPORTING, Trial, train};
use super::{Note, Settings};
use crate::chart::{Axis, Chart, Series};
use crate::error::TrainError;
use crate::model::initial::normal;
use crate::objective::{Batch, Example};
use crate::random::{Purpose, rng};

const DIM: usize = 64;
const HEADS: usize = 4;
/// Positions before the last that gradients are taken to.
const FAR: usize = 128;
const KERNEL: usize = 3;

pub(super) fn run(settings: &Settings, report: &mut Report, note: &mut Note<'_>) -> Result<(), TrainError> {
    gradients(settings, report, note)?;
    costs(settings, report, note)
}

fn gradients(settings: &Settings, report: &mut Report, note: &mut Note<'_>) -> Result<(), TrainError> {
    let steps = if settings.quick { 20 } else { 600 };
    let shown = [1, 4, 16, 64, FAR];
    let mut columns = vec!["network".to_owned(), "trained".to_owned()];
    columns.extend(shown.iter().map(|back| format!("{back} back")));
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut table = Table::new(
        &format!(
            "Gradient of the last position's output by the input k positions back, over that by its own input (copying, {steps} steps; 1/n is {:.1e})",
            1.0 / (FAR + 1) as f64
        ),
        &columns,
    );
    let mut curves = Vec::new();
    let mut far = Vec::new();
    for fitted in fitted(VOCABULARY, DIM, FAR + 1)? {
        let task = Copy { letters: [5, 20], seed: settings.seed };
        for trained in [false, true] {
            note(&format!(
                "gradients of {}, {}",
                fitted.rival.name,
                if trained { "trained" } else { "untrained" }
            ));
            let network = match trained {
                false => Network::new(&fitted.sizes, settings.seed, &Device::flex().autodiff())?,
                true => {
                    let trial = Trial {
                        steps,
                        batch_size: 32,
                        learning_rate: 3e-3,
                        seed: settings.seed,
                        every: steps,
                        enough: 1.1,
                    };
                    train(&fitted.sizes, &task, &trial, &mut |_, _| Ok(()))?.0
                }
            };
            let norms = norms(&network, &fitted.sizes, settings.seed)?;
            let mut row = vec![fitted.rival.name.to_owned(), if trained { "yes" } else { "no" }.to_owned()];
            row.extend(shown.iter().map(|&back| format!("{:.1e}", norms[back])));
            table.rows.push(row);
            far.push((trained, norms[FAR]));
            curves.push(Series {
                name: format!("{}, {}", fitted.rival.name, if trained { "trained" } else { "untrained" }),
                points: norms.iter().enumerate().skip(1).map(|(back, &norm)| [back as f64, norm]).collect(),
            });
        }
    }
    report.tables.push(table);
    report.charts.push(Chart {
        title: "How much of a gradient comes from k positions back".to_owned(),
        x: Axis::log("positions back"),
        y: Axis::log("gradient length over that at 0 back"),
        series: curves,
    });
    let at = |trained: bool| {
        far.iter().filter(move |found| found.0 == trained).map(|found| found.1).collect::<Vec<_>>()
    };
    let (untrained, trained) = (at(false), at(true));
    report.find(
        untrained[0] > 10.0 * untrained[1] && untrained[0] > 10.0 * untrained[2],
        format!(
            "untrained, {FAR} back: attention {:.1e}, LSTM {:.1e}, GRU {:.1e}",
            untrained[0], untrained[1], untrained[2]
        ),
    );
    report.find(
        trained[0] > trained[1] && trained[0] > trained[2],
        format!(
            "trained, {FAR} back: attention {:.1e}, LSTM {:.1e}, GRU {:.1e}",
            trained[0], trained[1], trained[2]
        ),
    );
    report.limits.push(
        "trained on texts of up to 41 tokens: what a gradient does farther back was not trained, only measured",
    );
    report.limits.push(
        "attention divides its gradient among the positions it looks at: about 1/n each where it looks at all alike",
    );
    Ok(())
}

/// Mean gradient length by positions back, over that at 0.
fn norms(network: &Network, sizes: &Sizes, seed: u64) -> Result<Vec<f64>, TrainError> {
    let device = Device::flex().autodiff();
    let (len, texts) = (FAR + 1, 8);
    let mut rng = rng(seed, Purpose::Experiment, REPORTING, 0);
    let examples: Vec<Example> = (0..texts)
        .map(|_| Example { tokens: (0..len).map(|_| rng.u32(..26)).collect(), labels: Vec::new() })
        .collect();
    let embedded = network.embed(sizes, &Batch::new(&examples, 0), &device)?.detach().require_grad();
    let hidden = network.hidden(sizes, embedded.clone())?;
    let direction: Vec<f32> = (0..texts * sizes.dim).map(|_| normal(&mut rng) as f32).collect();
    let direction = Tensor::<3>::from_data(TensorData::new(direction, [texts, 1, sizes.dim]), &device);
    let last = hidden.slice([0..texts, len - 1..len, 0..sizes.dim]);
    let gradients = (last * direction).sum().backward();
    let gradient = embedded.grad(&gradients).map(|gradient| gradient.into_data());
    let gradient: Vec<f32> = gradient.and_then(|data| data.try_into_vec().ok()).unwrap_or_default();
    let mut norms = vec![0.0; len];
    for text in gradient.chunks_exact(len * sizes.dim) {
        for (position, row) in text.chunks_exact(sizes.dim).enumerate() {
            norms[FAR - position] += row.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt();
        }
    }
    let own = norms[0];
    Ok(norms.iter().map(|norm| norm / own).collect())
}

/// What one layer over a sequence costs, by counting (Vaswani et al. 2017, table 1) and by the clock.
fn costs(settings: &Settings, report: &mut Report, note: &mut Note<'_>) -> Result<(), TrainError> {
    let lengths: &[usize] = if settings.quick { &[64, 256] } else { &[64, 256, 1024, 4096] };
    let mut table = Table::new(
        &format!(
            "One layer of width {DIM}, counted: steps that must follow one another, longest path between two positions, operations (products and sums)"
        ),
        &["layer", "steps", "path", "operations", "at n = 64", "at n = 4096"],
    );
    let d = DIM as f64;
    let count =
        |n: f64| [4.0 * n * n * d + 8.0 * n * d * d, 16.0 * n * d * d, 2.0 * KERNEL as f64 * n * d * d];
    let (small, large) = (count(64.0), count(4096.0));
    let formulae = [
        ("attention", "1", "1", "4n²d + 8nd²"),
        ("recurrence (LSTM)", "n", "n", "16nd²"),
        ("convolution of 3", "1", "log₃ n, dilated; else n/2", "6nd²"),
    ];
    for (at, (name, steps, path, operations)) in formulae.into_iter().enumerate() {
        let cells = [name, steps, path, operations];
        let mut row: Vec<String> = cells.iter().map(|&cell| cell.to_owned()).collect();
        row.extend([small[at], large[at]].map(|count| format!("{count:.1e}")));
        table.rows.push(row);
    }
    report.tables.push(table);

    let mut table = Table::new(
        "The same by the clock, milliseconds a forward pass (median of several; one sequence)",
        &[
            "n",
            "attention, 1 thread",
            "2 threads",
            "LSTM, 1 thread",
            "2 threads",
            "convolution, 1 thread",
            "2 threads",
        ],
    );
    let mut curves: Vec<Series> = ["attention", "LSTM", "convolution"]
        .iter()
        .map(|name| Series { name: format!("{name}, 2 threads"), points: Vec::new() })
        .collect();
    let mut speedups = [0.0; 3];
    for &n in lengths {
        note(&format!("timing n = {n}"));
        let timed: Vec<[f64; 3]> =
            [1, 2].into_iter().map(|threads| with_threads(threads, || times(n))).collect::<Result<_, _>>()?;
        let mut row = vec![n.to_string()];
        for (at, curve) in curves.iter_mut().enumerate() {
            row.extend([timed[0][at], timed[1][at]].map(|seconds| format!("{:.3}", 1e3 * seconds)));
            curve.points.push([n as f64, 1e3 * timed[1][at]]);
            speedups[at] = timed[0][at] / timed[1][at];
        }
        table.rows.push(row);
    }
    report.tables.push(table);
    let exponent = |curve: &Series| {
        let (a, b) = (curve.points[curve.points.len() - 2], curve.points[curve.points.len() - 1]);
        (b[1] / a[1]).ln() / (b[0] / a[0]).ln()
    };
    let growth: Vec<f64> = curves.iter().map(exponent).collect();
    let longest = lengths[lengths.len() - 1];
    report.find(
        speedups[0] > speedups[1],
        format!(
            "at n = {longest} a second thread speeds attention up {:.2} times, the LSTM {:.2} times: its steps wait for one another",
            speedups[0], speedups[1]
        ),
    );
    report.charts.push(Chart {
        title: "One layer over one sequence".to_owned(),
        x: Axis::log("n"),
        y: Axis::log("milliseconds"),
        series: curves,
    });
    report.find(
        growth[0] > growth[1] + 0.25,
        format!(
            "between the last two lengths the time of attention grows as n^{:.2}, of the LSTM as n^{:.2}, of the convolution as n^{:.2}",
            growth[0], growth[1], growth[2]
        ),
    );
    report.limits.push(
        "the LSTM and the convolution are burn's: their constants say more of the code than of the layer; growth and what a second thread brings say more of the layer",
    );
    Ok(())
}

fn with_threads<T: Send>(
    threads: usize,
    work: impl FnOnce() -> Result<T, TrainError> + Send,
) -> Result<T, TrainError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| TrainError::Attention(error.to_string()))?;
    pool.install(work)
}

/// Seconds of a forward pass of attention, LSTM and convolution over `n` positions.
fn times(n: usize) -> Result<[f64; 3], TrainError> {
    let failed = |error: regard::AttentionError| TrainError::Attention(error.to_string());
    let device = Device::flex();
    let mut rng = rng(1, Purpose::Experiment, REPORTING, n as u64);
    let numbers: Vec<f32> = (0..n * DIM).map(|_| normal(&mut rng) as f32).collect();
    let mut output = vec![0.0; n * DIM];
    let shape = [1, HEADS, n, DIM / HEADS];
    let attention = median(|| {
        let view = TensorView::new(&numbers, shape, Layout::BatchSeqHeadDim).map_err(failed)?;
        let target = TensorViewMut::new(&mut output, shape, Layout::BatchSeqHeadDim).map_err(failed)?;
        regard::attention(view, view, view, target, &AttentionConfig::new()).map_err(failed)
    })?;
    let input = Tensor::<3>::from_data(TensorData::new(numbers.clone(), [1, n, DIM]), &device);
    let lstm: Lstm = LstmConfig::new(DIM, DIM, true).init(&device);
    let recurrent = median(|| {
        black_box(lstm.forward(input.clone(), None).0.into_data());
        Ok(())
    })?;
    let config = Conv1dConfig::new(DIM, DIM, KERNEL).with_padding(PaddingConfig1d::Same);
    let convolution: Conv1d = config.init(&device);
    let channels = input.swap_dims(1, 2);
    let convolved = median(|| {
        black_box(convolution.forward(channels.clone()).into_data());
        Ok(())
    })?;
    Ok([attention, recurrent, convolved])
}

fn median(mut work: impl FnMut() -> Result<(), TrainError>) -> Result<f64, TrainError> {
    work()?;
    let mut seconds = Vec::new();
    let began = Instant::now();
    while seconds.len() < 3 || (seconds.len() < 31 && began.elapsed().as_secs_f64() < 0.3) {
        let start = Instant::now();
        work()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

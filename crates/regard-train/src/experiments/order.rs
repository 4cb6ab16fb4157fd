//! Order: shuffled inputs, and a task that cannot be done without knowing the order.

use burn::tensor::Device;

use super::network::{Mixer, Network, Positions, Sizes};
use super::report::{Report, Table};
use super::trial::{Task, Trial, train};
use super::{Note, Settings};
use crate::error::TrainError;
use crate::objective::{Batch, Example};
use crate::random::{Purpose, rng};

const VOCABULARY: u32 = 32;
const LEN: usize = 16;
/// Outputs further apart than this, relative to the largest, are not the same.
const SAME: f64 = 1e-4;

pub(super) fn run(settings: &Settings, report: &mut Report, note: &mut Note<'_>) -> Result<(), TrainError> {
    let mut table = Table::new(
        "Tokens shuffled: the largest change of the outputs, shuffled alike, over the largest output (untrained, 2 layers)",
        &["positions", "both sides", "causal mask"],
    );
    let mut shifts = Vec::new();
    for positions in Positions::ALL {
        let mut row = vec![positions.name().to_owned()];
        for causal in [false, true] {
            let change = change_when_shuffled(&sizes(positions, causal), settings.seed)?;
            row.push(format!("{change:.1e}"));
            shifts.push((positions, causal, change));
        }
        table.rows.push(row);
    }
    report.tables.push(table);
    let blind = |&&(positions, causal, _): &&(Positions, bool, f64)| positions == Positions::None && !causal;
    let seeing: Vec<f64> = shifts.iter().filter(|shift| !blind(shift)).map(|shift| shift.2).collect();
    let without = shifts.iter().find(blind).map_or(f64::NAN, |shift| shift.2);
    report.find(
        without < SAME,
        format!("without positions outputs are shuffled as the inputs are: they differ by {without:.1e}"),
    );
    let least = seeing.iter().copied().fold(f64::INFINITY, f64::min);
    report.find(
        least > SAME,
        format!(
            "with any positions, or a causal mask alone, they are not: they differ by {least:.1e} or more"
        ),
    );

    let steps = if settings.quick { 150 } else { 1500 };
    let mut table = Table::new(
        &format!(
            "\"Say the token before\": share right after {steps} steps (chance 1/{VOCABULARY}; a guess among the others of the text: 1/{})",
            LEN - 1
        ),
        &["positions", "both sides", "causal mask"],
    );
    let mut found = Vec::new();
    for positions in Positions::ALL {
        let mut row = vec![positions.name().to_owned()];
        for causal in [false, true] {
            note(&format!(
                "positions {}, {}",
                positions.name(),
                if causal { "causal" } else { "both sides" }
            ));
            let trial = Trial {
                steps,
                batch_size: 32,
                learning_rate: 3e-3,
                seed: settings.seed,
                every: steps / 10,
                enough: 0.999,
            };
            let task = TokenBefore { seed: settings.seed };
            let (_, points) = train(&sizes(positions, causal), &task, &trial, &mut |_, _| Ok(()))?;
            let accuracy = points.last().map_or(f64::NAN, |point| point.accuracy);
            row.push(format!("{accuracy:.3}"));
            found.push((positions, causal, accuracy));
        }
        table.rows.push(row);
    }
    report.tables.push(table);
    let at = |positions, causal| {
        found.iter().find(|found| found.0 == positions && found.1 == causal).map_or(f64::NAN, |found| found.2)
    };
    let blind = at(Positions::None, false);
    report.find(blind < 0.2, format!("without positions the task is not learned: {:.1} %", 100.0 * blind));
    for positions in [Positions::Sinusoidal, Positions::Learned, Positions::Rotary] {
        let accuracy = at(positions, false);
        report.find(
            accuracy > 0.9,
            format!("with {} positions it is: {:.1} %", positions.name(), 100.0 * accuracy),
        );
    }
    let (both, causal) = (at(Positions::Alibi, false), at(Positions::Alibi, true));
    report.find(
        both < 0.75 && causal > 0.9,
        format!(
            "ALiBi punishes distance on either side alike: it cannot tell before from after ({:.1} %) unless a causal mask hides what is after ({:.1} %)",
            100.0 * both,
            100.0 * causal
        ),
    );
    report.limits.push(
        "a causal mask alone gives order away (the first position sees one key, the second two); how far that goes depends on depth, width and training",
    );
    Ok(())
}

fn sizes(positions: Positions, causal: bool) -> Sizes {
    Sizes {
        vocabulary: VOCABULARY as usize,
        classes: VOCABULARY as usize,
        dim: 64,
        state: 0,
        layers: 2,
        max_len: LEN,
        feed_forward: true,
        mixer: Mixer::Attention { heads: 4, causal },
        positions,
        softmax_scale: None,
    }
}

fn change_when_shuffled(sizes: &Sizes, seed: u64) -> Result<f64, TrainError> {
    let device = Device::flex();
    let network = Network::new(sizes, seed, &device)?;
    let mut rng = rng(seed, Purpose::Experiment, 10, 0);
    let tokens: Vec<u32> = (0..LEN).map(|_| rng.u32(..VOCABULARY)).collect();
    let mut places: Vec<usize> = (0..LEN).collect();
    rng.shuffle(&mut places);
    let shuffled = places.iter().map(|&place| tokens[place]).collect();
    let outputs = |tokens: Vec<u32>| -> Result<Vec<f32>, TrainError> {
        let batch = Batch::new(&[Example { tokens, labels: Vec::new() }], 0);
        let hidden = network.hidden(sizes, network.embed(sizes, &batch, &device)?)?;
        Ok(hidden.into_data().try_into_vec().unwrap_or_default())
    };
    let (plain, shuffled) = (outputs(tokens)?, outputs(shuffled)?);
    let largest = plain.iter().fold(0.0f32, |most, number| most.max(number.abs()));
    let change = shuffled.chunks(sizes.dim).zip(&places).flat_map(|(row, &place)| {
        row.iter().zip(&plain[place * sizes.dim..]).map(|(after, before)| (after - before).abs())
    });
    Ok(f64::from(change.fold(0.0, f32::max)) / f64::from(largest))
}

/// Random tokens; at each but the first the one before is to be said.
struct TokenBefore {
    seed: u64,
}

impl Task for TokenBefore {
    fn batch(&self, number: u64, size: usize) -> Batch {
        let example = |index| {
            let mut rng = rng(self.seed, Purpose::Experiment, number, index);
            let tokens: Vec<u32> = (0..LEN).map(|_| rng.u32(..VOCABULARY)).collect();
            let labels = (1..LEN).map(|at| (at, tokens[at - 1])).collect();
            Example { tokens, labels }
        };
        Batch::new(&(0..size as u64).map(example).collect::<Vec<_>>(), 0)
    }
}

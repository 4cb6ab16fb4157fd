//! Asks workers the same thing in turn, and believes those that computed the same.

use std::thread::sleep;
use std::time::Duration;

use serde::Serialize;

use crate::cases::Case;
use crate::operations::{Work, work};
use crate::peers::Ask;
use crate::protocol::{Dtype, Measurement, Parts, Request, Samples};
use crate::timing::median;

/// One case, seen by everybody.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Comparison {
    /// The case's group.
    pub(crate) group: String,
    /// What was asked.
    pub(crate) request: Request,
    /// Our own answer.
    pub(crate) regard: Outcome,
    /// The peers' answers, in the order they were named.
    pub(crate) peers: Vec<PeerOutcome>,
}

/// What a peer answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PeerOutcome {
    /// Its name.
    pub(crate) peer: &'static str,
    /// What became of it.
    pub(crate) outcome: Outcome,
    /// Its time by ours: above 1 we are faster. `None` unless both are believed.
    pub(crate) ratio: Option<Ratio>,
}

/// A ratio of times, and how much it moves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Ratio {
    /// Of the medians over all rounds.
    pub(crate) of_medians: f64,
    /// Smallest of a round.
    pub(crate) lowest: f64,
    /// Largest of a round.
    pub(crate) highest: f64,
}

/// What became of a worker's answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Times that are believed.
    Timed(Timed),
    /// The worker does not do this, or failed.
    Refused(String),
    /// It computed something else than we did, so its time means nothing.
    Disagrees(String),
}

/// Times that are believed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Timed {
    /// Name and version.
    pub(crate) engine: String,
    /// Median of the rounds' medians, in seconds.
    pub(crate) median_s: f64,
    /// Fastest call of all rounds, in seconds.
    pub(crate) min_s: f64,
    /// Each round's median, in seconds.
    pub(crate) rounds_s: Vec<f64>,
    /// Timed calls in all.
    pub(crate) runs: usize,
    /// The largest of the rounds.
    pub(crate) peak_extra_bytes: Option<u64>,
    /// Useful operations a second, in 10⁹ (none of a decode).
    pub(crate) gflops: Option<f64>,
    /// Keys and values a second, in 10⁹ bytes (of a decode).
    pub(crate) gigabytes_per_second: Option<f64>,
    /// Share of each part of the time, by name, where the worker tells them apart.
    pub(crate) parts: Parts,
}

/// How often, and how quietly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Times that everybody is asked.
    pub(crate) rounds: usize,
    /// Pause after each answer.
    pub(crate) rest: Duration,
}

/// Asks ours and the peers in turn, `rounds` times. Who refuses or disagrees once is not asked again.
pub(crate) fn compare(
    case: &Case,
    ours: &mut dyn Ask,
    peers: &mut [(&'static str, &mut dyn Ask)],
    pace: Pace,
) -> Comparison {
    let mut our_answers = Answers::default();
    let mut peer_answers: Vec<Answers> = peers.iter().map(|_| Answers::default()).collect();
    for _ in 0..pace.rounds {
        let Some(reference) = our_answers.ask(ours, &case.request, None, pace.rest) else {
            break;
        };
        for ((_, peer), answers) in peers.iter_mut().zip(&mut peer_answers) {
            let reference = peer.attends().then_some(&reference);
            answers.ask(*peer, &case.request, reference, pace.rest);
        }
    }
    let regard = our_answers.outcome(&case.request);
    let peers = peers.iter().zip(peer_answers).map(|((peer, _), answers)| {
        let outcome = answers.outcome(&case.request);
        let ratio = match (&regard, &outcome) {
            (Outcome::Timed(ours), Outcome::Timed(theirs)) => Some(ratio(ours, theirs)),
            _ => None,
        };
        PeerOutcome { peer, outcome, ratio }
    });
    let peers = peers.collect();
    Comparison { group: case.group.clone(), request: case.request.clone(), regard, peers }
}

fn ratio(ours: &Timed, theirs: &Timed) -> Ratio {
    let rounds = ours.rounds_s.iter().zip(&theirs.rounds_s).map(|(ours, theirs)| theirs / ours);
    let (lowest, highest) =
        rounds.fold((f64::INFINITY, 0.0f64), |(low, high), round| (low.min(round), high.max(round)));
    Ratio { of_medians: theirs.median_s / ours.median_s, lowest, highest }
}

/// One worker's answers so far.
#[derive(Default)]
struct Answers {
    rounds: Vec<Measurement>,
    /// Why it is not asked any more.
    lost: Option<Outcome>,
}

impl Answers {
    /// Asks once more, and returns the samples, which have to agree with the reference if there is one.
    fn ask(
        &mut self,
        worker: &mut dyn Ask,
        request: &Request,
        reference: Option<&Samples>,
        rest: Duration,
    ) -> Option<Samples> {
        if self.lost.is_some() {
            return None;
        }
        let answer = worker.ask(request);
        sleep(rest);
        match answer {
            Err(error) => self.lost = Some(Outcome::Refused(error)),
            Ok(measurement) => {
                let samples = measurement.samples.clone();
                match reference.and_then(|reference| disagreement(reference, &samples, request.dtype)) {
                    Some(difference) => self.lost = Some(Outcome::Disagrees(difference)),
                    None => {
                        self.rounds.push(measurement);
                        return Some(samples);
                    }
                }
            }
        }
        None
    }

    fn outcome(self, request: &Request) -> Outcome {
        if let Some(lost) = self.lost {
            return lost;
        }
        let rounds = self.rounds;
        let Some(last) = rounds.last() else {
            return Outcome::Refused("not asked: there is no answer of ours to compare with".into());
        };
        let mut medians: Vec<f64> = rounds.iter().map(|round| round.median_s).collect();
        let rounds_s = medians.clone();
        medians.sort_by(f64::total_cmp);
        let median_s = median(&medians);
        let (gflops, gigabytes_per_second) = match work(request) {
            Work::Flops(flops) => (Some(flops / median_s / 1e9), None),
            Work::Bytes(bytes) => (None, Some(bytes / median_s / 1e9)),
        };
        Outcome::Timed(Timed {
            engine: last.engine.clone(),
            median_s,
            min_s: rounds.iter().map(|round| round.min_s).fold(f64::INFINITY, f64::min),
            rounds_s,
            runs: rounds.iter().map(|round| round.runs).sum(),
            peak_extra_bytes: rounds.iter().filter_map(|round| round.peak_extra_bytes).max(),
            gflops,
            gigabytes_per_second,
            parts: last.parts.clone(),
        })
    }
}

/// Largest difference of two samples, as a share of the largest number in them or of 1.
fn tolerance(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F32 => 1e-4,
        Dtype::F16 => 5e-3,
        Dtype::Bf16 => 4e-2,
    }
}

/// Where two workers' samples are further apart than storage type and order of additions explain.
pub(crate) fn disagreement(ours: &Samples, theirs: &Samples, dtype: Dtype) -> Option<String> {
    if !ours.keys().eq(theirs.keys()) {
        let names = |samples: &Samples| samples.keys().cloned().collect::<Vec<_>>().join(", ");
        return Some(format!("computed {} and not {}", names(theirs), names(ours)));
    }
    for ((name, ours), theirs) in ours.iter().zip(theirs.values()) {
        if ours.len() != theirs.len() {
            return Some(format!("{name}: {} samples and not {}", theirs.len(), ours.len()));
        }
        let largest = ours.iter().chain(theirs).fold(1.0f32, |largest, x| largest.max(x.abs()));
        let most = tolerance(dtype) * largest;
        for (k, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            // A NaN is within nothing.
            let agrees = (ours - theirs).abs() <= most;
            if !agrees {
                return Some(format!(
                    "{name}: sample {k} is {theirs:e} and ours {ours:e}, more than {most:.1e} apart"
                ));
            }
        }
    }
    None
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::cases::{Defaults, parse};

    struct Script(VecDeque<Result<Measurement, String>>);

    impl Ask for Script {
        fn ask(&mut self, _: &Request) -> Result<Measurement, String> {
            self.0.pop_front().expect("asked too often")
        }
    }

    fn measured(median_s: f64, sample: f32) -> Result<Measurement, String> {
        Ok(Measurement {
            median_s,
            min_s: median_s / 2.0,
            runs: 3,
            peak_extra_bytes: Some((median_s * 10.0) as u64),
            samples: Samples::from([("output".into(), vec![sample; 16])]),
            engine: "script".into(),
            parts: Parts::new(),
        })
    }

    fn run<const N: usize>(
        rounds: usize,
        ours: Vec<Result<Measurement, String>>,
        peers: [Vec<Result<Measurement, String>>; N],
    ) -> Comparison {
        let line = r#"{"op":"forward","heads":1,"seq_q":100,"head_dim":100}"#;
        let case = parse(line, Defaults { threads: 1, seconds: 0.0, seed: 0 }).unwrap();
        let mut peers = peers.map(|answers| Script(answers.into()));
        let mut peers: Vec<_> = peers.iter_mut().map(|peer| ("peer", peer as &mut dyn Ask)).collect();
        let pace = Pace { rounds, rest: Duration::ZERO };
        compare(&case, &mut Script(ours.into()), &mut peers, pace)
    }

    #[test]
    fn compare__agreeing_workers__are_believed() {
        let ours = vec![measured(1.0, 0.5), measured(4.0, 0.5), measured(2.0, 0.5)];
        let peer = vec![measured(3.0, 0.50005), measured(4.0, 0.5), measured(8.0, 0.5)];
        let comparison = run(3, ours, [peer]);
        let Outcome::Timed(timed) = &comparison.regard else { panic!("{comparison:?}") };
        assert_eq!((timed.median_s, timed.min_s, timed.runs), (2.0, 0.5, 9));
        assert_eq!((timed.peak_extra_bytes, timed.gflops), (Some(40), Some(4e6 / 2.0 / 1e9)));
        assert_eq!(timed.rounds_s, [1.0, 4.0, 2.0]);
        let expected = Ratio { of_medians: 2.0, lowest: 1.0, highest: 4.0 };
        assert_eq!(comparison.peers[0].ratio, Some(expected));
    }

    #[test]
    fn compare__a_peer_that_computes_something_else__is_not_believed_and_not_asked_again() {
        let ours = vec![measured(1.0, 0.5), measured(1.0, 0.5)];
        let wrong = vec![measured(0.1, 0.6)];
        let wrong_later = vec![measured(0.1, 0.5), measured(0.1, -0.5)];
        let right = vec![measured(2.0, 0.5), measured(2.0, 0.5)];
        let comparison = run(2, ours, [wrong, wrong_later, right]);
        for peer in &comparison.peers[..2] {
            assert!(matches!(&peer.outcome, Outcome::Disagrees(why) if why.contains("output")), "{peer:?}");
            assert_eq!(peer.ratio, None);
        }
        assert!(comparison.peers[2].ratio.is_some());
    }

    #[test]
    fn compare__a_refusal__is_kept_as_such() {
        let ours = vec![measured(1.0, 0.5), measured(1.0, 0.5)];
        let comparison = run(2, ours, [vec![Err("no".into())]]);
        assert_eq!(comparison.peers[0].outcome, Outcome::Refused("no".into()));
        let comparison = run(2, vec![Err("ours".into())], [vec![]]);
        assert_eq!(comparison.regard, Outcome::Refused("ours".into()));
        assert!(matches!(comparison.peers[0].outcome, Outcome::Refused(_)));
    }

    #[test]
    fn disagreement__by_storage_type__is_what_rounding_does_not_explain() {
        let samples = |numbers: [f32; 2]| Samples::from([("d_key".to_string(), numbers.to_vec())]);
        for (dtype, unit) in [(Dtype::F32, 1e-4), (Dtype::F16, 5e-3), (Dtype::Bf16, 4e-2)] {
            for scale in [1.0f32, 100.0] {
                let (near, far) = ([scale, 0.9 * unit * scale], [scale, 1.1 * unit * scale]);
                assert_eq!(disagreement(&samples([scale, 0.0]), &samples(near), dtype), None);
                assert!(disagreement(&samples([scale, 0.0]), &samples(far), dtype).is_some());
            }
        }
        assert!(disagreement(&samples([0.0; 2]), &samples([0.0, f32::NAN]), Dtype::Bf16).is_some());
        assert!(disagreement(&samples([0.0; 2]), &Samples::new(), Dtype::F32).is_some());
        let short = Samples::from([("d_key".to_string(), vec![0.0])]);
        assert!(disagreement(&samples([0.0; 2]), &short, Dtype::F32).is_some());
    }
}

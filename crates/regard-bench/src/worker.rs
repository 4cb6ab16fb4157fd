//! The worker: reads requests, answers each, and outlives all of them.

use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::engines::Engine;
use crate::protocol::{Answer, Measurement, Parts, Request};
use crate::timing::time;

/// Longest sequence of the call that loads code and wakes threads before each measurement.
const LOADING_LEN: usize = 64;

/// A worker's threads, which are all that it keeps between requests: rayon's own pool for as many as the first
/// request asks for, another for any other number.
pub(crate) struct Worker {
    engine: Engine,
    pool: Option<ThreadPool>,
}

impl Worker {
    /// A worker without threads yet.
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, pool: None }
    }

    /// Answers every line of `input` by one line on `output`, until the input ends.
    ///
    /// # Errors
    /// If reading or writing fails.
    pub(crate) fn serve(&mut self, mut input: impl BufRead, mut output: impl Write) -> std::io::Result<()> {
        let mut line = Vec::new();
        while input.read_until(b'\n', &mut line)? > 0 {
            let answer = self.answer(&line).unwrap_or_else(|error| Answer::Refused { error });
            writeln!(output, "{}", serde_json::to_string(&answer)?)?;
            output.flush()?;
            line.clear();
        }
        Ok(())
    }

    fn answer(&mut self, line: &[u8]) -> Result<Answer, String> {
        let request: Request = serde_json::from_slice(line).map_err(|e| format!("not a request: {e}"))?;
        request.check()?;
        // A peer that panics has said no, in its way.
        let measured = catch_unwind(AssertUnwindSafe(|| self.measure(&request)));
        measured.unwrap_or_else(|panic| Err(panic_message(&*panic))).map(Answer::Measured)
    }

    fn measure(&mut self, request: &Request) -> Result<Measurement, String> {
        // Only the first time; what it says later does not matter.
        let _ = ThreadPoolBuilder::new().num_threads(request.threads).build_global();
        let pool = match self.pool.take() {
            _ if rayon::current_num_threads() == request.threads => None,
            Some(pool) if pool.current_num_threads() == request.threads => Some(pool),
            _ => {
                let pool = ThreadPoolBuilder::new().num_threads(request.threads).build();
                Some(pool.map_err(|e| e.to_string())?)
            }
        };
        self.pool = pool;
        let engine = self.engine;
        // A timed call includes being handed to a pool, and is made as a program's main thread makes it.
        let run = |request: &Request| {
            let mut call = in_pool(self.pool.as_ref(), || engine.prepare(request))?;
            let timing = time(request.seconds, || in_pool(self.pool.as_ref(), || call.run()))?;
            Ok::<_, String>((timing, call.samples()?, shares(call.parts())))
        };
        let [seq_q, seq_kv] = [request.seq_q, request.seq_kv].map(|len| len.min(LOADING_LEN));
        run(&Request { seq_q, seq_kv, seconds: 0.0, ..request.clone() })?;
        let (timing, samples, parts) = run(request)?;
        Ok(Measurement {
            median_s: timing.median_s,
            min_s: timing.min_s,
            runs: timing.runs,
            peak_extra_bytes: timing.peak_extra_bytes,
            samples,
            engine: engine.version(),
            parts,
        })
    }
}

/// Calls in a pool, or where there is none as it is.
fn in_pool<T: Send>(pool: Option<&ThreadPool>, call: impl FnOnce() -> T + Send) -> T {
    match pool {
        Some(pool) => pool.install(call),
        None => call(),
    }
}

/// Seconds as shares of all of them.
fn shares(seconds: Parts) -> Parts {
    let all: f64 = seconds.values().sum();
    seconds.into_iter().map(|(name, seconds)| (name, seconds / all)).collect()
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("without a message").lines().next().unwrap_or_default())
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use super::*;

    fn answers(engine: Engine, lines: &[&str]) -> Vec<Answer> {
        let mut output = Vec::new();
        Worker::new(engine).serve(lines.join("\n").as_bytes(), &mut output).unwrap();
        let output = String::from_utf8(output).unwrap();
        output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    const FORWARD: &str = r#"{"op":"forward","batch":2,"heads":2,"kv_heads":1,"seq_q":70,"seq_kv":70,"head_dim":8,"mask":"none","dtype":"f32","threads":2,"seconds":0,"seed":1}"#;

    #[test]
    fn worker__bad_lines__are_answered_and_survived() {
        let answers = answers(Engine::Regard, &["", "{", "[]", "\u{1}\u{fffd}", FORWARD]);
        let (last, bad) = answers.split_last().unwrap();
        assert_eq!(bad.len(), 4);
        for answer in bad {
            assert!(matches!(answer, Answer::Refused { error } if error.starts_with("not a request")));
        }
        assert!(matches!(last, Answer::Measured(measured) if measured.runs == 1), "{last:?}");
    }

    #[test]
    fn worker__what_an_engine_does_not_do__is_an_error() {
        let layer = FORWARD.replace("forward", "layer_forward").replace("f32", "f16");
        let groups = FORWARD.replace("forward", "layer_forward");
        for (engine, line) in
            [(Engine::Regard, layer.as_str()), (Engine::Regard, &groups), (Engine::Gemm, FORWARD)]
        {
            let answers = answers(engine, &[line]);
            assert!(matches!(&answers[..], [Answer::Refused { .. }]), "{line}: {answers:?}");
        }
    }

    #[test]
    fn worker__statistics__are_of_the_forward_that_is_asked_for() {
        let ops = ["forward", "statistics", "statistics_received"];
        let lines = ops.map(|op| FORWARD.replace("forward", op).replace("none", "causal"));
        let answers = answers(Engine::Regard, &lines.each_ref().map(String::as_str));
        let samples: Vec<_> = (answers.iter())
            .map(|answer| match answer {
                Answer::Measured(measured) => &measured.samples,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(samples[0]["output"], samples[1]["output"]);
        assert_eq!(samples[1]["entropy"], samples[2]["entropy"]);
        // An entropy is between 0 and that of the 70 keys a row sees at most.
        assert!(samples[1]["entropy"].iter().all(|x| (0.0..=70f32.ln()).contains(x)), "{samples:?}");
        assert!(!samples[1].contains_key("received") && samples[2].contains_key("received"));
    }

    /// Softmax in f64, element by element, of inputs by the hash.
    #[test]
    fn worker__forward__samples_the_attention_of_the_stated_inputs() {
        use crate::inputs::{Tensor, sample_positions, value};
        const SEQ: usize = 70;
        const DIM: usize = 8;
        let number = |tensor, index: usize| f64::from(value(1, tensor, index as u64));
        for mask in ["none", "causal", "window:5", "lengths"] {
            let answers = answers(Engine::Regard, &[&FORWARD.replace("none", mask)]);
            let [Answer::Measured(measured)] = &answers[..] else { panic!("{answers:?}") };
            for (k, at) in sample_positions(2 * 2 * SEQ * DIM).into_iter().enumerate() {
                let (batch, row, column) = (at / (2 * SEQ * DIM), at / DIM % SEQ, at % DIM);
                let allowed = |key: usize| match mask {
                    "none" => true,
                    "causal" => key <= row,
                    "window:5" => key <= row && row < key + 5,
                    _ => key < SEQ - batch * SEQ / 4,
                };
                let (mut sum, mut total) = (0.0, 0.0);
                for key in (0..SEQ).filter(|&key| allowed(key)) {
                    let key_row = (batch * SEQ + key) * DIM; // one key head
                    let product =
                        |c| number(Tensor::Query, at - column + c) * number(Tensor::Key, key_row + c);
                    let score = (0..DIM).map(product).sum::<f64>() / (DIM as f64).sqrt();
                    sum += score.exp() * number(Tensor::Value, key_row + column);
                    total += score.exp();
                }
                let found = f64::from(measured.samples["output"][k]);
                assert!((found - sum / total).abs() < 1e-5, "{mask} {k}: {found} {}", sum / total);
            }
        }
    }
}

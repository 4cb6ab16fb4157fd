//! Times `regard` beside its peers: the same inputs, the same questions, in turn, and no time is believed whose
//! results disagree.
//!
//! ```sh
//! pip install -r crates/regard-bench/peers/requirements.txt
//! cargo run --release -p regard-bench -- compare --peer torch --group forward
//! ```
//!
//! candle and burn are features of this crate (`--features candle,burn`), off unless asked for; PyTorch and ONNX
//! Runtime run in the Python that `REGARD_BENCH_PYTHON` names, else `python3`. `--peer regard` compares the library
//! with itself: how much of a difference is noise.
//!
//! # The protocol
//!
//! A *worker* reads one JSON object a line on stdin and answers each by one line on stdout, until stdin ends.
//! Ours is `regard-bench worker`; the peers' are the same command with `--engine`, or in `peers/`.
//!
//! ```json
//! {"op":"forward","batch":1,"heads":8,"kv_heads":8,"seq_q":2048,"seq_kv":2048,"head_dim":64,"mask":"none","dtype":"f32","threads":2,"seconds":1.0,"seed":1}
//! {"median_s":0.045,"min_s":0.044,"runs":22,"peak_extra_bytes":5242880,"samples":{"output":[0.01,…]},"engine":"regard 0.1.0 (avx512)"}
//! {"error":"…"}
//! ```
//!
//! Every field of a request is required and no other is allowed. What a worker does not do is an error, never
//! something like it.
//!
//! | field | |
//! |---|---|
//! | op | `forward`, `forward_backward`, `decode` (few query rows), `layer_forward`, `layer_forward_backward` (model_dim = heads · head_dim; four projections with biases), `statistics` (the output, and of each row everything that can be asked for), `statistics_received` (and what each key receives), `sgemm` (`[seq_q, head_dim] · [head_dim, seq_kv]`) |
//! | mask | `none`; `causal`: key j ≤ query i; `window:W`: i − W < j ≤ i; `lengths`: j < seq_kv − ⌊b·seq_kv/(2·batch)⌋ in sequence b |
//! | dtype | `f32`, `f16`, `bf16`: storage of every tensor |
//!
//! # Inputs
//!
//! Every element is a hash of (seed, tensor, flat row-major index), in wrapping 64-bit arithmetic:
//!
//! ```text
//! z = seed·0x9E3779B97F4A7C15 + (tensor + 1)·0xBF58476D1CE4E5B9 + (index + 1)·0x94D049BB133111EB
//! z ^= z >> 30;  z *= 0xBF58476D1CE4E5B9;  z ^= z >> 27;  z *= 0x94D049BB133111EB;  z ^= z >> 31
//! value = f32(sum of z's four 16-bit fields − 131070) · f32(√3/65536)
//! ```
//!
//! Tensors, logically `[batch, heads, seq, dim]` wherever a worker keeps them: 0 query, 1 key, 2 value, 3 the
//! derivative by the output. Of a layer: 4 input `[batch, seq, model_dim]`; 5 to 8 the weights (out, in) of query,
//! key, value and output, times f32(1/√model_dim); 9 to 12 their biases, times 0.1; 13 the derivative by its
//! output. Then they are rounded to the storage type.
//!
//! # Samples
//!
//! Elements (2k + 1)·total/32, k = 0 … 15, of each tensor computed: `output`; `d_query`, `d_key`, `d_value`; of a
//! layer `d_input` and `d_{query,key,value,output}_weight` (the biases' gradients are computed too).
//! A peer is believed if |a − b| ≤ t·max(1, largest of the tensor's samples), t = 1e-4 in f32, 5e-3 in f16, 4e-2 in
//! bf16.
//!
//! # Time
//!
//! Inputs, masks, and outputs that a caller owns exist before the clock starts. A call of short sequences first,
//! so that code is loaded; then one untimed call; then timed ones until `seconds` have passed, at least three (one
//! alone if the untimed call took longer than four times `seconds`). `forward_backward` is timed as one. Between
//! calls nothing is kept but threads and scratch. Ours writes to outputs that are there and keeps its `Workspace`;
//! a layer, and a peer that allocates its results, does so in the timed call. Rust engines are called from the main
//! thread, with rayon's own pool of `threads` (a pool beside it if a later request wants another number); handing a
//! call to it is timed.
//!
//! `compare` asks each worker in turn, `--rounds` times, with 0.3 s of rest between, and reports medians of the
//! rounds' medians. 100 % is the rate of a 2048³ f32 matrix product in the same run: `torch.mm` if PyTorch is among
//! the peers, else the crate gemm.
//!
//! A layer's answer also has `parts`: the shares of projections, of attention, and of the gradients of both. The
//! peer `memory` reads keys and values and no more, with as many threads: what a decode could at best be.
//!
//! # Memory
//!
//! `peak_extra_bytes` (Linux): what the first call adds to the highest resident memory: 5 is written to
//! `/proc/self/clear_refs`, VmRSS read, the call made, VmHWM read. What the allocator kept of earlier
//! requests hides some of it; `--fresh` gives every case new processes.
//!
//! # Useful operations
//!
//! 4·head_dim for each allowed pair of query and key, head by head; 3.5 times that with gradients. Layers add the
//! projections' 2·m·n·k, three times that with gradients. Decoding is counted in bytes of keys and values.

mod cases;
mod compare;
mod engines;
mod inputs;
mod operations;
mod peers;
mod protocol;
mod report;
mod timing;
mod worker;

use std::io::{stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use cases::{Case, Defaults};
use compare::{Outcome, Pace};
use engines::Engine;
use operations::{Work, work};
use peers::{Ask, Peer, Process};
use report::{Ceiling, Report};

#[derive(Parser)]
#[command(about = "Times regard beside its peers, on the same inputs, in turn")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer requests on stdin, one a line
    Worker {
        /// What to compute with
        #[arg(long, value_enum, default_value = "regard")]
        engine: Engine,
    },
    /// Compare regard with peers, case by case
    Compare(CompareArguments),
    /// Compute one case over and over, for a profiler or to count instructions
    Repeat {
        /// What to compute with
        #[arg(long, value_enum, default_value = "regard")]
        engine: Engine,
        /// The case, as a JSON object
        #[arg(long, value_name = "JSON")]
        case: String,
        /// Times
        #[arg(long, default_value_t = 1)]
        runs: usize,
    },
}

#[derive(Args)]
struct CompareArguments {
    /// Whom to compare with; may be repeated
    #[arg(long, value_enum, default_value = "torch")]
    peer: Vec<Peer>,
    /// A file of cases, one a line, instead of the standard ones
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// Only the cases of this group; may be repeated
    #[arg(long)]
    group: Vec<String>,
    /// One case as a JSON object, instead of a file's; may be repeated
    #[arg(long, value_name = "JSON", conflicts_with_all = ["cases", "group"])]
    case: Vec<String>,
    /// Times that every worker is asked each case
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Seconds of each time
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Threads of every worker
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Seed of the inputs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// New processes for every case, so that no memory is left over from another
    #[arg(long)]
    fresh: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Pause between two workers.
const REST: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Worker { engine } => worker::Worker::new(engine)
            .serve(stdin().lock(), stdout().lock())
            .map(|()| ExitCode::SUCCESS)
            .map_err(|e| e.to_string()),
        Command::Compare(arguments) => run(&arguments),
        Command::Repeat { engine, case, runs } => repeat(engine, &case, runs).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("regard-bench: {error}");
        ExitCode::from(2)
    })
}

/// Computes a case `runs` times, in rayon's own pool.
fn repeat(engine: Engine, case: &str, runs: usize) -> Result<(), String> {
    let mut call =
        engine.prepare(&cases::parse(case, Defaults { threads: 1, seconds: 0.0, seed: 1 })?.request)?;
    (0..runs).try_for_each(|_| call.run())
}

/// Compares, prints, and fails if somebody disagreed.
fn run(arguments: &CompareArguments) -> Result<ExitCode, String> {
    let CompareArguments { rounds, seconds, threads, seed, .. } = *arguments;
    let defaults = Defaults { threads, seconds, seed };
    let cases: Vec<Case> = match arguments.case.as_slice() {
        [] => cases::load(arguments.cases.as_deref(), &arguments.group, defaults)?,
        lines => lines.iter().map(|line| cases::parse(line, defaults)).collect::<Result<_, _>>()?,
    };
    let mut ours = Process::new(Peer::Regard, threads);
    let mut peers: Vec<(Peer, Process)> =
        arguments.peer.iter().map(|&peer| (peer, Process::new(peer, threads))).collect();
    let pace = Pace { rounds: rounds.into(), rest: REST };

    let load_average = load_average();
    let before = ceiling(&mut peers, defaults)?;
    let mut compared = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        if arguments.fresh {
            ours.stop();
            peers.iter_mut().for_each(|(_, process)| process.stop());
        }
        eprint!("[{}/{}] {}: ", index + 1, cases.len(), report::label(&case.request));
        let mut asked: Vec<(&'static str, &mut dyn Ask)> =
            peers.iter_mut().map(|(peer, process)| (peer.label(), process as &mut dyn Ask)).collect();
        let comparison = compare::compare(case, &mut ours, &mut asked, pace);
        eprintln!("{}", report::progress(&comparison));
        compared.push(comparison);
    }
    let after = ceiling(&mut peers, defaults)?;

    let report = Report {
        processor: processor(),
        load_average,
        threads,
        rounds: rounds.into(),
        seconds,
        ceiling: if after.gflops > before.gflops { after } else { before },
        groups: report::groups(&compared),
        cases: compared,
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(|e| e.to_string())?);
    } else {
        print!("{}", report::text(&report));
    }
    let disagree = |outcome: &Outcome| matches!(outcome, Outcome::Disagrees(_));
    let failed = report.cases.iter().any(|case| case.peers.iter().any(|peer| disagree(&peer.outcome)));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The rate of a 2048³ f32 matrix product now, by PyTorch if it is among the peers and answers, else by gemm.
fn ceiling(peers: &mut [(Peer, Process)], defaults: Defaults) -> Result<Ceiling, String> {
    let case = r#"{"op":"sgemm","heads":1,"seq_q":2048,"head_dim":2048}"#;
    let request = cases::parse(case, defaults)?.request;
    let torch = peers.iter_mut().find(|(peer, _)| *peer == Peer::Torch);
    let measured = match torch.map(|(_, process)| process.ask(&request)) {
        Some(Ok(measured)) => measured,
        other => {
            if let Some(Err(error)) = other {
                eprintln!("torch does not multiply, so the ceiling is gemm's: {error}");
            }
            Process::new(Peer::Gemm, defaults.threads).ask(&request)?
        }
    };
    let (Work::Flops(count) | Work::Bytes(count)) = work(&request);
    Ok(Ceiling { engine: measured.engine, gflops: count / measured.median_s / 1e9 })
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// Processes that ran or wanted to, on average of the last minute.
fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

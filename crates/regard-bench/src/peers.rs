//! The workers that are compared, and how each is started.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::protocol::{Answer, Measurement, Request};

/// What a Python worker needs, said to whoever lacks it.
const HINT: &str = "pip install -r crates/regard-bench/peers/requirements.txt, and name the Python that has it in \
                    REGARD_BENCH_PYTHON";

/// Somebody to be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// PyTorch: scaled_dot_product_attention and nn.MultiheadAttention.
    Torch,
    /// ONNX Runtime on the CPU; forward and decode only.
    Onnxruntime,
    /// The crate gemm; sgemm only.
    Gemm,
    /// Reading keys and values and no more: the bound of a decode; decode only.
    Memory,
    /// candle's flash_attn for CPUs (feature candle).
    Candle,
    /// Attention of candle's tensor operations (feature candle).
    CandleComposed,
    /// burn's attention on its flex backend (feature burn).
    Burn,
    /// regard-burn on the same backend (feature burn).
    RegardBurn,
    /// This library itself: how much two equal workers differ.
    Regard,
}

impl Peer {
    /// The name on the command line, and of the engine.
    fn name(self) -> &'static str {
        match self {
            Self::Torch => "torch",
            Self::Onnxruntime => "onnxruntime",
            Self::Gemm => "gemm",
            Self::Memory => "memory",
            Self::Candle => "candle",
            Self::CandleComposed => "candle-composed",
            Self::Burn => "burn",
            Self::RegardBurn => "regard-burn",
            Self::Regard => "regard",
        }
    }

    /// The name in reports, where ours is there too.
    pub(crate) fn label(self) -> &'static str {
        if self == Self::Regard { "regard again" } else { self.name() }
    }

    /// Whether it computes what it is asked for; else it is only a bound on the time of that.
    pub(crate) fn attends(self) -> bool {
        self != Self::Memory
    }

    fn python_script(self) -> Option<&'static str> {
        match self {
            Self::Torch => Some("torch_worker.py"),
            Self::Onnxruntime => Some("onnxruntime_worker.py"),
            _ => None,
        }
    }

    fn command(self) -> Result<Command, String> {
        let Some(script) = self.python_script() else {
            let mut command = Command::new(env::current_exe().map_err(|e| e.to_string())?);
            command.args(["worker", "--engine", self.name()]);
            return Ok(command);
        };
        let mut command = Command::new(env::var_os("REGARD_BENCH_PYTHON").unwrap_or("python3".into()));
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script));
        Ok(command)
    }
}

/// Something that answers requests.
pub(crate) trait Ask {
    /// Whether its samples have to agree with ours.
    fn attends(&self) -> bool {
        true
    }

    /// The answer, or why there is none.
    fn ask(&mut self, request: &Request) -> Result<Measurement, String>;
}

/// A worker process, started when it is first asked, and again if it has died.
pub(crate) struct Process {
    peer: Peer,
    threads: usize,
    running: Option<Running>,
}

struct Running {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// A worker that is not running yet. Pools that libraries make for themselves get `threads` threads.
    pub(crate) fn new(peer: Peer, threads: usize) -> Self {
        Self { peer, threads, running: None }
    }

    /// Ends the process, so that the next request meets a new one.
    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    fn start(&self) -> Result<Running, String> {
        let mut command = self.peer.command()?;
        let threads = self.threads.to_string();
        command.envs([("RAYON_NUM_THREADS", &threads), ("OMP_NUM_THREADS", &threads)]);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|e| {
            let hint = if self.peer.python_script().is_some() { HINT } else { "" };
            format!("{} cannot be started: {e} {hint}", command.get_program().display())
        })?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(requests), Some(answers)) => {
                Ok(Running { child, requests, answers: BufReader::new(answers) })
            }
            _ => Err("a worker without pipes".into()),
        }
    }
}

impl Ask for Process {
    fn attends(&self) -> bool {
        self.peer.attends()
    }

    fn ask(&mut self, request: &Request) -> Result<Measurement, String> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.start()?,
        };
        let line = running.exchange(request).map_err(|e| format!("the worker died: {e}"))?;
        self.running = Some(running);
        match serde_json::from_str(&line) {
            Ok(Answer::Measured(measurement)) => Ok(measurement),
            Ok(Answer::Refused { error }) => Err(error),
            Err(_) => Err(format!("not an answer: {}", line.trim_end())),
        }
    }
}

impl Running {
    fn exchange(&mut self, request: &Request) -> std::io::Result<String> {
        writeln!(self.requests, "{}", serde_json::to_string(request)?)?;
        self.requests.flush()?;
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err(std::io::Error::other(format!("no answer, {}", self.child.wait()?))),
            _ => Ok(line),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

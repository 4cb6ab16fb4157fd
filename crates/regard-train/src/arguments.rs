//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use regard_train::TrainError;
use regard_train::export::Storage;
use regard_train::fit::{Keeping, Recipe};
use regard_train::model::{Architecture, Family};
use regard_train::objective::{Mixture, Objective};
use regard_train::step;

/// Train a small Transformer through regard's attention and watch its heads form.
#[derive(Debug, Parser)]
#[command(name = "regard-train", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a model on text; the same command goes on where it stopped
    Fit(Box<Fit>),
    /// Say how well a head links pronouns to nouns, on pairs and frames that nothing is trained on
    Evaluate(Evaluate),
    /// Test what is said of attention: an experiment with its control and its limits
    Experiment(Experiment),
    /// Time a training step by part, beside burn's own attention and PyTorch
    Step(Step),
    /// Print generated sentences, as training sees them
    Sentences {
        /// How many
        #[arg(default_value_t = 20)]
        count: u64,
        /// Other seed, other sentences
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    /// A directory with config.json, tokenizer.json and model.safetensors
    #[arg(value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Minimal pairs of each of the four groups
    #[arg(long, default_value_t = 400)]
    pub(crate) pairs: usize,
    /// Name the chosen head in the model's config.json
    #[arg(long)]
    pub(crate) name_head: bool,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Step {
    /// Layers
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Heads of each layer
    #[arg(long, default_value_t = 6)]
    heads: usize,
    /// Numbers a token
    #[arg(long, default_value_t = 192)]
    dim: usize,
    /// Tokens of the vocabulary
    #[arg(long, default_value_t = 8192)]
    vocab: usize,
    /// Examples of a step
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Tokens of an example
    #[arg(long, default_value_t = 64)]
    seq_len: usize,
    /// Steps of each way, in turn
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// A Python with PyTorch, to make the same step with
    #[arg(long, value_name = "PYTHON")]
    torch: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Step {
    /// What is to be timed.
    pub(crate) fn sizes(&self) -> Result<step::Sizes, TrainError> {
        let architecture = Architecture {
            family: Family::Bert,
            layers: self.layers,
            heads: self.heads,
            kv_heads: self.heads,
            dim: self.dim,
            inner_dim: 4 * self.dim,
            vocabulary: self.vocab,
            positions: self.seq_len,
        };
        architecture.check()?;
        for (name, found, most) in [
            ("--vocab", self.vocab, 1 << 20),
            ("--batch", self.batch, 1 << 16),
            ("--rounds", self.rounds, 1 << 20),
        ] {
            if found == 0 || found > most {
                let expected = format!("1 to {most}");
                return Err(TrainError::Option { name, expected, found: found.to_string() });
            }
        }
        Ok(step::Sizes {
            architecture,
            batch_size: self.batch,
            seq_len: self.seq_len,
            rounds: self.rounds,
            python: self.torch.clone(),
        })
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum What {
    /// Masked words, from both sides (BERT)
    Masked,
    /// The next word (Llama)
    Causal,
    /// The noun a pronoun stands for, and masked words (BERT)
    Restore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Show {
    Auto,
    /// Loss, heads and speed, on the whole terminal
    Dashboard,
    /// A bar below the lines
    Bar,
    Lines,
}

#[derive(Debug, Args)]
pub(crate) struct Fit {
    /// Text files, or directories of .txt files
    #[arg(long, num_args = 1.., value_name = "FILE|DIR")]
    pub(crate) data: Vec<PathBuf>,
    /// What is learned
    #[arg(long, value_enum)]
    objective: What,
    /// Where the model, checkpoints and log.jsonl are written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Steps
    #[arg(long, default_value_t = 3000)]
    steps: u64,
    /// Layers
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Query heads of each layer
    #[arg(long, default_value_t = 6)]
    heads: usize,
    /// Key and value heads of each layer, for causal models [default: as many as heads]
    #[arg(long)]
    kv_heads: Option<usize>,
    /// Numbers a token
    #[arg(long, default_value_t = 192)]
    dim: usize,
    /// Numbers a token inside the feed-forward part [default: 4 · dim; causal: 8/3 · dim]
    #[arg(long)]
    inner_dim: Option<usize>,
    /// Most tokens of the vocabulary
    #[arg(long, default_value_t = 8192)]
    vocab: usize,
    /// Tokens of an example from the data
    #[arg(long, default_value_t = 64)]
    seq_len: usize,
    /// Longest text of the finished model, in tokens
    #[arg(long, default_value_t = 512)]
    positions: usize,
    /// Share of generated sentences among the examples [default: 0.6 to restore, else 0]
    #[arg(long)]
    sentences: Option<f64>,
    /// Share of the examples of which nouns are restored, the others being masked (restore only)
    #[arg(long, default_value_t = 0.8)]
    restored: f64,
    /// Examples of a pass
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Passes of a step
    #[arg(long, default_value_t = 1)]
    accumulate: usize,
    /// Highest learning rate
    #[arg(long, default_value_t = 1e-3)]
    learning_rate: f64,
    /// Steps until it is reached [default: a twentieth of all]
    #[arg(long)]
    warmup: Option<u64>,
    /// Weight decay of matrices
    #[arg(long, default_value_t = 0.01)]
    weight_decay: f32,
    /// Longest gradient
    #[arg(long, default_value_t = 1.0)]
    clip: f64,
    /// Dropout of attention probabilities
    #[arg(long, default_value_t = 0.0)]
    dropout: f32,
    /// Decides first parameters, examples and dropout
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Steps between lines of the log
    #[arg(long, default_value_t = 50)]
    log_every: u64,
    /// Steps between checkpoints
    #[arg(long, default_value_t = 250)]
    checkpoint_every: u64,
    /// What is shown on stderr; auto is a dashboard on a terminal that has room for it, a bar on another, lines elsewhere
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) show: Show,
    /// Steps after which the model is also written as it is then, into OUT/step-N
    #[arg(long, value_delimiter = ',', value_name = "STEP,…")]
    snapshots: Vec<u64>,
    /// Store the finished model in 16 bits a number
    #[arg(long)]
    half: bool,
}

const EXPERIMENTS: &str = "\
Experiments: order, scale, multihead, recall, copy, distance, induction, emergence, heads, agreement.
A run that was stopped goes on with the same command. docs/claims.md says what came out.";

#[derive(Debug, Args)]
#[command(after_help = EXPERIMENTS)]
pub(crate) struct Experiment {
    /// Which
    pub(crate) name: String,
    /// The short form: under three minutes on two cores, to see that it runs
    #[arg(long)]
    pub(crate) quick: bool,
    /// Decides every random number
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write NAME.json, NAME.md and charts (SVG) here; a run that is not finished is kept here, and the model that
    /// emergence trains, which heads and agreement look at too
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Folders with ud-english-ewt (emergence, heads), litbank-train (emergence, heads, agreement) and litbank-coref
    /// (heads), looked through in this order [default: $REGARD_DATA, then target]
    #[arg(long, num_args = 1.., value_name = "DIR")]
    pub(crate) data: Vec<PathBuf>,
    /// The folder in which agreement finds all-MiniLM-L6-v2 and SmolLM2-135M-Instruct, if they are there
    #[arg(long, value_name = "DIR", default_value = "models")]
    pub(crate) models: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Experiment {
    /// Where texts of others are looked for.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        if !self.data.is_empty() {
            return self.data.clone();
        }
        std::env::var_os("REGARD_DATA")
            .map(PathBuf::from)
            .into_iter()
            .chain([PathBuf::from("target")])
            .collect()
    }
}

impl Fit {
    pub(crate) fn recipe(&self) -> Result<(Recipe, Keeping), TrainError> {
        let (objective, family) = match self.objective {
            What::Masked => (Objective::Masked, Family::Bert),
            What::Causal => (Objective::Causal, Family::Llama),
            What::Restore => (Objective::Restore, Family::Bert),
        };
        let sentences = self.sentences.unwrap_or(if objective == Objective::Restore { 0.6 } else { 0.0 });
        let inner = match family {
            Family::Bert => 4 * self.dim,
            Family::Llama => (8 * self.dim / 3).next_multiple_of(16),
        };
        let architecture = Architecture {
            family,
            layers: self.layers,
            heads: self.heads,
            kv_heads: self.kv_heads.unwrap_or(self.heads),
            dim: self.dim,
            inner_dim: self.inner_dim.unwrap_or(inner),
            vocabulary: self.vocab,
            positions: self.positions,
        };
        architecture.check()?;
        self.check(sentences)?;
        let recipe = Recipe {
            architecture,
            objective,
            mixture: Mixture { sentences, restored: self.restored, seq_len: self.seq_len },
            batch_size: self.batch,
            accumulation: self.accumulate,
            steps: self.steps,
            learning_rate: self.learning_rate,
            warmup: self.warmup.unwrap_or(self.steps / 20),
            weight_decay: self.weight_decay,
            clip: self.clip,
            dropout: self.dropout,
            seed: self.seed,
        };
        let keeping = Keeping {
            out: self.out.clone(),
            log_every: self.log_every,
            checkpoint_every: self.checkpoint_every,
            snapshots: self.snapshots.clone(),
            storage: if self.half { Storage::F16 } else { Storage::F32 },
        };
        Ok((recipe, keeping))
    }

    fn check(&self, sentences: f64) -> Result<(), TrainError> {
        let wrong = |name, expected: &str, found: &dyn std::fmt::Display| {
            Err(TrainError::Option { name, expected: expected.to_owned(), found: found.to_string() })
        };
        for (name, found) in [("--sentences", sentences), ("--restored", self.restored)] {
            if !(0.0..=1.0).contains(&found) {
                return wrong(name, "a share from 0 to 1", &found);
            }
        }
        if sentences < 1.0 && self.data.is_empty() {
            return wrong("--data", "text, unless --sentences is 1", &"none");
        }
        if !(8..=self.positions).contains(&self.seq_len) {
            return wrong("--seq-len", &format!("from 8 to the {} positions", self.positions), &self.seq_len);
        }
        for (name, found) in [("--learning-rate", self.learning_rate), ("--clip", self.clip)] {
            if !(found > 0.0 && found.is_finite()) {
                return wrong(name, "a positive number", &found);
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong("--dropout", "from 0 to below 1", &self.dropout);
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return wrong("--weight-decay", "0 or more", &self.weight_decay);
        }
        let counts = [
            ("--steps", self.steps),
            ("--batch", self.batch as u64),
            ("--accumulate", self.accumulate as u64),
            ("--log-every", self.log_every),
            ("--checkpoint-every", self.checkpoint_every),
        ];
        match counts.into_iter().find(|&(_, found)| found == 0) {
            Some((name, found)) => wrong(name, "1 or more", &found),
            None if self.vocab < 300 => wrong("--vocab", "300 or more", &self.vocab),
            None => Ok(()),
        }
    }
}

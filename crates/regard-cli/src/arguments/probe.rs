//! What can be typed after `regard probe`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Shared;
use super::values::at_least_one;

const PROBE_EXAMPLES: &str = "\
Examples:
  regard probe --model … --task induction
  regard probe --model … --task ud --dev en_ewt-ud-dev.conllu --test en_ewt-ud-test.conllu
  regard probe --model … --task coref litbank/coref/conll --csv > coref.csv
  regard probe --model … --task needle --length 1024
  regard probe --model … --task agreement items.txt     (lines like: The *keys* to the ~cabinet~ are/is)

Exit codes: 0 done, 1 it could not be done, 2 the request makes no sense.";

#[derive(Debug, Args)]
#[command(after_help = PROBE_EXAMPLES)]
pub(crate) struct ProbeArguments {
    /// What to test
    #[arg(long, value_name = "TASK", short = 't')]
    pub(crate) task: ProbeTask,

    /// Data of the task: CoNLL-U for ud, a folder or files of LitBank's CoNLL for coref, a filler text for needle,
    /// sentences for agreement; split in two, one part to choose heads and one to report
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Instead of FILE, for ud and coref: data on which heads are chosen
    #[arg(long, value_name = "FILE", requires = "test", conflicts_with = "files")]
    pub(crate) dev: Vec<PathBuf>,

    /// Data on which they are reported
    #[arg(long, value_name = "FILE", requires = "dev")]
    pub(crate) test: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) shared: Shared,

    /// What chance decides: random tokens, splits, resampling, the untrained model
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,

    /// How many relations (15) or heads (5) to list
    #[arg(long, value_name = "K", value_parser = at_least_one)]
    pub(crate) top: Option<usize>,

    /// Use the first N sentences or books of each part alone
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) limit: Option<usize>,

    /// Tokens of a text, for needle and coref; no more than the model takes
    #[arg(long, value_name = "N", default_value = "512", value_parser = at_least_one)]
    pub(crate) length: usize,

    /// Leave out the untrained model, which takes as long as the trained one
    #[arg(long)]
    pub(crate) no_control: bool,

    /// Write the first table as CSV; a cell that a spreadsheet would take for a formula begins with '
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProbeTask {
    /// Mass on the token before, on random tokens
    Previous,
    /// Mass on copies of the same token, on repeated random tokens
    Duplicate,
    /// Mass on what followed earlier copies, on repeated random tokens
    Induction,
    /// Does the end of a text look at a fact hidden in it?
    Needle,
    /// Do heads find the words that syntax joins?
    Ud,
    /// Do heads find what pronouns mean?
    Coref,
    /// Do verbs look at their subjects?
    Agreement,
}

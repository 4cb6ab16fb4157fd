//! What can be typed after the commands that explain and give causal evidence.

use clap::{Args, ValueEnum};
use regard_lens::view::HeadId;

use super::values::{HeadList, at_least_one};
use super::{Shared, TextSource};

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  regard explain \"The cat sat on the mat because it was tired\"
  regard explain --model models/all-MiniLM-L6-v2 --from it --head L3.H1 \"The cat sat on the mat because it was tired\"
  regard explain --model … --from it --head L3.H1 --keys cat,mat --json \"…\" | jq '.keys'

Exit codes: 0 done, 1 it could not be done, 2 the request makes no sense.";

#[derive(Debug, Args)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub(crate) struct ExplainArguments {
    #[command(flatten)]
    pub(crate) source: TextSource,

    #[command(flatten)]
    pub(crate) shared: Shared,

    /// The word that looks, as --at of regard view takes it; else the last pronoun, else the last word
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true, visible_alias = "at")]
    pub(crate) from: Option<String>,

    /// The head to explain, like L3.H1 (layer 3, head 1, counted from 0); else the one that regard view pictures
    #[arg(long, value_name = "HEAD")]
    pub(crate) head: Option<HeadId>,

    /// The keys to list, separated by commas, each as --from; else the most probable ones, in text order
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', allow_hyphen_values = true)]
    pub(crate) keys: Vec<String>,

    /// How many keys to list if none are named
    #[arg(long, value_name = "K", default_value = "24", value_parser = at_least_one)]
    pub(crate) top: usize,
}

const ABLATE_EXAMPLES: &str = "\
Examples:
  regard ablate L3.H1 --model models/all-MiniLM-L6-v2 \"The cat sat on the mat because it was tired\"
  regard ablate L3.H1,L2.H0 --with mean --model … \"…\"
  regard ablate L3.H1 --with frozen --pattern-from \"The cat sat on the mat because it was soft\" --model … \"…\"

Exit codes: 0 done, 1 it could not be done, 2 the request makes no sense.";

#[derive(Debug, Args)]
#[command(after_help = ABLATE_EXAMPLES)]
pub(crate) struct AblateArguments {
    /// The heads to ablate, all at once, like L3.H1 or L3.H1,L2.H0
    #[arg(value_name = "HEADS")]
    pub(crate) heads: HeadList,

    #[command(flatten)]
    pub(crate) source: TextSource,

    #[command(flatten)]
    pub(crate) shared: Shared,

    /// What stands in for the heads' output: 0, its mean over the text, or what the heads read when they attend as
    /// they do on --pattern-from
    #[arg(long, value_name = "WHAT", default_value = "zero")]
    pub(crate) with: With,

    /// With --with frozen: a text of as many tokens
    #[arg(long, value_name = "TEXT")]
    pub(crate) pattern_from: Option<String>,

    /// Let all other heads attend as they do in the whole model
    #[arg(long)]
    pub(crate) keep_patterns: bool,

    /// How many random other heads of the same layer to ablate for comparison
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u8).range(0..=64))]
    pub(crate) random: u8,

    /// Chooses the random heads
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) seed: u64,

    /// In a masked language model: how many tokens to mask, one at a time
    #[arg(long, value_name = "N", default_value = "32", value_parser = at_least_one)]
    pub(crate) positions: usize,

    /// How many of the largest changes to list
    #[arg(long, value_name = "K", default_value = "5", value_parser = at_least_one)]
    pub(crate) top: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum With {
    Zero,
    Mean,
    Frozen,
}

const COMPARE_EXAMPLES: &str = "\
Examples:
  regard compare --at it \"… because it was tired\" --text-b \"… because it was soft\" --model …
  regard compare --at it \"… because it was tired\" --model-b runs/step-1000 --model runs/step-2000

Exit codes: 0 done, 1 it could not be done, 2 the request makes no sense.";

#[derive(Debug, Args)]
#[command(after_help = COMPARE_EXAMPLES)]
pub(crate) struct CompareArguments {
    #[command(flatten)]
    pub(crate) source: TextSource,

    #[command(flatten)]
    pub(crate) shared: Shared,

    /// The text to compare with
    #[arg(long, value_name = "TEXT")]
    pub(crate) text_b: Option<String>,

    /// The model to compare with; it has the same tokenizer and as many layers and heads
    #[arg(long, value_name = "DIR|ID")]
    pub(crate) model_b: Option<String>,

    /// The word that looks, as --at of regard view takes it; else the last pronoun, else the last word
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    pub(crate) at: Option<String>,

    /// The word that looks in --text-b; else the one that stands where --at does
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true, requires = "text_b")]
    pub(crate) at_b: Option<String>,

    /// How many heads to list
    #[arg(long, value_name = "K", default_value = "10", value_parser = at_least_one)]
    pub(crate) top: usize,
}

const ROLLOUT_EXAMPLES: &str = "\
Example:
  regard rollout --at it --model models/all-MiniLM-L6-v2 \"The cat sat on the mat because it was tired\"

Exit codes: 0 done, 1 it could not be done, 2 the request makes no sense.";

#[derive(Debug, Args)]
#[command(after_help = ROLLOUT_EXAMPLES)]
pub(crate) struct RolloutArguments {
    #[command(flatten)]
    pub(crate) source: TextSource,

    #[command(flatten)]
    pub(crate) shared: Shared,

    /// The word whose last layer is traced back, as --at of regard view takes it
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    pub(crate) at: Option<String>,

    /// How many tokens to list
    #[arg(long, value_name = "K", default_value = "12", value_parser = at_least_one)]
    pub(crate) top: usize,
}

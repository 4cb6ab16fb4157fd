//! What can be typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use regard_lens::view::HeadId;

/// See which word each head of a real Transformer looks at.
#[derive(Debug, Parser)]
#[command(name = "regard", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show where one word of a text looks, in every head of a model
    View(ViewArguments),
    /// Say which words a model expects: in place of [MASK], or after the text
    Fill(FillArguments),
}

/// Where the text comes from.
#[derive(Debug, Args)]
pub(crate) struct TextSource {
    /// The text, in quotes; - or nothing reads it from a pipe
    #[arg(value_name = "TEXT")]
    pub(crate) text: Vec<OsString>,

    /// Read the text from a file
    #[arg(long, value_name = "FILE", short = 'f')]
    pub(crate) file: Option<PathBuf>,
}

const FILL_EXAMPLES: &str = "\
Examples:
  regard fill \"The cat sat on the mat because the [MASK] was tired\"              (the built-in model)
  regard fill --model … \"The cat sat on the mat because [MASK] was tired\"      (BERT, RoBERTa, DistilBERT)
  regard fill --model … \"The capital of France is the city of\"              (GPT-2, Llama)

Exit codes: 0 done, 1 it could not be done, 2 the request makes no sense.";

#[derive(Debug, Args)]
#[command(after_help = FILL_EXAMPLES)]
pub(crate) struct FillArguments {
    #[command(flatten)]
    pub(crate) source: TextSource,

    /// A model with a language model's head: a directory, a .gguf file (where built in), or an id like org/name; else the
    /// small built-in one
    #[arg(long, value_name = "DIR|ID", short = 'm')]
    pub(crate) model: Option<String>,

    /// How many words to list
    #[arg(long, value_name = "K", default_value = "5", value_parser = at_least_one)]
    pub(crate) top: usize,

    /// Write JSON (JSON.md says what is in it)
    #[arg(long)]
    pub(crate) json: bool,
}

const VIEW_EXAMPLES: &str = "\
Examples:
  regard view \"The cat sat on the mat because it was tired\"
  regard view --model models/all-MiniLM-L6-v2 \"The cat sat on the mat because it was tired\"
  regard view --model … --at mat --head L3.H1 \"The cat sat on the mat because it was soft\"
  regard view --model … --at the#2 --json \"The cat sat on the mat\" | jq '.rows[0].top'

Exit codes: 0 done, 1 it could not be done, 2 the request makes no sense.";

#[derive(Debug, Args)]
#[command(after_help = VIEW_EXAMPLES)]
pub(crate) struct ViewArguments {
    #[command(flatten)]
    pub(crate) source: TextSource,

    /// A model: a directory with config.json, tokenizer.json and model.safetensors, a .gguf file (where built in),
    /// or an id like org/name; else the small built-in one
    #[arg(long, value_name = "DIR|ID", short = 'm')]
    pub(crate) model: Option<String>,

    /// The word that looks: it, the#2 (the second "the"), 7 (token 7, counted from 0), -1 (the last);
    /// else the last pronoun, else the last word
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    pub(crate) at: Option<String>,

    /// The head to picture, like L3.H1 (layer 3, head 1, counted from 0); else the most telling one, or for a pronoun the one
    /// that the model names
    #[arg(long, value_name = "HEAD")]
    pub(crate) head: Option<HeadId>,

    /// How many keys to list for each row
    #[arg(long, value_name = "K", default_value = "5", value_parser = at_least_one)]
    pub(crate) top: usize,

    /// With --json: a line for every head's row, of every word or of --at
    #[arg(long)]
    pub(crate) all: bool,

    /// List the tokens that the model adds ([CLS], [SEP]) among the keys, too
    #[arg(long)]
    pub(crate) keep_special: bool,

    /// Say it in plain sentences, for screen readers
    #[arg(long, conflicts_with = "json")]
    pub(crate) plain: bool,

    /// Write JSON (JSON.md says what is in it)
    #[arg(long)]
    pub(crate) json: bool,

    /// When to use colours; auto also heeds NO_COLOR
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    Auto,
    Always,
    Never,
}

fn at_least_one(count: &str) -> Result<usize, &'static str> {
    count.parse().ok().filter(|&count| count > 0).ok_or("expected a whole number from 1")
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments__definition__is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn at__minus_one__is_a_value_not_a_flag() {
        let Command::View(view) = Arguments::parse_from(["regard", "view", "--at", "-1", "a"]).command else {
            panic!("view is view");
        };
        assert_eq!(view.at.as_deref(), Some("-1"));
    }
}

//! What can be typed.

mod evidence;
mod probe;
mod profile;
mod values;
mod view;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use evidence::{AblateArguments, CompareArguments, ExplainArguments, RolloutArguments, With};
pub(crate) use probe::{ProbeArguments, ProbeTask};
pub(crate) use profile::{CheckArguments, HeadArguments, HeadsArguments, ProfileFlags};
pub(crate) use values::{ColorChoice, HeadList};
#[cfg(feature = "serve")]
pub(crate) use view::ServeArguments;
pub(crate) use view::{FillArguments, ReceivedFlags, ViewArguments};

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
    /// Serve the page of --html live on this machine: type a text, see what looks where
    #[cfg(feature = "serve")]
    Serve(ServeArguments),
    /// Say which words a model expects: in place of [MASK], or after the text
    Fill(FillArguments),
    /// Say what every head of a model does over a whole text of any length
    Heads(HeadsArguments),
    /// Show one head: what it does, how far it looks, and at what
    Head(HeadArguments),
    /// Check rules about heads, such as "L18.H6 induction > 0.8"; for scripts
    Check(CheckArguments),
    /// Show how one head comes to one row: q·k, softmax, and what the values add
    Explain(ExplainArguments),
    /// Show what a model loses without a head, beside random other heads
    Ablate(AblateArguments),
    /// Compare where one word looks in two texts, or in two models
    Compare(CompareArguments),
    /// Follow attention through all layers, from one word down to the text
    Rollout(RolloutArguments),
    /// Put all heads to a standard test, beside rules without a model and an untrained model
    Probe(ProbeArguments),
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

/// What every command that reports can be told.
#[derive(Debug, Args)]
pub(crate) struct Shared {
    /// A model: a directory with config.json, tokenizer.json and model.safetensors, a .gguf file (where built in),
    /// or an id like org/name; else the small built-in one
    #[arg(long, value_name = "DIR|ID", short = 'm')]
    pub(crate) model: Option<String>,

    /// Write JSON (JSON.md says what is in it)
    #[arg(long)]
    pub(crate) json: bool,

    /// When to use colours; auto also heeds NO_COLOR
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
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

//! What can be typed after the commands that show, fill and serve.

use std::path::PathBuf;

use clap::Args;
use regard_lens::profile::Selection;
use regard_lens::view::HeadId;

use super::values::{HeadList, Span, at_least_one, selection};
use super::{Shared, TextSource};

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

    #[command(flatten)]
    pub(crate) shared: Shared,

    /// How many words to list
    #[arg(long, value_name = "K", default_value = "5", value_parser = at_least_one)]
    pub(crate) top: usize,
}

const VIEW_EXAMPLES: &str = "\
Examples:
  regard view \"The cat sat on the mat because it was tired\"
  regard view --model models/all-MiniLM-L6-v2 \"The cat sat on the mat because it was tired\"
  regard view --model … --at mat --head L3.H1 \"The cat sat on the mat because it was soft\"
  regard view --model … --at the#2 --json \"The cat sat on the mat\" | jq '.rows[0].top'
  regard view --model … --html cat.html \"The cat sat on the mat because it was tired\"

Exit codes: 0 done, 1 it could not be done, 2 the request makes no sense.";

#[derive(Debug, Args)]
#[command(after_help = VIEW_EXAMPLES)]
pub(crate) struct ViewArguments {
    #[command(flatten)]
    pub(crate) source: TextSource,

    #[command(flatten)]
    pub(crate) extras: ViewExtras,

    #[command(flatten)]
    pub(crate) shared: Shared,

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

    /// Turn the question around: who looks at --at, in every head
    #[arg(long, requires = "at", conflicts_with_all = ["all", "head", "plain", "keep_special"])]
    pub(crate) received: bool,

    #[command(flatten)]
    pub(crate) of: ReceivedFlags,

    /// List the tokens that the model adds ([CLS], [SEP]) among the keys, too
    #[arg(long)]
    pub(crate) keep_special: bool,

    /// Draw the picture on a logarithmic scale, from 0.01 % to 100 %
    #[arg(long, conflicts_with_all = ["json", "plain", "all", "received", "html"])]
    pub(crate) log: bool,

    /// Say it in plain sentences, for screen readers
    #[arg(long, conflicts_with = "json")]
    pub(crate) plain: bool,

    /// Write a page for a browser that works without a network: every head, the text, and what looks where
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "plain", "all", "received"])]
    pub(crate) html: Option<PathBuf>,
}

#[cfg(feature = "serve")]
const SERVE_EXAMPLES: &str = "\
Examples:
  regard serve --model models/all-MiniLM-L6-v2
  regard serve --model models/all-MiniLM-L6-v2 --model org/name --port 8080

Exit codes: 0 stopped by Ctrl-C, 1 it could not be done, 2 the request makes no sense.";

#[cfg(feature = "serve")]
#[derive(Debug, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub(crate) struct ServeArguments {
    /// A model to choose from on the page: a directory, a .gguf file (where built in), or an id like org/name; may be
    /// given several times
    #[arg(long, value_name = "DIR|ID", short = 'm')]
    pub(crate) model: Vec<String>,

    /// The port on 127.0.0.1; 0 is one that is free
    #[arg(long, value_name = "PORT", default_value = "0")]
    pub(crate) port: u16,

    /// Longer texts are refused
    #[arg(long, value_name = "N", default_value = "1024", value_parser = at_least_one)]
    pub(crate) max_tokens: usize,
}

/// What of a token's column `regard view --received` counts.
#[derive(Debug, Args)]
pub(crate) struct ReceivedFlags {
    /// With --received: leave out what special tokens (in a causal model also the first token) get, and share the rest anew
    #[arg(long, requires = "received")]
    pub(crate) no_sink: bool,

    /// With --received: weight each probability with the size of what its value adds to the output (Kobayashi et al. 2020)
    #[arg(long, requires = "received")]
    pub(crate) norm: bool,

    /// With --received: only what these rows give, from 0: 100:200, 100: or :200
    #[arg(long, value_name = "A:B", value_parser = Span::parse, requires = "received")]
    pub(crate) rows: Option<Span>,

    /// With --received: only these layers, counted from 0: 3, 0:4 (0 to 3), 1,5:8
    #[arg(long, value_name = "LIST", value_parser = selection, requires = "received")]
    pub(crate) layers: Option<Selection>,

    /// With --received: only these heads of each layer, likewise
    #[arg(long, value_name = "LIST", value_parser = selection, requires = "received")]
    pub(crate) heads: Option<Selection>,
}

/// What `regard view` can change, keep or take from elsewhere.
#[derive(Debug, Args)]
pub(crate) struct ViewExtras {
    /// View the model with the output of these heads set to 0, like L3.H1 or L3.H1,L2.H0
    #[arg(long, value_name = "HEADS", conflicts_with_all = ["attention", "html", "received"])]
    pub(crate) without: Option<HeadList>,

    /// Write exact probabilities, queries, keys, values and hidden states to a safetensors file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["attention", "html", "received"])]
    pub(crate) save: Option<PathBuf>,

    /// The heads to save; else --head, else all
    #[arg(long, value_name = "HEADS", requires = "save")]
    pub(crate) save_heads: Option<HeadList>,

    /// View probabilities [layers, heads, tokens, tokens] that another program computed: .safetensors or .npy
    #[arg(long, value_name = "FILE", requires = "tokens", conflicts_with_all = ["model", "html", "received"])]
    pub(crate) attention: Option<PathBuf>,

    /// With --attention: a JSON array of the tokens, as tokenizer.convert_ids_to_tokens gives them
    #[arg(long, value_name = "FILE", requires = "attention")]
    pub(crate) tokens: Option<PathBuf>,
}

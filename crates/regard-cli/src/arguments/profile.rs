//! What can be typed after the commands that read a whole text.

use std::path::PathBuf;

use clap::Args;
use regard_lens::profile::Selection;
use regard_lens::view::HeadId;

use super::values::{Span, region, selection, up_to_32};
use super::{Shared, TextSource};

/// How a whole text is read.
#[derive(Debug, Args)]
pub(crate) struct ProfileFlags {
    #[command(flatten)]
    pub(crate) source: TextSource,

    /// Leave out what special tokens (in a causal model also the first token) get, and share the rest anew
    #[arg(long)]
    pub(crate) no_sink: bool,

    /// Weight each probability with the size of what its value adds to the output (Kobayashi et al. 2020)
    #[arg(long)]
    pub(crate) norm: bool,

    /// Merge the pieces of words: to a word the sum, from it the mean; several times slower
    #[arg(long)]
    pub(crate) words: bool,

    /// Count only these rows, from 0: 100:200, 100: or :200
    #[arg(long, value_name = "A:B", value_parser = Span::parse)]
    pub(crate) rows: Option<Span>,
}

const HEADS_EXAMPLES: &str = "\
Examples:
  regard heads --model models/all-MiniLM-L6-v2 --file chapter.txt
  regard heads --model … --no-sink --layers 0:4 --file chapter.txt
  regard heads --model … --html chapter.html --file chapter.txt
  regard heads --model … --json --file chapter.txt | jq '.heads[] | select(.roles[] == \"induction\")'

Exit codes: 0 done, 1 it could not be done, 2 the request makes no sense.";

#[derive(Debug, Args)]
#[command(after_help = HEADS_EXAMPLES)]
pub(crate) struct HeadsArguments {
    #[command(flatten)]
    pub(crate) profile: ProfileFlags,

    #[command(flatten)]
    pub(crate) shared: Shared,

    /// Only these layers, counted from 0: 3, 0:4 (0 to 3), 1,5:8
    #[arg(long, value_name = "LIST", value_parser = selection)]
    pub(crate) layers: Option<Selection>,

    /// Only these heads of each layer, likewise
    #[arg(long, value_name = "LIST", value_parser = selection)]
    pub(crate) heads: Option<Selection>,

    /// Run the shuffled control on at most N tokens of the text; 0 is no control
    #[arg(long, value_name = "N", default_value = "2048")]
    pub(crate) control_tokens: usize,

    /// Write a table for spreadsheets, a line a head
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,

    /// Write a page for a browser that works without a network: every head, the text, and what looks where
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "csv"])]
    pub(crate) html: Option<PathBuf>,

    /// With --html: the token that the page begins with, as in regard view; of a long text, the page holds where the
    /// tokens around it look
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true, requires = "html")]
    pub(crate) at: Option<String>,
}

const HEAD_EXAMPLES: &str = "\
Examples:
  regard head L3.H1 --model models/all-MiniLM-L6-v2 \"The cat sat on the mat because it was tired\"
  regard head L3.H1 --model … --region 0:40,0:40 --log --file chapter.txt

Exit codes: 0 done, 1 it could not be done, 2 the request makes no sense.";

#[derive(Debug, Args)]
#[command(after_help = HEAD_EXAMPLES)]
pub(crate) struct HeadArguments {
    /// The head, like L3.H1 (layer 3, head 1, counted from 0)
    #[arg(value_name = "HEAD")]
    pub(crate) head: HeadId,

    #[command(flatten)]
    pub(crate) profile: ProfileFlags,

    #[command(flatten)]
    pub(crate) shared: Shared,

    /// Run the shuffled control on at most N tokens of the text; 0 is no control
    #[arg(long, value_name = "N", default_value = "2048")]
    pub(crate) control_tokens: usize,

    /// How many keys to list for each row
    #[arg(long, value_name = "K", default_value = "5", value_parser = up_to_32)]
    pub(crate) top: usize,

    /// The exact probabilities of these tokens' rows and keys: 0:40,0:40
    #[arg(long, value_name = "A:B,C:D", value_parser = region)]
    pub(crate) region: Option<(Span, Span)>,

    /// Draw on a logarithmic scale, from 0.01 % to 100 %
    #[arg(long)]
    pub(crate) log: bool,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  regard check rules.txt --model … --file chapter.txt
  regard check --rule \"L18.H6 induction > 0.1\" --rule \"any is previous\" --model … --file chapter.txt

A rule is a head (or any, or all), a number of it, a comparison (> >= < <=) and a limit; or a head, is, and a role.
Numbers: entropy relative_entropy max_prob mean_distance first_token special duplicate induction previous next
itself local broad offset:-3. In a file, a rule a line; lines that begin with # are comments.

Exit codes: 0 every rule holds, 1 one does not or it could not be done, 2 a rule or the request makes no sense.";

#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES, override_usage = "regard check [OPTIONS] [RULES] [TEXT]")]
pub(crate) struct CheckArguments {
    /// A rule; may be given several times, in place of a file of rules
    #[arg(long, value_name = "RULE")]
    pub(crate) rule: Vec<String>,

    // Without a --rule, the first of its texts is the file of rules.
    #[command(flatten)]
    pub(crate) profile: ProfileFlags,

    #[command(flatten)]
    pub(crate) shared: Shared,
}

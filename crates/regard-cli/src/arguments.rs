//! What can be typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use regard_lens::profile::Selection;
use regard_lens::view::HeadId;

use crate::evidence_arguments::{
    AblateArguments, CompareArguments, ExplainArguments, RolloutArguments, ViewExtras,
};
use crate::probe_arguments::ProbeArguments;

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
  regard view --model … --html cat.html \"The cat sat on the mat because it was tired\"

Exit codes: 0 done, 1 it could not be done, 2 the request makes no sense.";

#[derive(Debug, Args)]
#[command(after_help = VIEW_EXAMPLES)]
pub(crate) struct ViewArguments {
    #[command(flatten)]
    pub(crate) source: TextSource,

    #[command(flatten)]
    pub(crate) extras: ViewExtras,

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

    /// Turn the question around: who looks at --at, in every head
    #[arg(long, requires = "at", conflicts_with_all = ["all", "head", "plain", "keep_special"])]
    pub(crate) received: bool,

    /// List the tokens that the model adds ([CLS], [SEP]) among the keys, too
    #[arg(long)]
    pub(crate) keep_special: bool,

    /// Say it in plain sentences, for screen readers
    #[arg(long, conflicts_with = "json")]
    pub(crate) plain: bool,

    /// Write JSON (JSON.md says what is in it)
    #[arg(long)]
    pub(crate) json: bool,

    /// Write a page for a browser that works without a network: every head, the text, and what looks where
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "plain", "all", "received"])]
    pub(crate) html: Option<PathBuf>,

    /// When to use colours; auto also heeds NO_COLOR
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
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

/// How a whole text is read.
#[derive(Debug, Args)]
pub(crate) struct ProfileFlags {
    #[command(flatten)]
    pub(crate) source: TextSource,

    /// A model: a directory, a .gguf file (where built in), or an id like org/name
    #[arg(long, value_name = "DIR|ID", short = 'm')]
    pub(crate) model: Option<String>,

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

/// Where the output goes and what it looks like.
#[derive(Debug, Args)]
pub(crate) struct OutputFlags {
    /// Write JSON (JSON.md says what is in it)
    #[arg(long)]
    pub(crate) json: bool,

    /// When to use colours; auto also heeds NO_COLOR
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
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

    /// Only these layers, counted from 0: 3, 0:4 (0 to 3), 1,5:8
    #[arg(long, value_name = "LIST", value_parser = selection)]
    pub(crate) layers: Option<Selection>,

    /// Only these heads of each layer, likewise
    #[arg(long, value_name = "LIST", value_parser = selection)]
    pub(crate) heads: Option<Selection>,

    /// Run the shuffled control on at most N tokens of the text; 0 is no control
    #[arg(long, value_name = "N", default_value = "2048")]
    pub(crate) control_tokens: usize,

    #[command(flatten)]
    pub(crate) output: OutputFlags,

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

    #[command(flatten)]
    pub(crate) output: OutputFlags,
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

    /// Write JSON (JSON.md says what is in it)
    #[arg(long)]
    pub(crate) json: bool,
}

/// Some of the numbers from 0 on; without an end, up to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: Option<usize>,
}

impl Span {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let expected = "expected A:B, A: or :B in whole numbers from 0, B after A";
        let number = |part: &str, otherwise| match part {
            "" => Ok(otherwise),
            // `parse` alone would accept a plus sign.
            _ if part.bytes().all(|byte| byte.is_ascii_digit()) => {
                part.parse().map(Some).map_err(|_| expected)
            }
            _ => Err(expected),
        };
        let (start, end) = text.split_once(':').ok_or(expected)?;
        let (start, end) = (number(start, Some(0))?.unwrap_or(0), number(end, None)?);
        if end.is_some_and(|end| end <= start) { Err(expected) } else { Ok(Self { start, end }) }
    }

    /// The range, of `len` numbers in all.
    pub(crate) fn range(self, len: usize) -> std::ops::Range<usize> {
        self.start..self.end.unwrap_or(len)
    }
}

fn region(text: &str) -> Result<(Span, Span), &'static str> {
    let (rows, keys) = text.split_once(',').ok_or("expected rows and keys, as in 0:40,0:40")?;
    Ok((Span::parse(rows)?, Span::parse(keys)?))
}

fn selection(text: &str) -> Result<Selection, &'static str> {
    let range = |part: &str| match part.contains(':') {
        true => Span::parse(part).map(|span| span.range(usize::MAX)),
        false => Span::parse(&format!("{part}:"))
            .map(|span| span.start..span.start.saturating_add(1))
            .ok()
            .filter(|_| !part.is_empty())
            .ok_or("expected whole numbers from 0 or ranges, as in 1,5:8"),
    };
    text.split(',').map(range).collect::<Result<_, _>>().map(Selection::Of)
}

fn up_to_32(count: &str) -> Result<usize, &'static str> {
    at_least_one(count).ok().filter(|&count| count <= 32).ok_or("expected a whole number from 1 to 32")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    Auto,
    Always,
    Never,
}

pub(crate) fn at_least_one(count: &str) -> Result<usize, &'static str> {
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
    fn span__any_text__is_a_range_or_refused() {
        let span = |start, end| Ok(Span { start, end });
        assert_eq!(Span::parse("3:7"), span(3, Some(7)));
        assert_eq!([Span::parse("3:"), Span::parse(":7")], [span(3, None), span(0, Some(7))]);
        for text in ["", "3", "7:3", "3:3", "a:b", "-1:3", "+1:3", "1:2:3", "1:99999999999999999999"] {
            assert!(Span::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn selection__numbers_and_ranges__are_taken_together() {
        let chosen = selection("1,5:8").unwrap();
        let numbers: Vec<usize> = (0..10).filter(|&number| chosen.contains(number)).collect();
        assert_eq!(numbers, [1, 5, 6, 7]);
        for text in ["", ",", "1,", "a", "-1", "3:1", "1;2"] {
            assert!(selection(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn at__minus_one__is_a_value_not_a_flag() {
        let Command::View(view) = Arguments::parse_from(["regard", "view", "--at", "-1", "a"]).command else {
            panic!("view is view");
        };
        assert_eq!(view.at.as_deref(), Some("-1"));
    }
}

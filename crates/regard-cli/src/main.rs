//! The command `regard`: see which word each head of a real Transformer looks at.

mod ablate;
mod arguments;
mod check;
mod closing;
mod columns;
mod compare;
mod csv;
mod explain;
mod failure;
mod fill;
mod focus;
mod head;
mod heads;
mod input;
mod json;
mod label;
mod model;
mod page;
mod palette;
mod picture;
mod plain;
mod probe;
mod process;
mod profile_run;
mod received;
mod report;
mod rollout;
#[cfg(test)]
mod sample;
mod sentence;
#[cfg(feature = "serve")]
mod serve;
mod table;
mod terminal;
mod unknown;
mod view;
mod visible;

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;
use crate::visible::visible;

fn main() -> ExitCode {
    let started = Instant::now();
    let outcome =
        Arguments::try_parse().map_err(Outcome::from).and_then(|arguments| match arguments.command {
            Command::View(arguments) => view::view(&arguments, started).map_err(Outcome::Failure),
            #[cfg(feature = "serve")]
            Command::Serve(arguments) => serve::serve(&arguments).map_err(Outcome::Failure),
            Command::Fill(arguments) => fill::fill(&arguments).map_err(Outcome::Failure),
            Command::Heads(arguments) => heads::heads(&arguments, started).map_err(Outcome::Failure),
            Command::Head(arguments) => head::head(&arguments, started).map_err(Outcome::Failure),
            Command::Check(arguments) => check::check(&arguments, started).map_err(Outcome::Failure),
            Command::Explain(arguments) => explain::explain(&arguments, started).map_err(Outcome::Failure),
            Command::Ablate(arguments) => ablate::ablate(&arguments, started).map_err(Outcome::Failure),
            Command::Compare(arguments) => compare::compare(&arguments, started).map_err(Outcome::Failure),
            Command::Rollout(arguments) => rollout::rollout(&arguments, started).map_err(Outcome::Failure),
            Command::Probe(arguments) => probe::probe(&arguments, started).map_err(Outcome::Failure),
        });
    let (code, message) = match outcome {
        Ok(()) | Err(Outcome::Failure(Failure::NobodyListens)) => return ExitCode::SUCCESS,
        // Help goes to stdout if it was asked for; if nobody reads it, that is fine.
        Err(Outcome::Help(help)) => {
            let _ = help.print();
            return ExitCode::from(help.exit_code().try_into().unwrap_or(2));
        }
        Err(Outcome::Failure(Failure::Usage(message))) => (2, message),
        Err(Outcome::Failure(Failure::Failed(message))) => (1, message),
    };
    // Messages quote file names and tokens: made visible, they also stay on one line.
    let _ = writeln!(std::io::stderr(), "regard: {}", visible(&message));
    ExitCode::from(code)
}

/// How parsing or running ends early.
enum Outcome {
    Help(clap::Error),
    Failure(Failure),
}

impl From<clap::Error> for Outcome {
    fn from(error: clap::Error) -> Self {
        if !error.use_stderr()
            || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        {
            return Self::Help(error);
        }
        Self::Failure(Failure::Usage(one_line(&error.render().to_string())))
    }
}

/// What clap says in several lines, without the usage.
fn one_line(message: &str) -> String {
    let parts: Vec<&str> = message
        .split("\n\n")
        .filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more information"))
        .flat_map(str::lines)
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let said = parts.join("; ").replace(":; ", ": ");
    let said = said.strip_prefix("error: ").unwrap_or(&said);
    format!("{said}; see regard --help")
}

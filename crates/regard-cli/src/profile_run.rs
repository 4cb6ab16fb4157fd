//! What `heads`, `head` and `check` share: a text through a model, and what the run cost.

use std::time::Instant;

use regard_lens::profile::{Profile, ProfileOptions, Unit, profile};
use regard_lens::view::Verification;
use regard_lens::{Model, TokenizedText};
use serde::Serialize;

use crate::arguments::{ProfileFlags, TextSource};
use crate::closing::{Checked, NOT_WHY, VerifyFields, cost_parts};
use crate::failure::Failure;
use crate::input::read_text;
use crate::label::label;
use crate::model;
use crate::palette::Palette;
use crate::process::{Costs, Progress};
use crate::terminal::join_parts;
use crate::visible::{visible, wrap};

/// A model and a text that it has been given.
pub(crate) struct Loaded {
    pub(crate) model: Model,
    pub(crate) text: TokenizedText,
}

impl Loaded {
    pub(crate) fn new(model: Option<&str>, source: &TextSource) -> Result<Self, Failure> {
        let text = read_text(source)?;
        let model = model::load(model)?;
        let text = model.tokenize(&text)?;
        Ok(Self { model, text })
    }

    /// The options that the flags mean.
    pub(crate) fn options(&self, flags: &ProfileFlags, control_tokens: usize) -> ProfileOptions {
        let unit = if flags.words { Unit::Word } else { Unit::Token };
        let rows = flags.rows.map(|rows| rows.range(unit.count(&self.text)));
        ProfileOptions {
            unit,
            rows,
            no_sink: flags.no_sink,
            norm: flags.norm,
            control_tokens,
            ..ProfileOptions::default()
        }
    }

    /// Runs it, with a line of progress where it takes long.
    pub(crate) fn profile(&self, options: ProfileOptions, started: Instant) -> Result<Profile, Failure> {
        let mut progress = None;
        let mut hear = |layer: usize, layers: usize| {
            progress.get_or_insert_with(|| Progress::new(started, "layer", layers)).done(layer);
        };
        Ok(profile(&self.model, &self.text, options, &mut hear)?)
    }

    /// What a row or key is called.
    pub(crate) fn unit_label(&self, profile: &Profile, unit: usize) -> String {
        let span = &profile.units[unit];
        let tokens = &self.text.tokens;
        let stretch = || self.text.text.get(tokens[span.start].start..tokens[span.end - 1].end);
        match span.len() {
            1 => label(&self.text, span.start),
            _ => stretch().map_or_else(|| label(&self.text, span.start), |word| visible(word.trim())),
        }
    }
}

/// What every document of a whole text ends with.
#[derive(Serialize)]
pub(crate) struct RunFields {
    pub(crate) verify: VerifyFields,
    pub(crate) seconds: f64,
    pub(crate) peak_bytes: Option<u64>,
    /// What the probabilities of all heads would take.
    pub(crate) dense_bytes: u64,
}

/// What a run found out about itself.
#[derive(Clone, Copy)]
pub(crate) struct Ending {
    verification: Verification,
    dense_bytes: u128,
    costs: Costs,
}

impl Ending {
    pub(crate) fn new(verification: Verification, dense_bytes: u128, started: Instant) -> Self {
        Self { verification, dense_bytes, costs: Costs::since(started) }
    }

    pub(crate) fn fields(self) -> RunFields {
        RunFields {
            verify: Checked::Run(self.verification).into(),
            seconds: self.costs.seconds,
            peak_bytes: self.costs.peak_bytes,
            dense_bytes: self.dense_bytes.try_into().unwrap_or(u64::MAX),
        }
    }

    /// The last lines: what was run, how exact it was, what it cost, and what it does not say.
    pub(crate) fn lines(self, loaded: &Loaded, columns: usize, palette: Palette) -> Vec<String> {
        let (info, tokens) = (loaded.model.info(), loaded.text.tokens.len());
        let mut parts = cost_parts(info, tokens, Checked::Run(self.verification), self.costs);
        parts.insert(parts.len() - 1, format!("dense maps: {}", bytes(self.dense_bytes)));
        let mut lines = wrap(NOT_WHY, columns);
        lines.extend(join_parts(&parts, columns).iter().map(|line| palette.dim(line)));
        lines
    }
}

/// The memory of all heads' probabilities in f32.
pub(crate) fn dense_bytes(loaded: &Loaded) -> u128 {
    let info = loaded.model.info();
    4 * (info.layers * info.heads) as u128 * (loaded.text.tokens.len() as u128).pow(2)
}

/// An amount of memory as people read it.
fn bytes(bytes: u128) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 999.5 && unit + 1 < units.len() {
        amount /= 1000.0;
        unit += 1;
    }
    if amount < 9.95 && unit > 0 {
        format!("{amount:.1} {}", units[unit])
    } else {
        format!("{amount:.0} {}", units[unit])
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn bytes__any_amount__is_short() {
        let shown = [0, 999, 1000, 41_472, 1_000_000, 72_477_573_120, u128::MAX].map(bytes);
        assert_eq!(shown[..6], ["0 bytes", "999 bytes", "1.0 kB", "41 kB", "1.0 MB", "72 GB"]);
    }
}

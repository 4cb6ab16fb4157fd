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
    pub(crate) fn new(verification: Verification, loaded: &Loaded, started: Instant) -> Self {
        let dense_bytes = loaded.model.info().dense_bytes(loaded.text.tokens.len());
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
        let parts = cost_parts(info, tokens, Checked::Run(self.verification), self.costs);
        let mut lines = wrap(NOT_WHY, columns);
        lines.extend(join_parts(&parts, columns).iter().map(|line| palette.dim(line)));
        lines
    }
}

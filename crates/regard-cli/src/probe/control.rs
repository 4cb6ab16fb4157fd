//! A probe of a model, and of the same architecture untrained.

use std::time::Instant;

use regard_lens::probe::OnText;
use regard_lens::{LensError, Model, ModelInfo};

use super::progress::Counter;
use crate::arguments::ProbeArguments;
use crate::failure::Failure;
use crate::model::Found;

/// What all tasks need.
pub(super) struct Run<'a> {
    pub(super) arguments: &'a ProbeArguments,
    model: Found,
    started: Instant,
}

/// What one model gave, and the untrained one, if it was asked.
pub(super) struct Both<T> {
    pub(super) info: ModelInfo,
    pub(super) trained: T,
    pub(super) untrained: Option<T>,
}

impl<'a> Run<'a> {
    pub(super) fn new(arguments: &'a ProbeArguments, model: Found, started: Instant) -> Self {
        Self { arguments, model, started }
    }

    /// Runs the probe on the model and then, unless `--no-control` says otherwise, on the untrained one: never are
    /// both in memory.
    pub(super) fn both<T>(
        &self,
        probe: impl Fn(&Model, &dyn Fn(&'static str) -> Counter) -> Result<T, LensError>,
    ) -> Result<Both<T>, Failure> {
        let model = self.model.load()?;
        let info = model.info().clone();
        let trained = probe(&model, &|what| Counter::new(self.started, what))?;
        drop(model);
        let untrained = if self.arguments.no_control {
            None
        } else {
            let model = self.model.untrained(self.arguments.seed)?;
            Some(probe(&model, &|_| Counter::new(self.started, "untrained model"))?)
        };
        Ok(Both { info, trained, untrained })
    }
}

/// Runs `work` with something that counts on stderr.
pub(super) fn counted<T>(
    counter: Counter,
    work: impl FnOnce(OnText<'_>) -> Result<T, LensError>,
) -> Result<T, LensError> {
    work(&|done, all| counter.show(done, all))
}

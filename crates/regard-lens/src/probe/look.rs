//! Running a model over many texts, its attention looked at on the way.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::error::LensError;
use crate::model::{HiddenStates, Model};
use crate::observer::{AttentionObserver, LayerAttention};
use crate::token::TokenizedText;
use crate::view::Verification;

/// How many texts of a probe are checked against the f64 reference, at most.
const TEXTS_CHECKED: usize = 16;

/// Hears how many texts of how many are done, from any thread.
pub type OnText<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// What is known of the runs over many texts beside what they gave.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TextChecks {
    /// How exact the attention was on those texts that were checked.
    pub verification: Verification,
    /// Tokens of the longest text.
    pub longest_text: usize,
    is_checked: bool,
}

impl TextChecks {
    /// Takes what other texts gave into account.
    pub fn merge(&mut self, other: Self) {
        self.verification.merge(other.verification);
        self.longest_text = self.longest_text.max(other.longest_text);
    }
}

/// What many texts gave, in their order.
pub(super) struct Looked<T> {
    pub(super) found: Vec<T>,
    pub(super) checks: TextChecks,
}

/// Runs `look` on each text, several at a time; every so many of them it is told to check rows.
pub(super) fn each_text<S: Sync, T: Send>(
    texts: &[S],
    on_text: OnText<'_>,
    look: impl Fn(&S, &mut TextChecks) -> Result<T, LensError> + Sync,
) -> Result<Looked<T>, LensError> {
    let done = AtomicUsize::new(0);
    let step = texts.len().div_ceil(TEXTS_CHECKED).max(1);
    let found: Vec<(T, TextChecks)> = texts
        .par_iter()
        .enumerate()
        .map(|(index, text)| {
            let mut checks = TextChecks { is_checked: index.is_multiple_of(step), ..TextChecks::default() };
            let found = look(text, &mut checks)?;
            on_text(done.fetch_add(1, Ordering::Relaxed) + 1, texts.len());
            Ok((found, checks))
        })
        .collect::<Result<_, LensError>>()?;
    let mut all = TextChecks::default();
    let found = found.into_iter().map(|(found, checks)| {
        all.merge(checks);
        found
    });
    Ok(Looked { found: found.collect(), checks: all })
}

/// Runs the model over one text; `on_layer` sees each layer.
pub(super) fn look(
    model: &Model,
    tokens: &TokenizedText,
    checks: &mut TextChecks,
    on_layer: &mut dyn FnMut(&LayerAttention<'_>) -> Result<(), LensError>,
) -> Result<HiddenStates, LensError> {
    struct Observer<'a> {
        checks: &'a mut TextChecks,
        on_layer: &'a mut dyn FnMut(&LayerAttention<'_>) -> Result<(), LensError>,
    }
    impl AttentionObserver for Observer<'_> {
        fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
            if self.checks.is_checked {
                self.checks.verification.check(attention)?;
            }
            (self.on_layer)(attention)
        }
    }
    checks.longest_text = checks.longest_text.max(tokens.tokens.len());
    model.run(tokens, &mut Observer { checks, on_layer })
}

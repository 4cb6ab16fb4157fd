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

/// What many texts gave, in their order, and how exact the attention was on those checked.
pub(super) struct Looked<T> {
    pub(super) found: Vec<T>,
    pub(super) verification: Verification,
}

/// Runs `look` on each text, several at a time; every so many of them it is told to check rows.
pub(super) fn each_text<S: Sync, T: Send>(
    texts: &[S],
    on_text: OnText<'_>,
    look: impl Fn(&S, Option<&mut Verification>) -> Result<T, LensError> + Sync,
) -> Result<Looked<T>, LensError> {
    let done = AtomicUsize::new(0);
    let step = texts.len().div_ceil(TEXTS_CHECKED).max(1);
    let found: Vec<(T, Verification)> = texts
        .par_iter()
        .enumerate()
        .map(|(index, text)| {
            let mut verification = Verification::default();
            let found = look(text, index.is_multiple_of(step).then_some(&mut verification))?;
            on_text(done.fetch_add(1, Ordering::Relaxed) + 1, texts.len());
            Ok((found, verification))
        })
        .collect::<Result<_, LensError>>()?;
    let mut all = Verification::default();
    let found = found.into_iter().map(|(found, verification)| {
        all.merge(verification);
        found
    });
    Ok(Looked { found: found.collect(), verification: all })
}

/// Runs the model over one text; `on_layer` sees each layer.
pub(super) fn look(
    model: &Model,
    tokens: &TokenizedText,
    verification: Option<&mut Verification>,
    on_layer: &mut dyn FnMut(&LayerAttention<'_>) -> Result<(), LensError>,
) -> Result<HiddenStates, LensError> {
    struct Observer<'a> {
        verification: Option<&'a mut Verification>,
        on_layer: &'a mut dyn FnMut(&LayerAttention<'_>) -> Result<(), LensError>,
    }
    impl AttentionObserver for Observer<'_> {
        fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
            if let Some(verification) = &mut self.verification {
                verification.check(attention)?;
            }
            (self.on_layer)(attention)
        }
    }
    model.run(tokens, &mut Observer { verification, on_layer })
}

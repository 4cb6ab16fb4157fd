//! Running a model with some heads changed: what a model loses without a head is evidence of what the head does,
//! which its attention alone is not.

use std::collections::BTreeMap;
use std::sync::Arc;

use regard::TensorView;
use regard::layer::Attended;

use crate::error::LensError;
use crate::kept::{Keeper, KeptLayer};
use crate::model::{Model, ModelInfo};
use crate::predict::NoObserver;
use crate::token::TokenizedText;
use crate::view::HeadId;

/// What becomes of a head's output, `[seq_len, value_head_dim]`, before the output projection reads it.
#[derive(Debug, Clone)]
pub enum Change {
    /// It is 0 (Michel et al. 2019, section 2.3). What the output projection's bias adds stays.
    Zero,
    /// Every row is the mean of the head's rows over the text, special tokens among them. In a causal model that
    /// tells earlier tokens about later ones.
    Mean,
    /// The head attends as it did in another run and reads the values of this one.
    Frozen(Pattern),
}

/// The attention of one head in one run, as its queries and keys: O(seq_len) memory.
#[derive(Debug, Clone)]
pub struct Pattern {
    layer: Arc<KeptLayer>,
    head: usize,
}

/// Heads of a model and what is done to each.
///
/// ```
/// use regard_lens::{Change, Interventions, view::HeadId};
/// let head: HeadId = "L3.H1".parse().unwrap();
/// let interventions = Interventions::new().with(head, Change::Zero);
/// assert_eq!(interventions.heads().collect::<Vec<_>>(), [head]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Interventions {
    changes: BTreeMap<HeadId, Change>,
}

impl Interventions {
    /// None: the model as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes one more head; of several changes of one head the last counts.
    pub fn with(mut self, head: HeadId, change: Change) -> Self {
        self.changes.insert(head, change);
        self
    }

    /// Sets the output of some heads to 0.
    pub fn without(heads: &[HeadId]) -> Self {
        heads.iter().fold(Self::new(), |all, &head| all.with(head, Change::Zero))
    }

    /// The heads that are changed, in order.
    pub fn heads(&self) -> impl Iterator<Item = HeadId> {
        self.changes.keys().copied()
    }

    /// Whether every head exists and every pattern has as many tokens as the text.
    pub(crate) fn check(&self, info: &ModelInfo, seq_len: usize) -> Result<(), LensError> {
        let ModelInfo { layers, heads, .. } = *info;
        for (&head, change) in &self.changes {
            if head.layer >= layers || head.head >= heads {
                return Err(LensError::NoSuchHead { head, layers, heads });
            }
            if let Change::Frozen(pattern) = change
                && pattern.layer.seq_len() != seq_len
            {
                let found = pattern.layer.seq_len();
                return Err(LensError::PatternLength { head, expected: seq_len, found });
            }
        }
        Ok(())
    }

    /// What the heads of a layer hand on, side by side, `[seq_len, num_heads · value_head_dim]`; `None` if nothing
    /// of it is changed.
    pub(crate) fn change(
        &self,
        layer: usize,
        attended: &Attended,
        value: &TensorView<'_, f32>,
    ) -> Result<Option<Vec<f32>>, LensError> {
        let [first, end] = [layer, layer + 1].map(|layer| HeadId { layer, head: 0 });
        let mut of_layer = self.changes.range(first..end).peekable();
        if of_layer.peek().is_none() {
            return Ok(None);
        }
        let [_, heads, _, dim] = attended.view().shape();
        let mut output = attended.output().to_vec();
        for (id, change) in of_layer {
            let slots = output.chunks_exact_mut(heads * dim).map(|row| &mut row[id.head * dim..][..dim]);
            match change {
                Change::Zero => slots.for_each(|slot| slot.fill(0.0)),
                Change::Mean => {
                    let mut slots: Vec<&mut [f32]> = slots.collect();
                    let mean = mean_row(&slots, dim);
                    slots.iter_mut().for_each(|slot| slot.copy_from_slice(&mean));
                }
                Change::Frozen(pattern) => {
                    let rows = pattern.layer.attend(pattern.head, value)?;
                    slots.zip(rows.chunks_exact(dim)).for_each(|(slot, row)| slot.copy_from_slice(row));
                }
            }
        }
        Ok(Some(output))
    }
}

fn mean_row(rows: &[&mut [f32]], dim: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; dim];
    for row in rows {
        sums.iter_mut().zip(row.iter()).for_each(|(sum, &number)| *sum += f64::from(number));
    }
    sums.into_iter().map(|sum| (sum / rows.len().max(1) as f64) as f32).collect()
}

/// The patterns of all heads of some layers in one run.
#[derive(Debug, Default)]
pub(crate) struct Patterns(Vec<Option<Arc<KeptLayer>>>);

impl Patterns {
    /// The patterns that a [`Keeper`] kept.
    pub(crate) fn of(keeper: Keeper<'_>) -> Self {
        Self(keeper.kept)
    }

    /// The pattern of a head, if its layer was kept.
    pub(crate) fn get(&self, head: HeadId) -> Option<Pattern> {
        let layer = self.0.get(head.layer)?.clone()?;
        (head.head < layer.num_heads()).then_some(Pattern { layer, head: head.head })
    }
}

impl Model {
    /// The attention of one head on a text, to be used in runs on texts of as many tokens.
    ///
    /// # Errors
    /// [`LensError::NoSuchHead`]; as [`Self::run`].
    pub fn pattern(&self, tokens: &TokenizedText, head: HeadId) -> Result<Pattern, LensError> {
        let wanted = |layer| layer == head.layer;
        let mut nobody = NoObserver;
        let mut keeper = Keeper::new(self.info.layers, &wanted, &mut nobody);
        self.run(tokens, &mut keeper)?;
        let ModelInfo { layers, heads, .. } = self.info;
        Patterns::of(keeper).get(head).ok_or(LensError::NoSuchHead { head, layers, heads })
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
#[path = "intervene_tests.rs"]
mod tests;

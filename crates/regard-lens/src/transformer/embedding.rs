//! Token ids to the first hidden states.

use regard::layer::Linear;
use regard::position::LearnedPositions;

use super::norm::Norm;
use super::{add, zeros};
use crate::error::LensError;

/// Word vectors, with what is added to them.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// `[vocabulary_size, model_dim]`. A linear layer, because a tied head multiplies by it.
    words: Linear,
    positions: Option<Positions>,
    /// The vector of token type 0, `[model_dim]`: one text is all of one type.
    token_type: Option<Vec<f32>>,
    norm: Option<Norm>,
}

/// A trained vector for each position.
#[derive(Debug)]
pub(crate) struct Positions {
    pub(crate) table: LearnedPositions,
    /// In RoBERTa the id of the padding token: it stands at the position of that number, and other tokens
    /// follow after it.
    pub(crate) padding: Option<u32>,
}

impl Embedding {
    /// From word vectors `[vocabulary_size, model_dim]`, row-major.
    pub(crate) fn new(
        words: Vec<f32>,
        [vocabulary_size, model_dim]: [usize; 2],
        positions: Option<Positions>,
        token_type: Option<Vec<f32>>,
        norm: Option<Norm>,
    ) -> Result<Self, LensError> {
        let words = Linear::new(words, None, model_dim, vocabulary_size)?;
        Ok(Self { words, positions, token_type, norm })
    }

    pub(super) fn model_dim(&self) -> usize {
        self.words.in_features()
    }

    pub(super) fn vocabulary_size(&self) -> usize {
        self.words.out_features()
    }

    pub(super) fn words(&self) -> &Linear {
        &self.words
    }

    /// `[ids, model_dim]`.
    pub(super) fn embed(&self, ids: &[u32]) -> Result<Vec<f32>, LensError> {
        let dim = self.model_dim();
        let mut hidden = zeros(ids.len().saturating_mul(dim))?;
        for (row, &id) in hidden.chunks_exact_mut(dim).zip(ids) {
            row.copy_from_slice(&self.words.weight()[id as usize * dim..][..dim]);
            if let Some(token_type) = &self.token_type {
                add(row, token_type);
            }
        }
        if let Some(positions) = &self.positions {
            positions.add_to(&mut hidden, ids)?;
        }
        if let Some(norm) = &self.norm {
            norm.apply(&mut hidden);
        }
        Ok(hidden)
    }
}

impl Positions {
    /// The most tokens that have positions.
    pub(crate) fn num_tokens(num_positions: usize, padding: Option<u32>) -> usize {
        num_positions.saturating_sub(first_position(padding))
    }

    fn add_to(&self, hidden: &mut [f32], ids: &[u32]) -> Result<(), LensError> {
        let model_dim = hidden.len() / ids.len().max(1);
        let mut next = first_position(self.padding);
        for (row, &id) in hidden.chunks_exact_mut(model_dim.max(1)).zip(ids) {
            let position = match self.padding {
                Some(padding) if id == padding => padding as usize,
                _ => {
                    next += 1;
                    next - 1
                }
            };
            self.table.add_to(row, [1, 1], position)?;
        }
        Ok(())
    }
}

fn first_position(padding: Option<u32>) -> usize {
    padding.map_or(0, |padding| padding as usize + 1)
}

//! Every head's strongest word of every word.

use rayon::prelude::*;

use crate::error::LensError;
use crate::model::Model;
use crate::probe::conllu::UdSentence;
use crate::probe::look::{OnText, TextChecks, each_text, look};
use crate::probe::words::{Alignment, strongest, word_row};

/// Where there is no pick.
const NONE: u16 = u16::MAX;

/// What each head picks for each word of some sentences.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntaxPicks {
    /// Heads of each layer, to tell `[layer, head]` from a number.
    pub(super) heads_per_layer: usize,
    pub(super) num_heads: usize,
    /// For each sentence; `None` where it has more tokens than the model takes, or none.
    pub(super) sentences: Vec<Option<SentencePicks>>,
    /// How exact the attention was, and how long the texts were.
    pub checks: TextChecks,
}

/// `[num_heads, words]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SentencePicks {
    words: usize,
    picks: Vec<u16>,
}

impl SentencePicks {
    pub(super) fn of(&self, head: usize, word: usize) -> Option<usize> {
        let pick = self.picks[head * self.words + word];
        (pick != NONE).then_some(usize::from(pick))
    }
}

impl SyntaxPicks {
    /// Runs the model over the sentences.
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn new(model: &Model, sentences: &[UdSentence], on_text: OnText<'_>) -> Result<Self, LensError> {
        let looked = each_text(sentences, on_text, |sentence, checks| {
            let alignment = match Alignment::new(model, &sentence.text) {
                Ok(alignment) => alignment,
                Err(LensError::TextTooLong { .. } | LensError::EmptyText) => return Ok(None),
                Err(error) => return Err(error),
            };
            look_at(model, &alignment, checks).map(Some)
        })?;
        let info = model.info();
        Ok(Self {
            heads_per_layer: info.heads,
            num_heads: info.layers * info.heads,
            sentences: looked.found,
            checks: looked.checks,
        })
    }

    /// How many sentences the model could not take.
    pub fn skipped(&self) -> usize {
        self.sentences.iter().filter(|sentence| sentence.is_none()).count()
    }

    /// Picks made by hand, `[num_heads, words]` of each sentence.
    #[cfg(test)]
    pub(super) fn by_hand(num_heads: usize, sentences: &[Vec<Option<u16>>]) -> Self {
        let of = |picks: &Vec<Option<u16>>| SentencePicks {
            words: picks.len() / num_heads,
            picks: picks.iter().map(|pick| pick.unwrap_or(NONE)).collect(),
        };
        Self {
            heads_per_layer: num_heads,
            num_heads,
            sentences: sentences.iter().map(|picks| Some(of(picks))).collect(),
            checks: TextChecks::default(),
        }
    }
}

fn look_at(
    model: &Model,
    alignment: &Alignment,
    checks: &mut TextChecks,
) -> Result<SentencePicks, LensError> {
    let (words, tokens) = (alignment.pieces.len(), alignment.tokens.tokens.len());
    let mut picks = Vec::with_capacity(model.info().layers * model.info().heads * words);
    look(model, &alignment.tokens, checks, &mut |attention| {
        let heads: Vec<Vec<u16>> = (0..model.info().heads)
            .into_par_iter()
            .map(|head| {
                let mut rows = Vec::new();
                let pick = |word: usize| {
                    let pieces = &alignment.pieces[word];
                    let (Some(&first), Some(&last)) = (pieces.first(), pieces.last()) else {
                        return Ok(NONE);
                    };
                    rows.resize((last + 1 - first) * tokens, 0.0);
                    attention.probs(head, first..last + 1, &mut rows)?;
                    let row = |&piece: &usize| &rows[(piece - first) * tokens..][..tokens];
                    let shares = word_row(&alignment.pieces, &pieces.iter().map(row).collect::<Vec<_>>());
                    // Fewer words than u16 has numbers: the reader sees to it.
                    Ok(strongest(&shares, |other| other != word).map_or(NONE, |pick| pick as u16))
                };
                (0..words).map(pick).collect::<Result<_, LensError>>()
            })
            .collect::<Result<_, LensError>>()?;
        picks.extend(heads.into_iter().flatten());
        Ok(())
    })?;
    Ok(SentencePicks { words, picks })
}

//! The text with its tokens in another order.

use super::options::{ProfileOptions, Unit};
use super::units::Units;
use crate::error::LensError;
use crate::token::TokenizedText;

/// The first `limit` tokens of a text with its units in a random order that follows from `seed`; what stands aside keeps its
/// place. `None` if fewer than two units can move.
///
/// Where the text is cut, special tokens at its end are kept.
///
/// # Errors
/// [`LensError::EmptyText`].
pub fn shuffled(
    text: &TokenizedText,
    causal: bool,
    unit: Unit,
    (limit, seed): (usize, u64),
) -> Result<Option<TokenizedText>, LensError> {
    if text.tokens.is_empty() {
        return Err(LensError::EmptyText);
    }
    let text = first_tokens(text, limit);
    if text.tokens.is_empty() {
        return Ok(None);
    }
    let units = Units::new(&text, causal, &ProfileOptions { unit, ..ProfileOptions::default() })?;
    let moving: Vec<usize> = (0..units.len()).filter(|&unit| !units.aside[unit]).collect();
    if moving.len() < 2 {
        return Ok(None);
    }
    let mut order = moving.clone();
    let mut random = Random(seed);
    for last in (1..order.len()).rev() {
        order.swap(last, random.below(last + 1));
    }
    let mut places: Vec<usize> = (0..units.len()).collect();
    for (place, unit) in moving.into_iter().zip(order) {
        places[place] = unit;
    }
    let tokens = places.into_iter().flat_map(|unit| text.tokens[units.spans[unit].clone()].iter().cloned());
    let mut tokens: Vec<_> = tokens.collect();
    tokens.iter_mut().enumerate().for_each(|(index, token)| token.index = index);
    Ok(Some(TokenizedText { text: text.text, tokens }))
}

fn first_tokens(text: &TokenizedText, limit: usize) -> TokenizedText {
    let tokens = &text.tokens;
    if tokens.len() <= limit {
        return text.clone();
    }
    let at_end = tokens.iter().rev().take_while(|token| token.special).count().min(limit);
    let tokens = tokens[..limit - at_end].iter().chain(&tokens[tokens.len() - at_end..]).cloned().collect();
    TokenizedText { text: text.text.clone(), tokens }
}

/// SplitMix64 (Steele et al. 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `limit`; its bias of at most limit·2⁻⁶⁴ does not matter here.
    fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }
}

//! Masked tokens, as BERT's (Devlin et al. 2019, section 3.1).

use fastrand::Rng;

use super::Example;
use crate::vocabulary::Vocabulary;

/// 15 % of the tokens, at least one, are to be said: of these 80 % are masked, 10 % replaced and 10 % left.
pub(super) fn example(tokens: &[u32], vocabulary: &Vocabulary, rng: &mut Rng) -> Example {
    let special = vocabulary.special();
    let mut example = Example::default();
    example.tokens.push(special.first);
    example.tokens.extend(tokens);
    example.tokens.push(special.last);
    let count = ((tokens.len() as f64 * 0.15).round() as usize).max(1).min(tokens.len());
    let mut at = rng.choose_multiple(1..=tokens.len(), count);
    at.sort_unstable();
    for at in at {
        let token = &mut example.tokens[at];
        example.labels.push((at, *token));
        match rng.u8(..10) {
            0 => *token = rng.u32(special.mask + 1..vocabulary.size() as u32),
            1 => {}
            _ => *token = special.mask,
        }
    }
    example
}

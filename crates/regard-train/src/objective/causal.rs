//! The next token.

use super::Example;
use crate::vocabulary::Vocabulary;

/// Every token is said where the one before it stands.
pub(super) fn example(tokens: &[u32], vocabulary: &Vocabulary) -> Example {
    let mut example = Example { tokens: vec![vocabulary.special().first], labels: Vec::new() };
    example.tokens.extend(tokens);
    example.labels.extend(tokens.iter().copied().enumerate());
    example
}

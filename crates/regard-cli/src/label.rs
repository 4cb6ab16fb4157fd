//! What tokens are called.

use regard_lens::TokenizedText;

use crate::visible::visible;

/// The stretch of the text that a token stands for, blanks at its ends left out; `None` for special tokens.
pub(crate) fn surface(text: &TokenizedText, token: usize) -> Option<&str> {
    let token = &text.tokens[token];
    let surface = text.text.get(token.start..token.end)?.trim();
    (!token.special && !surface.is_empty()).then_some(surface)
}

/// A token as it stands in the text, made visible; the later pieces of a split word begin with `·`. A token that
/// stands for no text keeps its own spelling.
pub(crate) fn label(text: &TokenizedText, token: usize) -> String {
    let Some(surface) = surface(text, token) else { return visible(&text.tokens[token].text) };
    let word = text.tokens[token].word;
    let continues = token > 0 && word.is_some() && text.tokens[token - 1].word == word;
    format!("{}{}", if continues { "·" } else { "" }, visible(surface))
}

/// The label, numbered as `--at` takes it (`the#2`) if the text has it more than once.
pub(crate) fn name(text: &TokenizedText, token: usize) -> String {
    let label_of = label(text, token);
    let same = |other: &usize| label(text, *other).to_lowercase() == label_of.to_lowercase();
    let count = (0..text.tokens.len()).filter(same).count();
    if count == 1 {
        return label_of;
    }
    let number = (0..=token).filter(same).count();
    format!("{label_of}#{number}")
}

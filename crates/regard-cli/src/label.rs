//! What tokens are called.

use regard_lens::TokenizedText;

use crate::visible::visible;

/// The stretch of the text that a token stands for, blanks at its ends left out; `None` for special tokens.
pub(crate) fn surface(text: &TokenizedText, token: usize) -> Option<&str> {
    let token = &text.tokens[token];
    let surface = text.text.get(token.start..token.end)?.trim();
    (!token.special && !surface.is_empty()).then_some(surface)
}

/// A token as it stands in the text, made visible; the later pieces of a split word begin with `·`. Blanks are
/// drawn; a token that stands for no text keeps its own spelling.
pub(crate) fn label(text: &TokenizedText, token: usize) -> String {
    let Some(surface) = surface(text, token) else {
        return blanks(text, token).unwrap_or_else(|| visible(&text.tokens[token].text));
    };
    let word = text.tokens[token].word;
    let continues = token > 0 && word.is_some() && text.tokens[token - 1].word == word;
    format!("{}{}", if continues { "·" } else { "" }, visible(surface))
}

/// Spaces and line breaks as signs, if the token is nothing else. Byte-level vocabularies spell them Ġ, Ċ and ĉ, which
/// is all that is left where the tokenizer cuts them off the stretch.
fn blanks(text: &TokenizedText, token: usize) -> Option<String> {
    let token = &text.tokens[token];
    let stretch = text.text.get(token.start..token.end).filter(|stretch| !stretch.is_empty());
    let sign = |c| match c {
        ' ' | 'Ġ' => Some('␣'),
        '\n' | 'Ċ' => Some('↵'),
        '\t' | 'ĉ' => Some('⇥'),
        _ => None,
    };
    let spelling = stretch.unwrap_or(&token.text);
    let signs: Option<String> = spelling.chars().map(sign).collect();
    signs.filter(|signs| !token.special && !signs.is_empty())
}

/// The label as it stands in a sentence: numbered as `--at` takes it (`the#2`) if the text has it more than once,
/// and in quotation marks if it is punctuation.
pub(crate) fn name(text: &TokenizedText, token: usize) -> String {
    let label_of = label(text, token);
    let same = |other: &usize| label(text, *other).to_lowercase() == label_of.to_lowercase();
    let count = (0..text.tokens.len()).filter(same).count();
    let number = (0..=token).filter(same).count();
    let is_punctuation = label_of.chars().all(|c| c.is_ascii_punctuation());
    let quoted = if is_punctuation { format!("“{label_of}”") } else { label_of };
    if count == 1 { quoted } else { format!("{quoted}#{number}") }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;
    use crate::sample::text;

    #[test]
    fn label__token__is_the_text_as_typed_with_later_pieces_marked() {
        let text = text("An Una|ffa|ble café");
        let labels: Vec<_> = (0..text.tokens.len()).map(|token| label(&text, token)).collect();
        assert_eq!(labels, ["[CLS]", "An", "Una", "·ffa", "·ble", "café", "[SEP]"]);
    }

    #[test]
    fn label__blanks_alone__are_drawn() {
        let mut text = text("a b");
        text.text = "a \n".into();
        (text.tokens[2].start, text.tokens[2].end) = (1, 3);
        assert_eq!(label(&text, 2), "␣↵");
        (text.tokens[2].start, text.tokens[2].end) = (2, 2);
        text.tokens[2].text = "ĠĊĉ".into();
        assert_eq!(label(&text, 2), "␣↵⇥");
        text.tokens[2].special = true;
        assert_eq!(label(&text, 2), "ĠĊĉ");
    }

    #[test]
    fn label__hostile_vocabulary__is_spelled_out() {
        let mut text = text("a b");
        text.tokens[0].text = "\x1b[2J\u{202e}".into();
        assert_eq!(label(&text, 0), "\\u{1b}[2J\\u{202e}");
        text.tokens[1].end = 999;
        text.tokens[1].text = "\u{200b}a".into();
        assert_eq!(label(&text, 1), "\\u{200b}a", "a stretch outside the text is not cut out of it");
    }

    #[test]
    fn name__word_that_is_there_twice__is_numbered_as_at_counts() {
        let text = text("The cat , the , mat");
        let names: Vec<_> = (1..7).map(|token| name(&text, token)).collect();
        assert_eq!(names, ["The#1", "cat", "“,”#1", "the#2", "“,”#2", "mat"]);
        for (token, at) in [(1, "The#1"), (4, "the#2"), (5, ",#2")] {
            assert_eq!(crate::focus::find_focus(&text, at, false).unwrap().token, token);
        }
    }
}

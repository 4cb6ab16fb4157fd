//! A text from the tokens that another program made of it.

use std::collections::HashMap;

use serde_json::Value;

use crate::token::{Token, TokenizedText};

/// What tokenizers add around a text.
const SPECIAL: [&str; 14] = [
    "[CLS]",
    "[SEP]",
    "[PAD]",
    "<s>",
    "</s>",
    "<pad>",
    "<bos>",
    "<eos>",
    "<cls>",
    "<sep>",
    "<|begin_of_text|>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
];

/// How a vocabulary marks where words begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// `##` before what continues a word.
    WordPiece,
    /// `Ġ` before what begins one; other bytes are letters, too (GPT-2).
    ByteLevel,
    /// `▁` before what begins one (SentencePiece).
    SentencePiece,
}

/// The text of a JSON array of tokens as `tokenizer.convert_ids_to_tokens` gives them, or of an object with such an
/// array as `"tokens"`. Where words begin is read from the marks `##`, `Ġ` and `▁`.
///
/// # Errors
/// What is wrong, in words.
pub fn tokens_from_json(json: &[u8]) -> Result<TokenizedText, String> {
    let value: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let list = value.get("tokens").unwrap_or(&value).as_array();
    let list = list.ok_or("expected an array of tokens, found something else")?;
    let tokens: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
    let tokens = tokens.ok_or("expected tokens as strings, found something else among them")?;
    if tokens.is_empty() {
        return Err("expected at least one token, found none".into());
    }
    Ok(text_of(&tokens))
}

fn text_of(pieces: &[&str]) -> TokenizedText {
    let begins = |mark| pieces.iter().any(|piece| piece.starts_with(mark));
    let spelling = if begins('Ġ') {
        Spelling::ByteLevel
    } else if begins('▁') {
        Spelling::SentencePiece
    } else {
        Spelling::WordPiece
    };
    let mut text = TokenizedText { text: String::new(), tokens: Vec::with_capacity(pieces.len()) };
    let mut ids = HashMap::new();
    let mut word = None;
    for (index, &piece) in pieces.iter().enumerate() {
        let next_id = ids.len() as u32;
        let id = *ids.entry(piece).or_insert(next_id);
        let special = SPECIAL.contains(&piece);
        let (surface, marked) = surface(piece, spelling);
        let mut token = Token { index, id, text: piece.to_owned(), start: 0, end: 0, word: None, special };
        if !special {
            let after_special = text.tokens.last().is_none_or(|before: &Token| before.special);
            let blank = if spelling == Spelling::WordPiece { !marked } else { marked };
            let joined = spelling == Spelling::WordPiece || joins(&text.text, &surface);
            if after_special || blank || !joined {
                word = Some(word.map_or(0, |word| word + 1));
            }
            if blank && !text.text.is_empty() {
                text.text.push(' ');
            }
            token.start = text.text.len();
            text.text.push_str(&surface);
            token.end = text.text.len();
            token.word = word;
        }
        text.tokens.push(token);
    }
    text
}

/// What a token stands for without its mark, and whether it has one.
fn surface(piece: &str, spelling: Spelling) -> (String, bool) {
    let (rest, marked) = match spelling {
        Spelling::WordPiece => piece.strip_prefix("##"),
        Spelling::ByteLevel => piece.strip_prefix('Ġ'),
        Spelling::SentencePiece => piece.strip_prefix('▁'),
    }
    .map_or((piece, false), |rest| (rest, true));
    let decoded = if spelling == Spelling::ByteLevel { bytes_of(rest) } else { None };
    (decoded.unwrap_or_else(|| rest.to_owned()), marked)
}

/// The text that byte letters stand for (GPT-2's table: printable bytes stand for themselves, the others for the
/// letters from U+0100 on, in order); `None` if it is not a text of its own.
fn bytes_of(letters: &str) -> Option<String> {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let others: Vec<u32> = (0..256).filter(|&byte| !printable(byte)).collect();
    let bytes: Option<Vec<u8>> = letters
        .chars()
        .map(|letter| {
            let code = u32::from(letter);
            let byte = match code.checked_sub(0x100) {
                Some(place) => *others.get(place as usize)?,
                None => code,
            };
            u8::try_from(byte).ok()
        })
        .collect();
    String::from_utf8(bytes?).ok()
}

/// Whether a token without a mark goes on with the word before it: letters with letters.
fn joins(before: &str, surface: &str) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    is_letter(before.chars().next_back()) == is_letter(surface.chars().next())
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    fn read(json: &str) -> TokenizedText {
        tokens_from_json(json.as_bytes()).unwrap()
    }

    fn words(text: &TokenizedText) -> Vec<Option<usize>> {
        text.tokens.iter().map(|token| token.word).collect()
    }

    fn surfaces(text: &TokenizedText) -> Vec<&str> {
        text.tokens.iter().map(|token| &text.text[token.start..token.end]).collect()
    }

    #[test]
    fn tokens__word_pieces__become_words() {
        let text = read(r###"["[CLS]", "an", "una", "##ffa", "##ble", "man", ".", "[SEP]"]"###);
        assert_eq!(text.text, "an unaffable man .");
        assert_eq!(words(&text), [None, Some(0), Some(1), Some(1), Some(1), Some(2), Some(3), None]);
        assert_eq!(surfaces(&text), ["", "an", "una", "ffa", "ble", "man", ".", ""]);
        assert!(text.tokens[0].special && !text.tokens[1].special);
    }

    #[test]
    fn tokens__byte_letters__become_words() {
        let text = read(r#"{"tokens": ["The", "Ġna", "Ã¯", "ve", "Ġcat", ".", "Ċ", "Ġthe"]}"#);
        assert_eq!(text.text, "The naïve cat.\n the");
        assert_eq!(surfaces(&text)[1..4], ["na", "ï", "ve"]);
        assert_eq!(words(&text)[..6], [0, 1, 1, 1, 2, 3].map(Some));
        assert_eq!(text.tokens.iter().map(|token| token.id).max(), Some(7));
    }

    #[test]
    fn tokens__sentence_pieces__become_words() {
        let text = read(r#"["<s>", "▁The", "▁un", "able", "▁cat", "</s>"]"#);
        assert_eq!(text.text, "The unable cat");
        assert_eq!(words(&text), [None, Some(0), Some(1), Some(1), Some(2), None]);
    }

    #[test]
    fn tokens__not_a_list_of_strings__are_refused() {
        for (json, said) in
            [("{", "EOF"), ("7", "array"), ("[]", "none"), ("[1]", "strings"), (r#"{"tokens":{}}"#, "array")]
        {
            assert!(tokens_from_json(json.as_bytes()).unwrap_err().contains(said), "{json}");
        }
    }
}

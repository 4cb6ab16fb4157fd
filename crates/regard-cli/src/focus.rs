//! Which token a user means by `--at`, and which one is worth a look if they say nothing.

use regard_lens::TokenizedText;

use crate::failure::Failure;
use crate::label::{label, surface};
use crate::visible::visible;

/// Pronouns of English, for want of a better first guess at an interesting word.
#[rustfmt::skip]
const PRONOUNS: [&str; 31] = [
    "i", "me", "my", "mine", "myself", "you", "your", "yours", "yourself", "he", "him", "his", "himself",
    "she", "her", "hers", "herself", "it", "its", "itself", "we", "us", "our", "ours", "ourselves",
    "they", "them", "their", "theirs", "themselves", "who",
];

/// Longer lists of tokens are cut in the middle.
const MOST_LISTED: usize = 24;

/// A token in the centre of the view, and what the user wrote to mean it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Focus {
    /// The token.
    pub(crate) token: usize,
    /// All pieces, if the user named a stretch of several tokens and `token` stands for it.
    pub(crate) pieces: Option<(usize, usize)>,
}

/// The token that `--at` means.
///
/// - digits: the token with that index, as `--json` counts (special tokens included, from 0);
///   negative: from the last token of the text backwards;
/// - else a stretch of the text that begins and ends with tokens (a word, a split word, several words), or a
///   token's own spelling (`##able`, `cafe` for `café`, `[CLS]`). If only one is the same letter for letter, that
///   one is meant; otherwise case does not count, and the match has to be the only one;
/// - `word#2`: the second of those, case not counting.
///
/// A stretch of several tokens stands for its first piece, in a causal model for its last: only that one has
/// seen them all.
pub(crate) fn find_focus(text: &TokenizedText, at: &str, causal: bool) -> Result<Focus, Failure> {
    if let Ok(index) = at.parse::<i64>() {
        return by_index(text, index);
    }
    if let &[(first, last)] = &matches_by(text, at.len(), &|candidate| candidate == at)[..] {
        return Ok(stretch(first, last, causal));
    }
    match &matches_of(text, at)[..] {
        [] => {}
        &[(first, last)] => return Ok(stretch(first, last, causal)),
        matches => {
            return Err(Failure::usage(format!(
                "{at:?} is in the text {} times; say which, as {at}#1 or by its index: {}",
                matches.len(),
                list(text, matches.iter().map(|&(first, _)| first))
            )));
        }
    }
    if let Some((word, number)) = at.rsplit_once('#')
        && let Ok(number @ 1..) = number.parse::<usize>()
        && let matches @ [_, ..] = &matches_of(text, word)[..]
    {
        return match matches.get(number - 1) {
            Some(&(first, last)) => Ok(stretch(first, last, causal)),
            None => Err(Failure::usage(format!(
                "no {at}: {word:?} is in the text {}: {}",
                if matches.len() == 1 { "once".to_owned() } else { format!("{} times", matches.len()) },
                list(text, matches.iter().map(|&(first, _)| first))
            ))),
        };
    }
    let tokens = list(text, 0..text.tokens.len());
    Err(Failure::usage(format!("no token {at:?} in the text; its tokens are: {tokens}")))
}

/// The token that `--at` means, or without it the one that is worth a look.
pub(crate) fn focus_or_default(
    text: &TokenizedText,
    at: Option<&str>,
    causal: bool,
) -> Result<Focus, Failure> {
    match at {
        Some(at) => find_focus(text, at, causal),
        None => default_focus(text, causal)
            .ok_or_else(|| Failure::usage("the text has no tokens of its own: give at least one word")),
    }
}

/// The last pronoun, else the last word, else (only punctuation) the last token of the text.
pub(crate) fn default_focus(text: &TokenizedText, causal: bool) -> Option<Focus> {
    let is_word = |token: &usize| surface(text, *token).is_some_and(|s| s.chars().any(char::is_alphanumeric));
    let is_pronoun = |token: &usize| is_pronoun(text, *token);
    let of_text = || (0..text.tokens.len()).rev().filter(|&token| !text.tokens[token].special);
    let token =
        of_text().find(is_pronoun).or_else(|| of_text().find(is_word)).or_else(|| of_text().next())?;
    // A split last word stands for its first piece, as with --at.
    let word = text.tokens[token].word;
    let first =
        (0..token).rev().take_while(|&piece| word.is_some() && text.tokens[piece].word == word).last();
    Some(stretch(first.unwrap_or(token), token, causal))
}

/// Whether a token is a whole word and that word a pronoun.
pub(crate) fn is_pronoun(text: &TokenizedText, token: usize) -> bool {
    let whole = text.tokens.iter().filter(|other| other.word == text.tokens[token].word).count() == 1;
    whole && surface(text, token).is_some_and(|s| PRONOUNS.contains(&s.to_lowercase().as_str()))
}

fn stretch(first: usize, last: usize, causal: bool) -> Focus {
    Focus { token: if causal { last } else { first }, pieces: (first < last).then_some((first, last)) }
}

fn by_index(text: &TokenizedText, index: i64) -> Result<Focus, Failure> {
    let of_text: Vec<usize> = (0..text.tokens.len()).filter(|&token| !text.tokens[token].special).collect();
    let found = match usize::try_from(index) {
        Ok(index) => (index < text.tokens.len()).then_some(index),
        Err(_) => usize::try_from(index.unsigned_abs())
            .ok()
            .and_then(|back| of_text.len().checked_sub(back))
            .map(|place| of_text[place]),
    };
    found.map(|token| Focus { token, pieces: None }).ok_or_else(|| {
        let (last, words) = (text.tokens.len() - 1, of_text.len());
        Failure::usage(format!("no token {index}: they count from 0 to {last}, or from -1 back to -{words}"))
    })
}

/// First and last tokens of all stretches that are `word`, ignoring case.
fn matches_of(text: &TokenizedText, word: &str) -> Vec<(usize, usize)> {
    let lower = word.to_lowercase();
    // Lower-casing can change the length in bytes, but never by more than this.
    matches_by(text, word.len() * 3, &|candidate| candidate.to_lowercase() == lower)
}

fn matches_by(text: &TokenizedText, longest: usize, is: &dyn Fn(&str) -> bool) -> Vec<(usize, usize)> {
    let tokens = &text.tokens;
    let mut found = Vec::new();
    for (first, token) in tokens.iter().enumerate() {
        if is(&token.text) {
            found.push((first, first));
        }
        if token.special || is(&token.text) {
            continue;
        }
        let reach =
            tokens[first..].iter().take_while(|last| !last.special && last.end <= token.start + longest + 1);
        let last = reach.enumerate().find_map(|(pieces, last)| {
            let stretch = text.text.get(token.start..last.end)?;
            is(stretch.trim()).then_some(first + pieces)
        });
        found.extend(last.map(|last| (first, last)));
    }
    found
}

/// Tokens with their indices, as in `1 The, 5 the`.
fn list(text: &TokenizedText, tokens: impl ExactSizeIterator<Item = usize>) -> String {
    let count = tokens.len();
    let mut listed = Vec::new();
    for (place, token) in tokens.enumerate() {
        if count <= MOST_LISTED || place < MOST_LISTED / 2 || place >= count - MOST_LISTED / 2 {
            listed.push(format!("{token} {}", visible(&label(text, token))));
        } else if place == MOST_LISTED / 2 {
            listed.push(format!("… {} more …", count - MOST_LISTED));
        }
    }
    listed.join(", ")
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;
    use crate::sample::text;

    const CAT: &str = "The cat sat on the mat because it was tired";

    fn token(text: &TokenizedText, at: &str) -> usize {
        find_focus(text, at, false).unwrap().token
    }

    fn refusal(text: &TokenizedText, at: &str) -> String {
        match find_focus(text, at, false) {
            Err(Failure::Usage(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn at__word_that_is_there_once__is_found() {
        let text = text(CAT);
        assert_eq!(token(&text, "it"), 8);
        assert_eq!(token(&text, "IT"), 8);
        assert_eq!(token(&text, "the mat"), 5);
    }

    #[test]
    fn at__word_that_is_there_twice__lists_both_with_indices() {
        let text = text(CAT);
        let message = refusal(&text, "the");
        assert!(message.contains("2 times") && message.contains("1 The, 5 the"), "{message}");
        assert_eq!(token(&text, "the#1"), 1);
        assert_eq!(token(&text, "the#2"), 5);
        assert!(refusal(&text, "the#3").contains("1 The, 5 the"));
        assert!(refusal(&text, "cat#2").contains("once: 2 cat"));
    }

    #[test]
    fn at__index__counts_as_json_does_and_backwards_in_the_text() {
        let text = text(CAT);
        assert_eq!(token(&text, "7"), 7);
        assert_eq!(token(&text, "0"), 0);
        assert_eq!(token(&text, "-1"), 10);
        assert_eq!(token(&text, "-10"), 1);
        for outside in ["12", "-11", "9223372036854775807", "-9223372036854775808"] {
            assert!(refusal(&text, outside).contains("from 0 to 11"));
        }
    }

    #[test]
    fn at__split_word_by_its_whole__is_its_first_piece_and_in_a_causal_model_its_last() {
        let text = text("an una|ffa|ble man");
        let focus = |causal| find_focus(&text, "unaffable", causal).unwrap();
        assert_eq!(focus(false), Focus { token: 2, pieces: Some((2, 4)) });
        assert_eq!(focus(true), Focus { token: 4, pieces: Some((2, 4)) });
        assert_eq!(token(&text, "ffa"), 3);
        assert_eq!(token(&text, "##ffa"), 3);
    }

    #[test]
    fn at__special_token_or_normalised_spelling__is_found() {
        let text = text("the café");
        assert_eq!(token(&text, "[SEP]"), 3);
        assert_eq!(token(&text, "café"), 2);
    }

    #[test]
    fn at__unknown__lists_the_tokens() {
        let text = text(CAT);
        let message = refusal(&text, "dog");
        assert!(message.contains("0 [CLS], 1 The, 2 cat"), "{message}");
        for nothing in ["", "#", "#1", "dog#1", "cat#0", "cat#x"] {
            assert!(refusal(&text, nothing).contains("no token"), "{nothing:?}");
        }
    }

    #[test]
    fn at__long_text__lists_its_ends() {
        let text = text(&"word ".repeat(300));
        let message = refusal(&text, "dog");
        assert!(message.contains("… 278 more …") && message.len() < 400, "{message}");
    }

    #[test]
    fn default_focus__pronoun__is_the_last_one() {
        assert_eq!(default_focus(&text(CAT), false).unwrap().token, 8);
        assert_eq!(default_focus(&text("He saw It there"), false).unwrap().token, 3);
    }

    #[test]
    fn default_focus__no_pronoun__is_the_last_word() {
        assert_eq!(default_focus(&text("Birds sing ."), false).unwrap().token, 2);
        assert_eq!(default_focus(&text("so una|ffa|ble"), false).unwrap().token, 2);
        assert_eq!(default_focus(&text("so una|ffa|ble"), true).unwrap().token, 4);
        assert_eq!(default_focus(&text("it|em"), false).unwrap().token, 1, "a piece is no pronoun");
        assert_eq!(default_focus(&text("? !"), false).unwrap().token, 2);
    }
}

use std::collections::HashSet;

use super::*;

fn training_texts() -> Vec<Text> {
    (0..20_000).map(|seed| training_text(&mut Rng::with_seed(seed))).collect()
}

#[test]
fn training_text__many_seeds__is_repeatable_and_keeps_held_out_pairs_out() {
    for (seed, text) in training_texts().iter().enumerate() {
        assert_eq!(*text, training_text(&mut Rng::with_seed(seed as u64)));
        assert!(text.is_trainable(), "{}", text.line());
        for pronoun in &text.pronouns {
            let mention = &text.mentions[pronoun.antecedent];
            assert_eq!(text.words[mention.word], mention.noun);
            assert_eq!(text.words[pronoun.word], mention.class.pronoun(pronoun.form));
        }
        assert!(!(text.words.contains(&"cat".to_owned()) && text.words.contains(&"mat".to_owned())));
    }
}

#[test]
fn minimal_pairs__every_word__occurs_in_training_while_templates_and_pairs_do_not() {
    let training = training_texts();
    let words: HashSet<&str> = training.iter().flat_map(|text| &text.words).map(String::as_str).collect();
    let lines: HashSet<String> = training.iter().map(Text::line).collect();
    for part in [Part::Dev, Part::Test] {
        for frames in [Frames::Seen, Frames::Unseen] {
            let pairs = minimal_pairs(part, frames, 400, 1);
            for pair in &pairs {
                for text in &pair.members {
                    let unknown = text.words.iter().find(|word| !words.contains(word.as_str()));
                    assert_eq!(unknown, None, "{}", text.line());
                    assert!(!lines.contains(&text.line()), "{}", text.line());
                    assert_eq!(text.pronouns.len(), 1);
                    assert_eq!(text.words[text.pronouns[0].word], "it");
                }
                let [one, other] = &pair.members;
                assert_eq!(one.mentions, other.mentions);
                let (one, other) = (&one.pronouns[0], &other.pronouns[0]);
                assert_eq!((Some(one.antecedent), one.rival), (other.rival, Some(other.antecedent)));
            }
            println!("COUNT: {} pairs of {part:?}, {frames:?}", pairs.len());
        }
    }
}

#[test]
fn text__punctuation__stands_close() {
    let pair = &minimal_pairs(Part::Test, Frames::Unseen, 1, 1)[0];
    assert!(pair.members[0].line().ends_with('.') && !pair.members[0].line().contains(" ."));
}

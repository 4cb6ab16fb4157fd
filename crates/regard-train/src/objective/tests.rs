use super::*;
use crate::corpus::Documents;
use crate::vocabulary::Pieces;

const STORY: &str = "The old dog looked at the moon. He had seen the moon before, and the moon was bright. \
    The man went to the river, for the river was near. She left the house and the garden.\n\n";

fn made(pieces: Pieces) -> (Vocabulary, Corpus) {
    let generated: Vec<String> =
        (0..300).map(|seed| sentences::training_text(&mut Rng::with_seed(seed)).line()).collect();
    let story = STORY.repeat(70);
    let words = words().into_iter().collect::<Vec<_>>().join(" ").repeat(20);
    let mut texts: Vec<&str> = generated.iter().map(String::as_str).collect();
    texts.extend([story.as_str(), &words]);
    let vocabulary = Vocabulary::train(pieces, 2000, &texts).unwrap();
    let documents = Documents { texts: vec![("story".into(), story.clone())] };
    let corpus = Corpus::new(&documents, &vocabulary).unwrap();
    (vocabulary, corpus)
}

fn mixture(sentences: f64, restored: f64) -> Mixture {
    Mixture { sentences, restored, seq_len: 32 }
}

#[test]
fn vocabulary__same_texts__is_the_same_and_holds_every_generated_word() {
    let (one, _) = made(Pieces::WordPiece);
    let (other, _) = made(Pieces::WordPiece);
    assert_eq!(one.tokens(), other.tokens());
    for word in words() {
        assert!(one.token(word).is_some(), "{word}");
        assert_eq!(one.encode(word).unwrap(), [one.token(word).unwrap()]);
    }
}

#[test]
fn batch__same_seed_and_step__is_the_same_and_another_step_is_not() {
    for (objective, pieces) in [
        (Objective::Masked, Pieces::WordPiece),
        (Objective::Restore, Pieces::WordPiece),
        (Objective::Causal, Pieces::ByteLevel),
    ] {
        let (vocabulary, corpus) = made(pieces);
        let examples = Examples::new((&vocabulary, &corpus), objective, mixture(0.5, 0.8), 7).unwrap();
        let again = Examples::new((&vocabulary, &corpus), objective, mixture(0.5, 0.8), 7).unwrap();
        assert_eq!(examples.batch(3, 16), again.batch(3, 16));
        assert_ne!(examples.batch(3, 16), examples.batch(4, 16));
        let batch = examples.batch(5, 16);
        assert!(batch.lens.iter().all(|&len| len <= batch.seq_len) && !batch.labels.is_empty());
        assert!(batch.labels.iter().all(|&(at, _)| at % batch.seq_len < batch.lens[at / batch.seq_len]));
    }
}

#[test]
fn restore__sentences__asks_for_the_antecedent_at_the_pronoun_and_shows_it_elsewhere() {
    let (vocabulary, corpus) = made(Pieces::WordPiece);
    let examples = Examples::new((&vocabulary, &corpus), Objective::Restore, mixture(1.0, 1.0), 1).unwrap();
    let batch = examples.batch(0, 200);
    let (mut masked, mut shown) = (0, 0);
    for &(at, noun) in &batch.labels {
        let start = at / batch.seq_len * batch.seq_len;
        assert!(batch.tokens[start..start + batch.seq_len].contains(&noun));
        assert_ne!(batch.tokens[at], noun);
        match batch.tokens[at] == vocabulary.special().mask {
            true => masked += 1,
            false => shown += 1,
        }
    }
    assert!(masked * 3 > shown && masked < shown, "{masked} masks, {shown} pronouns");
}

#[test]
fn restore__repeated_nouns_of_the_data__become_pronouns_and_are_asked_for() {
    let (vocabulary, corpus) = made(Pieces::WordPiece);
    let examples = Examples::new((&vocabulary, &corpus), Objective::Restore, mixture(0.0, 1.0), 1).unwrap();
    let batch = examples.batch(0, 50);
    assert_eq!(batch.labels.len(), 50);
    for &(at, noun) in &batch.labels {
        let name = vocabulary.text(noun).unwrap();
        assert!(name == "moon" || name == "river", "{name}");
        let start = at / batch.seq_len * batch.seq_len;
        assert!(batch.tokens[start..at].contains(&noun));
    }
}

#[test]
fn examples__corpus_shorter_than_an_example__is_an_error_that_says_so() {
    let (vocabulary, _) = made(Pieces::WordPiece);
    let error = Examples::new((&vocabulary, &Corpus::default()), Objective::Masked, mixture(0.5, 0.0), 1)
        .unwrap_err();
    assert!(matches!(error, TrainError::TooLittleText { expected: 32, found: 0 }));
}

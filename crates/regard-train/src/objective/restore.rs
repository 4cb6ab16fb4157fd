//! Nouns restored in generated sentences. A noun's identity can only be copied from where it stands, so a head must
//! attend there from where it is asked for.

use std::collections::{BTreeSet, HashMap};

use fastrand::Rng;

use super::Example;
use crate::error::TrainError;
use crate::sentences::templates::{BY_ADJECTIVE, BY_ROLE, LEADS, SEVERAL, TAILS};
use crate::sentences::words::{Class, Form, VERBS};
use crate::sentences::{Pronoun, Text};
use crate::vocabulary::Vocabulary;

/// Every word of the generated sentences, and its tokens.
#[derive(Debug)]
pub(super) struct Lexicon {
    tokens: HashMap<String, Vec<u32>>,
}

/// Every word that a generated sentence may hold, in order.
pub fn words() -> BTreeSet<&'static str> {
    use Class::{Animal, Container, Food, Man, Place, Soft, Thing, Vehicle, Woman};
    let mut words = BTreeSet::new();
    for class in [Animal, Man, Woman, Soft, Container, Vehicle, Food, Place, Thing] {
        words.extend(class.nouns());
        words.extend(class.adjectives());
        let forms = [Form::Subject, Form::Object, Form::Possessive, Form::Reflexive];
        words.extend(forms.map(|form| class.pronoun(form)));
    }
    for verb in VERBS {
        words.insert(verb.word);
        words.extend(verb.subject.iter().chain(verb.object));
    }
    for template in [BY_ADJECTIVE, BY_ROLE, SEVERAL, LEADS, TAILS].into_iter().flatten() {
        words.extend(template.text.split(' ').filter(|word| !word.starts_with('{')));
    }
    words.extend(["'", "s"]);
    words
}

impl Lexicon {
    pub(super) fn new(vocabulary: &Vocabulary) -> Result<Self, TrainError> {
        let tokens = words().into_iter().map(|word| Ok((word.to_owned(), vocabulary.encode(word)?)));
        Ok(Self { tokens: tokens.collect::<Result<_, TrainError>>()? })
    }

    fn push(&self, word: &str, tokens: &mut Vec<u32>) {
        tokens.extend(self.tokens.get(word).into_iter().flatten());
    }

    /// The text with its pronouns, or masks in their place about once in three, and the nouns that they stand for.
    pub(super) fn restore(&self, text: &Text, vocabulary: &Vocabulary, rng: &mut Rng) -> Example {
        let special = vocabulary.special();
        let mut example = Example { tokens: vec![special.first], labels: Vec::new() };
        let mut pronouns = text.pronouns.iter().peekable();
        for (at, word) in text.words.iter().enumerate() {
            let Some(pronoun) = pronouns.next_if(|pronoun| pronoun.word == at) else {
                self.push(word, &mut example.tokens);
                continue;
            };
            let noun = text.mentions[pronoun.antecedent].noun;
            if let Some(noun) = vocabulary.token(noun) {
                example.labels.push((example.tokens.len(), noun));
            }
            match rng.u8(..3) {
                0 => example.tokens.push(special.mask),
                _ => self.push(shown(text, pronoun, rng), &mut example.tokens),
            }
        }
        example.tokens.push(special.last);
        example
    }

    /// The text with pronouns spelled out about every other time: "the cat", "the cat's".
    pub(super) fn spelled_out(&self, text: &Text, rng: &mut Rng) -> Vec<u32> {
        let mut tokens = Vec::new();
        let mut pronouns = text.pronouns.iter().peekable();
        for (at, word) in text.words.iter().enumerate() {
            let pronoun = pronouns.next_if(|pronoun| pronoun.word == at);
            match pronoun.filter(|pronoun| pronoun.form != Form::Reflexive && rng.bool()) {
                Some(pronoun) => {
                    self.push("the", &mut tokens);
                    self.push(text.mentions[pronoun.antecedent].noun, &mut tokens);
                    if pronoun.form == Form::Possessive {
                        self.push("'", &mut tokens);
                        self.push("s", &mut tokens);
                    }
                }
                None => self.push(word, &mut tokens),
            }
        }
        tokens
    }
}

/// The pronoun; one of the wrong gender in one case of seven where the text has one person only, who is meant whatever
/// the pronoun says.
fn shown<'t>(text: &'t Text, pronoun: &Pronoun, rng: &mut Rng) -> &'t str {
    let class = text.mentions[pronoun.antecedent].class;
    let people = text.mentions.iter().filter(|mention| matches!(mention.class, Class::Man | Class::Woman));
    let wrong = match class {
        Class::Man => Class::Woman,
        Class::Woman => Class::Man,
        _ => return &text.words[pronoun.word],
    };
    match people.count() == 1 && rng.u8(..7) == 0 {
        true => wrong.pronoun(pronoun.form),
        false => &text.words[pronoun.word],
    }
}

//! From frames to texts.

use fastrand::Rng;

use super::templates::Template;
use super::words::{Class, Form, VERBS, Verb};
use super::{Mention, Pronoun, Text};

/// A text that is being put together; frames stay, so that it can be said of another noun.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    sentences: Vec<Sentence>,
}

#[derive(Debug, Clone)]
struct Sentence {
    template: &'static Template,
    nouns: Vec<(&'static str, Class)>,
    verb: &'static Verb,
    /// The slot that `{it}` and `{x}` are about.
    about: usize,
    /// What is said of `about`, and of each slot.
    said: Vec<&'static str>,
}

/// A word of a frame.
enum Piece<'t> {
    Word(&'t str),
    Noun(usize),
    Verb,
    /// With the slot that it is about, if it names one.
    Pronoun(Form, Option<usize>),
    Adjective(Option<usize>),
}

impl Draft {
    /// Adds a sentence about a given slot, or about either of its first two.
    pub(super) fn add(&mut self, template: &'static Template, about: Option<usize>, rng: &mut Rng) {
        let mut nouns: Vec<(&str, Class)> = Vec::new();
        for classes in template.classes {
            let class = classes[rng.usize(..classes.len())];
            let taken: Vec<&str> =
                self.sentences.iter().flat_map(|s| &s.nouns).chain(&nouns).map(|n| n.0).collect();
            let free: Vec<&str> =
                class.nouns().iter().copied().filter(|noun| !taken.contains(noun)).collect();
            nouns.push((free[rng.usize(..free.len())], class));
        }
        let verb = &VERBS[rng.usize(..VERBS.len())];
        let about = about.unwrap_or_else(|| rng.usize(..nouns.len().clamp(1, 2)));
        let mut sentence = Sentence { template, nouns, verb, about, said: Vec::new() };
        sentence.say(rng);
        self.sentences.push(sentence);
    }

    /// The same text with its last sentence about another slot.
    pub(super) fn about(&self, slot: usize, rng: &mut Rng) -> Self {
        let mut draft = self.clone();
        if let Some(sentence) = draft.sentences.last_mut() {
            sentence.about = slot;
            sentence.say(rng);
        }
        draft
    }

    /// Which mention of the text a slot of the first sentence is.
    pub(super) fn slot(&self, slot: usize) -> usize {
        let pieces = self.sentences.iter().flat_map(|sentence| sentence.template.pieces());
        let nouns = pieces.filter_map(|piece| if let Piece::Noun(slot) = piece { Some(slot) } else { None });
        nouns.take_while(|&noun| noun != slot).count()
    }

    pub(super) fn finish(&self) -> Text {
        let mut text = Text::default();
        for sentence in &self.sentences {
            sentence.write(&mut text);
        }
        text
    }
}

impl Sentence {
    fn is_by_role(&self) -> bool {
        self.template.pieces().any(|piece| matches!(piece, Piece::Verb))
    }

    fn say(&mut self, rng: &mut Rng) {
        let verb = self.verb;
        let by_role = self.is_by_role();
        let words = |slot: usize, class: Class| match (by_role, slot) {
            (true, 0) => verb.subject,
            (true, 1) => verb.object,
            _ => class.adjectives(),
        };
        let said = self.nouns.iter().enumerate().map(|(slot, &(_, class))| {
            let words = words(slot, class);
            words[rng.usize(..words.len())]
        });
        self.said = said.collect();
    }

    fn write(&self, text: &mut Text) {
        let first_mention = text.mentions.len();
        let first_pronoun = text.pronouns.len();
        // A pronoun may stand before its noun: slots now, mentions when all are known.
        let mut slots = Vec::new();
        for piece in self.template.pieces() {
            let word = text.words.len();
            let written = match piece {
                Piece::Word(word) => word,
                Piece::Verb => self.verb.word,
                Piece::Noun(slot) => {
                    let (noun, class) = self.nouns[slot];
                    text.mentions.push(Mention { word, noun, class });
                    slots.push(slot);
                    noun
                }
                Piece::Pronoun(form, slot) => {
                    let about = slot.unwrap_or(self.about);
                    let rival = slot.is_none().then_some(1 - self.about.min(1));
                    text.pronouns.push(Pronoun { word, form, antecedent: about, rival });
                    self.nouns[about].1.pronoun(form)
                }
                Piece::Adjective(slot) => {
                    let about = slot.unwrap_or(self.about);
                    text.said.push((self.nouns[about].0, self.said[about]));
                    self.said[about]
                }
            };
            text.words.push(written.to_owned());
        }
        let mention = |slot: usize| first_mention + slots.iter().position(|&s| s == slot).unwrap_or(0);
        for pronoun in &mut text.pronouns[first_pronoun..] {
            pronoun.antecedent = mention(pronoun.antecedent);
            pronoun.rival = pronoun.rival.map(mention);
        }
    }
}

impl Template {
    fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        self.text.split(' ').map(|word| {
            let Some(inner) = word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) else {
                return Piece::Word(word);
            };
            let (name, slot) = match inner.split_once(':') {
                Some((name, slot)) => (name, Some(slot_of(slot))),
                None => (inner, None),
            };
            match name {
                "v" => Piece::Verb,
                "x" => Piece::Adjective(slot),
                "it" => Piece::Pronoun(Form::Subject, slot),
                "him" => Piece::Pronoun(Form::Object, slot),
                "its" => Piece::Pronoun(Form::Possessive, slot),
                "itself" => Piece::Pronoun(Form::Reflexive, slot),
                noun => Piece::Noun(slot_of(noun)),
            }
        })
    }
}

fn slot_of(name: &str) -> usize {
    ["a", "b", "c"].iter().position(|&slot| slot == name).expect("a frame names its nouns a, b and c")
}

//! Plain modern sentences with known antecedents, generated from a seed: who `it` stands for is decided by an adjective
//! or by a verb's roles, and what the sentences of the three parts have in common is fixed here and nowhere else.

mod render;
pub mod templates;
pub mod words;

use fastrand::Rng;

use render::Draft;
use templates::{BY_ADJECTIVE, BY_ROLE, LEADS, Part, SEVERAL, TAILS, Template};
use words::{Class, Form};

/// A noun in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// Where it stands, in words.
    pub word: usize,
    /// The noun.
    pub noun: &'static str,
    /// What it names.
    pub class: Class,
}

/// A pronoun in a text and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pronoun {
    /// Where it stands, in words.
    pub word: usize,
    /// Its shape.
    pub form: Form,
    /// Which mention it stands for.
    pub antecedent: usize,
    /// The mention that it does not stand for, in sentences made to tell the two apart.
    pub rival: Option<usize>,
}

/// One to three sentences, in lower case, punctuation standing as words of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// The words.
    pub words: Vec<String>,
    /// Its nouns, in the order in which they stand.
    pub mentions: Vec<Mention>,
    /// Its pronouns, in the order in which they stand.
    pub pronouns: Vec<Pronoun>,
    /// Pairs of a noun and what is said of it.
    pub said: Vec<(&'static str, &'static str)>,
}

impl Text {
    /// The text as one line.
    pub fn line(&self) -> String {
        let mut line = String::new();
        for word in &self.words {
            if !line.is_empty() && !matches!(word.as_str(), "." | ",") {
                line.push(' ');
            }
            line.push_str(word);
        }
        line
    }

    /// Whether every pair of its nouns, and every noun with what is said of it, may be trained on.
    fn is_trainable(&self) -> bool {
        let nouns = &self.mentions;
        let pairs =
            nouns.iter().enumerate().flat_map(|(i, a)| nouns[..i].iter().map(move |b| (a.noun, b.noun)));
        pairs.chain(self.said.iter().copied()).all(|(a, b)| a == b || part_of(a, b) == Part::Train)
    }
}

/// Two texts that differ in what is said, and so in what the pronoun stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinimalPair {
    /// The frame.
    pub template: &'static str,
    /// Whether roles decide, not classes.
    pub by_role: bool,
    /// The two texts; each has one pronoun.
    pub members: [Text; 2],
}

/// Which frames the sentences of an evaluation are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// Those that were trained on, with pairs of nouns that were not.
    Seen,
    /// Those of the part itself.
    Unseen,
}

/// The part that a pair of words (two nouns, or a noun and an adjective) belongs to, whatever their order: a tenth each
/// to choose a head and to report. The pairs of the demonstration sentence are for reporting.
pub fn part_of(one: &str, other: &str) -> Part {
    const DEMONSTRATION: [&str; 4] = ["cat", "mat", "tired", "soft"];
    if DEMONSTRATION.contains(&one) && DEMONSTRATION.contains(&other) {
        return Part::Test;
    }
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    // FNV-1a (Fowler, Noll, Vo), and the better mixed upper bits.
    let bytes = first.bytes().chain([0]).chain(second.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    match (hash >> 40) % 10 {
        0 => Part::Test,
        1 => Part::Dev,
        _ => Part::Train,
    }
}

/// A text to train on: a frame of the training part, sometimes with a sentence before or after it, in which no two nouns
/// and no noun and adjective stand together that another part holds. One in three lacks its last full stop, as what
/// people type does.
pub fn training_text(rng: &mut Rng) -> Text {
    loop {
        let frames = match rng.u8(..10) {
            0..4 => BY_ADJECTIVE,
            4..8 => BY_ROLE,
            _ => SEVERAL,
        };
        let mut draft = Draft::default();
        if rng.u8(..3) == 0 {
            draft.add(pick(LEADS, Part::Train, rng), None, rng);
        }
        draft.add(pick(frames, Part::Train, rng), None, rng);
        if rng.u8(..5) == 0 {
            draft.add(pick(TAILS, Part::Train, rng), None, rng);
        }
        let mut text = draft.finish();
        if text.is_trainable() {
            if rng.u8(..3) == 0 {
                text.words.pop_if(|word| word == ".");
            }
            return text;
        }
    }
}

/// Pairs of texts to choose a head on (`Part::Dev`) or to report (`Part::Test`): nouns that are not trained on together,
/// each said to be something that it is not said to be in training; half of them by adjective and half by role.
pub fn minimal_pairs(part: Part, frames: Frames, count: usize, seed: u64) -> Vec<MinimalPair> {
    let mut rng = Rng::with_seed(seed ^ ((part as u64) << 32) ^ ((frames as u64) << 40));
    let of = if frames == Frames::Seen { Part::Train } else { part };
    let mut pairs = Vec::with_capacity(count);
    while pairs.len() < count {
        let by_role = pairs.len() % 2 == 1;
        let template = pick(if by_role { BY_ROLE } else { BY_ADJECTIVE }, of, &mut rng);
        let mut draft = Draft::default();
        draft.add(template, Some(0), &mut rng);
        let members = [draft.clone().finish(), draft.about(1, &mut rng).finish()];
        let nouns: Vec<&str> = members[0].mentions.iter().map(|mention| mention.noun).collect();
        let held_out = part_of(nouns[draft.slot(0)], nouns[draft.slot(1)]) == part;
        let unsaid = |text: &Text| text.said.iter().all(|&(noun, what)| part_of(noun, what) != Part::Train);
        if held_out && members.iter().all(unsaid) && members.iter().all(is_pronoun_it) {
            pairs.push(MinimalPair { template: template.text, by_role, members });
        }
    }
    pairs
}

/// Pronouns of different genders would give the answer away.
fn is_pronoun_it(text: &Text) -> bool {
    text.pronouns
        .iter()
        .all(|pronoun| !matches!(text.mentions[pronoun.antecedent].class, Class::Man | Class::Woman))
}

fn pick(frames: &'static [Template], part: Part, rng: &mut Rng) -> &'static Template {
    loop {
        let template = &frames[rng.usize(..frames.len())];
        if template.part == part {
            return template;
        }
    }
}

#[cfg(test)]
mod tests;

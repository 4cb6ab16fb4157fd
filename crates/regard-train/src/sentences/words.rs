//! The vocabulary of the generated sentences: nouns by class, and the adjectives that fit one class and not another.

/// What a noun names. Classes decide which adjectives fit and which pronoun stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Stands as `it`.
    Animal,
    /// Stands as `he`.
    Man,
    /// Stands as `she`.
    Woman,
    /// To lie on.
    Soft,
    /// To put things into.
    Container,
    /// To travel in.
    Vehicle,
    /// To eat.
    Food,
    /// To be in.
    Place,
    /// Tools and toys.
    Thing,
}

impl Class {
    /// Its nouns.
    pub fn nouns(self) -> &'static [&'static str] {
        match self {
            Self::Animal => &[
                "cat", "dog", "horse", "cow", "pig", "goat", "sheep", "fox", "wolf", "bear", "rabbit",
                "mouse", "rat", "bird", "duck", "goose", "hen", "frog", "snake", "lion", "tiger", "monkey",
                "donkey", "squirrel",
            ],
            Self::Man => {
                &["boy", "man", "king", "father", "brother", "uncle", "prince", "son", "husband", "gentleman"]
            }
            Self::Woman => &[
                "girl", "woman", "queen", "mother", "sister", "aunt", "princess", "daughter", "wife", "lady",
            ],
            Self::Soft => &[
                "mat", "rug", "sofa", "bed", "cushion", "blanket", "pillow", "carpet", "towel", "mattress",
                "coat", "nest",
            ],
            Self::Container => {
                &["box", "bag", "basket", "bucket", "jar", "barrel", "cup", "bottle", "drawer", "trunk"]
            }
            Self::Vehicle => {
                &["car", "truck", "boat", "cart", "wagon", "train", "ship", "bicycle", "sled", "bus"]
            }
            Self::Food => &[
                "apple", "cake", "pie", "loaf", "pear", "cheese", "egg", "peach", "cookie", "sandwich",
                "carrot", "plum",
            ],
            Self::Place => {
                &["house", "barn", "garden", "cave", "shed", "kitchen", "cabin", "tower", "room", "field"]
            }
            Self::Thing => &[
                "ball", "kite", "doll", "drum", "lamp", "clock", "chair", "table", "knife", "ladder", "rope",
                "hat",
            ],
        }
    }

    /// Adjectives that fit its nouns and, but for people and animals, no other class.
    pub fn adjectives(self) -> &'static [&'static str] {
        match self {
            Self::Animal | Self::Man | Self::Woman => &[
                "tired", "hungry", "thirsty", "sleepy", "afraid", "angry", "happy", "sad", "sick", "lonely",
                "bored", "curious", "nervous", "lazy", "excited", "brave",
            ],
            Self::Soft => &[
                "soft",
                "thick",
                "comfortable",
                "cosy",
                "smooth",
                "flat",
                "folded",
                "woven",
                "faded",
                "padded",
            ],
            Self::Container => &["empty", "full", "open", "closed", "sealed", "locked", "leaky", "deep"],
            Self::Vehicle => &["rusty", "parked", "crowded", "late", "slippery", "fast"],
            Self::Food => &["sweet", "ripe", "fresh", "sour", "tasty", "delicious", "stale", "salty"],
            Self::Place => &["dark", "quiet", "safe", "shady", "cool", "distant"],
            Self::Thing => &["broken", "sharp", "shiny", "loose", "wooden", "cracked"],
        }
    }

    /// The pronoun that stands for a noun of the class in a given form.
    pub fn pronoun(self, form: Form) -> &'static str {
        let [man, woman, other] = match form {
            Form::Subject => ["he", "she", "it"],
            Form::Object => ["him", "her", "it"],
            Form::Possessive => ["his", "her", "its"],
            Form::Reflexive => ["himself", "herself", "itself"],
        };
        match self {
            Self::Man => man,
            Self::Woman => woman,
            _ => other,
        }
    }

    /// Whether its nouns act.
    pub fn is_animate(self) -> bool {
        matches!(self, Self::Animal | Self::Man | Self::Woman)
    }
}

/// The shape of a pronoun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// it, he, she
    Subject,
    /// it, him, her
    Object,
    /// its, his, her
    Possessive,
    /// itself, himself, herself
    Reflexive,
}

/// A verb between two nouns of one class, and what is said of the one who acts or of the other: the class cannot
/// tell which of the two is meant.
#[derive(Debug)]
pub struct Verb {
    /// In the past tense.
    pub word: &'static str,
    /// Said of the subject.
    pub subject: &'static [&'static str],
    /// Said of the object.
    pub object: &'static [&'static str],
}

/// Verbs whose roles decide who is meant.
pub const VERBS: &[Verb] = &[
    verb("chased", &["hungry", "fast", "angry", "bored"], &["slow", "small", "frightened", "weak"]),
    verb("followed", &["curious", "lost", "lonely", "eager"], &["familiar", "friendly", "clever", "famous"]),
    verb("bit", &["hungry", "angry", "mean", "wild"], &["rude", "annoying", "slow", "careless"]),
    verb("helped", &["kind", "strong", "brave", "clever"], &["hurt", "stuck", "weak", "trapped"]),
    verb("feared", &["shy", "small", "weak", "timid"], &["strong", "huge", "fierce", "cruel"]),
    verb("carried", &["strong", "big", "kind", "patient"], &["hurt", "tired", "asleep", "lame"]),
    verb("watched", &["curious", "jealous", "careful", "bored"], &["strange", "pretty", "noisy", "funny"]),
    verb("fed", &["kind", "generous", "patient", "wise"], &["hungry", "thin", "starving", "poor"]),
    verb("attacked", &["fierce", "angry", "cruel", "wild"], &["weak", "slow", "lame", "careless"]),
    verb("woke", &["noisy", "careless", "bored", "eager"], &["asleep", "late", "lazy", "sleepy"]),
    verb("avoided", &["shy", "timid", "nervous", "careful"], &["rude", "cruel", "fierce", "annoying"]),
    verb("thanked", &["grateful", "polite", "happy", "humble"], &["generous", "helpful", "kind", "patient"]),
];

const fn verb(word: &'static str, subject: &'static [&'static str], object: &'static [&'static str]) -> Verb {
    Verb { word, subject, object }
}

//! Sentences with a subject, attractors and a verb in two numbers.

use std::ops::Range;
use std::path::Path;

use crate::error::LensError;
use crate::probe::lines::{lines, read_file};
use crate::probe::random::Random;

/// The most nouns between subject and verb.
pub const MAX_ATTRACTORS: usize = 3;
/// Items of each number of attractors and each number of the subject.
const ITEMS: usize = 25;
/// More items of a file than anybody waits for.
const MAX_ITEMS: usize = 100_000;

/// Nouns in the singular and the plural.
const NOUNS: [[&str; 2]; 20] = [
    ["key", "keys"],
    ["cabinet", "cabinets"],
    ["picture", "pictures"],
    ["letter", "letters"],
    ["window", "windows"],
    ["doctor", "doctors"],
    ["teacher", "teachers"],
    ["author", "authors"],
    ["book", "books"],
    ["table", "tables"],
    ["farmer", "farmers"],
    ["friend", "friends"],
    ["garden", "gardens"],
    ["house", "houses"],
    ["car", "cars"],
    ["bridge", "bridges"],
    ["manager", "managers"],
    ["student", "students"],
    ["report", "reports"],
    ["ship", "ships"],
];
const PREPOSITIONS: [&str; 5] = ["to", "near", "behind", "beside", "from"];
const ADJECTIVES: [&str; 6] = ["old", "small", "red", "new", "famous", "local"];

/// A sentence up to its verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The text before the verb.
    pub before: String,
    /// The bytes of the subject in it.
    pub subject: Range<usize>,
    /// The bytes of each attractor.
    pub attractors: Vec<Range<usize>>,
    /// The verb that agrees with the subject.
    pub right: String,
    /// The verb that does not.
    pub wrong: String,
}

impl Item {
    /// Words from the subject to the verb, 1 for neighbours.
    pub fn distance(&self) -> usize {
        1 + self.before[self.subject.end..].split_whitespace().count()
    }
}

/// Made-up items, as many with each number of attractors, half of them with a plural subject; a third of the
/// nouns have an adjective.
pub fn generate_items(seed: u64) -> Vec<Item> {
    generate_all(seed, |subject| 1 - subject)
}

/// The items of [`generate_items`], but that the nouns between subject and verb are of the subject's number: what a
/// model finds harder with attractors is hard because of their number, or because of the distance alone.
pub fn generate_congruent_items(seed: u64) -> Vec<Item> {
    generate_all(seed, |subject| subject)
}

/// `others` gives the number of the nouns between from the subject's: 0 is the singular, 1 the plural.
fn generate_all(seed: u64, others: fn(usize) -> usize) -> Vec<Item> {
    let mut random = Random::new(seed);
    let mut items = Vec::new();
    for attractors in 0..=MAX_ATTRACTORS {
        for number in [0, 1] {
            for _ in 0..ITEMS {
                items.push(generate(attractors, [number, others(number)], &mut random));
            }
        }
    }
    items
}

fn generate(attractors: usize, [number, others]: [usize; 2], random: &mut Random) -> Item {
    let mut nouns = NOUNS;
    random.choose(&mut nouns, 1 + attractors);
    let mut before = String::from("The ");
    let noun = |before: &mut String, noun: &str, random: &mut Random| {
        if random.below(3) == 0 {
            *before += ADJECTIVES[random.below(ADJECTIVES.len())];
            before.push(' ');
        }
        let start = before.len();
        *before += noun;
        start..before.len()
    };
    let subject = noun(&mut before, nouns[0][number], random);
    let attractors = (1..=attractors)
        .map(|place| {
            before += &format!(" {} the ", PREPOSITIONS[random.below(PREPOSITIONS.len())]);
            noun(&mut before, nouns[place][others], random)
        })
        .collect();
    let verbs = ["is", "are"];
    Item { before, subject, attractors, right: verbs[number].into(), wrong: verbs[1 - number].into() }
}

/// Reads items, one a line: `The *keys* to the ~cabinet~ are/is`. The subject stands between `*`, attractors
/// between `~`, last come the right verb and the wrong one. Lines that are empty or begin with `#` are passed
/// over.
///
/// # Errors
/// [`LensError::Read`], [`LensError::TooLarge`], or [`LensError::Annotation`] naming the line.
pub fn read_items(path: &Path) -> Result<Vec<Item>, LensError> {
    parse(path, &read_file(path)?)
}

fn parse(path: &Path, text: &str) -> Result<Vec<Item>, LensError> {
    const FORM: &str = "an item like The *keys* to the ~cabinet~ are/is";
    let mut items = Vec::new();
    let mut end = None;
    for line in lines(path, text) {
        let (place, line) = line?;
        end = Some(place);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if items.len() >= MAX_ITEMS {
            return Err(place.error(format!("expected at most {MAX_ITEMS} items, found more")));
        }
        items.push(item(line).ok_or_else(|| place.expected(FORM, line))?);
    }
    match (items.is_empty(), end) {
        (true, Some(place)) => Err(place.error(format!("expected {FORM}, found no line"))),
        _ => Ok(items),
    }
}

fn item(line: &str) -> Option<Item> {
    let (marked, verbs) = line.rsplit_once(char::is_whitespace)?;
    let (right, wrong) = verbs.split_once('/')?;
    let is_word = |word: &str| !word.is_empty() && !word.contains(['*', '~', '/']);
    if !is_word(right) || !is_word(wrong) || right == wrong {
        return None;
    }
    let (mut before, mut subject, mut attractors) = (String::new(), None, Vec::new());
    let mut open: Option<(char, usize)> = None;
    for c in marked.trim_end().chars() {
        match (c, open) {
            ('*' | '~', None) => open = Some((c, before.len())),
            ('*' | '~', Some((sign, start))) => {
                let stretch = start..before.len();
                if c != sign || before[stretch.clone()].trim().is_empty() {
                    return None;
                }
                match (c, &subject) {
                    ('*', None) => subject = Some(stretch),
                    ('*', Some(_)) => return None,
                    _ => attractors.push(stretch),
                }
                open = None;
            }
            _ => before.push(c),
        }
    }
    if open.is_some() {
        return None;
    }
    Some(Item { before, subject: subject?, attractors, right: right.into(), wrong: wrong.into() })
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn items__generated__have_attractors_of_the_other_number() {
        let items = generate_items(1);
        assert_eq!(items.len(), 2 * ITEMS * (MAX_ATTRACTORS + 1));
        for item in &items {
            let plural = |word: &Range<usize>| item.before[word.clone()].ends_with('s');
            assert_eq!(plural(&item.subject), item.right == "are", "{}", item.before);
            assert!(
                item.attractors.iter().all(|word| plural(word) != plural(&item.subject)),
                "{}",
                item.before
            );
        }
        assert_ne!(items, generate_items(2));
    }

    #[test]
    fn items__congruent__differ_from_the_others_in_the_attractors_number_alone() {
        for (item, congruent) in generate_items(1).iter().zip(generate_congruent_items(1)) {
            let word = |item: &Item, word: &Range<usize>| item.before[word.clone()].to_owned();
            assert_eq!(word(item, &item.subject), word(&congruent, &congruent.subject));
            assert_eq!(item.right, congruent.right);
            for (one, other) in item.attractors.iter().zip(&congruent.attractors) {
                let [one, other] = [word(item, one), word(&congruent, other)];
                assert_ne!(one, other);
                assert_eq!(one.trim_end_matches('s'), other.trim_end_matches('s'));
                assert_eq!(other.ends_with('s'), congruent.right == "are", "{}", congruent.before);
            }
        }
    }

    #[test]
    fn items__of_a_file__are_read() {
        let items = parse(Path::new("x"), "# mine\r\n\r\nThe *keys* to the ~cabinet~ are/is\r\n").unwrap();
        let [item] = &items[..] else { panic!() };
        assert_eq!(item.before, "The keys to the cabinet");
        assert_eq!(
            (&item.before[item.subject.clone()], &item.before[item.attractors[0].clone()]),
            ("keys", "cabinet")
        );
        assert_eq!((item.right.as_str(), item.wrong.as_str(), item.distance()), ("are", "is", 4));
    }

    #[test]
    fn items__hostile_lines__are_errors_that_name_them() {
        for line in [
            "are/is",
            "The keys are/is",
            "The *keys are/is",
            "The *keys* *cars* are/is",
            "The *keys~ are/is",
            "The *keys* are/are",
            "The *keys* are",
            "The ** are/is",
            "The *keys* /is",
            "\u{0}",
        ] {
            let text = format!("The *key* is/are\n{line}\n");
            assert!(
                matches!(parse(Path::new("x"), &text), Err(LensError::Annotation { line: 2, .. })),
                "{line}"
            );
        }
        assert!(matches!(parse(Path::new("x"), "\n#\n"), Err(LensError::Annotation { .. })));
    }
}

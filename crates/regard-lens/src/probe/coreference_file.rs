//! Books with coreference annotations, in the CoNLL format of LitBank (Bamman, Lewke and Mansoor 2020).

use std::collections::HashMap;
use std::path::Path;

use super::lines::{Place, lines, read_file};
use crate::error::LensError;

/// LitBank has some 2,000 words of each book.
const MAX_WORDS: usize = 1 << 20;

/// A stretch of words that means someone or something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mention {
    /// Its first word.
    pub first: usize,
    /// Its last word.
    pub last: usize,
    /// Whom or what it means.
    pub entity: u32,
}

/// A text with its mentions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Book {
    /// The name of the file, without its ending.
    pub name: String,
    /// Its words.
    pub words: Vec<String>,
    /// The sentence of each word.
    pub sentences: Vec<usize>,
    /// Its mentions, by first word, then last.
    pub mentions: Vec<Mention>,
}

/// Reads a coreference file: words in the fourth field, mentions in the last, as in `(3`, `3)`, `(3)` and
/// `(3|(4)`.
///
/// # Errors
/// [`LensError::Read`], [`LensError::TooLarge`], or [`LensError::Annotation`] naming the line.
pub fn read_coreference(path: &Path) -> Result<Book, LensError> {
    parse(path, &read_file(path)?)
}

fn parse(path: &Path, text: &str) -> Result<Book, LensError> {
    let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let mut book = Book { name, words: Vec::new(), sentences: Vec::new(), mentions: Vec::new() };
    let mut open: HashMap<u32, Vec<(usize, usize)>> = HashMap::new();
    let (mut sentence, mut is_new) = (0, true);
    let mut end = Place { path, line: 1 };
    for line in lines(path, text) {
        let (place, line) = line?;
        end = place;
        if line.trim_matches([' ', '\t']).is_empty() {
            sentence += usize::from(!is_new);
            is_new = true;
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        is_new = false;
        let fields: Vec<&str> = line.split('\t').collect();
        let (Some(&word), Some(&marks), true) = (fields.get(3), fields.last(), fields.len() >= 5) else {
            return Err(place
                .error(format!("expected 5 or more fields with tabs between them, found {}", fields.len())));
        };
        if word.is_empty() || word.chars().all(char::is_whitespace) {
            return Err(place.error("expected a word in the fourth field, found nothing"));
        }
        let at = book.words.len();
        if at >= MAX_WORDS {
            return Err(place.error(format!("expected at most {MAX_WORDS} words, found more")));
        }
        for mark in marks.split('|').map(str::trim).filter(|mark| !matches!(*mark, "" | "_" | "-" | "*")) {
            let number = mark.strip_prefix('(').unwrap_or(mark);
            let number = number.strip_suffix(')').unwrap_or(number);
            let (opens, closes) = (mark.starts_with('('), mark.ends_with(')'));
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let entity = number.parse::<u32>().ok().filter(|_| digits && (opens || closes));
            let entity = entity.ok_or_else(|| place.expected("a mention like (3, 3) or (3)", mark))?;
            if opens {
                open.entry(entity).or_default().push((at, place.line));
            }
            if closes {
                let opened = open.get_mut(&entity).and_then(Vec::pop);
                let (first, _) =
                    opened.ok_or_else(|| place.expected("the end of a mention that began", mark))?;
                book.mentions.push(Mention { first, last: at, entity });
            }
        }
        book.words.push(word.to_owned());
        book.sentences.push(sentence);
    }
    if let Some((entity, line)) = open
        .iter()
        .filter_map(|(entity, opened)| Some((entity, opened.first()?.1)))
        .min_by_key(|(_, line)| *line)
    {
        return Err(Place { path, line }.error(format!("expected mention {entity} to end, found no end")));
    }
    if book.words.is_empty() {
        return Err(end.error("expected words with coreference, found none"));
    }
    book.mentions.sort_unstable();
    Ok(book)
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    const KING: &str = "#begin document (x); part 0\nx\t0\t0\tThe\t_\t(0\nx\t0\t1\tking\t_\t_\nx\t0\t2\t's\t_\t0)|(1\n\
        x\t0\t3\tson\t_\t1)\n\n\nx\t0\t0\the\t_\t(1)\t\n#end document\n";

    fn read(text: &str) -> Result<Book, LensError> {
        parse(Path::new("x.conll"), text)
    }

    #[test]
    fn coreference__mentions_of_all_forms__are_read() {
        let book = read(&KING.replace("(1)\t\n", "(1)\r\n")).unwrap();
        let mention = |first, last, entity| Mention { first, last, entity };
        assert_eq!(book.mentions, [mention(0, 2, 0), mention(2, 3, 1), mention(4, 4, 1)]);
        assert_eq!((book.name.as_str(), book.sentences.as_slice()), ("x", &[0, 0, 0, 0, 1][..]));
        assert_eq!(read(KING).unwrap().mentions.len(), 2, "the last field is empty here");
    }

    #[test]
    fn coreference__hostile_file__is_an_error_that_names_the_line() {
        let line = |mark: &str| format!("x\t0\t0\ta\t_\t{mark}\n");
        for (text, number, expected) in [
            (String::new(), 1, "found none"),
            ("x\t0\n".to_owned(), 1, "5 or more fields"),
            ("x\t0\t0\t\t_\t_\n".to_owned(), 1, "a word"),
            (line("3)"), 1, "that began"),
            (line("(x)"), 1, "a mention"),
            (line("3"), 1, "a mention"),
            (line("(99999999999)"), 1, "a mention"),
            (line("(+1)"), 1, "a mention"),
            (format!("{}{}", line("_"), line("(3")), 2, "no end"),
            (format!("{}{}", line("(3)"), line("(4)|3)")), 2, "that began"),
        ] {
            match read(&text) {
                Err(LensError::Annotation { line: found, problem, .. }) => {
                    assert!(found == number && problem.contains(expected), "{text:?}: {found}: {problem}");
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn coreference__any_mutation__is_read_or_refused_and_never_panics() {
        let mut random = super::super::random::Random::new(6);
        let signs: Vec<char> = "\t\n\r()|0123_é".chars().collect();
        for _ in 0..20_000 {
            let mut text: Vec<char> = KING.chars().collect();
            for _ in 0..1 + random.below(4) {
                let at = random.below(text.len());
                match random.below(3) {
                    0 => text[at] = signs[random.below(signs.len())],
                    1 => text.insert(at, signs[random.below(signs.len())]),
                    _ => drop(text.remove(at)),
                }
            }
            if let Ok(book) = read(&text.into_iter().collect::<String>()) {
                let words = book.words.len();
                assert!(
                    book.mentions.iter().all(|mention| mention.first <= mention.last && mention.last < words)
                );
            }
        }
    }
}

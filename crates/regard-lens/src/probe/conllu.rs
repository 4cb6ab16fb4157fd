//! Sentences with their syntax, in CoNLL-U (universaldependencies.org/format.html).

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use super::lines::{Place, lines, read_file};
use super::words::WordText;
use crate::error::LensError;

/// Longer sentences are no sentences; the bound keeps the arithmetic of indices small.
const MAX_WORDS: usize = 10_000;

/// A syntactic word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdWord {
    /// Universal part of speech, as in `"NOUN"`.
    pub part_of_speech: String,
    /// The word it depends on, counted from 0; `None` for the root.
    pub head: Option<usize>,
    /// How, as in `"nsubj:pass"`.
    pub relation: String,
}

/// A sentence: its text put together from its words, and their syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdSentence {
    /// The text, and where its words stand.
    pub text: WordText,
    /// The words, in order.
    pub words: Vec<UdWord>,
}

/// Reads a CoNLL-U file.
///
/// Comments and empty nodes (`8.1`) are passed over; of a multiword token (`1-2`) the surface is kept, and its
/// words share it by their forms where these make up the surface, else whole.
///
/// # Errors
/// [`LensError::Read`], [`LensError::TooLarge`], or [`LensError::Annotation`] naming the line.
pub fn read_conllu(path: &Path) -> Result<Vec<UdSentence>, LensError> {
    parse(path, &read_file(path)?)
}

fn parse(path: &Path, text: &str) -> Result<Vec<UdSentence>, LensError> {
    let mut sentences = Vec::new();
    let mut open = Open::default();
    let mut last = Place { path, line: 1 };
    for line in lines(path, text) {
        let (place, line) = line?;
        last = place;
        if line.trim_matches([' ', '\t']).is_empty() {
            sentences.extend(std::mem::take(&mut open).finish(place)?);
        } else if !line.starts_with('#') {
            open.line(place, line)?;
        }
    }
    sentences.extend(open.finish(last)?);
    if sentences.is_empty() {
        return Err(last.error("expected sentences in CoNLL-U, found none"));
    }
    Ok(sentences)
}

/// A sentence that is being read.
#[derive(Debug, Default)]
struct Open {
    text: String,
    spans: Vec<Range<usize>>,
    words: Vec<(UdWord, usize)>,
    /// The multiword token that is open: words still to come, and the surface with its place in the text.
    multiword: Option<Multiword>,
    /// Whether a blank goes before the next surface.
    spaced: bool,
}

#[derive(Debug)]
struct Multiword {
    last: usize,
    surface: Range<usize>,
    forms: Vec<String>,
    spaced: bool,
}

impl Open {
    fn line(&mut self, place: Place<'_>, line: &str) -> Result<(), LensError> {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[id, form, _, part_of_speech, _, _, head, relation, _, misc] = fields.as_slice() else {
            return Err(
                place.error(format!("expected 10 fields with tabs between them, found {}", fields.len()))
            );
        };
        let spaced = !misc.split('|').any(|item| item == "SpaceAfter=No");
        if let Some((number, part)) = id.split_once('.') {
            integer(place, "the number of an empty node", number)?;
            integer(place, "the number of an empty node", part)?;
            return Ok(());
        }
        if form.is_empty() {
            return Err(place.error("expected a form in the second field, found nothing"));
        }
        if let Some((first, last)) = id.split_once('-') {
            let (first, last) =
                (integer(place, "a range of words", first)?, integer(place, "a range of words", last)?);
            if first != self.words.len() + 1 || last < first || last > MAX_WORDS || self.multiword.is_some() {
                let expected = format!("a range from word {}", self.words.len() + 1);
                return Err(place.expected(&expected, id));
            }
            let surface = self.append(form);
            self.multiword = Some(Multiword { last, surface, forms: Vec::new(), spaced });
            return Ok(());
        }
        let number = integer(place, "the number of a word", id)?;
        if number != self.words.len() + 1 || number > MAX_WORDS {
            return Err(place.expected(&format!("word {}", self.words.len() + 1), id));
        }
        let head = integer(place, "the number of the head", head)?;
        if head > MAX_WORDS || head == number {
            return Err(place.expected("the number of another word, or 0", &head.to_string()));
        }
        let head = head.checked_sub(1);
        let (part_of_speech, relation) = (part_of_speech.to_owned(), relation.to_owned());
        self.words.push((UdWord { part_of_speech, head, relation }, place.line));
        match &mut self.multiword {
            None => {
                let span = self.append(form);
                self.spans.push(span);
                self.spaced = spaced;
            }
            Some(multiword) => {
                multiword.forms.push(form.to_owned());
                if number == multiword.last {
                    self.close_multiword();
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, form: &str) -> Range<usize> {
        if self.spaced && !self.text.is_empty() {
            self.text.push(' ');
        }
        let start = self.text.len();
        self.text.push_str(form);
        start..self.text.len()
    }

    /// Shares a multiword token's surface among its words.
    fn close_multiword(&mut self) {
        let Some(multiword) = self.multiword.take() else { return };
        let surface = &self.text[multiword.surface.clone()];
        let mut at = multiword.surface.start;
        if multiword.forms.concat() == surface {
            for form in &multiword.forms {
                self.spans.push(at..at + form.len());
                at += form.len();
            }
        } else {
            self.spans.extend(multiword.forms.iter().map(|_| multiword.surface.clone()));
        }
        self.spaced = multiword.spaced;
    }

    /// The sentence, if there is one.
    fn finish(self, place: Place<'_>) -> Result<Option<UdSentence>, LensError> {
        if let Some(multiword) = &self.multiword {
            let problem = format!(
                "expected word {} of a multiword token, found the end of the sentence",
                multiword.last
            );
            return Err(place.error(problem));
        }
        let count = self.words.len();
        for (word, line) in &self.words {
            if word.head.is_some_and(|head| head >= count) {
                let found = word.head.map_or(0, |head| head + 1);
                return Err(Place { line: *line, ..place }
                    .error(format!("expected a head among words 1 to {count}, found {found}")));
            }
        }
        let words: Vec<UdWord> = self.words.into_iter().map(|(word, _)| word).collect();
        Ok((count > 0).then_some(UdSentence { text: WordText { text: self.text, spans: self.spans }, words }))
    }
}

fn integer(place: Place<'_>, what: &str, text: &str) -> Result<usize, LensError> {
    // `parse` alone would accept a plus sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| place.expected(what, text))
}

/// Every relation of a file but `root` and `punct`, with how often it occurs, the most frequent first.
pub fn count_relations(sentences: &[UdSentence]) -> Vec<(String, usize)> {
    let words = || sentences.iter().flat_map(|sentence| &sentence.words);
    let names: HashSet<&str> = words().map(|word| word.relation.as_str()).collect();
    let mut counts: Vec<(String, usize)> = names
        .into_iter()
        .filter(|name| !["root", "punct"].contains(name))
        .map(|name| (name.to_owned(), words().filter(|word| word.relation == name).count()))
        .collect();
    counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    const DONT: &str = "# text = I don't, do I?\r\n1\tI\t_\tPRON\t_\t_\t4\tnsubj\t_\t_\r\n\
        2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No\r\n2\tdo\t_\tAUX\t_\t_\t4\taux\t_\t_\r\n\
        3\tn't\t_\tPART\t_\t_\t4\tadvmod\t_\t_\r\n3.1\tgo\t_\tVERB\t_\t_\t_\t_\t0:root\t_\r\n\
        4\t,\t_\tPUNCT\t_\t_\t0\troot\t_\t_\r\n\r\n";

    fn read(text: &str) -> Result<Vec<UdSentence>, LensError> {
        parse(Path::new("x.conllu"), text)
    }

    #[test]
    fn conllu__multiword_token_empty_node_and_crlf__are_read() {
        let [sentence] = &read(DONT).unwrap()[..] else { panic!("one sentence") };
        assert_eq!(sentence.text.text, "I don't,");
        let words: Vec<&str> =
            sentence.text.spans.iter().map(|span| &sentence.text.text[span.clone()]).collect();
        assert_eq!(words, ["I", "do", "n't", ","]);
        assert_eq!(sentence.words[0].head, Some(3));
        assert_eq!(sentence.words[3].head, None);
    }

    #[test]
    fn conllu__multiword_token_that_its_words_do_not_make_up__is_shared_whole() {
        let text = "1-2\tzum\t_\t_\t_\t_\t_\t_\t_\t_\n1\tzu\t_\tADP\t_\t_\t0\troot\t_\t_\n2\tdem\t_\tDET\t_\t_\t1\tdet\t_\t_\n";
        let sentence = &read(text).unwrap()[0];
        assert_eq!(sentence.text.spans, [0..3, 0..3]);
    }

    #[test]
    fn conllu__last_sentence_without_a_blank_line__is_there() {
        assert_eq!(read(DONT.trim_end()).unwrap(), read(DONT).unwrap());
    }

    #[test]
    fn conllu__hostile_file__is_an_error_that_names_the_line() {
        let word = |id: &str, head: &str| format!("{id}\ta\t_\tX\t_\t_\t{head}\tdep\t_\t_\n");
        for (text, line, expected) in [
            (String::new(), 1, "found none"),
            ("\n\n# nothing\n".to_owned(), 4, "found none"),
            ("1\ta\n".to_owned(), 1, "10 fields"),
            (format!("{}{}", word("1", "0"), word("3", "1")), 2, "word 2"),
            (word("2", "0"), 1, "word 1"),
            (word("+1", "0"), 1, "number of a word"),
            (word("99999999999999999999999", "0"), 1, "number of a word"),
            (word("1", "7"), 1, "words 1 to 1"),
            (word("1", "1"), 1, "another word"),
            (word("1", "-1"), 1, "number of the head"),
            (word("1", ""), 1, "number of the head"),
            (word("2-1", "_"), 1, "a range from word 1"),
            (word("2-3", "_"), 1, "a range from word 1"),
            (word("1-99999999", "_"), 1, "a range from word 1"),
            (format!("{}{}", word("1-2", "_"), word("1-2", "_")), 2, "a range from word 1"),
            (format!("{}{}\n", word("1-2", "_"), word("1", "0")), 3, "end of the sentence"),
            (word("1.x", "_"), 1, "empty node"),
            ("1\t\t_\tX\t_\t_\t0\troot\t_\t_\n".to_owned(), 1, "a form"),
            ("x".repeat(2 << 20), 1, "at most"),
        ] {
            let short = &text[..text.len().min(60)];
            match read(&text) {
                Err(LensError::Annotation { line: found, problem, .. }) => {
                    assert_eq!(found, line, "{short:?}: {problem}");
                    assert!(problem.contains(expected), "{short:?}: {problem}");
                }
                other => panic!("{short:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn conllu__any_mutation__is_read_or_refused_and_never_panics() {
        let mut random = super::super::random::Random::new(5);
        let signs: Vec<char> = "\t\n\r-.0123\u{feff}é#_".chars().collect();
        for _ in 0..20_000 {
            let mut text: Vec<char> = DONT.chars().collect();
            for _ in 0..1 + random.below(4) {
                let at = random.below(text.len());
                match random.below(3) {
                    0 => text[at] = signs[random.below(signs.len())],
                    1 => text.insert(at, signs[random.below(signs.len())]),
                    _ => drop(text.remove(at)),
                }
            }
            let text: String = text.into_iter().collect();
            for sentence in read(&text).into_iter().flatten() {
                assert_eq!(sentence.words.len(), sentence.text.spans.len());
                assert!(
                    sentence.text.spans.iter().all(|span| sentence.text.text.get(span.clone()).is_some())
                );
            }
        }
    }
}

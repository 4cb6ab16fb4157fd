//! `--task coref`: pronouns.

use std::path::PathBuf;

use regard_lens::LensError;
use regard_lens::probe::coreference::{
    Coreference, CoreferencePicks, Rival, count_pronouns, score_coreference, split_books,
};
use regard_lens::probe::{Book, read_coreference};
use serde_json::json;

use super::Outcome;
use super::control::{Run, counted};
use super::sheet::{Sheet, Table, head_name, number, percent, percent_or_none, percents, word};
use crate::arguments::ProbeArguments;
use crate::failure::Failure;

/// Heads listed unless `--top` says otherwise.
const HEADS: usize = 5;
/// More files than any collection of books.
const MAX_FILES: usize = 10_000;

/// Books that choose, and books that report.
pub(super) type Data = [Vec<Book>; 2];

pub(super) fn read(arguments: &ProbeArguments) -> Result<Data, Failure> {
    let all = |paths: &[PathBuf]| -> Result<Vec<Book>, Failure> {
        let mut files = Vec::new();
        for path in paths {
            files.extend(conll_files(path)?);
        }
        Ok(files.iter().map(|file| read_coreference(file)).collect::<Result<_, LensError>>()?)
    };
    let [mut dev, mut test] = if arguments.dev.is_empty() {
        split_books(all(&arguments.files)?, arguments.seed)
    } else {
        [all(&arguments.dev)?, all(&arguments.test)?]
    };
    if let Some(limit) = arguments.limit {
        dev.truncate(limit);
        test.truncate(limit);
    }
    if test.is_empty() {
        return Err(Failure::usage(
            "one book cannot be split in two: give more, or --dev FILE and --test FILE",
        ));
    }
    Ok([dev, test])
}

/// A file, or those of a folder that end in `.conll`, by name.
fn conll_files(path: &PathBuf) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.clone()]);
    }
    let name = path.display();
    let failed = |error| Failure::failed(format!("{name}: cannot be read: {error}"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)?.take(MAX_FILES) {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_some_and(|extension| extension == "conll") {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::failed(format!(
            "{name}: expected files that end in .conll, found none; unpack LitBank's coref/conll"
        )));
    }
    Ok(files)
}

pub(super) fn run(run: &Run<'_>, data: Data) -> Result<Outcome, Failure> {
    let length = run.arguments.length;
    let both = run.both(|model, counter| {
        let look = |books: &[Book], what| {
            counted(counter(what), |on_text| CoreferencePicks::new(model, books, length, on_text))
        };
        Ok([
            look(&data[0], "parts of books that choose heads")?,
            look(&data[1], "parts of books that report")?,
        ])
    })?;
    let trained = [&both.trained[0], &both.trained[1]];
    let untrained = both.untrained.as_ref().map(|picks| [&picks[0], &picks[1]]);
    let top = run.arguments.top.unwrap_or(HEADS);
    let found = score_coreference(trained, untrained, top, run.arguments.seed);
    if found.test_pronouns == 0 || found.dev_pronouns == 0 {
        return Err(Failure::failed(
            "no pronouns to ask about: expected third-person pronouns with an antecedent and another candidate in the \
             same sentence or the one before, in both parts; give more books or a larger --length",
        ));
    }
    let mut checks = both.trained[0].checks;
    checks.merge(both.trained[1].checks);
    let books = [data[0].len(), data[1].len()];
    let pronouns: [usize; 2] = std::array::from_fn(|part| data[part].iter().map(count_pronouns).sum());
    let skipped: usize = both.trained.iter().map(|picks| picks.skipped).sum();
    let names: [Vec<&str>; 2] =
        std::array::from_fn(|part| data[part].iter().map(|book| book.name.as_str()).collect());
    let mut result = serde_json::to_value(&found).map_err(Failure::failed)?;
    if let Some(fields) = result.as_object_mut() {
        fields.insert("unit".into(), json!("word"));
        fields.insert("dev_books".into(), json!(names[0]));
        fields.insert("test_books".into(), json!(names[1]));
        fields.insert("pronouns_with_antecedent".into(), json!(pronouns));
        fields.insert("skipped_pronouns".into(), json!(skipped));
    }
    Ok(Outcome { result, sheet: sheet(&found, books, pronouns, skipped), model: both.info, checks })
}

fn sheet(found: &Coreference, books: [usize; 2], pronouns: [usize; 2], skipped: usize) -> Sheet {
    let columns = vec![
        word("who", 0),
        number("choosing", 3),
        number("reporting", 0),
        number("95 %", 4),
        number("1–5 words", 1),
        number("6–15", 1),
        number("≥ 16", 1),
        number("any word", 5),
    ];
    let cells = |rival: &Rival| {
        let who = match (rival.name, rival.layer, rival.head) {
            ("untrained", Some(layer), Some(head)) => format!("untrained {}", head_name(layer, head)),
            (_, Some(layer), Some(head)) => head_name(layer, head),
            ("nearest", ..) => "nearest candidate".to_owned(),
            ("first_of_sentence", ..) => "first of sentence".to_owned(),
            ("same_pronoun", ..) => "same pronoun".to_owned(),
            (name, ..) => name.to_owned(),
        };
        let mut cells = vec![who, percent(rival.dev), percent(rival.test), percents(rival.interval)];
        cells.extend(rival.by_distance.map(percent_or_none));
        cells.push(percent_or_none(rival.any_word));
        cells
    };
    let rivals = found.heads.iter().chain(&found.untrained).chain(&found.rivals);
    let table = Table { title: String::new(), columns, rows: rivals.map(cells).collect() };
    let [near, middle, far] = found.pronouns_by_distance;
    let wins = match found.wins {
        "head" => "the best head is right most often",
        "nearest" => "the nearest candidate, which needs no model, is right most often",
        "first_of_sentence" => {
            "the first candidate of the sentence, which needs no model, is right most often"
        }
        "same_pronoun" => "the nearest pronoun of the same kind, which needs no model, is right most often",
        _ => "chance is right most often",
    };
    let heading = vec![
        format!(
            "Pronouns: does the strongest candidate mean the same? Per cent of {} pronouns in {} books; heads are chosen on {} in {} \
             other books.",
            found.test_pronouns, books[1], found.dev_pronouns, books[0]
        ),
        format!(
            "Of {} third-person pronouns with an earlier mention, {} have one in their sentence or the one before, and \
             another candidate; {skipped} stand in sentences longer than a window.",
            pronouns[0] + pronouns[1],
            found.dev_pronouns + found.test_pronouns + skipped,
        ),
    ];
    let notes = vec![
        "first of sentence: the first mention of the pronoun's sentence, where English has its subjects. same pronoun: the \
         nearest of he, him, his, himself for each of them (likewise she, it, they), else the nearest candidate. any word: the strongest \
         word of all, candidate or not, is of an antecedent."
            .to_owned(),
        format!("Words to the nearest antecedent: {near} pronouns 1–5, {middle} 6–15, {far} 16 or more."),
        format!(
            "The best head is {:+.1} points above the nearest candidate (95 %: {}); {wins}.",
            found.gain_over_nearest * 100.0,
            percents(found.gain_interval)
        ),
    ];
    Sheet { heading, tables: vec![table], notes }
}

//! Texts that experiments read and the repository does not hold.

use std::path::PathBuf;

use regard_lens::probe::{Book, UdSentence, read_conllu, read_coreference};

use super::Settings;
use crate::corpus::Documents;
use crate::error::TrainError;
use crate::sentences::templates::Part;
use crate::split;

/// The English Web Treebank of Universal Dependencies: its dev part and its test part, some sentences of each if quick.
pub(super) fn treebank(settings: &Settings) -> Result<[Vec<UdSentence>; 2], TrainError> {
    let folder = find(settings, "ud-english-ewt", "UniversalDependencies/UD_English-EWT")?;
    let read = |part| -> Result<Vec<UdSentence>, TrainError> {
        let mut sentences = read_conllu(&folder.join(format!("en_ewt-ud-{part}.conllu")))?;
        sentences.truncate(if settings.quick { 120 } else { usize::MAX });
        Ok(sentences)
    };
    Ok([read("dev")?, read("test")?])
}

/// The novels that models are trained on, a few of them if quick.
pub(super) fn novels(settings: &Settings) -> Result<Documents, TrainError> {
    let how = "scripts/prepare-litbank target/litbank-train";
    let folder = find(settings, "litbank-train", how)?;
    let mut novels = Documents::read(std::slice::from_ref(&folder))?;
    // What a model was trained on cannot tell what it found.
    let is_known = |(path, _): &(PathBuf, String)| {
        path.file_stem().is_some_and(|name| is_of(Part::Train, name.to_str()))
    };
    if let Some((path, _)) = novels.texts.iter().find(|text| !is_known(text)) {
        let problem =
            format!("expected a novel of the training part of litbank-split.txt; {how} lays them out");
        return Err(TrainError::bad(path, problem));
    }
    novels.texts.truncate(if settings.quick { 3 } else { usize::MAX });
    Ok(novels)
}

/// The coreference of novels that nothing is trained on: those that choose heads and those that report, four of each if
/// quick.
pub(super) fn books(settings: &Settings) -> Result<[Vec<Book>; 2], TrainError> {
    let folder = find(settings, "litbank-coref", "scripts/prepare-litbank target/litbank-coref coref")?;
    let read = |part| {
        let of_part = split::books().filter(|book| book.part == part);
        let some = of_part.take(if settings.quick { 4 } else { usize::MAX });
        let file =
            |book: split::Book| Ok(read_coreference(&folder.join(format!("{}_brat.conll", book.name)))?);
        some.map(file).collect::<Result<Vec<Book>, TrainError>>()
    };
    Ok([read(Part::Dev)?, read(Part::Test)?])
}

fn is_of(part: Part, name: Option<&str>) -> bool {
    split::books().any(|book| book.part == part && name == Some(book.name))
}

/// The first of the folders that has what is wanted; `how` says how to come by it.
fn find(settings: &Settings, wanted: &str, how: &str) -> Result<PathBuf, TrainError> {
    let found = settings.data.iter().map(|folder| folder.join(wanted)).find(|folder| folder.is_dir());
    found.ok_or_else(|| {
        let folders: Vec<String> = settings.data.iter().map(|folder| folder.display().to_string()).collect();
        let places = if folders.is_empty() { "no folder".to_owned() } else { folders.join(", ") };
        TrainError::Option {
            name: "--data",
            expected: format!("a folder with {wanted} in it ({how})"),
            found: format!("none in {places}"),
        }
    })
}

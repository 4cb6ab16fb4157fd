//! Text to train on, as tokens.

use std::fs;
use std::path::PathBuf;

use rayon::prelude::*;

use crate::error::TrainError;
use crate::vocabulary::Vocabulary;

/// Texts, one a file.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    /// Where they came from and what they hold, in the order of their names.
    pub texts: Vec<(PathBuf, String)>,
}

impl Documents {
    /// Reads files, and what lies directly in directories and ends in `.txt`.
    ///
    /// # Errors
    /// [`TrainError::File`] or, for what is not UTF-8 text, [`TrainError::BadFile`].
    pub fn read(paths: &[PathBuf]) -> Result<Self, TrainError> {
        let mut files = Vec::new();
        for path in paths {
            if path.is_dir() {
                let found = files.len();
                for entry in fs::read_dir(path).map_err(TrainError::file(path))? {
                    let file = entry.map_err(TrainError::file(path))?.path();
                    if file.extension().is_some_and(|extension| extension == "txt") {
                        files.push(file);
                    }
                }
                if files.len() == found {
                    return Err(TrainError::bad(path, "expected files that end in .txt, found none"));
                }
                files[found..].sort();
            } else {
                files.push(path.clone());
            }
        }
        let read = |path: PathBuf| {
            let bytes = fs::read(&path).map_err(TrainError::file(&path))?;
            match String::from_utf8(bytes) {
                Ok(text) if text.contains('\0') => {
                    Err(TrainError::bad(&path, "expected text, found a byte 0"))
                }
                Ok(text) => Ok((path, text)),
                Err(error) => {
                    let at = error.utf8_error().valid_up_to();
                    Err(TrainError::bad(
                        &path,
                        format!("expected UTF-8 text, found something else at byte {at}"),
                    ))
                }
            }
        };
        Ok(Self { texts: files.into_iter().map(read).collect::<Result<_, _>>()? })
    }

    /// Their texts.
    pub fn lines(&self) -> Vec<&str> {
        self.texts.iter().map(|(_, text)| text.as_str()).collect()
    }
}

/// The tokens of all texts, one after the other, without special ones.
#[derive(Debug, Clone, Default)]
pub struct Corpus {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Where each text ends.
    pub ends: Vec<usize>,
}

impl Corpus {
    /// Turns texts into tokens.
    ///
    /// # Errors
    /// [`TrainError::Tokenizer`].
    pub fn new(documents: &Documents, vocabulary: &Vocabulary) -> Result<Self, TrainError> {
        // Paragraphs, because a tokenizer's work on one text grows faster than the text.
        let encode = |text: &String| {
            let mut tokens = Vec::with_capacity(text.len() / 4);
            for paragraph in text.split_inclusive("\n\n") {
                tokens.extend(vocabulary.encode(paragraph)?);
            }
            Ok(tokens)
        };
        let texts: Vec<Vec<u32>> =
            documents.texts.par_iter().map(|(_, text)| encode(text)).collect::<Result<_, TrainError>>()?;
        let mut corpus = Self::default();
        for text in texts {
            corpus.tokens.extend(text);
            corpus.ends.push(corpus.tokens.len());
        }
        Ok(corpus)
    }

    /// At most `len` tokens of one text from a given one on.
    pub fn window(&self, from: usize, len: usize) -> &[u32] {
        let document = self.ends.partition_point(|&end| end <= from);
        let end = self.ends.get(document).copied().unwrap_or(self.tokens.len());
        &self.tokens[from.min(end)..(from + len).min(end)]
    }
}

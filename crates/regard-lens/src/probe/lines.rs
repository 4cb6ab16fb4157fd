//! Files of annotations, line by line.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::LensError;

/// The largest treebank files have some tens of megabytes.
const MAX_BYTES: u64 = 256 << 20;
/// A longer line is no line of annotations.
const MAX_LINE_BYTES: usize = 1 << 20;

/// A file's text, not trusted.
pub(super) fn read_file(path: &Path) -> Result<String, LensError> {
    let failed = |source| LensError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        let (what, found) = ("file of annotations, bytes", bytes.len() as u64);
        return Err(LensError::TooLarge { path: path.to_owned(), what, limit: MAX_BYTES, found });
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        Place { path, line }.error("expected UTF-8; convert the file, for example with iconv -t UTF-8")
    })
}

/// Where a line stands, for errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    pub(super) line: usize,
}

impl Place<'_> {
    pub(super) fn error(&self, problem: impl Into<String>) -> LensError {
        LensError::Annotation { path: PathBuf::from(self.path), line: self.line, problem: problem.into() }
    }

    pub(super) fn expected(&self, expected: &str, found: &str) -> LensError {
        let short: String = found.chars().take(40).collect();
        self.error(format!("expected {expected}, found {short:?}"))
    }
}

/// The lines of a text, without their ends (LF or CR LF), and where they stand.
pub(super) fn lines<'a>(
    path: &'a Path,
    text: &'a str,
) -> impl Iterator<Item = Result<(Place<'a>, &'a str), LensError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.split('\n').enumerate().map(move |(index, line)| {
        let place = Place { path, line: index + 1 };
        if line.len() > MAX_LINE_BYTES {
            return Err(place
                .error(format!("expected a line of at most {MAX_LINE_BYTES} bytes, found {}", line.len())));
        }
        Ok((place, line.strip_suffix('\r').unwrap_or(line)))
    })
}

//! Writing a file whole or not at all.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, remove_file, rename};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Names tried before giving up.
const ATTEMPTS: u32 = 100;

/// Writes a file: first beside its place, under another name, then in its place, so that nobody sees half of it and
/// what was there stays if writing fails.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    if path.is_dir() {
        return Err(Failure::failed(format!("cannot write {}: it is a directory", path.display())));
    }
    let (mut file, beside) = create_beside(path).map_err(cannot)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    written.and_then(|()| rename(&beside, path)).map_err(|error| {
        // What is left of it is of no use; that it cannot be removed says nothing new.
        let _ = remove_file(&beside);
        cannot(error)
    })
}

fn create_beside(path: &Path) -> std::io::Result<(File, PathBuf)> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    for attempt in 0..ATTEMPTS {
        let mut beside = OsString::from(".");
        beside.push(name);
        beside.push(format!(".{}-{attempt}.part", std::process::id()));
        let beside = path.with_file_name(beside);
        match OpenOptions::new().write(true).create_new(true).open(&beside) {
            Ok(file) => return Ok((file, beside)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use std::fs::{create_dir_all, read, read_dir, remove_dir_all};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("regard-{name}-{}", std::process::id()));
        create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn write_whole__file_that_is_there__is_replaced_and_nothing_else_is_left() {
        let folder = folder("replaced");
        let path = folder.join("page.html");
        for text in ["one", "another"] {
            write_whole(&path, text.as_bytes()).unwrap();
            assert_eq!(read(&path).unwrap(), text.as_bytes());
        }
        assert_eq!(read_dir(&folder).unwrap().count(), 1);
        remove_dir_all(folder).unwrap();
    }

    #[test]
    fn write_whole__no_such_folder_or_a_folder__is_refused_by_name() {
        let folder = folder("refused");
        for path in [folder.join("none/page.html"), folder.clone()] {
            let Err(Failure::Failed(message)) = write_whole(&path, b"x") else { panic!("it was written") };
            assert!(message.starts_with("cannot write ") && message.contains("refused"), "{message}");
        }
        assert_eq!(read_dir(&folder).unwrap().count(), 0);
        remove_dir_all(folder).unwrap();
    }
}

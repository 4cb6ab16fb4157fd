//! A model's directory and the files that may be read from it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::shards::INDEX_FILE;
use super::weights::SINGLE_FILE;
use crate::error::LensError;

const GGUF_MAGIC: &[u8] = b"GGUF";

/// A model's directory.
///
/// A file is read if it lies in the directory after symbolic links are followed. One more place is allowed,
/// because that is how the Hugging Face cache stores models: in `<repository>/snapshots/<revision>/`, every
/// file is a link into `<repository>/blobs/`.
#[derive(Debug)]
pub(crate) struct ModelFolder {
    given: PathBuf,
    /// Where files may lie, free of links.
    roots: Vec<PathBuf>,
    name: String,
}

impl ModelFolder {
    /// The directory of a model, and the name of its GGUF file if that is where the model is: `path` itself, or
    /// the only one of a directory that has no safetensors.
    pub(crate) fn open(path: &Path) -> Result<(Self, Option<String>), LensError> {
        let read_error = |source| LensError::Read { path: path.to_owned(), source };
        let target = path.canonicalize().map_err(read_error)?;
        if target.is_dir() {
            let folder = Self::of(path)?;
            let gguf = folder.gguf_file()?;
            return Ok((folder, gguf));
        }
        let start = first_bytes(&target).map_err(read_error)?;
        if start.starts_with(GGUF_MAGIC)
            && let Some(file) = path.file_name().and_then(|name| name.to_str())
        {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let mut folder = Self::of(parent.unwrap_or(Path::new(".")))?;
            folder.name = file.strip_suffix(".gguf").unwrap_or(file).to_owned();
            return Ok((folder, Some(file.to_owned())));
        }
        Err(match foreign_format(&start) {
            Some(format) => LensError::ForeignFormat { path: path.to_owned(), format },
            None => LensError::NotADirectory { path: path.to_owned() },
        })
    }

    fn of(dir: &Path) -> Result<Self, LensError> {
        let root = dir.canonicalize().map_err(|source| LensError::Read { path: dir.to_owned(), source })?;
        let snapshots = root.parent().filter(|parent| parent.ends_with("snapshots"));
        let repository = snapshots.and_then(Path::parent);
        let file_name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let cached = repository.and_then(file_name);
        let cached = cached.and_then(|name| Some(name.strip_prefix("models--")?.replace("--", "/")));
        let name = cached.or_else(|| file_name(&root)).unwrap_or_default();
        let blobs = repository.and_then(|repository| repository.join("blobs").canonicalize().ok());
        let roots = std::iter::once(root.clone()).chain(blobs).collect();
        Ok(Self { given: dir.to_owned(), roots, name })
    }

    /// The only `.gguf` file, if there are no safetensors.
    fn gguf_file(&self) -> Result<Option<String>, LensError> {
        let is_there = |name| fs::symlink_metadata(self.given.join(name)).is_ok();
        if is_there(SINGLE_FILE) || is_there(INDEX_FILE) {
            return Ok(None);
        }
        let read_error = |source| LensError::Read { path: self.given.clone(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.given).map_err(read_error)? {
            if let Ok(name) = entry.map_err(read_error)?.file_name().into_string()
                && name.ends_with(".gguf")
            {
                found.push(name);
            }
        }
        if found.len() > 1 {
            found.sort();
            return Err(LensError::SeveralModels { dir: self.given.clone(), found });
        }
        Ok(found.pop())
    }

    /// The directory as it was given.
    pub(crate) fn path(&self) -> &Path {
        &self.given
    }

    /// The model's name: the directory's, or the id under which the Hub's cache keeps it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Opens a file by its name, or `None` if there is none; also how many bytes it has.
    pub(crate) fn find(&self, name: &str) -> Result<Option<(File, u64)>, LensError> {
        let path = self.given.join(name);
        let read_error = |source| LensError::Read { path: path.clone(), source };
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(read_error)?,
        };
        let target = path.canonicalize().map_err(read_error)?;
        if !self.roots.iter().any(|root| target.starts_with(root)) {
            return Err(LensError::LinkLeavesFolder { path, target });
        }
        // Before opening: opening a named pipe would wait for a writer.
        if !target.metadata().map_err(read_error)?.is_file() {
            return Err(read_error(std::io::Error::other("not a regular file")));
        }
        let file = File::open(&target).map_err(read_error)?;
        let len = file.metadata().map_err(read_error)?.len();
        Ok(Some((file, len)))
    }

    /// The bytes of a small file, or `None` if there is none.
    pub(crate) fn read(&self, name: &'static str, limit: u64) -> Result<Option<Vec<u8>>, LensError> {
        let path = self.given.join(name);
        let Some((file, len)) = self.find(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        // The length may be a lie (as in /proc), so reading is limited too.
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| LensError::Read { path: path.clone(), source })?;
        let found = len.max(bytes.len() as u64);
        if found > limit {
            return Err(LensError::TooLarge { path, what: "bytes", limit, found });
        }
        Ok(Some(bytes))
    }

    /// The bytes of a small file that every model has.
    pub(crate) fn require(&self, file: &'static str, limit: u64) -> Result<Vec<u8>, LensError> {
        self.read(file, limit)?.ok_or_else(|| LensError::MissingFile { dir: self.given.clone(), file })
    }

    /// If the weights are there, but only in a format that is not read: that error.
    pub(crate) fn refuse_foreign_weights(&self) -> Result<(), LensError> {
        for name in ["pytorch_model.bin", "model.pt", "model.pth", "model.pkl", "model.ckpt", "model.npz"] {
            if let Some((mut file, _)) = self.find(name)? {
                let path = self.given.join(name);
                let mut start = [0; 16];
                let len = read_up_to(&mut file, &mut start)
                    .map_err(|source| LensError::Read { path: path.clone(), source })?;
                let format = foreign_format(&start[..len]).unwrap_or("another format");
                return Err(LensError::ForeignFormat { path, format });
            }
        }
        Ok(())
    }
}

fn first_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut start = vec![0; 16];
    if path.metadata()?.is_file() {
        let len = read_up_to(&mut File::open(path)?, &mut start)?;
        start.truncate(len);
    }
    Ok(start)
}

pub(super) fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// What a file's first bytes say it is, where that is a weight format other than safetensors.
pub(crate) fn foreign_format(start: &[u8]) -> Option<&'static str> {
    // A safetensors file starts with the length of its header, in eight bytes, and then a brace.
    if start.get(8) == Some(&b'{') {
        return None;
    }
    match start {
        [b'P', b'K', 3, 4, ..] => {
            Some("a zip archive (PyTorch's .pt and .bin, NumPy's .npz), whose pickles can run code when read")
        }
        [0x80, 2..=5, ..] => Some("a Python pickle, which can run code when read"),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Some("a NumPy array"),
        [0x89, b'H', b'D', b'F', ..] => Some("HDF5 (a TensorFlow model)"),
        [b'G', b'G', b'U', b'F', ..] => Some("GGUF under another name; call it .gguf"),
        _ => None,
    }
}

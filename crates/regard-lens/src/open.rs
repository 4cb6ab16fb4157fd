//! From a path to a model's parts, none of them read yet.

use std::path::Path;

use crate::error::LensError;
use crate::families::Architecture;
use crate::files::{ModelFolder, TensorSource, Weights};
use crate::tokenizer::TokenizerSource;

const CONFIG_FILE: &str = "config.json";
const TOKENIZER_FILE: &str = "tokenizer.json";
/// Real configurations have a few kilobytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// The largest vocabularies (some 260,000 pieces) take 35 MB.
const MAX_TOKENIZER_BYTES: u64 = 128 << 20;

/// A model whose headers have been read and checked.
pub(crate) struct Opened {
    pub(crate) name: String,
    pub(crate) architecture: Architecture,
    pub(crate) weights: Box<dyn TensorSource>,
    pub(crate) tokenizer: TokenizerSource,
}

/// Opens a directory or a GGUF file.
pub(crate) fn open(path: &Path) -> Result<Opened, LensError> {
    let (folder, gguf) = ModelFolder::open(path)?;
    match gguf {
        Some(file) => open_gguf(&folder, &file),
        None => open_directory(&folder),
    }
}

fn open_directory(folder: &ModelFolder) -> Result<Opened, LensError> {
    let config = folder.require(CONFIG_FILE, MAX_CONFIG_BYTES)?;
    let architecture = Architecture::parse(&folder.path().join(CONFIG_FILE), &config)?;
    let weights = Weights::open(folder)?;
    let tokenizer = folder.require(TOKENIZER_FILE, MAX_TOKENIZER_BYTES)?;
    Ok(Opened {
        name: folder.name().to_owned(),
        architecture,
        weights: Box::new(weights),
        tokenizer: TokenizerSource::Json(folder.path().join(TOKENIZER_FILE), tokenizer),
    })
}

/// A GGUF file says itself what it is; a `tokenizer.json` beside it is preferred to what it says of tokens.
#[cfg(feature = "gguf")]
fn open_gguf(folder: &ModelFolder, file: &str) -> Result<Opened, LensError> {
    use crate::gguf::{GgufWeights, Vocabulary};

    let path = folder.path().join(file);
    let (weights, metadata) = GgufWeights::open(folder, file)?;
    let architecture = Architecture::from_gguf(&path, &metadata, |tensor| weights.has(tensor))?;
    let tokenizer = match folder.read(TOKENIZER_FILE, MAX_TOKENIZER_BYTES)? {
        Some(json) => TokenizerSource::Json(folder.path().join(TOKENIZER_FILE), json),
        None => TokenizerSource::Gguf(path.clone(), Vocabulary::new(&path, metadata)?),
    };
    Ok(Opened { name: folder.name().to_owned(), architecture, weights: Box::new(weights), tokenizer })
}

#[cfg(not(feature = "gguf"))]
fn open_gguf(folder: &ModelFolder, file: &str) -> Result<Opened, LensError> {
    let format = "GGUF, which this build does not read (cargo feature `gguf`)";
    Err(LensError::ForeignFormat { path: folder.path().join(file), format })
}

//! From a path to a model's parts, none of them read yet.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::error::LensError;
use crate::families::Architecture;
use crate::files::{ModelFolder, SINGLE_FILE, TensorSource, Weights};
use crate::tokenizer::TokenizerSource;
use crate::view::HeadId;

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
    /// The head that the configuration names as the one that links pronouns, whether or not the model has it.
    pub(crate) pronoun_head: Option<HeadId>,
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
        pronoun_head: pronoun_head(&config),
    })
}

/// Opens the three files of a directory from memory; `name` stands for the directory.
pub(crate) fn open_memory(
    name: &str,
    config: &[u8],
    tokenizer: &[u8],
    weights: Arc<[u8]>,
) -> Result<Opened, LensError> {
    let dir = Path::new(name);
    Ok(Opened {
        name: name.to_owned(),
        architecture: Architecture::parse(&dir.join(CONFIG_FILE), config)?,
        weights: Box::new(Weights::in_memory(dir.join(SINGLE_FILE), weights)?),
        tokenizer: TokenizerSource::Json(dir.join(TOKENIZER_FILE), tokenizer.to_owned()),
        pronoun_head: pronoun_head(config),
    })
}

/// What `regard-train` writes beside the fields that Hugging Face knows: `"regard": {"pronoun_head": "L2.H1"}`.
fn pronoun_head(config: &[u8]) -> Option<HeadId> {
    #[derive(Deserialize)]
    struct Config {
        regard: Ours,
    }
    #[derive(Deserialize)]
    struct Ours {
        pronoun_head: String,
    }
    let config: Config = serde_json::from_slice(config).ok()?;
    config.regard.pronoun_head.parse().ok()
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
    Ok(Opened {
        name: folder.name().to_owned(),
        architecture,
        weights: Box::new(weights),
        tokenizer,
        pronoun_head: None,
    })
}

#[cfg(not(feature = "gguf"))]
fn open_gguf(folder: &ModelFolder, file: &str) -> Result<Opened, LensError> {
    let format = "GGUF, which this build does not read (cargo feature `gguf`)";
    Err(LensError::ForeignFormat { path: folder.path().join(file), format })
}

//! The index of a model whose weights lie in several files.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use super::json::UniqueMap;
use crate::error::LensError;

pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";
/// The longest index that is read. Real ones have some hundred bytes for each tensor.
pub(super) const MAX_INDEX_BYTES: u64 = 16 << 20;
/// The most shards of a model: every one of them is open while it loads.
const MAX_SHARDS: usize = 256;

#[derive(Deserialize)]
struct IndexFile {
    weight_map: UniqueMap<String>,
}

/// Which shard each tensor is in.
pub(super) struct ShardIndex {
    /// Tensor name, shard name.
    pub(super) weight_map: Vec<(String, String)>,
    /// The shards' names, in order.
    pub(super) shards: BTreeSet<String>,
}

impl ShardIndex {
    /// Parses the index; `path` is named in errors.
    pub(super) fn parse(path: &Path, json: &[u8]) -> Result<Self, LensError> {
        let parsed: IndexFile = serde_json::from_slice(json)
            .map_err(|source| LensError::Json { path: path.to_owned(), source })?;
        let weight_map: Vec<_> = parsed.weight_map.0.into_iter().collect();
        let mut shards = BTreeSet::new();
        for (tensor, file) in &weight_map {
            if !is_shard_name(file) {
                return Err(LensError::Index {
                    path: path.to_owned(),
                    field: format!("weight_map: {tensor:?}"),
                    problem: format!(
                        "expected the plain name of a .safetensors file in the same directory, found {file:?}"
                    ),
                });
            }
            if !shards.contains(file) {
                shards.insert(file.clone());
            }
        }
        let (limit, found) = (MAX_SHARDS as u64, shards.len() as u64);
        if found > limit {
            return Err(LensError::TooLarge { path: path.to_owned(), what: "shards", limit, found });
        }
        Ok(Self { weight_map, shards })
    }
}

/// The shards that an index file names.
#[cfg(feature = "hub")]
pub(crate) fn shard_names(path: &Path) -> Result<BTreeSet<String>, LensError> {
    let read_error = |source| LensError::Read { path: path.to_owned(), source };
    let found = path.metadata().map_err(read_error)?.len();
    if found > MAX_INDEX_BYTES {
        return Err(LensError::TooLarge {
            path: path.to_owned(),
            what: "bytes",
            limit: MAX_INDEX_BYTES,
            found,
        });
    }
    Ok(ShardIndex::parse(path, &std::fs::read(path).map_err(read_error)?)?.shards)
}

/// Whether a name is one plain component on every system: no separator, drive, `..`, or hidden file.
fn is_shard_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.len() <= 255 && name.ends_with(".safetensors") && !name.starts_with('.') && name.chars().all(plain)
}

//! Reading untrusted model files: what is allowed is checked before anything is allocated for it.

mod folder;
mod json;
mod safetensors_header;
mod shards;
mod tensor_source;
mod weights;

pub(crate) use folder::{ModelFolder, foreign_format};
#[cfg(feature = "gguf")]
pub(crate) use json::{MAX_NAME_BYTES, MAX_TENSORS};
pub(crate) use safetensors_header::read_header;
#[cfg(feature = "hub")]
pub(crate) use shards::{INDEX_FILE, shard_names};
pub(crate) use tensor_source::{Origin, TensorSource};
pub(crate) use weights::{SINGLE_FILE, Weights, sha256};

//! A model's weights: one safetensors file, or several with an index.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use safetensors::Dtype;
use sha2::{Digest, Sha256};

use super::folder::ModelFolder;
use super::safetensors_header::{TensorEntry, read_header};
use super::shards::{INDEX_FILE, MAX_INDEX_BYTES, ShardIndex};
use super::tensor_source::{Origin, TensorSource};
use crate::error::LensError;

pub(crate) const SINGLE_FILE: &str = "model.safetensors";
/// How much of a file is held besides the tensor that is being filled.
const CHUNK_BYTES: usize = 256 << 10;

/// Weights whose headers have been checked and whose tensors are read on demand.
#[derive(Debug)]
pub(crate) struct Weights {
    /// The file that lists the tensors: the only weight file, or the index.
    list: PathBuf,
    shards: Vec<Shard>,
    tensors: HashMap<String, (usize, TensorEntry)>,
    dtypes: Vec<Dtype>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    data: Box<dyn Data>,
    origin: Origin,
}

/// What a shard's bytes are read from.
trait Data: Read + Seek + Send + fmt::Debug {}

impl<T: Read + Seek + Send + fmt::Debug> Data for T {}

impl Weights {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names, and checks every
    /// header.
    pub(crate) fn open(folder: &ModelFolder) -> Result<Self, LensError> {
        let dir = folder.path();
        if folder.find(SINGLE_FILE)?.is_some() {
            return Ok(Self::single(open_shard(folder, SINGLE_FILE)?));
        }
        let Some(index) = folder.read(INDEX_FILE, MAX_INDEX_BYTES)? else {
            folder.refuse_foreign_weights()?;
            return Err(LensError::MissingFile { dir: dir.to_owned(), file: SINGLE_FILE });
        };
        let list = dir.join(INDEX_FILE);
        let index = ShardIndex::parse(&list, &index)?;
        let mut shards = Vec::with_capacity(index.shards.len());
        let mut headers = HashMap::with_capacity(index.shards.len());
        for (number, name) in index.shards.iter().enumerate() {
            let (shard, tensors) = open_shard(folder, name)?;
            shards.push(shard);
            headers.insert(name.as_str(), (number, tensors));
        }
        let mut tensors = HashMap::with_capacity(index.weight_map.len());
        for (tensor, file) in &index.weight_map {
            // Every shard that the map names has been opened above.
            let Some((number, header)) = headers.get_mut(file.as_str()) else { continue };
            let Some(entry) = header.remove(tensor) else {
                return Err(LensError::MissingTensor { path: dir.join(file), tensor: tensor.clone() });
            };
            tensors.insert(tensor.clone(), (*number, entry));
        }
        Ok(Self { list, shards, tensors, dtypes: Vec::new() })
    }

    /// The bytes of a `model.safetensors`, their header checked; errors name `path`.
    pub(crate) fn in_memory(path: PathBuf, bytes: Arc<[u8]>) -> Result<Self, LensError> {
        let mut data = Cursor::new(Arc::clone(&bytes));
        let tensors = read_header(&path, &mut data, bytes.len() as u64)?;
        Ok(Self::single((Shard { path, data: Box::new(data), origin: Origin::Memory(bytes) }, tensors)))
    }

    fn single((shard, tensors): (Shard, HashMap<String, TensorEntry>)) -> Self {
        let tensors = tensors.into_iter().map(|(name, entry)| (name, (0, entry))).collect();
        Self { list: shard.path.clone(), shards: vec![shard], tensors, dtypes: Vec::new() }
    }
}

impl TensorSource for Weights {
    fn has(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn path(&self) -> &Path {
        &self.list
    }

    fn dtype(&self) -> String {
        self.dtypes.iter().map(|dtype| format!("{dtype:?}")).collect::<Vec<_>>().join(", ")
    }

    fn files(&self) -> Vec<Origin> {
        self.shards.iter().map(|shard| shard.origin.clone()).collect()
    }

    fn read(&mut self, tensor: &str, shape: &[usize]) -> Result<Vec<f32>, LensError> {
        let Some((number, entry)) = self.tensors.get(tensor) else {
            return Err(LensError::MissingTensor { path: self.list.clone(), tensor: tensor.to_owned() });
        };
        let shard = &mut self.shards[*number];
        if !entry.shape.iter().copied().eq(shape.iter().map(|&size| size as u64)) {
            return Err(LensError::TensorShape {
                path: shard.path.clone(),
                tensor: tensor.to_owned(),
                expected: shape.to_vec(),
                found: entry.shape.clone(),
            });
        }
        let widen: fn(&[u8], &mut Vec<f32>) = match entry.dtype {
            Dtype::F32 => |bytes, numbers| {
                numbers.extend(bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)));
            },
            Dtype::F16 => |bytes, numbers| {
                numbers.extend(bytes.as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32()));
            },
            Dtype::BF16 => |bytes, numbers| {
                numbers.extend(bytes.as_chunks().0.iter().map(|&bytes| bf16::from_le_bytes(bytes).to_f32()));
            },
            other => {
                return Err(LensError::TensorType {
                    path: shard.path.clone(),
                    tensor: tensor.to_owned(),
                    found: format!("{other:?}"),
                });
            }
        };
        if !self.dtypes.contains(&entry.dtype) {
            self.dtypes.push(entry.dtype);
        }
        // The header's checks hold this to the size of the file.
        let len = ((entry.bytes.end - entry.bytes.start) / (entry.dtype.bitsize() as u64 / 8)) as usize;
        let mut numbers = Vec::new();
        numbers
            .try_reserve_exact(len)
            .map_err(|_| LensError::AllocationFailed { bytes: len.saturating_mul(size_of::<f32>()) })?;
        shard
            .for_each_chunk(entry, |bytes| widen(bytes, &mut numbers))
            .map_err(|source| LensError::Read { path: shard.path.clone(), source })?;
        Ok(numbers)
    }
}

impl Shard {
    fn for_each_chunk(&mut self, entry: &TensorEntry, mut each: impl FnMut(&[u8])) -> std::io::Result<()> {
        let mut left = entry.bytes.end - entry.bytes.start;
        let mut chunk = vec![0; CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES))];
        self.data.seek(SeekFrom::Start(entry.bytes.start))?;
        while left > 0 {
            let len = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.data.read_exact(&mut chunk[..len])?;
            each(&chunk[..len]);
            left -= len as u64;
        }
        Ok(())
    }
}

fn open_shard(folder: &ModelFolder, name: &str) -> Result<(Shard, HashMap<String, TensorEntry>), LensError> {
    let path = folder.path().join(name);
    let Some((mut file, len)) = folder.find(name)? else {
        let source = std::io::ErrorKind::NotFound.into();
        return Err(LensError::Read { path, source });
    };
    let tensors = read_header(&path, &mut file, len)?;
    let origin = Origin::File(path.clone());
    Ok((Shard { path, data: Box::new(file), origin }, tensors))
}

/// The SHA-256 of a file in hexadecimal; of several, that of their hashes (32 bytes each) in a row.
pub(crate) fn sha256(files: &[Origin]) -> Result<String, LensError> {
    let mut all = Sha256::new();
    let mut last = None;
    for file in files {
        let hash = match file {
            Origin::File(path) => {
                sha256_of_file(path).map_err(|source| LensError::Read { path: path.clone(), source })?
            }
            Origin::Memory(bytes) => Sha256::digest(bytes).into(),
        };
        all.update(hash);
        last = Some(hash);
    }
    let hash = if let ([_], Some(hash)) = (files, last) { hash } else { all.finalize().into() };
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn sha256_of_file(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(len) => hash.update(&chunk[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

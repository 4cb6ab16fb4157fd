//! The tensors of a GGUF file.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::TensorInfo;
use candle_core::{Device, Shape};

use super::header::{TensorEntry, read_header};
use super::metadata::Metadata;
use crate::error::LensError;
use crate::files::{ModelFolder, Origin, TensorSource};

/// A file whose header has been checked.
#[derive(Debug)]
pub(crate) struct GgufWeights {
    path: PathBuf,
    file: File,
    data_start: u64,
    tensors: HashMap<String, TensorEntry>,
    used: HashSet<String>,
    dtypes: Vec<String>,
}

impl GgufWeights {
    /// Reads and checks a file's header.
    pub(crate) fn open(folder: &ModelFolder, name: &str) -> Result<(Self, Metadata), LensError> {
        let path = folder.path().join(name);
        let Some((file, len)) = folder.find(name)? else {
            return Err(LensError::Read { path, source: std::io::ErrorKind::NotFound.into() });
        };
        let header = read_header(BufReader::new(&file), len).map_err(|problem| problem.at(&path))?;
        let weights = Self {
            path,
            file,
            data_start: header.data_start,
            tensors: header.tensors,
            used: HashSet::new(),
            dtypes: Vec::new(),
        };
        Ok((weights, header.metadata))
    }

    fn dequantise(&mut self, entry: &TensorEntry, shape: &[usize]) -> candle_core::Result<Vec<f32>> {
        let info = TensorInfo {
            ggml_dtype: entry.dtype,
            shape: Shape::from(shape.to_vec()),
            offset: entry.bytes.start,
        };
        let tensor = info.read(&mut self.file, self.data_start, &Device::Cpu)?;
        tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()
    }
}

impl TensorSource for GgufWeights {
    fn has(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn files(&self) -> Vec<Origin> {
        vec![Origin::File(self.path.clone())]
    }

    fn dtype(&self) -> String {
        self.dtypes.join(", ")
    }

    fn read(&mut self, tensor: &str, shape: &[usize]) -> Result<Vec<f32>, LensError> {
        let Some(entry) = self.tensors.get(tensor).cloned() else {
            return Err(LensError::MissingTensor { path: self.path.clone(), tensor: tensor.to_owned() });
        };
        if !entry.shape.iter().copied().eq(shape.iter().map(|&size| size as u64)) {
            return Err(LensError::TensorShape {
                path: self.path.clone(),
                tensor: tensor.to_owned(),
                expected: shape.to_vec(),
                found: entry.shape,
            });
        }
        self.used.insert(tensor.to_owned());
        let dtype = format!("{:?}", entry.dtype);
        if !self.dtypes.contains(&dtype) {
            self.dtypes.push(dtype);
        }
        self.dequantise(&entry, shape).map_err(|error| LensError::Read {
            path: self.path.clone(),
            source: std::io::Error::other(error.to_string()),
        })
    }

    /// A tensor that the layout has no place for (a bias, factors of rotary frequencies, an expert) would change
    /// what the model computes.
    fn expect_all_used(&self) -> Result<(), LensError> {
        match self.tensors.keys().filter(|tensor| !self.used.contains(*tensor)).min() {
            None => Ok(()),
            Some(tensor) => Err(LensError::Config {
                path: self.path.clone(),
                field: "tensors",
                expected: "those of the Llama layout alone".to_owned(),
                found: format!("{tensor:?}"),
            }),
        }
    }
}

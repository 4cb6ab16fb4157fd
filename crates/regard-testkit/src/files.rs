use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of the `golden` folder.
pub fn golden_path(name: &str) -> PathBuf {
    root().join("golden").join(name)
}

/// The folder of a downloaded model, or `None` with a printed notice if it is not there.
pub fn model_dir(name: &str) -> Option<PathBuf> {
    let dir = root().join("models").join(name);
    if dir.join("config.json").is_file() {
        return Some(dir);
    }
    skip(&format!("models/{name} is not there; scripts/fetch-minilm fetches it"));
    None
}

/// Says that a test does not run, and why; `.ci/run` fails on the line.
pub fn skip(reason: &str) {
    eprintln!("SKIPPED: {reason}");
}

/// A golden safetensors file in memory.
#[derive(Debug)]
pub struct Golden {
    bytes: Vec<u8>,
    name: String,
}

impl Golden {
    /// Reads `golden/{name}`.
    ///
    /// # Panics
    /// If it cannot be read: golden files are part of the repository.
    pub fn open(name: &str) -> Self {
        let bytes = std::fs::read(golden_path(name)).unwrap_or_else(|error| panic!("golden/{name}: {error}"));
        Self { bytes, name: name.to_owned() }
    }

    /// The file as safetensors.
    ///
    /// # Panics
    /// If it is not.
    pub fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap_or_else(|error| panic!("golden/{}: {error}", self.name))
    }

    /// A tensor's numbers, widened to f64.
    ///
    /// # Panics
    /// If it is missing or not F32, F64 or I64.
    pub fn numbers(&self, tensor: &str) -> Vec<f64> {
        let tensors = self.tensors();
        let view = tensors.tensor(tensor).unwrap_or_else(|e| panic!("golden/{}: {tensor}: {e}", self.name));
        let bytes = view.data();
        match view.dtype() {
            Dtype::F32 => {
                bytes.as_chunks::<4>().0.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes))).collect()
            }
            Dtype::F64 => bytes.as_chunks::<8>().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect(),
            Dtype::I64 => {
                bytes.as_chunks::<8>().0.iter().map(|&bytes| i64::from_le_bytes(bytes) as f64).collect()
            }
            other => panic!("golden/{}: {tensor} is {other:?}", self.name),
        }
    }

    /// A tensor's numbers, narrowed to f32.
    ///
    /// # Panics
    /// As [`Self::numbers`].
    pub fn f32s(&self, tensor: &str) -> Vec<f32> {
        self.numbers(tensor).into_iter().map(|number| number as f32).collect()
    }

    /// A tensor's shape.
    ///
    /// # Panics
    /// If it is missing.
    pub fn shape(&self, tensor: &str) -> Vec<usize> {
        let tensors = self.tensors();
        let view = tensors.tensor(tensor).unwrap_or_else(|e| panic!("golden/{}: {tensor}: {e}", self.name));
        view.shape().to_vec()
    }
}

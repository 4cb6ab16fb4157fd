//! The real model and the numbers it is compared with.

use std::path::{Path, PathBuf};

use regard_lens::Model;
use safetensors::SafeTensors;
use serde_json::Value;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The model, or `None` and a line that says so (CI looks for it) where it has not been fetched.
pub fn load_minilm() -> Option<Model> {
    let dir = workspace().join("models/all-MiniLM-L6-v2");
    if !dir.is_dir() {
        // The real standard error: `eprintln!` would be captured by the test harness.
        use std::io::Write;
        let line = "SKIPPED: models/all-MiniLM-L6-v2 is not there; scripts/fetch-minilm fetches it\n";
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return None;
    }
    Some(Model::load(&dir).unwrap())
}

/// One text and its golden file.
pub struct Golden {
    pub name: String,
    pub text: String,
    pub ids: Vec<u32>,
    pub tokens: Vec<String>,
    pub offsets: Vec<[usize; 2]>,
    file: Vec<u8>,
}

impl Golden {
    pub fn all() -> Vec<Self> {
        let texts = texts();
        let entries = texts["texts"].as_array().unwrap().clone();
        assert_eq!(entries.len(), 6);
        entries.into_iter().map(Self::open).collect()
    }

    pub fn model_sha256() -> String {
        texts()["provenance"]["model_safetensors_sha256"].as_str().unwrap().to_owned()
    }

    fn open(entry: Value) -> Self {
        let name = entry["name"].as_str().unwrap().to_owned();
        let file = std::fs::read(workspace().join(format!("golden/minilm/{name}.safetensors"))).unwrap();
        let field = |name: &str| entry[name].clone();
        Self {
            name,
            text: entry["text"].as_str().unwrap().to_owned(),
            ids: serde_json::from_value(field("ids")).unwrap(),
            tokens: serde_json::from_value(field("tokens")).unwrap(),
            offsets: serde_json::from_value(field("offsets")).unwrap(),
            file,
        }
    }

    /// `[seq_len, 384]`.
    pub fn hidden_states(&self) -> Vec<f32> {
        self.tensor("last_hidden_state").unwrap()
    }

    /// `[seq_len, seq_len]`, if the file has this head.
    pub fn probs(&self, layer: usize, head: usize) -> Option<Vec<f32>> {
        self.tensor(&format!("probs.L{layer}.H{head}"))
    }

    pub fn num_probs(&self) -> usize {
        let file = SafeTensors::deserialize(&self.file).unwrap();
        file.names().iter().filter(|name| name.starts_with("probs.")).count()
    }

    fn tensor(&self, name: &str) -> Option<Vec<f32>> {
        f32_tensor(&self.file, name)
    }
}

fn f32_tensor(file: &[u8], name: &str) -> Option<Vec<f32>> {
    let file = SafeTensors::deserialize(file).unwrap();
    let tensor = file.tensor(name).ok()?;
    assert_eq!(tensor.dtype(), safetensors::Dtype::F32);
    Some(tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

fn texts() -> Value {
    let json = std::fs::read(workspace().join("golden/minilm/texts.json")).unwrap();
    serde_json::from_slice(&json).unwrap()
}

pub fn max_abs_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    // Not `max`, which would lose a NaN.
    found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst, difference| if difference <= worst { worst } else { difference })
}

/// One of the tiny models, and what was computed with it.
pub struct TinyGolden {
    pub text: String,
    pub ids: Vec<u32>,
    /// Where the logits are known: at the masks, and at the last token.
    pub positions: Vec<usize>,
    file: Vec<u8>,
}

impl TinyGolden {
    pub fn dir(name: &str) -> PathBuf {
        workspace().join("golden/tiny").join(name)
    }

    pub fn load_model(name: &str) -> Model {
        Model::load(&Self::dir(name)).unwrap()
    }

    pub fn open(name: &str) -> Self {
        Self::open_file(&Self::dir(name).join("expected.safetensors"))
    }

    /// Of a model that `regard-train` has trained (golden/trained).
    pub fn trained(name: &str) -> Self {
        Self::open_file(&workspace().join("golden/trained").join(name).join("expected.safetensors"))
    }

    fn open_file(path: &Path) -> Self {
        let file = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&file).unwrap();
        let text = header.metadata().as_ref().unwrap()["text"].clone();
        let integers = |name: &str| {
            let tensors = SafeTensors::deserialize(&file).unwrap();
            let bytes = tensors.tensor(name).unwrap().data().to_vec();
            bytes.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect::<Vec<_>>()
        };
        let ids = integers("input_ids").into_iter().map(|id| id.try_into().unwrap()).collect();
        let positions = integers("positions").into_iter().map(|position| position as usize).collect();
        Self { text, ids, positions, file }
    }

    pub fn tensor(&self, name: &str) -> Vec<f32> {
        f32_tensor(&self.file, name).unwrap_or_else(|| panic!("{name}"))
    }
}

//! The official ONNX operator cases that `golden/generate_onnx.py OP_TYPE DIR/OP_TYPE` writes.

use std::collections::HashMap;
use std::path::Path;

use regard::{bf16, f16};
use safetensors::SafeTensors;
use serde_json::Value;

/// A stored tensor, widened to f32.
#[derive(Debug)]
pub struct Stored {
    pub dtype: String,
    pub shape: Vec<usize>,
    pub numbers: Vec<f32>,
}

/// One case: `input.I` and `output.I` by their places in the operator's signature, absent ones left out.
pub struct Case {
    pub name: String,
    pub tensors: HashMap<String, Stored>,
    entry: Value,
}

/// The cases of an operator in the folder that REGARD_ONNX names, or `None` with a printed notice without it.
pub fn cases(op_type: &str) -> Option<Vec<Case>> {
    let Some(folder) = std::env::var_os("REGARD_ONNX") else {
        regard_testkit::skip("REGARD_ONNX is not set; golden/README.md says how to write the ONNX cases");
        return None;
    };
    let folder = Path::new(&folder).join(op_type);
    let document = std::fs::read_to_string(folder.join("cases.json")).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    Some(document["cases"].as_array().unwrap().iter().map(|entry| Case::read(&folder, entry)).collect())
}

impl Case {
    fn read(folder: &Path, entry: &Value) -> Self {
        let name = entry["name"].as_str().unwrap().to_owned();
        let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors = HashMap::new();
        for (key, described) in entry["tensors"].as_object().unwrap() {
            let dtype = described["dtype"].as_str().unwrap().to_owned();
            let view = file.tensor(key).unwrap();
            let (shape, numbers) = (view.shape().to_vec(), widen(&dtype, view.data()));
            tensors.insert(key.clone(), Stored { dtype, shape, numbers });
        }
        Self { name, entry: entry.clone(), tensors }
    }

    /// A numeric attribute, or the operator's default.
    pub fn attribute(&self, name: &str, default: f64) -> f64 {
        self.entry["attributes"].get(name).map_or(default, |number| number.as_f64().unwrap())
    }

    /// The relative and the absolute tolerance that ONNX gives the case.
    pub fn tolerance(&self) -> [f64; 2] {
        ["rtol", "atol"].map(|name| self.entry[name].as_f64().unwrap())
    }
}

fn widen(dtype: &str, bytes: &[u8]) -> Vec<f32> {
    let u16s = || bytes.as_chunks::<2>().0.iter().map(|&bytes| u16::from_le_bytes(bytes));
    match dtype {
        "float32" => bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
        "float16" => u16s().map(|bits| f16::from_bits(bits).to_f32()).collect(),
        "bfloat16" => u16s().map(|bits| bf16::from_bits(bits).to_f32()).collect(),
        "int64" => bytes.as_chunks::<8>().0.iter().map(|&bytes| i64::from_le_bytes(bytes) as f32).collect(),
        "bool" => bytes.iter().map(|&byte| f32::from(byte)).collect(),
        other => panic!("dtype {other}"),
    }
}

//! A model with the output of heads set to zero, by its weights: what the output projection takes from them is zero.

use std::fs;
use std::path::Path;

use regard_lens::Model;
use safetensors::SafeTensors;

use crate::error::TrainError;

/// A model's files, read.
pub(super) struct Files {
    name: String,
    config: Vec<u8>,
    tokenizer: Vec<u8>,
    weights: Vec<u8>,
}

/// What layers call the weight of their output projection, `[model_dim, heads · head_dim]`, after the layer's number.
const PROJECTIONS: [&str; 3] =
    [".attention.output.dense.weight", ".attention.out_lin.weight", ".self_attn.o_proj.weight"];

impl Files {
    pub(super) fn read(dir: &Path) -> Result<Self, TrainError> {
        let read = |file: &str| {
            let path = dir.join(file);
            fs::read(&path).map_err(TrainError::file(&path))
        };
        Ok(Self {
            name: dir.display().to_string(),
            config: read("config.json")?,
            tokenizer: read("tokenizer.json")?,
            weights: read("model.safetensors")?,
        })
    }

    pub(super) fn model(&self) -> Result<Model, TrainError> {
        self.load(self.weights.as_slice().into())
    }

    fn load(&self, weights: std::sync::Arc<[u8]>) -> Result<Model, TrainError> {
        Ok(Model::from_memory(&self.name, &self.config, &self.tokenizer, weights)?)
    }

    /// The model without what some heads of a layer add; each layer has so many heads.
    pub(super) fn without(&self, layer: usize, gone: &[usize], heads: usize) -> Result<Model, TrainError> {
        let bad = |problem: String| TrainError::bad(Path::new(&self.name), problem);
        let (header, metadata) =
            SafeTensors::read_metadata(&self.weights).map_err(|error| bad(error.to_string()))?;
        let tensors = metadata.tensors();
        let is_projection =
            |name: &&String| PROJECTIONS.iter().any(|end| name.ends_with(&format!(".{}{end}", layer)));
        let name = tensors.keys().find(is_projection);
        let info = name.and_then(|name| tensors.get(name));
        let Some(info) = info.filter(|info| info.shape.len() == 2 && info.shape[1].is_multiple_of(heads))
        else {
            return Err(bad(format!(
                "expected the weight of layer {}'s output projection, found none",
                layer
            )));
        };
        let row = info.shape[1] * info.dtype.bitsize() / 8;
        let part = row / heads;
        // The length of the header stands before it.
        let start = 8 + header;
        let mut weights = self.weights.clone();
        let tensor = &mut weights[start + info.data_offsets.0..start + info.data_offsets.1];
        // Zeros of every type are zero bytes.
        for row in tensor.chunks_exact_mut(row) {
            gone.iter().for_each(|head| row[head * part..(head + 1) * part].fill(0));
        }
        self.load(weights.into())
    }
}

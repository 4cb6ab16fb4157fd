//! A safetensors file of what heads computed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use regard::TensorView;
use serde_json::{Map, Value, json};

use crate::error::LensError;
use crate::kept::contiguous;
use crate::model::{HiddenStates, Model};
use crate::observer::{AttentionObserver, LayerAttention};
use crate::token::TokenizedText;
use crate::transformer::zeros;
use crate::view::HeadId;

/// The largest file that is written.
const MAX_SAVE_BYTES: u64 = 4 << 30;
/// Rows of probabilities that exist at once.
const ROWS_AT_ONCE: usize = 32;

/// What a file of activations will hold, before anything is computed.
///
/// All in F32, n the number of tokens: for each head `probs.L3.H1` `[n, n]`, `query.L3.H1` and `key.L3.H1`
/// `[n, head_dim]` (after rotary positions), `value.L3.H1` and `output.L3.H1` (before the output projection)
/// `[n, value_head_dim]`; for each of their layers what it is given, `hidden.L3` `[n, model_dim]`; and the last layer's
/// output, `hidden.last`. With all heads of the model, one tensor `attention` `[layers, heads, n, n]` stands for all
/// `probs`. The metadata name the model, the text and its tokens (a JSON array).
#[derive(Debug)]
pub struct SavePlan {
    path: PathBuf,
    heads: Vec<HeadId>,
    header: Vec<u8>,
    /// Name, first byte in the file and numbers of each tensor.
    tensors: Vec<(String, u64, u64)>,
    all: Option<[usize; 2]>,
    bytes: u64,
}

impl SavePlan {
    /// Plans a file with some heads, or with all.
    ///
    /// # Errors
    /// [`LensError::NoSuchHead`]; [`LensError::TooMuchMemory`] if the file would be larger than 4 GiB.
    pub fn new(
        path: &Path,
        model: &Model,
        tokens: &TokenizedText,
        heads: Option<&[HeadId]>,
    ) -> Result<Self, LensError> {
        let info = model.info();
        let (layers, num_heads, n) = (info.layers, info.heads, tokens.tokens.len());
        let every = || (0..layers).flat_map(|layer| (0..num_heads).map(move |head| HeadId { layer, head }));
        let mut chosen: Vec<HeadId> = heads.map_or_else(|| every().collect(), <[HeadId]>::to_vec);
        chosen.sort_unstable();
        chosen.dedup();
        if let Some(&head) = chosen.iter().find(|id| id.layer >= layers || id.head >= num_heads) {
            return Err(LensError::NoSuchHead { head, layers, heads: num_heads });
        }
        let all = (chosen.len() == layers * num_heads).then_some([layers, num_heads]);
        let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
        if let Some([layers, heads]) = all {
            shapes.push(("attention".into(), vec![layers, heads, n, n]));
        }
        for id in &chosen {
            let attention = &model.transformer.blocks[id.layer].attention;
            if all.is_none() {
                shapes.push((format!("probs.{id}"), vec![n, n]));
            }
            let (dim, value_dim) = (attention.head_dim(), attention.value_head_dim());
            for (what, dim) in [("query", dim), ("key", dim), ("value", value_dim), ("output", value_dim)] {
                shapes.push((format!("{what}.{id}"), vec![n, dim]));
            }
        }
        let mut of_layers: Vec<usize> = chosen.iter().map(|id| id.layer).collect();
        of_layers.dedup();
        let hidden = of_layers.iter().map(|layer| format!("hidden.L{layer}")).chain(["hidden.last".into()]);
        shapes.extend(hidden.map(|name| (name, vec![n, model.transformer.model_dim()])));

        let spellings: Vec<&str> = tokens.tokens.iter().map(|token| token.text.as_str()).collect();
        let mut header = Map::new();
        header.insert(
            "__metadata__".into(),
            json!({
                "format": "regard-save/1",
                "regard_version": env!("CARGO_PKG_VERSION"),
                "model": info.name,
                "model_sha256": info.sha256,
                "text": tokens.text,
                "tokens": json!(spellings).to_string(),
            }),
        );
        let (mut tensors, mut end) = (Vec::with_capacity(shapes.len()), 0u64);
        for (name, shape) in shapes {
            let numbers = shape.iter().fold(1u64, |all, &size| all.saturating_mul(size as u64));
            let start = end;
            end = end.saturating_add(numbers.saturating_mul(4));
            header.insert(
                name.clone(),
                json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] }),
            );
            tensors.push((name, start, numbers));
        }
        if end > MAX_SAVE_BYTES {
            return Err(LensError::TooMuchMemory {
                what: "the file of activations",
                needed: end,
                limit: MAX_SAVE_BYTES,
                remedy: "choose fewer heads or a shorter text",
            });
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        // Numbers begin at a multiple of 8, as the format's own writer has them.
        header.resize(header.len().next_multiple_of(8), b' ');
        let data_start = 8 + header.len() as u64;
        tensors.iter_mut().for_each(|(_, start, _)| *start += data_start);
        Ok(Self { path: path.to_owned(), heads: chosen, header, tensors, all, bytes: data_start + end })
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes a file beside the one asked for, which takes its name only when it is complete.
    ///
    /// # Errors
    /// [`LensError::Write`].
    pub fn start(self) -> Result<Saver, LensError> {
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.ok_or_else(|| LensError::Write {
            path: self.path.clone(),
            source: io::Error::other("expected the name of a file"),
        })?;
        if self.path.is_dir() {
            let source = io::Error::other("a directory has this name");
            return Err(LensError::Write { path: self.path, source });
        }
        let part = self.path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let write = |source| LensError::Write { path: part.clone(), source };
        let file = OpenOptions::new().write(true).create_new(true).open(&part).map_err(write)?;
        let mut saver = Saver { plan: self, part: part.clone(), file, is_complete: false };
        let header_len = (saver.plan.header.len() as u64).to_le_bytes();
        let parts = [&header_len[..], &saver.plan.header];
        parts.into_iter().try_for_each(|bytes| saver.file.write_all(bytes)).map_err(write)?;
        Ok(saver)
    }
}

/// An observer that writes what it sees into a file.
#[derive(Debug)]
pub struct Saver {
    plan: SavePlan,
    part: PathBuf,
    file: File,
    is_complete: bool,
}

impl Saver {
    /// Writes the last layer's output and gives the file its name.
    ///
    /// # Errors
    /// [`LensError::Write`].
    pub fn finish(mut self, hidden: &HiddenStates) -> Result<(), LensError> {
        self.write("hidden.last", 0, &hidden.data)?;
        let synced = self.file.set_len(self.plan.bytes).and_then(|()| self.file.sync_all());
        let renamed = synced.and_then(|()| fs::rename(&self.part, &self.plan.path));
        self.is_complete = renamed.is_ok();
        renamed.map_err(|source| LensError::Write { path: self.plan.path.clone(), source })
    }

    /// Writes numbers into a tensor, from its number `skip` on.
    fn write(&mut self, tensor: &str, skip: usize, numbers: &[f32]) -> Result<(), LensError> {
        let place = self.plan.tensors.iter().find(|(name, ..)| name == tensor);
        let Some(&(_, start, len)) = place else { return Ok(()) };
        if skip as u64 + numbers.len() as u64 > len {
            let found = skip + numbers.len();
            let expected = len as usize;
            return Err(regard::AttentionError::ShapeMismatch { axis: "saved.len", expected, found }.into());
        }
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.file
            .seek(SeekFrom::Start(start + 4 * skip as u64))
            .and_then(|_| self.file.write_all(&bytes))
            .map_err(|source| LensError::Write { path: self.part.clone(), source })
    }

    fn head(&mut self, attention: &LayerAttention<'_>, id: HeadId) -> Result<(), LensError> {
        let [_, heads, n, _] = attention.query.shape();
        let (tensor, before) = match self.plan.all {
            Some([_, heads]) => ("attention".to_owned(), (id.layer * heads + id.head) * n * n),
            None => (format!("probs.{id}"), 0),
        };
        let mut block = zeros(ROWS_AT_ONCE.min(n) * n)?;
        for start in (0..n).step_by(ROWS_AT_ONCE) {
            let rows = start..n.min(start + ROWS_AT_ONCE);
            let block = &mut block[..rows.len() * n];
            attention.probs(id.head, rows, block)?;
            self.write(&tensor, before + start * n, block)?;
        }
        let kv_head = id.head / (heads / attention.key.shape()[1]);
        for (what, view, head) in [
            ("query", &attention.query, id.head),
            ("key", &attention.key, kv_head),
            ("value", &attention.value, kv_head),
            ("output", &attention.output, id.head),
        ] {
            self.write(&format!("{what}.{id}"), 0, &rows_of(view, head)?)?;
        }
        Ok(())
    }
}

/// One head's rows, `[seq_len, dim]`.
fn rows_of(view: &TensorView<'_, f32>, head: usize) -> Result<Vec<f32>, LensError> {
    let [_, _, seq, dim] = view.shape();
    let mut all = contiguous(view)?;
    all.drain(..head * seq * dim);
    all.truncate(seq * dim);
    Ok(all)
}

impl AttentionObserver for Saver {
    fn layer(&mut self, attention: &LayerAttention<'_>) -> Result<(), LensError> {
        let of_layer: Vec<HeadId> =
            self.plan.heads.iter().copied().filter(|id| id.layer == attention.layer).collect();
        if !of_layer.is_empty() {
            self.write(&format!("hidden.L{}", attention.layer), 0, attention.input)?;
        }
        of_layer.into_iter().try_for_each(|id| self.head(attention, id))
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        if !self.is_complete {
            // What was not finished is of no use; that it stays is no second error.
            let _ = fs::remove_file(&self.part);
        }
    }
}

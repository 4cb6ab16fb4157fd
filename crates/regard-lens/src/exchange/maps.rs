//! Attention matrices that another program computed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};
use safetensors::Dtype;

use super::npy::read_npy_header;
use crate::error::LensError;
use crate::files::{Origin, foreign_format, read_header, sha256};
use crate::model::{ModelInfo, Predicts};
use crate::view::HeadId;

/// More layers, heads or tokens than any file of dense matrices has.
const MAX_LAYERS: u64 = 1024;
const MAX_HEADS: u64 = 4096;
const MAX_TOKENS: u64 = 32_768;

/// How a number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    F16,
    Bf16,
    F32,
    F64,
}

/// A file of attention probabilities `[layers, heads, tokens, tokens]`, read a few rows at a time.
///
/// A safetensors file holds one such tensor, or one called `attention`; or it is a `.npy` file. F16, BF16, F32 and F64
/// are read. An axis of size 1 after the layers is left out, so that `torch.stack(outputs.attentions)` fits.
#[derive(Debug)]
pub struct AttentionMaps {
    path: PathBuf,
    file: Mutex<(File, f64)>,
    data_start: u64,
    number: Number,
    layers: usize,
    heads: usize,
    tokens: usize,
}

impl AttentionMaps {
    /// Opens a file and checks all that its header says. The file is not trusted.
    ///
    /// # Errors
    /// [`LensError::Maps`] naming the field, what was expected and what was found; [`LensError::ForeignFormat`];
    /// [`LensError::Read`].
    pub fn open(path: &Path) -> Result<Self, LensError> {
        let read_error = |source| LensError::Read { path: path.to_owned(), source };
        let metadata = path.metadata().map_err(read_error)?;
        // Before opening: opening a named pipe would wait for a writer.
        if !metadata.is_file() {
            return Err(read_error(std::io::Error::other("not a regular file")));
        }
        let mut file = File::open(path).map_err(read_error)?;
        let mut start = Vec::new();
        file.by_ref().take(16).read_to_end(&mut start).map_err(read_error)?;
        file.seek(SeekFrom::Start(0)).map_err(read_error)?;
        let (number, shape, data) = if start.starts_with(b"\x93NUMPY") {
            npy(path, &mut file, metadata.len())?
        } else if let Some(format) = foreign_format(&start) {
            return Err(LensError::ForeignFormat { path: path.to_owned(), format });
        } else {
            safetensors(path, &mut file, metadata.len())?
        };
        let [layers, heads, tokens] = sizes(path, &shape)?;
        let len = data.end - data.start;
        let expected = (layers * heads * tokens * tokens) as u64 * number.bytes();
        if len != expected {
            return Err(problem(path, "data", format!("{expected} bytes for {shape:?}"), len.to_string()));
        }
        let file = Mutex::new((file, 0.0));
        Ok(Self { path: path.to_owned(), file, data_start: data.start, number, layers, heads, tokens })
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The largest |1 − sum| of the rows that were read so far.
    pub fn max_row_sum_error(&self) -> f64 {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// What stands in for what is known of a model: the file's name and checksum. It counts as causal if no token
    /// looks ahead in the first and the middle row of any head.
    ///
    /// # Errors
    /// [`LensError::Read`]; [`LensError::Maps`] as [`Self::probs`].
    pub fn info(&self) -> Result<ModelInfo, LensError> {
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let mut causal = self.tokens > 1;
        let mut row = vec![0.0; self.tokens];
        for (layer, head) in (0..self.layers).flat_map(|layer| (0..self.heads).map(move |head| (layer, head)))
        {
            for query in [0, (self.tokens - 1) / 2] {
                if causal {
                    self.probs(HeadId { layer, head }, query..query + 1, &mut row)?;
                    causal = row[query + 1..].iter().all(|&prob| prob == 0.0);
                }
            }
        }
        Ok(ModelInfo {
            name: name.unwrap_or_default(),
            sha256: sha256(&[Origin::File(self.path.clone())])?,
            layers: self.layers,
            heads: self.heads,
            causal,
            dtype: format!("{:?}", self.number).to_uppercase(),
            max_tokens: self.tokens,
            predicts: Predicts::Nothing,
            built_in: false,
        })
    }

    /// Writes the probabilities of some query rows of one head, `[rows, tokens]`.
    ///
    /// # Errors
    /// [`LensError::Maps`] if a row is not one of probabilities (finite, not negative, sum 1 within 1e-3, or 1e-2
    /// in 16 bits); [`LensError::NoSuchHead`]; [`LensError::Attention`] if a row does not exist or `probs` has
    /// another length; [`LensError::Read`].
    pub fn probs(&self, head: HeadId, rows: Range<usize>, probs: &mut [f32]) -> Result<(), LensError> {
        let (layers, heads, tokens) = (self.layers, self.heads, self.tokens);
        if head.layer >= layers || head.head >= heads {
            return Err(LensError::NoSuchHead { head, layers, heads });
        }
        if rows.end > tokens {
            let error = regard::AttentionError::OutOfBounds { what: "rows", needed: rows.end, found: tokens };
            return Err(error.into());
        }
        let expected = rows.len() * tokens;
        if probs.len() != expected {
            let found = probs.len();
            return Err(regard::AttentionError::ShapeMismatch { axis: "probs.len", expected, found }.into());
        }
        let first = ((head.layer * heads + head.head) * tokens + rows.start) * tokens;
        let mut bytes = vec![0; expected * self.number.bytes() as usize];
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, worst) = &mut *guard;
        file.seek(SeekFrom::Start(self.data_start + first as u64 * self.number.bytes()))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|source| LensError::Read { path: self.path.clone(), source })?;
        self.number.widen(&bytes, probs);
        for (row, probs) in rows.zip(probs.chunks_exact(tokens)) {
            let sum: f64 = probs.iter().map(|&prob| f64::from(prob)).sum();
            let error = (sum - 1.0).abs();
            let negative = probs.iter().find(|&&prob| prob < 0.0);
            // NaN is not within anything.
            let within = error <= self.number.tolerance();
            if !within || negative.is_some() {
                let found = match negative {
                    Some(prob) => format!("{prob} among them"),
                    None => format!("the sum {sum}"),
                };
                let expected = "probabilities that sum to 1; save them after the softmax".to_owned();
                return Err(problem(&self.path, &format!("{head}, row {row}"), expected, found));
            }
            *worst = worst.max(error);
        }
        Ok(())
    }

    /// Layers, and heads of each.
    pub(crate) fn size(&self) -> [usize; 2] {
        [self.layers, self.heads]
    }
}

impl Number {
    fn bytes(self) -> u64 {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// How far the sum of a row may be from 1.
    fn tolerance(self) -> f64 {
        match self {
            Self::F16 | Self::Bf16 => 1e-2,
            Self::F32 | Self::F64 => 1e-3,
        }
    }

    fn widen(self, bytes: &[u8], numbers: &mut [f32]) {
        match self {
            Self::F16 => fill(numbers, bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Self::Bf16 => fill(numbers, bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            Self::F32 => fill(numbers, bytes, f32::from_le_bytes),
            Self::F64 => fill(numbers, bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        }
    }
}

fn fill<const N: usize>(numbers: &mut [f32], bytes: &[u8], read: impl Fn([u8; N]) -> f32) {
    numbers.iter_mut().zip(bytes.as_chunks().0).for_each(|(number, &bytes)| *number = read(bytes));
}

fn problem(path: &Path, field: &str, expected: String, found: String) -> LensError {
    LensError::Maps { path: path.to_owned(), field: field.to_owned(), expected, found }
}

/// Layers, heads and tokens of a shape.
fn sizes(path: &Path, shape: &[u64]) -> Result<[usize; 3], LensError> {
    let fits = |layers, heads, [queries, keys]: [u64; 2]| {
        let inside = |size, most| (1..=most).contains(&size);
        queries == keys
            && inside(layers, MAX_LAYERS)
            && inside(heads, MAX_HEADS)
            && inside(queries, MAX_TOKENS)
    };
    match *shape {
        [layers, heads, queries, keys] | [layers, 1, heads, queries, keys]
            if fits(layers, heads, [queries, keys]) =>
        {
            // Within the limits, each fits an usize.
            Ok([layers, heads, queries].map(|size| size as usize))
        }
        _ => Err(problem(
            path,
            "shape",
            format!(
                "[layers, heads, tokens, tokens], at most {MAX_LAYERS}, {MAX_HEADS} and {MAX_TOKENS}; \
                 torch.stack(outputs.attentions) has it"
            ),
            format!("{shape:?}"),
        )),
    }
}

type Array = (Number, Vec<u64>, Range<u64>);

fn npy(path: &Path, file: &mut File, len: u64) -> Result<Array, LensError> {
    let header =
        read_npy_header(file).map_err(|[field, expected, found]| problem(path, &field, expected, found))?;
    if header.fortran_order {
        let expected = "False; save numpy.ascontiguousarray(maps)".to_owned();
        return Err(problem(path, "fortran_order", expected, "True".into()));
    }
    let number = match header.descr.as_str() {
        "<f2" => Number::F16,
        "<f4" => Number::F32,
        "<f8" => Number::F64,
        other => {
            let expected = "<f2, <f4 or <f8; save maps.astype(\"<f4\")".to_owned();
            return Err(problem(path, "descr", expected, other.to_owned()));
        }
    };
    Ok((number, header.shape, header.data_start..len.max(header.data_start)))
}

fn safetensors(path: &Path, file: &mut File, len: u64) -> Result<Array, LensError> {
    let mut tensors = read_header(path, file, len).map_err(|error| match error {
        LensError::Header { field, expected, found, .. } => problem(path, &field, expected, found),
        other => other,
    })?;
    let mut names: Vec<String> = tensors.keys().cloned().collect();
    names.sort();
    let name = match &names[..] {
        [only] => only.clone(),
        several if several.iter().any(|name| name == "attention") => "attention".to_owned(),
        several => {
            let expected = "one tensor, or one called \"attention\"".to_owned();
            let some: Vec<&str> = several.iter().take(8).map(String::as_str).collect();
            return Err(problem(
                path,
                "tensors",
                expected,
                format!("{}: {}", several.len(), some.join(", ")),
            ));
        }
    };
    let Some(entry) = tensors.remove(&name) else {
        return Err(LensError::MissingTensor { path: path.to_owned(), tensor: name });
    };
    let number = match entry.dtype {
        Dtype::F16 => Number::F16,
        Dtype::BF16 => Number::Bf16,
        Dtype::F32 => Number::F32,
        Dtype::F64 => Number::F64,
        other => {
            let found = format!("{other:?}");
            return Err(LensError::TensorType { path: path.to_owned(), tensor: name, found });
        }
    };
    Ok((number, entry.shape, entry.bytes))
}

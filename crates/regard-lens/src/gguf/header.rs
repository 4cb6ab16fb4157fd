//! The header of a GGUF file, held to every rule of the format before a byte of data is read.

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::Path;

use candle_core::quantized::GgmlDType;

use super::metadata::{Metadata, Value};
use crate::error::LensError;
use crate::files::{MAX_NAME_BYTES, MAX_TENSORS};

/// The longest header that is read. A vocabulary of 260,000 tokens takes 10 MB.
const MAX_HEADER_BYTES: u64 = 64 << 20;
/// The most entries of metadata. Real files have some dozens.
const MAX_ENTRIES: u64 = 4096;
/// The longest text of the metadata. Chat templates have some kilobytes.
const MAX_TEXT_BYTES: u64 = 1 << 20;
/// The most axes of a tensor.
const MAX_RANK: u32 = 4;
/// Where data starts and tensors are placed, if the file does not say otherwise.
const DEFAULT_ALIGNMENT: u64 = 32;
/// The arrays that are kept.
const KEPT_ARRAYS: [&str; 3] =
    ["tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.token_type"];

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorEntry {
    pub(super) dtype: GgmlDType,
    /// Row-major: the last axis is the one whose numbers lie side by side.
    pub(super) shape: Vec<u64>,
    /// Bytes from the start of the data.
    pub(super) bytes: Range<u64>,
}

/// All that stands before the data.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: Metadata,
    pub(super) tensors: HashMap<String, TensorEntry>,
    /// Bytes from the start of the file.
    pub(super) data_start: u64,
}

/// What is wrong with a header.
#[derive(Debug)]
pub(super) enum Problem {
    Rule { field: String, expected: String, found: String },
    TooLarge { what: &'static str, limit: u64, found: u64 },
    Read(std::io::Error),
}

impl Problem {
    pub(super) fn at(self, path: &Path) -> LensError {
        let path = path.to_owned();
        match self {
            Self::Rule { field, expected, found } => LensError::Header { path, field, expected, found },
            Self::TooLarge { what, limit, found } => LensError::TooLarge { path, what, limit, found },
            Self::Read(source) => LensError::Read { path, source },
        }
    }

    fn rule(field: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> Self {
        Self::Rule { field: field.into(), expected: expected.into(), found: found.to_string() }
    }
}

/// Reads and checks the header of a file of `len` bytes.
pub(super) fn read_header(file: impl Read, len: u64) -> Result<Header, Problem> {
    let mut reader = Reader { file, position: 0, len };
    let magic: [u8; 4] = reader.bytes("magic")?;
    if &magic != b"GGUF" {
        return Err(Problem::rule("magic", "\"GGUF\"", format!("{:?}", String::from_utf8_lossy(&magic))));
    }
    let version = reader.u32("version")?;
    if !(2..=3).contains(&version) {
        return Err(Problem::rule("version", "2 or 3", version));
    }
    let num_tensors = reader.count("tensors", MAX_TENSORS as u64)?;
    let num_entries = reader.count("metadata entries", MAX_ENTRIES)?;
    let mut metadata = Metadata::default();
    for _ in 0..num_entries {
        let key = reader.name()?;
        let kind = reader.u32(&key)?;
        let value = reader.value(&key, kind)?;
        if metadata.values.contains_key(&key) {
            return Err(Problem::rule("metadata", "every key once", format!("{key:?} twice")));
        }
        metadata.values.insert(key, value);
    }
    let alignment = match metadata.values.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(Value::Integer(alignment @ 8..=65_536)) if alignment.count_ones() == 1 => *alignment as u64,
        Some(other) => {
            let found = format!("{other:?}");
            return Err(Problem::rule("general.alignment", "a power of two from 8 to 65536", found));
        }
    };
    let mut entries = Vec::new();
    let mut seen = HashSet::new();
    for _ in 0..num_tensors {
        let name = reader.name()?;
        let entry = reader.tensor(&name, alignment)?;
        if !seen.insert(name.clone()) {
            return Err(Problem::rule("tensors", "every name once", format!("{name:?} twice")));
        }
        entries.push((name, entry));
    }
    let data_start = reader.position.next_multiple_of(alignment);
    Ok(Header { metadata, tensors: check_places(entries, len.saturating_sub(data_start))?, data_start })
}

/// Refuses tensors that overlap or that end beyond the data.
fn check_places(
    mut entries: Vec<(String, TensorEntry)>,
    data_len: u64,
) -> Result<HashMap<String, TensorEntry>, Problem> {
    entries.sort_by_key(|(_, entry)| entry.bytes.start);
    let mut end_of_last = 0;
    for (name, TensorEntry { bytes, .. }) in &entries {
        if bytes.start < end_of_last {
            let expected = format!("at least {end_of_last}, where the tensor before ends");
            return Err(Problem::rule(format!("{name:?}: offset"), expected, bytes.start));
        }
        if bytes.end > data_len {
            let expected = format!("an end within the {data_len} bytes of data");
            return Err(Problem::rule(format!("{name:?}: offset"), expected, bytes.end));
        }
        end_of_last = bytes.end;
    }
    Ok(entries.into_iter().collect())
}

/// A storage type that is read, by its number in the format: also numbers per block and bytes per block.
fn storage_type(number: u32) -> Option<(GgmlDType, u64, u64)> {
    let dtype = match number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        8 => GgmlDType::Q8_0,
        30 => GgmlDType::BF16,
        _ => return None,
    };
    Some((dtype, dtype.block_size() as u64, dtype.type_size() as u64))
}

/// The format's name for a storage type that is not read.
fn other_type(number: u32) -> String {
    let name = match number {
        6 => "Q5_0",
        7 => "Q5_1",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        12 => "Q4_K",
        13 => "Q5_K",
        14 => "Q6_K",
        15 => "Q8_K",
        _ => return format!("type {number}"),
    };
    name.to_owned()
}

/// The header's bytes, none beyond its limit or the file's end.
struct Reader<R> {
    file: R,
    position: u64,
    len: u64,
}

impl<R: Read> Reader<R> {
    fn fill(&mut self, what: &str, buffer: &mut [u8]) -> Result<(), Problem> {
        self.expect_bytes(what, buffer.len() as u64)?;
        self.file.read_exact(buffer).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Problem::rule(what, "more bytes", "the file's end"),
            _ => Problem::Read(error),
        })?;
        self.position += buffer.len() as u64;
        Ok(())
    }

    /// Refuses to read beyond the limit or the file's end.
    fn expect_bytes(&self, what: &str, bytes: u64) -> Result<(), Problem> {
        let end = self.position.saturating_add(bytes);
        if end > MAX_HEADER_BYTES {
            return Err(Problem::TooLarge { what: "header bytes", limit: MAX_HEADER_BYTES, found: end });
        }
        if end > self.len {
            let expected =
                format!("at most the {} bytes left in the file", self.len - self.position.min(self.len));
            return Err(Problem::rule(what, expected, bytes));
        }
        Ok(())
    }

    fn bytes<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Problem> {
        let mut bytes = [0; N];
        self.fill(what, &mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32, Problem> {
        self.bytes(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, Problem> {
        self.bytes(what).map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &'static str, limit: u64) -> Result<u64, Problem> {
        let found = self.u64(what)?;
        if found > limit { Err(Problem::TooLarge { what, limit, found }) } else { Ok(found) }
    }

    fn name(&mut self) -> Result<String, Problem> {
        self.text("name", MAX_NAME_BYTES as u64)
    }

    fn text(&mut self, what: &str, limit: u64) -> Result<String, Problem> {
        let len = self.u64(what)?;
        if len > limit {
            return Err(Problem::rule(what, format!("at most {limit} bytes"), len));
        }
        self.expect_bytes(what, len)?;
        let mut bytes = vec![0; len as usize];
        self.fill(what, &mut bytes)?;
        String::from_utf8(bytes).map_err(|_| Problem::rule(what, "UTF-8", "other bytes"))
    }

    fn value(&mut self, key: &str, kind: u32) -> Result<Value, Problem> {
        if kind != 9 {
            return self.scalar(key, kind);
        }
        let kind = self.u32(key)?;
        let len = self.u64(key)?;
        let keep = KEPT_ARRAYS.contains(&key);
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            _ => return Err(Problem::rule(key, "an array of numbers, texts or truth values", kind)),
        };
        // Before anything is allocated: every element takes some bytes of the file.
        self.expect_bytes(key, len.saturating_mul(least))?;
        let (mut texts, mut integers) = (Vec::new(), Vec::new());
        for _ in 0..len {
            match self.scalar(key, kind)? {
                Value::Text(text) if keep => texts.push(text),
                Value::Integer(integer) if keep => integers.push(integer),
                _ => {}
            }
        }
        Ok(match kind {
            8 if keep => Value::Texts(texts),
            0..=5 | 10 | 11 if keep => Value::Integers(integers),
            _ => Value::Skipped,
        })
    }

    fn scalar(&mut self, key: &str, kind: u32) -> Result<Value, Problem> {
        Ok(match kind {
            0 => Value::Integer(i64::from(self.bytes::<1>(key)?[0])),
            1 => Value::Integer(i64::from(i8::from_le_bytes(self.bytes(key)?))),
            2 => Value::Integer(i64::from(u16::from_le_bytes(self.bytes(key)?))),
            3 => Value::Integer(i64::from(i16::from_le_bytes(self.bytes(key)?))),
            4 => Value::Integer(i64::from(self.u32(key)?)),
            5 => Value::Integer(i64::from(i32::from_le_bytes(self.bytes(key)?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.bytes(key)?))),
            7 => match self.bytes::<1>(key)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(Problem::rule(key, "0 or 1", other)),
            },
            8 => Value::Text(self.text(key, MAX_TEXT_BYTES)?),
            10 => {
                let number = self.u64(key)?;
                let integer = i64::try_from(number);
                Value::Integer(integer.map_err(|_| Problem::rule(key, "a number below 2^63", number))?)
            }
            11 => Value::Integer(i64::from_le_bytes(self.bytes(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.bytes(key)?)),
            other => return Err(Problem::rule(key, "one of the format's 13 types", other)),
        })
    }

    fn tensor(&mut self, name: &str, alignment: u64) -> Result<TensorEntry, Problem> {
        let problem = |what: &str, expected: String, found: String| Problem::Rule {
            field: format!("{name:?}: {what}"),
            expected,
            found,
        };
        let rank = self.u32(name)?;
        if !(1..=MAX_RANK).contains(&rank) {
            return Err(problem("axes", format!("1 to {MAX_RANK}"), rank.to_string()));
        }
        let mut shape = (0..rank).map(|_| self.u64(name)).collect::<Result<Vec<_>, _>>()?;
        let number = self.u32(name)?;
        let Some((dtype, block, block_bytes)) = storage_type(number) else {
            let expected = "F32, F16, BF16, Q4_0, Q4_1 or Q8_0".to_owned();
            return Err(problem("type", expected, other_type(number)));
        };
        if shape.contains(&0) || !shape[0].is_multiple_of(block) {
            let expected = format!("sizes from 1, the first a multiple of {block}");
            return Err(problem("shape", expected, format!("{shape:?}")));
        }
        let numbers = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size));
        let len = numbers.and_then(|numbers| (numbers / block).checked_mul(block_bytes));
        let offset = self.u64(name)?;
        if !offset.is_multiple_of(alignment) {
            return Err(problem("offset", format!("a multiple of {alignment}"), offset.to_string()));
        }
        let Some(end) = len.and_then(|len| offset.checked_add(len)) else {
            return Err(problem("shape", "fewer than 2^64 bytes".to_owned(), format!("{shape:?}")));
        };
        shape.reverse();
        Ok(TensorEntry { dtype, shape, bytes: offset..end })
    }
}

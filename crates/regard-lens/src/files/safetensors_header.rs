//! The header of a safetensors file, held to every rule of the format before a byte of data is read.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use safetensors::Dtype;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::folder::{foreign_format, read_up_to};
use super::json::{UniqueMap, check_name};
use crate::error::LensError;

/// The longest header that is read. Real ones have some hundred bytes for each tensor.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// The most axes of a tensor.
const MAX_RANK: usize = 8;

/// One tensor of a file.
#[derive(Debug, Clone)]
pub(crate) struct TensorEntry {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    /// Bytes from the start of the file.
    pub(crate) bytes: Range<u64>,
}

/// Reads and checks the header of a file of `len` bytes.
pub(crate) fn read_header(
    path: &Path,
    file: &mut impl Read,
    len: u64,
) -> Result<HashMap<String, TensorEntry>, LensError> {
    let header_error = |field: String, expected: String, found: String| LensError::Header {
        path: path.to_owned(),
        field,
        expected,
        found,
    };
    let read_error = |source| LensError::Read { path: path.to_owned(), source };
    let mut start = [0; 9];
    let got = read_up_to(file, &mut start).map_err(read_error)?;
    if let Some(format) = foreign_format(&start[..got]) {
        return Err(LensError::ForeignFormat { path: path.to_owned(), format });
    }
    let [length @ .., first] = start;
    let header_len = u64::from_le_bytes(length);
    if got < 9 {
        return Err(header_error(
            "length".to_owned(),
            "8 bytes and a header".to_owned(),
            format!("{got} bytes"),
        ));
    }
    if header_len > MAX_HEADER_BYTES {
        let limit = MAX_HEADER_BYTES;
        return Err(LensError::TooLarge {
            path: path.to_owned(),
            what: "header bytes",
            limit,
            found: header_len,
        });
    }
    let data_start = 8 + header_len;
    if data_start > len {
        return Err(header_error(
            "length".to_owned(),
            format!("at most the file's {} bytes", len - 8),
            header_len.to_string(),
        ));
    }
    if first != b'{' || header_len == 0 {
        return Err(header_error(
            "first byte".to_owned(),
            "'{'".to_owned(),
            format!("{:?}", char::from(first)),
        ));
    }
    let mut json = vec![0; header_len as usize];
    json[0] = first;
    let got = read_up_to(file, &mut json[1..]).map_err(read_error)?;
    let parsed: HeaderEntries = serde_json::from_slice(&json[..got + 1])
        .map_err(|error| header_error("JSON".to_owned(), "tensors by name".to_owned(), error.to_string()))?;
    check_offsets(parsed.0, data_start, len)
        .map_err(|Problem { field, expected, found }| header_error(field, expected, found))
}

struct Problem {
    field: String,
    expected: String,
    found: String,
}

/// Places every tensor in the file: data must follow the header without hole or overlap up to the file's end,
/// and every tensor must have the bytes that its type and shape say.
fn check_offsets(
    entries: Vec<(String, RawEntry)>,
    data_start: u64,
    len: u64,
) -> Result<HashMap<String, TensorEntry>, Problem> {
    let mut entries = entries;
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut end_of_last = 0;
    let mut tensors = HashMap::with_capacity(entries.len());
    for (name, entry) in entries {
        let (start, end) = entry.data_offsets;
        let problem = |what: &str, expected: String, found: String| Problem {
            field: format!("{name:?}: {what}"),
            expected,
            found,
        };
        if start != end_of_last {
            let expected = format!("a start at {end_of_last}, where the tensor before ends");
            return Err(problem("data_offsets", expected, start.to_string()));
        }
        let RawEntry { dtype, shape: Shape(shape), .. } = entry;
        let bits = shape
            .iter()
            .try_fold(1u64, |product, &size| product.checked_mul(size))
            .and_then(|elements| elements.checked_mul(dtype.bitsize() as u64))
            .filter(|bits| bits.is_multiple_of(8));
        let Some(bits) = bits else {
            let found = format!("{shape:?} of {dtype:?}");
            return Err(problem("shape", "a whole number of bytes, below 2^61".to_owned(), found));
        };
        if end.checked_sub(start) != Some(bits / 8) {
            let expected = format!("{} bytes for {shape:?} of {dtype:?}", bits / 8);
            return Err(problem("data_offsets", expected, format!("[{start}, {end}]")));
        }
        // Compared by subtraction: the sum could overflow.
        if end > len - data_start {
            let expected = format!("an end within the {} bytes of data", len - data_start);
            return Err(problem("data_offsets", expected, end.to_string()));
        }
        end_of_last = end;
        tensors.insert(name, TensorEntry { dtype, shape, bytes: data_start + start..data_start + end });
    }
    if end_of_last != len - data_start {
        let expected = format!("{end_of_last} bytes, the tensors' sum");
        let found = format!("{} bytes", len - data_start);
        return Err(Problem { field: "data".to_owned(), expected, found });
    }
    Ok(tensors)
}

/// One tensor as the JSON has it. Any other field is refused, which also bounds the depth.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (u64, u64),
}

#[derive(Debug)]
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShapeVisitor;
        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX_RANK} sizes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(size) = seq.next_element()? {
                    if shape.len() == MAX_RANK {
                        return Err(A::Error::custom(format!("a tensor with more than {MAX_RANK} axes")));
                    }
                    shape.push(size);
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

/// The header's tensors, every name once.
struct HeaderEntries(Vec<(String, RawEntry)>);

impl<'de> Deserialize<'de> for HeaderEntries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = HeaderEntries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderEntries, A::Error> {
                let mut seen = std::collections::HashSet::new();
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    check_name(&name, entries.len())?;
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("the key {name:?} twice")));
                    }
                    if name == "__metadata__" {
                        map.next_value::<UniqueMap<String>>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(HeaderEntries(entries))
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

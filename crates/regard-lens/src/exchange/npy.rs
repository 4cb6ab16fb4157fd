//! The header of a NumPy file (NEP 1), as far as arrays of floating-point numbers need it.

use std::io::Read;

/// The longest header that is read; NumPy's own are some hundred bytes.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// What a NumPy file says of its array.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NpyHeader {
    /// The type, as in `<f4`.
    pub(super) descr: String,
    pub(super) fortran_order: bool,
    pub(super) shape: Vec<u64>,
    /// Bytes from the start of the file.
    pub(super) data_start: u64,
}

/// What is wrong with a header: field, expected, found.
pub(super) type NpyProblem = [String; 3];

/// Reads the header from the start of a file.
pub(super) fn read_npy_header(file: &mut impl Read) -> Result<NpyHeader, NpyProblem> {
    let problem = |field: &str, expected: &str, found: String| [field.into(), expected.into(), found];
    let mut take = |len: usize| -> Result<Vec<u8>, NpyProblem> {
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes)
            .map_err(|error| problem("NumPy header", "the whole header", error.to_string()))?;
        Ok(bytes)
    };
    let start = take(8)?;
    if !start.starts_with(b"\x93NUMPY") {
        return Err(problem("magic", "\\x93NUMPY", format!("{:?}", &start[..6])));
    }
    let (len_bytes, len) = match start[6] {
        1 => (2, take(2)?.iter().rev().fold(0, |len, &byte| len << 8 | usize::from(byte))),
        2 | 3 => (4, take(4)?.iter().rev().fold(0, |len, &byte| len << 8 | usize::from(byte))),
        other => return Err(problem("version", "1, 2 or 3", other.to_string())),
    };
    if len > MAX_HEADER_BYTES {
        return Err(problem("header length", "at most 65536 bytes", len.to_string()));
    }
    let header = String::from_utf8(take(len)?)
        .map_err(|_| problem("NumPy header", "text", "bytes that are none".into()))?;
    let value = |key: &str| {
        let after = header.split_once(&format!("'{key}'"))?.1.trim_start();
        Some(after.strip_prefix(':')?.trim_start())
    };
    let missing = |key: &str| problem(key, "a field of the NumPy header", "none".into());
    let descr = value("descr").ok_or_else(|| missing("descr"))?;
    let descr = descr
        .strip_prefix('\'')
        .and_then(|rest| rest.split_once('\''))
        .ok_or_else(|| problem("descr", "one type, as in '<f4'", cut(descr)))?
        .0;
    let order = value("fortran_order").ok_or_else(|| missing("fortran_order"))?;
    let fortran_order = match order {
        order if order.starts_with("False") => false,
        order if order.starts_with("True") => true,
        order => return Err(problem("fortran_order", "True or False", cut(order))),
    };
    let shape = value("shape").ok_or_else(|| missing("shape"))?;
    let sizes = shape.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(sizes, _)| sizes);
    let sizes: Option<Vec<u64>> = sizes.and_then(|sizes| {
        let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
        sizes.map(|size| size.parse().ok()).collect()
    });
    let shape = sizes.ok_or_else(|| problem("shape", "whole numbers in brackets", cut(shape)))?;
    Ok(NpyHeader { descr: descr.into(), fortran_order, shape, data_start: (8 + len_bytes + len) as u64 })
}

/// The beginning of what stands where something else was expected.
fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    fn file(version: u8, header: &str) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((header.len() as u16).to_le_bytes()),
            _ => bytes.extend((header.len() as u32).to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes
    }

    fn read(version: u8, header: &str) -> Result<NpyHeader, NpyProblem> {
        read_npy_header(&mut &file(version, header)[..])
    }

    #[test]
    fn npy_header__as_numpy_writes_it__is_read() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 12, 12, 12), }      \n";
        for version in [1, 2, 3] {
            let found = read(version, header).unwrap();
            assert_eq!((found.descr.as_str(), found.fortran_order), ("<f4", false));
            assert_eq!(found.shape, [6, 12, 12, 12]);
            assert_eq!(found.data_start, file(version, header).len() as u64);
        }
        assert_eq!(read(1, "{'descr':'<f8','fortran_order':True,'shape':()}").unwrap().shape, [0; 0]);
        assert_eq!(read(1, "{'shape': (3,), 'fortran_order': False, 'descr': '<f2'}").unwrap().shape, [3]);
    }

    #[test]
    fn npy_header__hostile__is_refused() {
        for (header, field) in [
            ("", "descr"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "descr"),
            ("{'descr': '<f4', 'shape': (1,)}", "fortran_order"),
            ("{'descr': '<f4', 'fortran_order': 7, 'shape': (1,)}", "fortran_order"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': 7}", "shape"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "shape"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "shape"),
            ("{'descr': '<f4', 'fortran_order': False}", "shape"),
        ] {
            assert_eq!(read(1, header).unwrap_err()[0], field, "{header}");
        }
        assert_eq!(read(9, "").unwrap_err()[0], "version");
        assert_eq!(
            read_npy_header(&mut &b"\x93NUMPY\x02\x00\xff\xff\xff\xff"[..]).unwrap_err()[0],
            "header length"
        );
        for len in 0..20 {
            assert!(read_npy_header(&mut &file(1, "{'descr': '<f4'}")[..len]).is_err());
        }
    }
}

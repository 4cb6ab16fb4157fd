//! Weight files that break the rules of their format: each is refused with a reason, none panics.
#![allow(non_snake_case, reason = "test names are subject__condition__claim")]

mod common;

use common::tiny::{Random, TempDir, TinyBert, load_and_run};
use regard_lens::{LensError, Model};
use safetensors::Dtype;

/// A safetensors file with this header, right or wrong.
fn with_header(header: impl AsRef<[u8]>, data: usize) -> Vec<u8> {
    let header = header.as_ref();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// What loading says about a model whose only fault is these weights.
fn refusal(weights: &[u8]) -> LensError {
    let dir = TempDir::new();
    TinyBert::new().write_json(dir.path());
    std::fs::write(dir.path().join("model.safetensors"), weights).unwrap();
    Model::load(dir.path()).unwrap_err()
}

#[track_caller]
fn assert_refused(weights: &[u8], reason: &str) {
    let error = refusal(weights);
    let line = error.to_string();
    assert!(line.contains(reason), "expected {reason:?} in {line:?}");
    assert!(line.contains("model.safetensors"), "{line}");
    assert!(!line.contains('\n'), "{line}");
}

/// One F32 tensor `a` with this shape and these offsets.
fn tensor(shape: &str, offsets: &str) -> String {
    format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
}

#[test]
fn header__no_room_for_its_length__refused() {
    for len in 0..9 {
        let weights = vec![0; len];
        assert_refused(&weights, &format!("expected 8 bytes and a header, found {len} bytes"));
    }
}

#[test]
fn header__longer_than_the_file__refused() {
    let mut weights = with_header("{}", 0);
    weights[0] = 200;
    assert_refused(&weights, "header: length: expected at most the file's 2 bytes, found 200");
}

#[test]
fn header__beyond_the_limit__refused_before_it_is_read() {
    let limit = 16 << 20;
    for found in [limit + 1, u64::from(u32::MAX), i64::MAX as u64, u64::MAX] {
        let mut weights = found.to_le_bytes().to_vec();
        weights.extend(b"{}");
        let error = refusal(&weights);
        assert!(
            matches!(error, LensError::TooLarge { what: "header bytes", limit: l, found: f, .. } if l == limit && f == found),
            "{error:?}"
        );
    }
    // The limit itself is allowed: the next rule speaks.
    let mut weights = limit.to_le_bytes().to_vec();
    weights.extend(b"{}");
    assert_refused(&weights, "expected at most the file's 2 bytes, found 16777216");
}

#[test]
fn header__not_starting_with_a_brace__refused() {
    assert_refused(&with_header(" {}", 0), "first byte: expected '{', found ' '");
    assert_refused(&with_header("[1]", 0), "first byte: expected '{', found '['");
    assert_refused(&with_header("", 9), "first byte: expected '{'");
    // An empty header: the brace is already data.
    let mut weights = vec![0; 8];
    weights.extend(b"{}");
    assert_refused(&weights, "first byte");
}

#[test]
fn header__not_json__refused() {
    for header in ["{", "{}{}", "{\"a\"}", "{\"a\":}", "{'a':1}", "{\"a\":NaN}", "{},"] {
        assert_refused(&with_header(header, 0), "header: JSON");
    }
    assert_refused(&with_header(b"{\"\xff\xfe\":1}", 0), "header: JSON");
    assert_refused(&with_header(b"{\"a\0b\":1}", 0), "header: JSON");
}

#[test]
fn header__nested_too_deep__refused() {
    for open in ["[", "{\"a\":"] {
        let nested = format!("{{\"a\":{}", open.repeat(1_000_000));
        assert_refused(&with_header(nested, 0), "header: JSON");
        let nested = format!("{{\"__metadata__\":{}", open.repeat(1_000_000));
        assert_refused(&with_header(nested, 0), "header: JSON");
    }
}

#[test]
fn header__a_tensor_named_twice__refused() {
    let entry = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let other = r#"{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#;
    assert_refused(&with_header(format!(r#"{{"a":{entry},"a":{entry}}}"#), 4), "the key \"a\" twice");
    assert_refused(&with_header(format!(r#"{{"a":{entry},"\u0061":{other}}}"#), 8), "the key \"a\" twice");
}

#[test]
fn header__a_field_twice__refused() {
    let twice = r#"{"a":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,8]}}"#;
    assert_refused(&with_header(twice, 8), "duplicate field `shape`");
}

#[test]
fn header__metadata_twice_or_not_text__refused() {
    assert_refused(&with_header(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), "\"__metadata__\" twice");
    assert_refused(&with_header(r#"{"__metadata__":{"a":"1","a":"2"}}"#, 0), "the key \"a\" twice");
    assert_refused(&with_header(r#"{"__metadata__":{"a":1}}"#, 0), "expected a string");
    assert_refused(&with_header(r#"{"__metadata__":[]}"#, 0), "expected an object");
}

#[test]
fn header__a_field_missing_or_unknown__refused() {
    assert_refused(&with_header(r#"{"a":{"dtype":"F32","shape":[1]}}"#, 4), "missing field `data_offsets`");
    assert_refused(&with_header(r#"{"a":{"dtype":"F32","data_offsets":[0,4]}}"#, 4), "missing field `shape`");
    assert_refused(&with_header(r#"{"a":{"shape":[1],"data_offsets":[0,4]}}"#, 4), "missing field `dtype`");
    let extra = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"code":"x"}}"#;
    assert_refused(&with_header(extra, 4), "unknown field `code`");
}

#[test]
fn header__a_field_of_another_type__refused() {
    for shape in ["1", "[-1]", "[1.5]", "[\"1\"]", "[18446744073709551616]", "null", "{}", "[[1]]"] {
        assert_refused(&with_header(tensor(shape, "[0,4]"), 4), "header: JSON");
    }
    assert_refused(&with_header(tensor("1", "[0,4]"), 4), "expected at most 8 sizes");
    for offsets in ["0", "[0]", "[0,4,8]", "[-4,0]", "[0,4.0]", "null"] {
        assert_refused(&with_header(tensor("[1]", offsets), 4), "header: JSON");
    }
    for dtype in ["\"FP32\"", "\"\"", "1", "null"] {
        let header = format!(r#"{{"a":{{"dtype":{dtype},"shape":[1],"data_offsets":[0,4]}}}}"#);
        assert_refused(&with_header(header, 4), "header: JSON");
    }
}

#[test]
fn header__too_many_axes__refused() {
    assert_refused(&with_header(tensor("[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4), "more than 8 axes");
    // Eight are allowed: the next rule speaks.
    assert_refused(&with_header(tensor("[1,1,1,1,1,1,1,1]", "[0,4]"), 4), "config.json and the weights");
}

#[test]
fn header__a_name_too_long__refused() {
    let header = |len: usize| tensor("[1]", "[0,4]").replace("\"a\"", &format!("{:?}", "n".repeat(len)));
    assert_refused(&with_header(header(513), 4), "a name of 513 bytes, more than 512");
    assert_refused(&with_header(header(512), 4), "config.json and the weights");
}

#[test]
fn header__too_many_tensors__refused() {
    let entries: Vec<String> = (0..=65_536)
        .map(|i| format!(r#""{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    let header = |count: usize| format!("{{{}}}", entries[..count].join(","));
    assert_refused(&with_header(header(65_537), 0), "more than 65536 entries");
    assert_refused(&with_header(header(65_536), 0), "config.json and the weights");
}

#[test]
fn offsets__hole_overlap_or_backwards__refused() {
    let two = |first: &str, second: &str| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":{first}}},"b":{{"dtype":"F32","shape":[1],"data_offsets":{second}}}}}"#
        )
    };
    assert_refused(
        &with_header(two("[4,8]", "[8,12]"), 12),
        "expected a start at 0, where the tensor before ends",
    );
    assert_refused(
        &with_header(two("[0,4]", "[8,12]"), 12),
        "expected a start at 4, where the tensor before ends",
    );
    assert_refused(
        &with_header(two("[0,4]", "[0,4]"), 8),
        "expected a start at 4, where the tensor before ends",
    );
    assert_refused(
        &with_header(two("[0,4]", "[2,6]"), 8),
        "expected a start at 4, where the tensor before ends",
    );
    assert_refused(&with_header(tensor("[1]", "[0,0]"), 0), "expected 4 bytes for [1] of F32");
    assert_refused(&with_header(two("[0,4]", "[4,0]"), 8), "expected 4 bytes");
}

#[test]
fn offsets__beyond_the_file__refused() {
    assert_refused(
        &with_header(tensor("[2]", "[0,8]"), 4),
        "expected an end within the 4 bytes of data, found 8",
    );
    let huge = tensor("[4611686018427387900]", "[0,18446744073709551600]");
    assert_refused(&with_header(huge, 4), "shape: expected a whole number of bytes");
    let far = tensor("[1]", "[18446744073709551608,18446744073709551612]");
    assert_refused(&with_header(far, 4), "expected a start at 0");
    // A terabyte is refused by the file's length, before anything is allocated for it.
    let terabyte = tensor("[274877906944]", "[0,1099511627776]");
    assert_refused(&with_header(terabyte, 4), "within the 4 bytes");
}

#[test]
fn shape__overflowing_or_unlike_its_bytes__refused() {
    let overflow = tensor("[4294967296,4294967296]", "[0,4]");
    assert_refused(&with_header(overflow, 4), "shape: expected a whole number of bytes");
    // Modulo 2^64 this is one byte.
    let wrapping = tensor("[2305843009213693952,2,4]", "[0,4]");
    assert_refused(&with_header(wrapping, 4), "shape: expected a whole number of bytes");
    assert_refused(&with_header(tensor("[3]", "[0,8]"), 8), "expected 12 bytes for [3] of F32, found [0, 8]");
    let half_byte = r#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}"#;
    assert_refused(&with_header(half_byte, 1), "expected a whole number of bytes");
}

#[test]
fn data__not_covered_to_the_end__refused() {
    assert_refused(
        &with_header(tensor("[1]", "[0,4]"), 5),
        "data: expected 4 bytes, the tensors' sum, found 5",
    );
    assert_refused(&with_header("{}", 1), "data: expected 0 bytes");
}

#[test]
fn weights__cut_off_anywhere__refused() {
    let whole = TinyBert::new().weights(Dtype::F32);
    for len in (0..whole.len()).step_by(37).chain([whole.len() - 1]) {
        let error = refusal(&whole[..len]);
        assert!(matches!(error, LensError::Header { .. }), "{len}: {error:?}");
    }
}

#[test]
fn weights__another_format__refused_with_its_reason_and_a_remedy() {
    let cases: [(&[u8], &str); 6] = [
        (b"\x80\x02}q\x00X\x05\x00\x00\x00abc", "a Python pickle, which can run code when read"),
        (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00", "a Python pickle"),
        (b"PK\x03\x04\x14\x00\x00\x00\x08\x00abc", "a zip archive"),
        (b"\x93NUMPY\x01\x00v\x00{'descr'", "a NumPy array"),
        (b"GGUF\x03\x00\x00\x00\x00\x01\x00", "GGUF"),
        (b"\x89HDF\r\n\x1a\n\x00\x00\x00", "HDF5"),
    ];
    for (bytes, reason) in cases {
        assert_refused(bytes, reason);
        assert_refused(bytes, "save_pretrained(dir, safe_serialization=True)");
    }
    // A header of 640 bytes starts with the same two bytes as a pickle, and is none.
    let mut header = tensor("[1]", "[0,4]");
    header.push_str(&" ".repeat(640 - header.len()));
    assert_refused(&with_header(header, 4), "config.json and the weights");
}

#[test]
fn weights__only_a_pickle_beside_the_config__refused_by_what_it_is() {
    for (name, bytes, reason) in [
        ("pytorch_model.bin", &b"PK\x03\x04\x00\x00"[..], "a zip archive"),
        ("pytorch_model.bin", b"\x80\x02\x8a\x0a", "a Python pickle"),
        ("model.pt", b"", "another format"),
        ("model.npz", b"PK\x03\x04", "a zip archive"),
    ] {
        let dir = TempDir::new();
        TinyBert::new().write_json(dir.path());
        std::fs::write(dir.path().join(name), bytes).unwrap();
        let error = Model::load(dir.path()).unwrap_err();
        assert!(matches!(error, LensError::ForeignFormat { .. }), "{error:?}");
        let line = error.to_string();
        assert!(line.contains(name) && line.contains(reason), "{line}");
    }
}

#[test]
fn tensor__of_a_type_that_is_not_read__refused() {
    assert_refused(&TinyBert::new().weights(Dtype::F64), "expected F32, F16 or BF16, found F64");
}

#[test]
fn tensor__missing_or_of_another_shape__refused_by_name() {
    let names: Vec<String> = TinyBert::new().tensors.keys().cloned().collect();
    assert_eq!(names.len(), 37);
    for name in names {
        let mut model = TinyBert::new();
        let removed = model.tensors.remove(&name).unwrap();
        let error = refusal(&model.weights(Dtype::F32));
        assert!(matches!(&error, LensError::MissingTensor { tensor, .. } if *tensor == name), "{error:?}");

        let mut longer = removed.clone();
        longer.shape[0] += 1;
        longer.numbers.extend(vec![0.0; longer.shape[1..].iter().product()]);
        let mut flat = removed.clone();
        flat.shape.push(1);
        for wrong in [longer, flat] {
            model.tensors.insert(name.clone(), wrong.clone());
            let error = refusal(&model.weights(Dtype::F32));
            let LensError::TensorShape { tensor, expected, found, .. } = &error else {
                panic!("{name}: {error:?}")
            };
            assert_eq!((tensor, expected), (&name, &removed.shape));
            assert!(found.iter().map(|&size| size as usize).eq(wrong.shape.iter().copied()));
        }
    }
}

#[test]
fn weights__any_bytes_changed__never_a_panic() {
    let whole = TinyBert::new().weights(Dtype::F32);
    let header_len = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let dir = TempDir::new();
    TinyBert::new().write_json(dir.path());
    let mut random = Random(1);
    let mut refused = 0;
    for _ in 0..3000 {
        let mut bytes = whole.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(header_len);
            bytes[at] = match random.below(3) {
                0 => random.next() as u8,
                1 => b"0123456789[]{},:\""[random.below(17)],
                _ => bytes[random.below(header_len)],
            };
        }
        std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
        refused += usize::from(load_and_run(dir.path()).is_err());
    }
    assert!(refused > 2000, "{refused}");
}

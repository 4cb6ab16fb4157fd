//! Headers that break the format's rules, and the ones that do not.

use super::header::{Header, Problem, read_header};
use super::metadata::Metadata;
use super::vocabulary::Vocabulary;

/// A file put together byte by byte.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn new(tensors: u64, entries: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(entries)
    }

    fn u32(mut self, number: u32) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn u64(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn text(self, text: &str) -> Self {
        let mut new = self.u64(text.len() as u64);
        new.0.extend(text.as_bytes());
        new
    }

    fn texts(self, key: &str, texts: &[&str]) -> Self {
        let new = self.text(key).u32(9).u32(8).u64(texts.len() as u64);
        texts.iter().fold(new, |new, text| new.text(text))
    }

    fn tensor(self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        let new = self.text(name).u32(shape.len() as u32);
        shape.iter().fold(new, |new, &size| new.u64(size)).u32(kind).u64(offset)
    }

    /// The data's place, and so many bytes of it.
    fn data(mut self, len: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + len, 7);
        self
    }

    fn read(&self) -> Result<Header, Problem> {
        read_header(&self.0[..], self.0.len() as u64)
    }

    /// What is wrong with it, in one line.
    fn refusal(&self) -> String {
        match self.read() {
            Ok(header) => panic!("{header:?}"),
            Err(problem) => problem.at("model.gguf".as_ref()).to_string(),
        }
    }
}

#[test]
fn header__every_type_that_is_read__places_its_tensors() {
    let sizes = [(0, 256), (1, 128), (30, 128), (2, 36), (3, 40), (8, 68)];
    let mut offset = 0;
    let mut bytes = Bytes::new(sizes.len() as u64, 1).text("general.alignment").u32(4).u32(32);
    for (kind, len) in sizes {
        bytes = bytes.tensor(&format!("t{kind}"), &[32, 2], kind, offset);
        offset = (offset + len).next_multiple_of(32);
    }
    let header = bytes.data(offset as usize).read().unwrap();
    assert!(header.data_start.is_multiple_of(32));
    for (kind, len) in sizes {
        let entry = &header.tensors[&format!("t{kind}")];
        assert_eq!(entry.shape, [2, 32], "row-major");
        assert_eq!(entry.bytes.end - entry.bytes.start, len, "{kind}");
    }
}

#[test]
fn header__cut_anywhere__is_refused_and_never_panics() {
    let whole = Bytes::new(1, 2)
        .texts("tokenizer.ggml.tokens", &["a", "b"])
        .text("x")
        .u32(9)
        .u32(6)
        .u64(1)
        .u32(0)
        .tensor("t", &[32], 3, 0)
        .data(20);
    whole.read().unwrap();
    for len in 0..whole.0.len() {
        assert!(Bytes(whole.0[..len].to_vec()).read().is_err(), "{len}");
    }
}

#[test]
fn header__every_byte_changed__never_panics() {
    let whole = Bytes::new(2, 2)
        .text("general.alignment")
        .u32(4)
        .u32(32)
        .texts("tokenizer.ggml.merges", &["a b"])
        .tensor("t", &[32, 1], 3, 0)
        .tensor("u", &[4], 0, 32)
        .data(64);
    whole.read().unwrap();
    for place in 0..whole.0.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed.0[place] = value;
            let _ = changed.read();
        }
    }
}

#[test]
fn header__a_rule_broken__is_refused_by_field_and_before_anything_is_allocated() {
    let huge = u64::MAX;
    let alignment = |number: u32| Bytes::new(0, 1).text("general.alignment").u32(4).u32(number);
    let tensor = |shape: &[u64], kind, offset| Bytes::new(1, 0).tensor("t", shape, kind, offset).data(64);
    let cases = [
        (Bytes(b"GGUX".to_vec()), "magic: expected \"GGUF\""),
        (Bytes(b"GGUF".to_vec()).u32(1).u64(0).u64(0), "version: expected 2 or 3, found 1"),
        (Bytes(b"GGUF".to_vec()).u32(0x0300_0000), "version: expected 2 or 3"),
        (Bytes::new(huge, 0), "tensors: expected at most 65536"),
        (Bytes::new(0, huge), "metadata entries: expected at most 4096"),
        (Bytes::new(0, 1).u64(huge), "name: expected at most 512 bytes"),
        (Bytes::new(0, 1).u64(500), "name: expected at most the 0 bytes left"),
        (Bytes::new(0, 1).text("k").u32(8).u64(huge), "k: expected at most 1048576 bytes"),
        (Bytes::new(0, 1).text("k").u32(9).u32(8).u64(1 << 40), "header bytes: expected at most"),
        (Bytes::new(0, 1).text("k").u32(9).u32(8).u64(1000), "k: expected at most the 0 bytes left"),
        (Bytes::new(0, 1).text("k").u32(9).u32(9).u64(1), "k: expected an array of numbers, texts"),
        (Bytes::new(0, 1).text("k").u32(13), "k: expected one of the format's 13 types, found 13"),
        (
            Bytes::new(0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(1),
            "expected every key once, found \"k\" twice",
        ),
        (alignment(0), "general.alignment: expected a power of two"),
        (alignment(24), "general.alignment: expected a power of two"),
        (tensor(&[], 0, 0), "\"t\": axes: expected 1 to 4, found 0"),
        (tensor(&[1, 1, 1, 1, 1], 0, 0), "\"t\": axes: expected 1 to 4, found 5"),
        (tensor(&[256], 12, 0), "\"t\": type: expected F32, F16, BF16, Q4_0, Q4_1 or Q8_0, found Q4_K"),
        (tensor(&[31], 3, 0), "the first a multiple of 32, found [31]"),
        (tensor(&[0, 4], 0, 0), "\"t\": shape: expected sizes from 1"),
        (tensor(&[1 << 40, 1 << 40], 0, 0), "\"t\": shape: expected fewer than 2^64 bytes"),
        (tensor(&[4], 0, 8), "\"t\": offset: expected a multiple of 32, found 8"),
        (tensor(&[16], 0, huge - 31), "\"t\": shape: expected fewer than 2^64 bytes"),
        (tensor(&[17], 0, 0), "\"t\": offset: expected an end within the 64 bytes of data, found 68"),
        (
            Bytes::new(2, 0).tensor("t", &[16], 0, 0).tensor("u", &[4], 0, 32).data(64),
            "\"u\": offset: expected at least 64, where the tensor before ends, found 32",
        ),
        (
            Bytes::new(2, 0).tensor("t", &[4], 0, 0).tensor("t", &[4], 0, 32).data(64),
            "expected every name once, found \"t\" twice",
        ),
    ];
    for (bytes, reason) in cases {
        let line = bytes.refusal();
        assert!(line.contains("model.gguf") && line.contains(reason), "expected {reason}\nfound {line}");
    }
}

#[test]
fn header__a_long_array_that_nothing_asks_for__is_skipped() {
    let mut bytes = Bytes::new(0, 1).text("k").u32(9).u32(0).u64(1 << 20);
    bytes.0.resize(bytes.0.len() + (1 << 20), 1);
    let metadata = bytes.read().unwrap().metadata;
    assert_eq!(metadata.num_texts("k"), None);
    assert!(metadata.integer("k").is_err());
}

/// The metadata of a small vocabulary with something changed.
fn vocabulary(model: &str, words: &str, tokens: &[&str], merges: &[&str]) -> Result<Vocabulary, String> {
    let bytes = Bytes::new(0, 5)
        .text("tokenizer.ggml.bos_token_id")
        .u32(4)
        .u32(0)
        .text("tokenizer.ggml.model")
        .u32(8)
        .text(model)
        .text("tokenizer.ggml.pre")
        .u32(8)
        .text(words)
        .texts("tokenizer.ggml.tokens", tokens)
        .texts("tokenizer.ggml.merges", merges);
    let metadata: Metadata = bytes.read().unwrap().metadata;
    Vocabulary::new("model.gguf".as_ref(), metadata).map_err(|error| error.to_string())
}

#[test]
fn vocabulary__of_another_kind_or_damaged__is_refused_with_a_remedy() {
    let refusal = |model, words, merges: &[&str]| {
        vocabulary(model, words, &["a", "b", "ab"], merges).map(|_| ()).unwrap_err()
    };
    let cases = [
        (refusal("llama", "gpt-2", &[]), "tokenizer.ggml.model: expected \"gpt2\""),
        (refusal("gpt2", "bloom", &[]), "tokenizer.ggml.pre: expected \"gpt-2\""),
        (refusal("gpt2", "gpt-2", &["ab"]), "tokenizer.ggml.merges: expected two pieces, found \"ab\""),
    ];
    for (line, reason) in cases {
        assert!(line.contains(reason) && line.contains("tokenizer.json beside it"), "{line}");
    }
    let merged = |tokens: &[&str], merges: &[&str]| vocabulary("gpt2", "gpt-2", tokens, merges).unwrap();
    assert!(merged(&["a", "b"], &["a b"]).tokenizer().is_err(), "a merge beyond the vocabulary");
    assert!(merged(&["a", "a"], &[]).tokenizer().is_err(), "a token twice");
}

#[test]
fn vocabulary__each_way_to_split_words__splits_digits_its_own_way() {
    let count = |words| {
        let tokenizer = vocabulary("gpt2", words, &["1", "2", "12", "123", "3"], &["1 2", "12 3"]);
        let tokenizer = tokenizer.unwrap_or_else(|problem| panic!("{words}: {problem}"));
        tokenizer.tokenizer().unwrap().encode("123123", true).unwrap().get_tokens().to_vec()
    };
    // GPT-2 has one word and no piece so long; SmolLM splits every digit off; Llama 3 splits after three.
    assert_eq!(count("gpt-2"), ["123", "123"]);
    assert_eq!(count("smollm"), ["1", "2", "3", "1", "2", "3"]);
    assert_eq!(count("llama-bpe"), ["1", "123", "123"], "and starts with a token of its own");
}

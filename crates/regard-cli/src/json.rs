//! The findings as JSON. `JSON.md` beside this crate's manifest says what each field means; both change together.

use std::io::{self, Write};

use regard_lens::view::{HeadId, HeadView, Link, QueryRow};
use regard_lens::{ModelInfo, TokenizedText};
use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

use crate::closing::{Checked, VerifyFields};
use crate::unknown::{UnknownWord, unknown_words};
use crate::visible::is_hidden;

/// Changes when a field changes its meaning or goes away; new fields may come without a change.
const SCHEMA: &str = "regard-view/1";

#[derive(Serialize)]
pub(crate) struct Header<'a> {
    schema: &'static str,
    regard_version: &'static str,
    model: ModelFields<'a>,
    tokens: Vec<TokenFields<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    without: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown_words: Option<Vec<UnknownWord<'a>>>,
}

#[derive(Serialize)]
pub(crate) struct ModelFields<'a> {
    name: &'a str,
    sha256: &'a str,
    layers: usize,
    heads: usize,
    causal: bool,
    dtype: &'a str,
    built_in: bool,
}

#[derive(Serialize)]
pub(crate) struct TokenFields<'a> {
    index: usize,
    id: u32,
    text: &'a str,
    start: usize,
    end: usize,
    word: Option<usize>,
    special: bool,
}

#[derive(Serialize)]
struct RowFields<'a> {
    layer: usize,
    head: usize,
    kind: &'static str,
    query: usize,
    query_token: &'a str,
    entropy: f32,
    special_mass: f32,
    covered: f32,
    top: Vec<LinkFields<'a>>,
}

#[derive(Serialize)]
struct LinkFields<'a> {
    key: usize,
    token: &'a str,
    prob: f32,
    usual: Option<f32>,
    lift: Option<f32>,
}

#[derive(Serialize)]
struct Footer {
    verify: VerifyFields,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    header: Header<'a>,
    rows: Vec<RowFields<'a>>,
    #[serde(flatten)]
    footer: Footer,
}

impl<'a> Header<'a> {
    pub(crate) const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    /// Of `regard view`, with the heads that are ablated.
    pub(crate) fn new(model: &'a ModelInfo, text: &'a TokenizedText, without: &[HeadId]) -> Self {
        let without = without.iter().map(HeadId::to_string).collect();
        Self { without, ..Self::with_schema(SCHEMA, model, text) }
    }

    /// Of another command.
    pub(crate) fn with_schema(schema: &'static str, model: &'a ModelInfo, text: &'a TokenizedText) -> Self {
        Self {
            schema,
            regard_version: Self::VERSION,
            model: ModelFields::from(model),
            tokens: TokenFields::of(text),
            without: Vec::new(),
            unknown_words: unknown_words(model, text),
        }
    }
}

impl<'a> TokenFields<'a> {
    pub(crate) fn of(text: &'a TokenizedText) -> Vec<Self> {
        let tokens = text.tokens.iter().map(|token| TokenFields {
            index: token.index,
            id: token.id,
            text: &token.text,
            start: token.start,
            end: token.end,
            word: token.word,
            special: token.special,
        });
        tokens.collect()
    }
}

impl<'a> From<&'a ModelInfo> for ModelFields<'a> {
    fn from(model: &'a ModelInfo) -> Self {
        Self {
            name: &model.name,
            sha256: &model.sha256,
            layers: model.layers,
            heads: model.heads,
            causal: model.causal,
            dtype: &model.dtype,
            built_in: model.built_in,
        }
    }
}

impl From<Checked> for Footer {
    fn from(checked: Checked) -> Self {
        Self { verify: checked.into() }
    }
}

fn row_fields<'a>(head: &HeadView, row: &QueryRow, text: &'a TokenizedText) -> RowFields<'a> {
    let spelling = |token: usize| text.tokens[token].text.as_str();
    let link = |link: &Link| LinkFields {
        key: link.key,
        token: spelling(link.key),
        prob: link.prob,
        usual: link.usual,
        lift: link.lift,
    };
    RowFields {
        layer: head.id.layer,
        head: head.id.head,
        kind: row.kind.name(),
        query: row.query,
        query_token: spelling(row.query),
        entropy: row.entropy,
        special_mass: row.special_mass,
        covered: row.covered,
        top: row.top.iter().map(link).collect(),
    }
}

/// One document with the rows of some heads.
pub(crate) fn write_document<'a>(
    output: &mut impl Write,
    header: Header<'a>,
    text: &'a TokenizedText,
    heads: &[&HeadView],
    checked: Checked,
) -> io::Result<()> {
    let rows =
        heads.iter().flat_map(|head| head.rows.iter().map(|row| row_fields(head, row, text))).collect();
    write_line(output, &Document { header, rows, footer: checked.into() })
}

/// The first line of a stream.
pub(crate) fn write_header(output: &mut impl Write, header: &Header<'_>) -> io::Result<()> {
    write_line(output, header)
}

/// A line for each row of a head.
pub(crate) fn write_rows(output: &mut impl Write, head: &HeadView, text: &TokenizedText) -> io::Result<()> {
    head.rows.iter().try_for_each(|row| write_line(output, &row_fields(head, row, text)))
}

/// The last line of a stream.
pub(crate) fn write_footer(output: &mut impl Write, checked: Checked) -> io::Result<()> {
    write_line(output, &Footer::from(checked))
}

pub(crate) fn write_line(output: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(&mut *output, Visible))?;
    output.write_all(b"\n")
}

/// Compact JSON whose strings keep hidden characters escaped (`\u202e`), so that it can be looked at, too.
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for c in fragment.chars() {
            let mut buffer = [0; 4];
            if is_hidden(c) {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            } else {
                writer.write_all(c.encode_utf8(&mut buffer).as_bytes())?;
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        serde_json::ser::CompactFormatter.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn json__hidden_characters__are_escaped_and_read_back_the_same() {
        let hostile = "a\u{1b}[2J\u{202e}\u{9b}\u{200b}\u{e0041}\"\\\n猫";
        let mut written = Vec::new();
        write_line(&mut written, &hostile).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert!(!written.trim_end().chars().any(is_hidden), "{written}");
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), hostile);
    }

    #[test]
    fn json__f32__reads_back_bit_for_bit_and_stays_short() {
        for number in [0.487_f32, 1.0 / 3.0, f32::MIN_POSITIVE, 1e-38, 0.1] {
            let mut written = Vec::new();
            write_line(&mut written, &number).unwrap();
            let written = String::from_utf8(written).unwrap();
            assert_eq!(written.trim().parse::<f32>().unwrap().to_bits(), number.to_bits());
            assert!(written.len() < 16, "{written}");
        }
    }
}

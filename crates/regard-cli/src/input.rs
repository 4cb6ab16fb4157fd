//! Where the text comes from.

use std::fs::File;
use std::io::{IsTerminal, Read, stdin};

use crate::arguments::TextSource;
use crate::failure::Failure;

/// More than any model reads; beyond it a file is refused before it fills the memory.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// The text from the argument, a file or stdin, without its last line break.
pub(crate) fn read_text(source: &TextSource) -> Result<String, Failure> {
    let text = match (source.text.as_slice(), &source.file) {
        ([], Some(path)) => {
            let name = path.display();
            let file =
                File::open(path).map_err(|error| Failure::failed(format!("cannot open {name}: {error}")))?;
            read(file, &name.to_string())?
        }
        ([argument], None) if argument == "-" => read(stdin(), "stdin")?,
        ([argument], None) => {
            let text = argument.to_str().ok_or_else(|| Failure::failed(not_utf8("the text")))?;
            text.to_owned()
        }
        ([], None) if !stdin().is_terminal() => read(stdin(), "stdin")?,
        ([], None) => {
            return Err(Failure::usage("no text: give it in quotes, with --file, or through a pipe"));
        }
        ([..], Some(_)) => return Err(Failure::usage("give the text or --file, not both")),
        ([_, _, ..], None) => {
            return Err(Failure::usage(
                "several texts: put the text in quotes, as in regard view \"The cat sat\"",
            ));
        }
    };
    if text.chars().all(char::is_whitespace) {
        return Err(Failure::usage("the text is empty: give at least one word"));
    }
    Ok(text)
}

fn read(source: impl Read, name: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    source
        .take(MAX_TEXT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::failed(format!("cannot read {name}: {error}")))?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        let limit = MAX_TEXT_BYTES >> 20;
        return Err(Failure::failed(format!("{name} is longer than {limit} MiB; no model reads that much")));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| Failure::failed(not_utf8(name)))?;
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    Ok(text)
}

fn not_utf8(what: &str) -> String {
    format!("{what} is not UTF-8; convert it first, for example with iconv -t UTF-8")
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn text__last_line_break__is_dropped_and_the_others_stay() {
        assert_eq!(read(&b"one\ntwo\r\n"[..], "x").unwrap(), "one\ntwo");
    }

    #[test]
    fn text__too_long__is_refused_before_all_of_it_is_read() {
        let endless = std::io::repeat(b'a');
        assert!(matches!(read(endless, "x"), Err(Failure::Failed(message)) if message.contains("16 MiB")));
    }

    #[test]
    fn text__not_utf8__is_refused_with_a_remedy() {
        assert!(matches!(read(&[0xff, 0xfe][..], "x"), Err(Failure::Failed(m)) if m.contains("iconv")));
    }
}

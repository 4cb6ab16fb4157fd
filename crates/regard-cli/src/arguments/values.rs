//! What can be typed in one place of a command: ranges, lists, choices.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use regard_lens::profile::Selection;
use regard_lens::view::{HeadId, NotAHead};

/// Some of the numbers from 0 on; without an end, up to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: Option<usize>,
}

impl Span {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let expected = "expected A:B, A: or :B in whole numbers from 0, B after A";
        let number = |part: &str, otherwise| match part {
            "" => Ok(otherwise),
            // `parse` alone would accept a plus sign.
            _ if part.bytes().all(|byte| byte.is_ascii_digit()) => {
                part.parse().map(Some).map_err(|_| expected)
            }
            _ => Err(expected),
        };
        let (start, end) = text.split_once(':').ok_or(expected)?;
        let (start, end) = (number(start, Some(0))?.unwrap_or(0), number(end, None)?);
        if end.is_some_and(|end| end <= start) { Err(expected) } else { Ok(Self { start, end }) }
    }

    /// The range, of `len` numbers in all.
    pub(crate) fn range(self, len: usize) -> std::ops::Range<usize> {
        self.start..self.end.unwrap_or(len)
    }
}

pub(super) fn region(text: &str) -> Result<(Span, Span), &'static str> {
    let (rows, keys) = text.split_once(',').ok_or("expected rows and keys, as in 0:40,0:40")?;
    Ok((Span::parse(rows)?, Span::parse(keys)?))
}

pub(super) fn selection(text: &str) -> Result<Selection, &'static str> {
    let range = |part: &str| match part.contains(':') {
        true => Span::parse(part).map(|span| span.range(usize::MAX)),
        false => Span::parse(&format!("{part}:"))
            .map(|span| span.start..span.start.saturating_add(1))
            .ok()
            .filter(|_| !part.is_empty())
            .ok_or("expected whole numbers from 0 or ranges, as in 1,5:8"),
    };
    text.split(',').map(range).collect::<Result<_, _>>().map(Selection::Of)
}

pub(super) fn up_to_32(count: &str) -> Result<usize, &'static str> {
    at_least_one(count).ok().filter(|&count| count <= 32).ok_or("expected a whole number from 1 to 32")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    Auto,
    Always,
    Never,
}

pub(super) fn at_least_one(count: &str) -> Result<usize, &'static str> {
    count.parse().ok().filter(|&count| count > 0).ok_or("expected a whole number from 1")
}

/// Heads separated by commas, as in `L3.H1,L2.H0`; none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeadList(pub(crate) Vec<HeadId>);

impl FromStr for HeadList {
    type Err = NotAHead;

    fn from_str(text: &str) -> Result<Self, NotAHead> {
        let mut heads = text.split(',').map(|head| head.trim().parse()).collect::<Result<Vec<_>, _>>()?;
        heads.sort_unstable();
        heads.dedup();
        Ok(Self(heads))
    }
}

impl fmt::Display for HeadList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(HeadId::to_string).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn span__any_text__is_a_range_or_refused() {
        let span = |start, end| Ok(Span { start, end });
        assert_eq!(Span::parse("3:7"), span(3, Some(7)));
        assert_eq!([Span::parse("3:"), Span::parse(":7")], [span(3, None), span(0, Some(7))]);
        for text in ["", "3", "7:3", "3:3", "a:b", "-1:3", "+1:3", "1:2:3", "1:99999999999999999999"] {
            assert!(Span::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn selection__numbers_and_ranges__are_taken_together() {
        let chosen = selection("1,5:8").unwrap();
        let numbers: Vec<usize> = (0..10).filter(|&number| chosen.contains(number)).collect();
        assert_eq!(numbers, [1, 5, 6, 7]);
        for text in ["", ",", "1,", "a", "-1", "3:1", "1;2"] {
            assert!(selection(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn heads__list__is_sorted_without_repeats() {
        let list: HeadList = "L3.H1, L2.H0,l3.h1".parse().unwrap();
        assert_eq!(list.to_string(), "L2.H0, L3.H1");
        for text in ["", "L3.H1,", "L3", "L3.H1;L2.H0"] {
            assert!(text.parse::<HeadList>().is_err(), "{text:?}");
        }
    }
}

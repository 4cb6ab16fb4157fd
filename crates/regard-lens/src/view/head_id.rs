//! The name of a head.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// One head of a model, counted from 0 and written `L3.H1`, as in Hugging Face and TransformerLens.
///
/// ```
/// use regard_lens::view::HeadId;
/// let head: HeadId = "L3.H1".parse().unwrap();
/// assert_eq!(head, HeadId { layer: 3, head: 1 });
/// assert_eq!(head.to_string(), "L3.H1");
/// assert!("layer three".parse::<HeadId>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct HeadId {
    /// The layer, from 0.
    pub layer: usize,
    /// The query head within the layer, from 0.
    pub head: usize,
}

impl fmt::Display for HeadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("L{}.H{}", self.layer, self.head))
    }
}

/// A text that does not name a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAHead;

impl fmt::Display for NotAHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a head is written like L3.H1: layer 3, head 1, both counted from 0")
    }
}

impl std::error::Error for NotAHead {}

impl FromStr for HeadId {
    type Err = NotAHead;

    /// Case does not matter: `l3.h1` is `L3.H1`.
    fn from_str(text: &str) -> Result<Self, NotAHead> {
        let (layer, head) = text.split_once('.').ok_or(NotAHead)?;
        let number = |part: &str, letter: [char; 2]| {
            let digits = part.strip_prefix(letter).ok_or(NotAHead)?;
            // `parse` alone would accept a plus sign.
            if digits.bytes().all(|byte| byte.is_ascii_digit()) {
                digits.parse().map_err(|_| NotAHead)
            } else {
                Err(NotAHead)
            }
        };
        Ok(Self { layer: number(layer, ['L', 'l'])?, head: number(head, ['H', 'h'])? })
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn head_id__malformed__is_refused() {
        for text in ["", "L3", "3.1", "L3H1", "L.H", "L-1.H0", "L+1.H0", "L3.H1.", "L99999999999999999999.H0"]
        {
            assert_eq!(text.parse::<HeadId>(), Err(NotAHead), "{text:?}");
        }
    }

    #[test]
    fn head_id__lower_case__is_read() {
        assert_eq!("l5.h11".parse(), Ok(HeadId { layer: 5, head: 11 }));
    }
}

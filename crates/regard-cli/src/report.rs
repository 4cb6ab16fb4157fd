//! What a run found, put into the words that every form of output shares.

use regard_lens::view::{HeadId, HeadKind, HeadView, Link, QueryRow, Viewed};
use regard_lens::{ModelInfo, TokenizedText};

use crate::arguments::HeadList;
use crate::closing::Checked;
use crate::focus::Focus;
use crate::label::name;
use crate::unknown::{sentence, unknown_words};

/// The kinds worth a line, in the order of the page: what is particular to the word first.
const SHOWN_KINDS: [HeadKind; 6] =
    [HeadKind::Link, HeadKind::Ahead, HeadKind::Topic, HeadKind::Previous, HeadKind::Next, HeadKind::Special];

/// What stands aside in a causal model that adds no tokens.
const FIRST: &str = "the first token";

/// One text in one model, seen from one token.
pub(crate) struct Report<'a> {
    pub(crate) model: &'a ModelInfo,
    pub(crate) text: &'a TokenizedText,
    pub(crate) focus: Focus,
    /// Every head, in order, with the row of the focus alone.
    pub(crate) heads: Vec<HeadView>,
    /// The head that the model itself names for what the focus is: it comes before others of its kind.
    pub(crate) named: Option<HeadId>,
    pub(crate) viewed: Viewed,
    pub(crate) checked: Checked,
    /// Heads whose output is 0.
    pub(crate) without: Vec<HeadId>,
}

/// One head as an example of its kind, with the focus's row and the key that the line is about.
#[derive(Clone, Copy)]
pub(crate) struct Example<'a> {
    pub(crate) head: &'a HeadView,
    pub(crate) row: &'a QueryRow,
    pub(crate) link: &'a Link,
}

impl<'a> Example<'a> {
    fn of(head: &'a HeadView) -> Option<Self> {
        let row = head.rows.first()?;
        Some(Self { head, row, link: &row.example })
    }
}

impl Report<'_> {
    /// The best head of each kind that there is, first of equals; the one that the model names before all.
    pub(crate) fn best_of_each_kind(&self) -> Vec<Example<'_>> {
        let rank =
            |example: &Example<'_>| (self.named == Some(example.head.id), example.head.score(example.row));
        let best = |kind: &HeadKind| {
            let examples =
                self.heads.iter().filter_map(Example::of).filter(|example| example.row.kind == *kind);
            examples.reduce(|best, other| if rank(&other) > rank(&best) { other } else { best })
        };
        SHOWN_KINDS.iter().filter_map(best).collect()
    }

    /// The head in the picture.
    pub(crate) fn pictured(&self) -> Option<Example<'_>> {
        let id = self.viewed.map.as_ref()?.id;
        self.heads.iter().find(|head| head.id == id).and_then(Example::of)
    }

    /// Whether a token is one of those that look or are looked at in their own right.
    pub(crate) fn name(&self, token: usize) -> String {
        name(self.text, token)
    }

    /// A kind in one word.
    pub(crate) fn kind_name(&self, kind: HeadKind) -> &'static str {
        if kind == HeadKind::Special && self.aside() == FIRST { "first" } else { kind.name() }
    }

    /// The word that looks.
    pub(crate) fn focus_name(&self) -> String {
        self.name(self.focus.token)
    }

    /// What it means that the focus is one piece of a longer stretch, if it is.
    pub(crate) fn focus_note(&self) -> Option<String> {
        focus_note(self.text, &self.focus)
    }

    /// What the built-in model does not know of the text: `The built-in small model does not know …`.
    pub(crate) fn unknown_note(&self) -> Option<String> {
        let unknown = sentence(&unknown_words(self.model, self.text)?)?;
        Some(format!("The {} {unknown}", self.model.name))
    }

    /// `it sends 49 % to cat; the other words send 12 %`
    pub(crate) fn says(&self, example: Example<'_>) -> String {
        let (query, key) = (self.focus_name(), self.name(example.link.key));
        let to = if key == query { "itself".to_owned() } else { key };
        let share = percent(example.link.prob);
        match example.link.usual {
            Some(usual) => format!("{query} sends {share} to {to}; the other words send {}", percent(usual)),
            None => format!("{query} sends {share} to {to}; there are no other words to compare with"),
        }
    }

    /// What a head does, in a few words that stand beside its numbers.
    pub(crate) fn does(&self, example: Example<'_>) -> String {
        let statistics = &example.head.statistics;
        let lift = || match example.link.lift {
            Some(lift) => format!("{} the usual", times(lift)),
            None => "nobody else does".to_owned(),
        };
        let distance = self.focus.token.abs_diff(example.link.key);
        match example.row.kind {
            HeadKind::Previous => format!("{} to the word before", percent(statistics.previous)),
            HeadKind::Next => format!("{} to the word after", percent(statistics.next)),
            HeadKind::Topic => statistics.topic.map_or_else(String::new, |topic| {
                format!("{} of {} words pick {}", topic.wins, topic.queries, self.name(topic.key))
            }),
            HeadKind::Link => format!("{distance} back, {}", lift()),
            HeadKind::Ahead => format!("{distance} ahead, {}", lift()),
            HeadKind::Special => format!("{} on {}", percent(statistics.special_mass), self.aside()),
            HeadKind::Other => String::new(),
        }
    }

    /// The other keys of the row, what all that is named comes to, and what special tokens get.
    pub(crate) fn rest_of_row(&self, example: Example<'_>) -> String {
        let row = example.row;
        let others: Vec<String> = row
            .top
            .iter()
            .filter(|link| link.key != example.link.key)
            .map(|link| format!("{} {}", self.name(link.key), percent(link.prob)))
            .collect();
        let special = format!("{}: {}", self.aside(), percent(row.special_mass));
        if others.is_empty() {
            return special;
        }
        format!("also {}; top {}: {}; {special}", others.join(", "), row.top.len(), percent(row.covered))
    }

    /// What stands aside: the tokens that the model adds, or the first one where it adds none and is causal.
    pub(crate) fn aside(&self) -> &'static str {
        let adds_tokens = self.text.tokens.iter().any(|token| token.special);
        if self.model.causal && !adds_tokens { FIRST } else { "special tokens" }
    }

    /// Which heads the model runs without, if it does.
    pub(crate) fn ablated(&self) -> Option<String> {
        let heads = HeadList(self.without.clone());
        (!self.without.is_empty()).then(|| {
            format!("Without {heads}: its output is 0; where it looks is shown, but nothing reads it.")
                .replace("its output", if self.without.len() == 1 { "its output" } else { "their outputs" })
                .replace("are 0; where it looks", "are 0; where they look")
        })
    }

    /// How many heads give more than half of their mass to what stands aside, and which those are.
    pub(crate) fn on_special_tokens(&self) -> String {
        let count = self.heads.iter().filter(|head| head.statistics.special_mass > 0.5).count();
        let mut special: Vec<String> = (0..self.text.tokens.len())
            .filter(|&token| self.text.tokens[token].special || self.model.causal && token == 0)
            .map(|token| crate::label::label(self.text, token))
            .collect();
        special.sort();
        special.dedup();
        let special = if special.is_empty() { String::new() } else { format!(" ({})", special.join(", ")) };
        let heads = self.heads.len();
        format!("{count} of {heads} heads look mostly at {}{special}.", self.aside())
    }
}

/// What it means that a focus is one piece of a longer stretch, if it is.
pub(crate) fn focus_note(text: &TokenizedText, focus: &Focus) -> Option<String> {
    let (first, last) = focus.pieces?;
    let tokens = &text.tokens;
    let whole = crate::visible::visible(text.text.get(tokens[first].start..tokens[last].end)?.trim());
    let place = if focus.token == first { "first" } else { "last" };
    let (token, pieces) = (name(text, focus.token), last - first + 1);
    Some(format!("{token} is the {place} of the {pieces} tokens of {whole}"))
}

/// A share as people read it: whole per cent, `<1 %` for what is little but not nothing.
pub(crate) fn percent(share: f32) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.5 { "<1 %".to_owned() } else { format!("{} %", percent.round()) }
}

/// A lift as people read it.
pub(crate) fn times(lift: f32) -> String {
    if lift < 9.95 {
        format!("{lift:.1} ×")
    } else if lift < 999.5 {
        format!("{lift:.0} ×")
    } else {
        ">999 ×".to_owned()
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn percent__little__is_told_from_nothing() {
        let shown = [0.0, 1e-9, 0.004, 0.005, 0.487, 0.9999, 1.0].map(percent);
        assert_eq!(shown, ["0 %", "<1 %", "<1 %", "1 %", "49 %", "100 %", "100 %"]);
    }

    #[test]
    fn times__any_lift__stays_short() {
        let shown = [0.0, 1.13, 4.1, 9.94, 9.96, 174.7, 999.4, 1.8e6].map(times);
        assert_eq!(shown, ["0.0 ×", "1.1 ×", "4.1 ×", "9.9 ×", "10 ×", "175 ×", "999 ×", ">999 ×"]);
    }
}

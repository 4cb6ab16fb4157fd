//! What a caller wants to see.

use super::head_id::HeadId;
use super::text_table::TextTable;

/// Whose rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queries {
    /// One token's.
    One(usize),
    /// All tokens'; special ones only with [`ViewOptions::keep_special`].
    All,
}

/// What to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewOptions {
    /// Whose rows.
    pub queries: Queries,
    /// How many keys of each row.
    pub top: usize,
    /// Whether special tokens may be among them, and in the picture.
    pub keep_special: bool,
    /// The largest picture, `[queries, keys]`; either 0 for none. There is none with [`Queries::All`].
    pub map_size: [usize; 2],
    /// The head to picture; `None` for the most telling one: the link head with the largest
    /// probability × ln lift, or if there is none the best head of the next kind in the order ahead, topic,
    /// next, previous, other. Special heads are pictured only by name: special tokens are not in the picture.
    pub map_head: Option<HeadId>,
}

impl ViewOptions {
    pub(super) fn wants(&self, query: usize, table: &TextTable) -> bool {
        match self.queries {
            Queries::One(wanted) => query == wanted,
            Queries::All => self.keep_special || !table.is_special(query),
        }
    }
}

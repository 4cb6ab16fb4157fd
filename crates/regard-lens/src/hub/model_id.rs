//! The names of models on the Hub.

use std::fmt;

use crate::error::LensError;

/// `org/name`, or `org/name@revision` with a branch, tag or commit.
///
/// All parts become parts of paths and addresses, so each is of plain characters only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelId {
    /// `org/name`.
    pub(super) repository: String,
    pub(super) revision: Option<String>,
}

impl ModelId {
    pub(super) fn parse(id: &str) -> Result<Self, LensError> {
        let (repository, revision) = match id.split_once('@') {
            None => (id, None),
            Some((repository, revision)) => (repository, Some(revision)),
        };
        let two_parts = repository.split('/').count() == 2;
        // A revision may have several, as in refs/pr/1.
        let mut parts = repository.split('/').chain(revision.into_iter().flat_map(|name| name.split('/')));
        if !(two_parts && parts.all(is_plain)) {
            return Err(LensError::ModelNotFound { model: id.to_owned() });
        }
        Ok(Self { repository: repository.to_owned(), revision: revision.map(str::to_owned) })
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

/// Whether this is one component of a path or an address on every system, and stays what it is in both.
pub(super) fn is_plain(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=128).contains(&part.len()) && !part.starts_with(['.', '-']) && part.chars().all(plain)
}

#[cfg(test)]
#[allow(non_snake_case, reason = "test names are subject__condition__claim")]
mod tests {
    use super::*;

    #[test]
    fn model_id__two_plain_parts__accepted() {
        for (id, repository, revision) in [
            ("org/name", "org/name", None),
            ("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", None),
            ("org/name_1.5@v1.0", "org/name_1.5", Some("v1.0")),
            ("org/name@refs/pr/1", "org/name", Some("refs/pr/1")),
        ] {
            let parsed = ModelId::parse(id).unwrap();
            assert_eq!((parsed.repository.as_str(), parsed.revision.as_deref()), (repository, revision));
            assert_eq!(parsed.to_string(), id);
        }
    }

    #[test]
    fn model_id__anything_else__refused() {
        for id in [
            "",
            "name",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "../b",
            "a/..",
            "./b",
            "a/.",
            "a//b",
            "a\\b",
            "a/b\\c",
            "C:/b",
            "~/b",
            "a/b ",
            "a/b?x",
            "a/b#x",
            "a/b%2e",
            "a/b@",
            "a/b@..",
            "a/b@x/../y",
            "a/b@x@y",
            "-a/b",
            "a/\u{e9}",
            "a/b\n",
            "a/b\u{0}",
            "http://a/b",
        ] {
            assert!(matches!(ModelId::parse(id), Err(LensError::ModelNotFound { .. })), "{id:?}");
        }
    }
}

//! What is compared: requests, each in a named group.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::protocol::Request;

/// The cases that are compared unless others are asked for.
const STANDARD: &str = include_str!("../cases/standard.jsonl");

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    /// What it is an example of.
    pub(crate) group: String,
    /// What every worker is asked.
    pub(crate) request: Request,
}

/// What requests are given where they say nothing themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    /// See [`Request::threads`].
    pub(crate) threads: usize,
    /// See [`Request::seconds`].
    pub(crate) seconds: f64,
    /// See [`Request::seed`].
    pub(crate) seed: u64,
}

/// The cases of a file, or the standard ones; only those of `groups`, if any are named.
///
/// # Errors
/// Which file cannot be read, which line is not a case, or which group has none.
pub(crate) fn load(file: Option<&Path>, groups: &[String], defaults: Defaults) -> Result<Vec<Case>, String> {
    let text = match file {
        None => STANDARD.to_string(),
        Some(path) => std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?,
    };
    let mut cases = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        cases.push(parse(line, defaults).map_err(|e| format!("case in line {}: {e}", index + 1))?);
    }
    if let Some(group) = groups.iter().find(|group| !cases.iter().any(|case| case.group == **group)) {
        let mut names: Vec<&str> = cases.iter().map(|case| case.group.as_str()).collect();
        names.dedup();
        return Err(format!("no case in group {group:?}; there are {}", names.join(", ")));
    }
    cases.retain(|case| groups.is_empty() || groups.contains(&case.group));
    Ok(cases)
}

/// A case from one line: a request, of which all but op, heads, seq_q and head_dim may be left out, and a
/// "group", else the op's name.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(line: &str, defaults: Defaults) -> Result<Case, String> {
    let mut fields: Map<String, Value> = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let group = fields.remove("group");
    let Defaults { threads, seconds, seed } = defaults;
    let twin = |fields: &Map<String, Value>, name| fields.get(name).cloned().unwrap_or(Value::Null);
    let (heads, seq_q) = (twin(&fields, "heads"), twin(&fields, "seq_q"));
    for (name, value) in [
        ("batch", json!(1)),
        ("kv_heads", heads),
        ("seq_kv", seq_q),
        ("mask", json!("none")),
        ("dtype", json!("f32")),
        ("threads", json!(threads)),
        ("seconds", json!(seconds)),
        ("seed", json!(seed)),
    ] {
        fields.entry(name).or_insert(value);
    }
    let request: Request = serde_json::from_value(Value::Object(fields)).map_err(|e| e.to_string())?;
    request.check()?;
    let group = match group {
        None => request.op.name().to_string(),
        Some(Value::String(name)) => name,
        Some(other) => return Err(format!("group: expected a string, found {other}")),
    };
    Ok(Case { group, request })
}

#[cfg(test)]
#[allow(non_snake_case)]
mod tests {
    use super::*;
    use crate::protocol::{Dtype, Mask, Op};

    const DEFAULTS: Defaults = Defaults { threads: 3, seconds: 0.5, seed: 9 };

    #[test]
    fn standard__file__holds_every_group() {
        let all = load(None, &[], DEFAULTS).unwrap();
        let count = |group: &str| load(None, &[group.to_string()], DEFAULTS).unwrap().len();
        let sizes = [
            ("forward", 15),
            ("causal", 15),
            ("backward", 14),
            ("backward_causal", 14),
            ("window", 1),
            ("decode", 3),
            ("layer", 4),
            ("storage", 2),
            ("growth", 12),
            ("lengths", 1),
        ];
        for (group, size) in sizes {
            assert_eq!(count(group), size, "{group}");
        }
        assert_eq!(all.len(), sizes.iter().map(|(_, size)| size).sum::<usize>());
    }

    #[test]
    fn parse__what_is_left_out__is_filled_in() {
        let case = parse(r#"{"op":"forward","heads":8,"seq_q":64,"head_dim":32}"#, DEFAULTS).unwrap();
        let Request { batch, kv_heads, seq_kv, mask, dtype, threads, seconds, seed, .. } = case.request;
        assert_eq!((case.group.as_str(), batch, kv_heads, seq_kv), ("forward", 1, 8, 64));
        assert_eq!((mask, dtype, threads, seconds, seed), (Mask::None, Dtype::F32, 3, 0.5, 9));
        let line = r#"{"group":"g","op":"decode","heads":8,"kv_heads":2,"seq_q":1,"seq_kv":9,"head_dim":4,"seed":1}"#;
        let case = parse(line, DEFAULTS).unwrap();
        assert_eq!((case.group.as_str(), case.request.op, case.request.seed), ("g", Op::Decode, 1));
        assert_eq!((case.request.kv_heads, case.request.seq_kv), (2, 9));
    }

    #[test]
    fn parse__a_typo__is_an_error() {
        assert!(parse(r#"{"op":"forward","heads":8,"seq":64,"head_dim":32}"#, DEFAULTS).is_err());
        let error = load(None, &["forwards".into()], DEFAULTS).unwrap_err();
        assert!(error.contains("backward_causal"), "{error}");
    }
}

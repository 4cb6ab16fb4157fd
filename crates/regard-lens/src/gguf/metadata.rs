//! What a GGUF file says of itself.

use std::collections::HashMap;

/// A value of the metadata, as far as it is used.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Integer(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<i64>),
    /// An array that nothing asks for: it is skipped, not kept.
    Skipped,
}

impl Value {
    /// In words, for errors.
    fn found(&self) -> String {
        match self {
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Text(text) => format!("{text:?}"),
            Self::Texts(_) | Self::Integers(_) | Self::Skipped => "an array".to_owned(),
        }
    }
}

/// Values by key.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    pub(super) values: HashMap<String, Value>,
}

/// A value of another type than its key asks for, and what it is.
pub(crate) struct OtherType {
    pub(crate) expected: &'static str,
    pub(crate) found: String,
}

impl Metadata {
    /// A whole number, not negative.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<u64>, OtherType> {
        self.get(key, "a whole number, not negative", |value| match value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A number with a fraction.
    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, OtherType> {
        self.get(key, "a number", |value| match value {
            Value::Float(number) => Some(*number),
            _ => None,
        })
    }

    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>, OtherType> {
        self.get(key, "true or false", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, OtherType> {
        self.get(key, "a text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub(super) fn take_texts(&mut self, key: &str) -> Option<Vec<String>> {
        match self.values.remove(key)? {
            Value::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    pub(super) fn take_integers(&mut self, key: &str) -> Option<Vec<i64>> {
        match self.values.remove(key)? {
            Value::Integers(integers) => Some(integers),
            _ => None,
        }
    }

    /// How many texts an array has.
    pub(crate) fn num_texts(&self, key: &str) -> Option<usize> {
        match self.values.get(key)? {
            Value::Texts(texts) => Some(texts.len()),
            _ => None,
        }
    }

    fn get<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, OtherType> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(OtherType { expected, found: value.found() }),
        }
    }
}

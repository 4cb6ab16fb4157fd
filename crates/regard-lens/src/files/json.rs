//! JSON objects whose keys must be unique: `serde_json` keeps the last of equal keys without a word.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// The longest name of a tensor, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 512;
/// The most tensors of a model.
pub(crate) const MAX_TENSORS: usize = 65_536;

/// A JSON object from names to values: every name once, none longer than [`MAX_NAME_BYTES`], at most
/// [`MAX_TENSORS`] of them.
#[derive(Debug)]
pub(super) struct UniqueMap<V>(pub(super) HashMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueMapVisitor(PhantomData))
    }
}

struct UniqueMapVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for UniqueMapVisitor<V> {
    type Value = UniqueMap<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = HashMap::new();
        while let Some(name) = map.next_key::<String>()? {
            check_name(&name, values.len())?;
            if values.contains_key(&name) {
                return Err(A::Error::custom(format!("the key {name:?} twice")));
            }
            values.insert(name, map.next_value()?);
        }
        Ok(UniqueMap(values))
    }
}

/// Refuses a name that is too long, or one too many.
pub(super) fn check_name<E: Error>(name: &str, before: usize) -> Result<(), E> {
    if name.len() > MAX_NAME_BYTES {
        return Err(E::custom(format!("a name of {} bytes, more than {MAX_NAME_BYTES}", name.len())));
    }
    if before >= MAX_TENSORS {
        return Err(E::custom(format!("more than {MAX_TENSORS} entries")));
    }
    Ok(())
}

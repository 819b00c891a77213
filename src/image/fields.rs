//! Reads JSON objects whose known fields every program reads alike: none spelled in another case, none twice, no list
//! too long.
//!
//! Go's decoder, by which most registries and runtimes read, takes `"Layers"` for `layers` and the last of two; others
//! take the first, or neither. One document is then two images.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

/// The most descriptors that one manifest may name; also the most entries of each of its lists.
pub const MAX_DESCRIPTORS: usize = 10_000;

/// A type that is read from an object of known fields.
pub(super) trait Fields {
    /// The fields that any program acts on; at most 16.
    const KNOWN: &'static [&'static str];
}

/// A `T` from an object whose known fields are clear.
pub(super) struct Clear<T>(pub(super) T);

/// At most [`MAX_DESCRIPTORS`] entries; reading stops behind them.
pub(super) struct Bounded<T>(pub(super) Vec<T>);

/// A document that is refused for its fields.
pub(super) enum FieldError {
    /// A field is not clear; a clause that names it.
    Unclear(String),
    /// A list is too long.
    TooLong,
}

impl FieldError {
    /// Returns the refusal that serde wrapped in `error`, if it comes from here.
    pub(super) fn of(error: &serde_json::Error) -> Option<Self> {
        let text = error.to_string();
        if text.starts_with(TOO_LONG) {
            return Some(Self::TooLong);
        }
        let clause = text.strip_prefix(UNCLEAR)?;
        Some(Self::Unclear(clause.split(" at line ").next().unwrap_or(clause).to_owned()))
    }
}

impl<'de, T: Fields + Deserialize<'de>> Deserialize<'de> for Clear<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Fields + Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Clear<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(CheckedMap { map, known: T::KNOWN, seen: 0 })).map(Clear)
    }
}

/// A map whose keys are checked on their way.
struct CheckedMap<A> {
    map: A,
    known: &'static [&'static str],
    /// One bit for each known field.
    seen: u16,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for CheckedMap<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.map.next_key_seed(CheckedKey { seed, known: self.known, seen: &mut self.seen })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

struct CheckedKey<'a, K> {
    seed: K,
    known: &'static [&'static str],
    seen: &'a mut u16,
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for CheckedKey<'_, K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, K: DeserializeSeed<'de>> Visitor<'de> for CheckedKey<'_, K> {
    type Value = K::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<K::Value, E> {
        match self.known.iter().position(|field| *field == key) {
            Some(place) if *self.seen & (1 << place) != 0 => {
                Err(E::custom(format_args!("{UNCLEAR}the field {key:?} is there twice")))
            }
            Some(place) => {
                *self.seen |= 1 << place;
                self.seed.deserialize(key.into_deserializer())
            }
            None => match self.known.iter().find(|field| is_alike(field, key)) {
                Some(field) => {
                    Err(E::custom(format_args!("{UNCLEAR}a field is spelled like {field:?} in another case")))
                }
                None => self.seed.deserialize(key.into_deserializer()),
            },
        }
    }
}

/// Returns true if Go's decoder takes `key` for `field`: letters in any case, and the two others that fold to letters
/// of ASCII.
fn is_alike(field: &str, key: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    field.chars().map(fold).eq(key.chars().map(fold))
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = Bounded<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            if list.len() == MAX_DESCRIPTORS {
                return Err(de::Error::custom(TOO_LONG));
            }
            list.push(entry);
        }
        Ok(Bounded(list))
    }
}

const UNCLEAR: &str = "unclear field: ";
const TOO_LONG: &str = "list too long";

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Two {
        media_type: Option<String>,
        layers: Option<Bounded<u32>>,
    }

    impl Fields for Two {
        const KNOWN: &'static [&'static str] = &["mediaType", "layers", "subject"];
    }

    fn read(text: &str) -> Result<Two, String> {
        serde_json::from_str(text).map(|Clear(two)| two).map_err(|error| match FieldError::of(&error) {
            Some(FieldError::Unclear(clause)) => clause,
            Some(FieldError::TooLong) => "too long".to_owned(),
            None => "another error".to_owned(),
        })
    }

    #[test]
    fn known_fields_are_read_and_others_are_anything() {
        let two = read(r#"{"mediaType":"a","x":1,"X":2,"x":3,"layers":[1,2],"layer":[],"subject":null}"#).unwrap();
        assert_eq!((two.media_type.as_deref(), two.layers.map(|list| list.0)), (Some("a"), Some(vec![1, 2])));
        assert!(read(r#"{"layers":null}"#).unwrap().layers.is_none());
        assert_eq!(read(r#"["a",[1]]"#).err().as_deref(), Some("another error"), "a list is no object");
    }

    #[test]
    fn a_known_field_in_another_case_or_twice_is_named() {
        for key in ["Layers", "LAYERS", "layerS", "layer\u{17f}", r"layer\u017f", r"\u004cayers"] {
            let clause = read(&format!(r#"{{"layers":[],"{key}":[]}}"#)).err();
            assert_eq!(clause.as_deref(), Some(r#"a field is spelled like "layers" in another case"#), "{key}");
        }
        assert!(read(r#"{"Subject":1}"#).is_err(), "one that is not read here, but elsewhere");
        assert_eq!(read(r#"{"layers":[],"layers":[]}"#).err().as_deref(), Some(r#"the field "layers" is there twice"#));
        assert!(read(r#"{"subject":1,"\u0073ubject":1}"#).is_err());
    }

    #[test]
    fn a_list_that_is_too_long_is_not_read_to_its_end() {
        let list = |length: usize| format!(r#"{{"layers":[{}0]}}"#, "1,".repeat(length - 1));
        assert_eq!(read(&list(MAX_DESCRIPTORS)).unwrap().layers.unwrap().0.len(), MAX_DESCRIPTORS);
        assert_eq!(read(&list(MAX_DESCRIPTORS + 1)).err().as_deref(), Some("too long"));
        assert_eq!(read(&format!(r#"{{"layers":[{}"#, "1,".repeat(1_000_000))).err().as_deref(), Some("too long"));
    }
}

//! Parses one page of a list: the names, and the manifests that some registries add.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::image::InvalidNames;
use crate::registry::http::text::clean;

/// One page of a list.
pub(crate) struct NamePage<'a, T> {
    /// The names that were selected, in the order of the page.
    pub(crate) kept: Vec<T>,
    /// The names that are not valid.
    pub(crate) invalid: InvalidNames,
    /// The JSON text of the names.
    pub(crate) text: &'a str,
    /// The field `manifest`, which some registries add.
    pub(crate) manifests: Option<&'a RawValue>,
}

/// Selects the names of a list to keep.
pub(crate) type Keep<'a, T> = &'a (dyn Fn(&T) -> bool + Sync);

/// The field of a page that holds the names.
#[derive(Clone, Copy)]
pub(crate) enum NameField {
    Repositories,
    Tags,
}

impl NameField {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Repositories => "repositories",
            Self::Tags => "tags",
        }
    }
}

/// Parses the names in `field`; `None` if `body` is no page. Takes memory for the selected names only.
pub(crate) fn read_page<'a, T: FromStr>(
    body: &'a [u8],
    field: NameField,
    keep: Keep<'_, T>,
) -> Option<NamePage<'a, T>> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return None; // serde would take a list for the fields of a document.
    }
    let document: PageFields<'a> = serde_json::from_slice(body).ok()?;
    let names = match field {
        NameField::Repositories => document.repositories,
        NameField::Tags => document.tags,
    }?;
    let invalid = InvalidNames::default();
    let mut page = NamePage { kept: Vec::new(), invalid, text: names.get(), manifests: document.manifest };
    each_text(names, &mut |text| match text.map(str::parse) {
        Some(Ok(name)) if keep(&name) => page.kept.push(name),
        Some(Ok(_)) => {}
        Some(Err(_)) => page.invalid.add(&clean(text.unwrap_or_default())),
        None => page.invalid.count += 1,
    })?;
    Some(page)
}

/// Passes each element of a list to `take`: its text, or `None` if it is no text. Returns `None` if it is no list; null
/// is an empty one.
pub(crate) fn each_text(list: &RawValue, take: &mut dyn FnMut(Option<&str>)) -> Option<()> {
    serde_json::Deserializer::from_str(list.get()).deserialize_any(TextVisitor(take)).ok()
}

impl<T> NamePage<'_, T> {
    /// Returns true if the page has no names.
    pub(crate) fn is_empty(&self) -> bool {
        self.text == "null" || self.text.trim_matches(|c: char| c.is_ascii_whitespace() || "[]".contains(c)).is_empty()
    }
}

#[derive(serde::Deserialize)]
struct PageFields<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    tags: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    repositories: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    manifest: Option<&'a RawValue>,
}

/// Deserializes a field that is null as present.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

struct TextVisitor<'t>(&'t mut dyn FnMut(Option<&str>));

impl<'de> Visitor<'de> for TextVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element::<&RawValue>()? {
            (self.0)(text(element.get()).as_deref());
        }
        Ok(())
    }
}

/// Returns the text of a JSON string; `None` if it is another value.
fn text(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(json).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Tag;

    #[test]
    fn names_are_taken_as_they_are_read_and_only_those_that_are_kept() {
        let body = br#" {"more":[{"tags":1}],"tags":["v1","w\u0031","v\u0032","",7,null,["v3"]],"name":"x"}"#;
        let page = read_page::<Tag>(body, NameField::Tags, &|tag| tag.as_str().starts_with('v')).unwrap();
        let kept: Vec<&str> = page.kept.iter().map(Tag::as_str).collect();
        assert_eq!((kept, page.invalid.count, page.is_empty()), (vec!["v1", "v2"], 4, false));
        for empty in [r#"{"tags":null}"#, r#"{"tags":[ ]}"#] {
            assert!(read_page::<Tag>(empty.as_bytes(), NameField::Tags, &|_| true).unwrap().is_empty(), "{empty}");
        }
        for wrong in [r#"[["v1"]]"#, r#"{"tags":"v1"}"#, r#"{"tags":["v1"]"#, r#"{"repositories":[]}"#, "null"] {
            assert!(read_page::<Tag>(wrong.as_bytes(), NameField::Tags, &|_| true).is_none(), "{wrong}");
        }
    }
}

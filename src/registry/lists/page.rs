//! Reads one page of a list: the names on it, what else it tells, and where the next page is.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::header::{HeaderMap, LINK};
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// One page of a list.
pub(crate) struct NamePage<'a, T> {
    /// The names that are kept, as they come.
    pub(crate) kept: Vec<T>,
    /// How many names there are besides that nothing could be called.
    pub(crate) invalid: usize,
    /// The names as the page has them.
    pub(crate) text: &'a str,
    /// What Google's registries tell of the manifests.
    pub(crate) manifests: Option<&'a RawValue>,
}

/// Whether a name of a list is to be kept.
pub(crate) type Keep<'a, T> = &'a (dyn Fn(&T) -> bool + Sync);

/// Reads the names under `key`; nothing if it is no page. It takes the memory of what is kept, however many names there are.
pub(crate) fn read_page<'a, T: FromStr>(body: &'a [u8], key: &str, keep: Keep<'_, T>) -> Option<NamePage<'a, T>> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return None; // serde would take a list for the fields of a document.
    }
    let document: PageFields<'a> = serde_json::from_slice(body).ok()?;
    let names = if key == "tags" { document.tags } else { document.repositories }?;
    let mut page = NamePage { kept: Vec::new(), invalid: 0, text: names.get(), manifests: document.manifest };
    each_text(names, &mut |name| match name.and_then(|name| name.parse().ok()) {
        Some(name) if keep(&name) => page.kept.push(name),
        Some(_) => {}
        None => page.invalid += 1,
    })?;
    Some(page)
}

/// Gives each element of a list to `take`: its text, or nothing where it is none. `None` if it is no list; null is an empty one.
pub(crate) fn each_text(list: &RawValue, take: &mut dyn FnMut(Option<&str>)) -> Option<()> {
    serde_json::Deserializer::from_str(list.get()).deserialize_any(TextVisitor(take)).ok()
}

impl<T> NamePage<'_, T> {
    /// Whether there are no names on it.
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

/// A field that is null is there.
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

/// What a JSON string says; nothing if it is something else.
fn text(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    match inner.contains('\\') {
        false => Some(Cow::Borrowed(inner)),
        true => serde_json::from_str(json).ok().map(Cow::Owned),
    }
}

/// The target of the first link with the relation `next` (RFC 8288).
pub(crate) fn next_link(headers: &HeaderMap) -> Option<String> {
    headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).find_map(next_link_of)
}

pub(crate) fn next_link_of(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, parameters) = after.split_once('>')?;
        let end = parameters.find('<').unwrap_or(parameters.len());
        let is_next = parameters[..end].split([';', ',']).any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let relations = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel")
                && relations.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target.trim().to_owned());
        }
        rest = &parameters[end..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Tag;

    #[test]
    fn names_are_taken_as_they_are_read_and_only_those_that_are_kept() {
        let body = br#" {"more":[{"tags":1}],"tags":["v1","w\u0031","v\u0032","",7,null,["v3"]],"name":"x"}"#;
        let page = read_page::<Tag>(body, "tags", &|tag| tag.as_str().starts_with('v')).unwrap();
        let kept: Vec<&str> = page.kept.iter().map(Tag::as_str).collect();
        assert_eq!((kept, page.invalid, page.is_empty()), (vec!["v1", "v2"], 4, false));
        for empty in [r#"{"tags":null}"#, r#"{"tags":[ ]}"#] {
            assert!(read_page::<Tag>(empty.as_bytes(), "tags", &|_| true).unwrap().is_empty(), "{empty}");
        }
        for wrong in [r#"[["v1"]]"#, r#"{"tags":"v1"}"#, r#"{"tags":["v1"]"#, r#"{"repositories":[]}"#, "null"] {
            assert!(read_page::<Tag>(wrong.as_bytes(), "tags", &|_| true).is_none(), "{wrong}");
        }
    }

    #[test]
    fn links_are_read_as_registries_write_them() {
        let table = [
            ("</a?b=c>; rel=\"next\"", Some("/a?b=c")),
            ("</a>;rel=next", Some("/a")),
            ("</a>; title=\"x\"; REL=\"prev Next\"", Some("/a")),
            ("</first>; rel=\"first\", </second>; rel=\"next\"", Some("/second")),
            ("</a>; rel=\"prev\"", None),
            ("</a>", None),
            ("<unclosed; rel=next", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(next_link_of(text).as_deref(), expected, "{text}");
        }
    }
}

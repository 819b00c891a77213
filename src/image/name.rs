//! Repository names and tags, with the grammar of the OCI distribution specification 1.1.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a repository inside one registry, for example `team/app`; always well-formed.
///
/// Path components of lower-case letters and digits, joined inside by `.`, `_`, `__` or dashes,
/// separated by `/`; at most 255 characters. Copies of a name share its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryName(Arc<str>);

/// Names compare as their texts do.
impl Borrow<str> for RepositoryName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl RepositoryName {
    /// The most characters that a name may have.
    pub const MAX_LENGTH: usize = 255;

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A tag, for example `v1.2`; always well-formed: at most 128 letters, digits, `_`, `.` and `-`,
/// not starting with `.` or `-`. Copies of a tag share its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(Arc<str>);

impl Tag {
    /// Returns the tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() <= Self::MAX_LENGTH && text.split('/').all(is_path_component) {
            Ok(Self(text.into()))
        } else {
            Err(NameError { what: "repository name", text: text.chars().take(80).collect() })
        }
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let well_formed = (1..=128).contains(&bytes.len())
            && !matches!(bytes[0], b'.' | b'-')
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if well_formed {
            Ok(Self(text.into()))
        } else {
            Err(NameError { what: "tag", text: text.chars().take(80).collect() })
        }
    }
}

/// Returns true if `component` matches `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_path_component(component: &str) -> bool {
    let is_alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !is_alphanumeric(*first) || !is_alphanumeric(*last) {
        return false;
    }
    bytes
        .split(|b| is_alphanumeric(*b))
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

macro_rules! text_conversions {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_conversions!(RepositoryName);
text_conversions!(Tag);

/// Text that is not a repository name, or not a tag.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a valid {what}")]
pub struct NameError {
    pub(super) what: &'static str,
    pub(super) text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names_follow_the_grammar_of_the_specification() {
        for name in ["a", "mservice", "team/app", "a__b", "a---b", "a.b_c-d/0", "library/node"] {
            assert!(name.parse::<RepositoryName>().is_ok(), "{name}");
        }
        let long = "a".repeat(256);
        for name in ["", "/a", "a/", "a//b", "A", "a..b", "a._b", "a___b", "-a", "a-", "../a", "a b", "é", &long] {
            assert!(name.parse::<RepositoryName>().is_err(), "{name}");
        }
    }

    #[test]
    fn tags_follow_the_grammar_of_the_specification() {
        for tag in ["42", "v1.2.3-rc_1", "_x", "A"] {
            assert!(tag.parse::<Tag>().is_ok(), "{tag}");
        }
        let long = "a".repeat(129);
        for tag in ["", ".a", "-a", "a/b", "a:b", "a b", &long] {
            assert!(tag.parse::<Tag>().is_err(), "{tag}");
        }
    }
}

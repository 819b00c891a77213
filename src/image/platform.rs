//! Platforms that an image is built for: `linux/amd64`, `linux/arm/v7`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::name::NameError;

/// A platform as people write it: operating system, architecture and, where it matters, a variant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    /// The operating system, such as `linux`.
    pub os: String,
    /// The architecture in Go's spelling, such as `amd64`.
    pub architecture: String,
    /// The variant, such as `v7`; `None` takes every variant.
    pub variant: Option<String>,
}

impl Platform {
    /// Returns true if `self`, chosen by people, takes an image of the platform `other`: one without a variant takes
    /// every variant. An architecture without a variant has the one that containerd assumes: `arm64` is `arm64/v8`,
    /// `arm` is `arm/v7`, `amd64` is `amd64/v1`.
    pub fn takes(&self, other: &Self) -> bool {
        (&self.os, &self.architecture) == (&other.os, &other.architecture)
            && (self.variant.is_none() || self.usual_variant() == other.usual_variant())
    }

    fn usual_variant(&self) -> Option<&str> {
        self.variant.as_deref().or(match self.architecture.as_str() {
            "amd64" => Some("v1"),
            "arm" => Some("v7"),
            "arm64" => Some("v8"),
            _ => None,
        })
    }
}

impl FromStr for Platform {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_part = |part: &str| {
            (1..=32).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => ("", "", None),
        };
        if [os, architecture].into_iter().chain(variant).all(is_part) {
            let (os, architecture) = (os.to_owned(), architecture.to_owned());
            return Ok(Self { os, architecture, variant: variant.map(str::to_owned) });
        }
        Err(NameError { what: "platform", text: text.chars().take(80).collect() })
    }
}

impl TryFrom<String> for Platform {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_without_variant_takes_all_one_with_it_also_those_without() {
        let takes = |chosen: &str, other: &str| chosen.parse::<Platform>().unwrap().takes(&other.parse().unwrap());
        assert!(takes("linux/arm", "linux/arm/v6") && takes("linux/arm64", "linux/arm64/v8"));
        assert!(takes("linux/arm64/v8", "linux/arm64") && takes("linux/arm/v7", "linux/arm"));
        assert!(!takes("linux/arm/v6", "linux/arm") && !takes("linux/amd64", "windows/amd64"));
        assert!(!takes("linux/amd64/v3", "linux/amd64") && !takes("linux/riscv64/x", "linux/riscv64"));
    }

    #[test]
    fn platforms_are_read_and_written_as_people_do() {
        for text in ["linux/amd64", "linux/arm/v7", "windows/amd64"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "Linux/amd64", "linux/*"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}

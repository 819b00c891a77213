//! Regular expressions that the API server and this program compare alike.

use std::fmt;
use std::sync::OnceLock;

use regex::Regex;

/// A regular expression that CEL and this program read alike: of ASCII, without backslash and quote.
#[derive(Debug)]
pub struct Pattern {
    text: &'static str,
    compiled: OnceLock<Regex>,
}

impl Pattern {
    pub(super) const fn new(text: &'static str) -> Self {
        Self { text, compiled: OnceLock::new() }
    }

    /// Returns true if `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        self.compiled.get_or_init(|| Regex::new(self.text).expect("a valid pattern")).is_match(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

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
        self.compiled.get_or_init(|| self.compile().expect("a valid pattern")).is_match(text)
    }

    /// Compiles the text. RE2 reads `[[]` and `[]]` as one bracket each, where this program's expressions need a
    /// backslash.
    fn compile(&self) -> Result<Regex, regex::Error> {
        Regex::new(&self.text.replace("[[]", r"\[").replace("[]]", r"\]"))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bracket_in_brackets_is_itself() {
        let pattern = Pattern::new("^(a|[[][0-9:]+[]])$");
        assert!(pattern.matches("a") && pattern.matches("[::1]"));
        assert!(!pattern.matches("::1") && !pattern.matches("[a]"));
    }
}

//! Lists of patterns as alternatives, with the regular expressions among them under one bound of memory.

use regex::bytes::{RegexSet, RegexSetBuilder, SetMatches};

/// Patterns as alternatives: a name matches the list if it matches one of them.
#[derive(Clone, Debug)]
pub(super) struct Patterns<P> {
    /// The patterns in the order of the spec.
    pub(super) all: Vec<P>,
    /// `None` without expressions: even an empty set takes kilobytes.
    expressions: Option<RegexSet>,
}

impl<P> Patterns<P> {
    /// Keeps patterns together with the texts of their regular expressions, which match whole names.
    ///
    /// # Errors
    /// The compiled expressions take over `limit` bytes together.
    pub(super) fn new(all: Vec<P>, expressions: &[String], limit: usize) -> Result<Self, regex::Error> {
        let expressions = Some(expressions).filter(|texts| !texts.is_empty());
        Ok(Self { all, expressions: expressions.map(|texts| whole_set(texts, limit)).transpose()? })
    }

    /// Returns the expressions that match the whole of `text`, by their index; `None` if the list has none.
    pub(super) fn expressions(&self, text: &str) -> Option<SetMatches> {
        self.expressions.as_ref().map(|expressions| expressions.matches(text.as_bytes()))
    }
}

impl<P> Default for Patterns<P> {
    fn default() -> Self {
        Self { all: Vec::new(), expressions: None }
    }
}

/// The regex set follows from the patterns.
impl<P: PartialEq> PartialEq for Patterns<P> {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl<P: Eq> Eq for Patterns<P> {}

/// Checks that `text` is an expression by itself: `a)(b` is one only between the parentheses that are added.
///
/// # Errors
/// The text is no expression, or one that takes over `limit` bytes when it is compiled.
pub(super) fn check_expression(text: &str, limit: usize) -> Result<(), regex::Error> {
    build_set([text], limit)?;
    whole_set(&[text], limit).map(drop)
}

/// Describes the error of an expression on one line; `limit` is the bound that it was compiled with.
pub(super) fn describe_expression(error: &regex::Error, limit: usize) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => format!("it takes over {limit} bytes when it is compiled"),
        // The last line of a syntax error names the error; those before it show its place.
        other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

fn whole_set(texts: &[impl AsRef<str>], limit: usize) -> Result<RegexSet, regex::Error> {
    build_set(texts.iter().map(|text| format!(r"\A(?:{})\z", text.as_ref())), limit)
}

/// Names and tags are ASCII, so that a class needs no table of Unicode.
fn build_set(texts: impl IntoIterator<Item = impl AsRef<str>>, limit: usize) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(texts).unicode(false).size_limit(limit).dfa_size_limit(limit).build()
}

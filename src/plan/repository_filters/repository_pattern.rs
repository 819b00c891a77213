//! The pattern of one filter of repositories.

use std::fmt;
use std::str::FromStr;

use regex::bytes::SetMatches;

use crate::image::RepositoryName;
use crate::plan::patterns::{check_expression, describe_expression};
use crate::terms::{RepositoryFilter, RepositoryFilterType};

/// The pattern of one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RepositoryPattern {
    /// Matches this name.
    Exact(RepositoryName),
    /// Matches names that begin so, character by character, as ECR's PREFIX_MATCH.
    Prefix(String),
    /// A glob: its index among the regular expressions of the list, and the text of the filter.
    Glob(usize, String),
    /// A regular expression: its index among those of the list, and the text of the filter.
    Regex(usize, String),
}

/// The cause for which one filter cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum PatternError {
    #[error("is no repository name: {0}")]
    Name(<RepositoryName as FromStr>::Err),
    #[error("is no pattern: {0}")]
    Glob(&'static str),
    #[error("is no regular expression that can be used: {}", describe_expression(.0, MAX_COMPILED))]
    Expression(regex::Error),
}

impl RepositoryPattern {
    /// Parses a filter. The regular expression that it needs is added to `expressions`.
    pub(super) fn parse(filter: &RepositoryFilter, expressions: &mut Vec<String>) -> Result<Self, PatternError> {
        let text = filter.filter.clone();
        let index = expressions.len();
        Ok(match filter.filter_type {
            RepositoryFilterType::PrefixMatch => Self::Prefix(text),
            RepositoryFilterType::ExactMatch => Self::Exact(text.parse().map_err(PatternError::Name)?),
            RepositoryFilterType::GlobMatch => {
                let expression = expression_of_glob(&text).map_err(PatternError::Glob)?;
                check_expression(&expression, MAX_COMPILED).map_err(PatternError::Expression)?;
                expressions.push(expression);
                Self::Glob(index, text)
            }
            RepositoryFilterType::RegexMatch => {
                check_expression(&text, MAX_COMPILED).map_err(PatternError::Expression)?;
                expressions.push(text.clone());
                Self::Regex(index, text)
            }
        })
    }

    /// Returns true if the pattern matches the whole name; `expressions` are the matching ones of its list.
    pub(super) fn matches(&self, repository: &RepositoryName, expressions: Option<&SetMatches>) -> bool {
        match self {
            Self::Exact(name) => name == repository,
            Self::Prefix(prefix) => repository.as_str().starts_with(prefix.as_str()),
            Self::Glob(index, _) | Self::Regex(index, _) => expressions.is_some_and(|found| found.matched(*index)),
        }
    }

    /// Returns true for a prefix that ends in the middle of a word of the name: `prod` of `production/x`.
    pub(super) fn goes_beyond_its_segment(&self, repository: &RepositoryName) -> bool {
        let Self::Prefix(prefix) = self else { return false };
        let rest = repository.as_str().strip_prefix(prefix.as_str()).unwrap_or_default();
        prefix.ends_with(|c: char| c.is_ascii_alphabetic()) && rest.starts_with(|c: char| c.is_ascii_alphabetic())
    }
}

/// The filter as a user wrote it: its type and its text.
impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "EXACT_MATCH {name}"),
            Self::Prefix(prefix) => write!(f, "PREFIX_MATCH {prefix}"),
            Self::Glob(_, text) => write!(f, "GLOB_MATCH {text}"),
            Self::Regex(_, text) => write!(f, "REGEX_MATCH {text}"),
        }
    }
}

/// Translates a glob: `*` stays within a segment, `**` crosses segments, `**/` may stand for no segment at all, `?` is
/// one character other than `/`, and `{a,b}` are alternatives, one level deep.
fn expression_of_glob(glob: &str) -> Result<String, &'static str> {
    let mut expression = String::new();
    let (mut rest, mut is_in_braces, mut is_at_segment) = (glob, false, true);
    while let Some(next) = rest.chars().next() {
        let (length, piece) = match next {
            '*' if rest.starts_with("**/") && is_at_segment => (3, "(?:[^/]+/)*"),
            '*' if rest.starts_with("**") => (2, ".*"),
            '*' => (1, "[^/]*"),
            '?' => (1, "[^/]"),
            '{' if is_in_braces => return Err("braces cannot stand in braces"),
            '{' => (1, "(?:"),
            ',' if is_in_braces => (1, "|"),
            ',' => return Err("a comma separates alternatives and stands in braces"),
            '}' if is_in_braces => (1, ")"),
            '}' => return Err("a closing brace has no opening one"),
            '.' => (1, "[.]"),
            other => (other.len_utf8(), &rest[..other.len_utf8()]),
        };
        expression.push_str(piece);
        is_in_braces = next == '{' || (is_in_braces && next != '}');
        is_at_segment = next == '/' || piece.ends_with("/)*");
        rest = &rest[length..];
    }
    if is_in_braces { Err("an opening brace has no closing one") } else { Ok(expression) }
}

/// The memory that the compiled patterns of one list may take, in bytes.
pub(super) const MAX_COMPILED: usize = 256 * 1024;

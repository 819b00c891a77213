//! The pattern of one filter of repositories.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Bound;
use std::str::FromStr;

use crate::image::RepositoryName;
use crate::plan::expression::{Expression, ExpressionError, PatternRoom};
use crate::terms::{RepositoryFilter, RepositoryFilterType};

/// The pattern of one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RepositoryPattern {
    /// Matches this name.
    Exact(RepositoryName),
    /// Matches names that begin so, character by character, as ECR's PREFIX_MATCH.
    Prefix(String),
    Glob(Expression),
    Regex(Expression),
}

/// The cause for which one filter cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum PatternError {
    #[error("must have 1 to {} characters", RepositoryName::MAX_LENGTH)]
    Length,
    #[error("is no repository name: {0}")]
    Name(<RepositoryName as FromStr>::Err),
    #[error("is no pattern: {0}")]
    Glob(&'static str),
    #[error(transparent)]
    Expression(#[from] ExpressionError),
}

impl RepositoryPattern {
    /// Parses a filter, which takes its room among the patterns of the configuration.
    pub(super) fn parse(filter: &RepositoryFilter, room: &mut PatternRoom) -> Result<Self, PatternError> {
        let text = &filter.filter;
        if text.is_empty() || text.len() > RepositoryName::MAX_LENGTH {
            return Err(PatternError::Length);
        }
        Ok(match filter.filter_type {
            RepositoryFilterType::PrefixMatch => Self::Prefix(text.clone()),
            RepositoryFilterType::ExactMatch => Self::Exact(text.parse().map_err(PatternError::Name)?),
            RepositoryFilterType::GlobMatch => {
                let expression = expression_of_glob(text).map_err(PatternError::Glob)?;
                Self::Glob(Expression::compile(text, &expression, room)?)
            }
            RepositoryFilterType::RegexMatch => Self::Regex(Expression::regex(text, room)?),
        })
    }

    /// Returns true if the pattern matches the name.
    pub(super) fn matches(&self, repository: &RepositoryName) -> bool {
        match self {
            Self::Exact(name) => name == repository,
            Self::Prefix(prefix) => repository.as_str().starts_with(prefix.as_str()),
            Self::Glob(expression) | Self::Regex(expression) => expression.matches(repository.as_str()),
        }
    }

    /// Returns the names for which [`RepositoryPattern::goes_beyond_its_segment`] is true, which stand together.
    pub(super) fn beyond_its_segment<'a>(
        &self,
        repositories: &'a BTreeSet<RepositoryName>,
    ) -> impl Iterator<Item = &'a RepositoryName> + use<'a> {
        // Letters are lower case, and `{` follows `z`.
        let ends = self.cut_word().map(|prefix| (format!("{prefix}a"), format!("{prefix}{{")));
        ends.into_iter().flat_map(|(first, end)| {
            repositories.range::<str, _>((Bound::Included(first.as_str()), Bound::Excluded(end.as_str())))
        })
    }

    /// Returns true for a prefix that ends in the middle of a word of the name: `prod` of `production/x`.
    pub(super) fn goes_beyond_its_segment(&self, repository: &RepositoryName) -> bool {
        let rest = self.cut_word().and_then(|prefix| repository.as_str().strip_prefix(prefix));
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()))
    }

    /// Returns the prefix if it ends with a letter, so that a name may go on within its last word.
    fn cut_word(&self) -> Option<&str> {
        match self {
            Self::Prefix(prefix) => {
                Some(prefix.as_str()).filter(|prefix| prefix.ends_with(|c: char| c.is_ascii_alphabetic()))
            }
            _ => None,
        }
    }
}

/// The filter as a user wrote it: its type and its text.
impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "EXACT_MATCH {name}"),
            Self::Prefix(prefix) => write!(f, "PREFIX_MATCH {prefix}"),
            Self::Glob(pattern) => write!(f, "GLOB_MATCH {pattern}"),
            Self::Regex(expression) => write!(f, "REGEX_MATCH {expression}"),
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

//! The pattern of one filter of tags, and the regular expressions of a list.

use std::fmt;

use regex::bytes::SetMatches;

use super::tag_filter_error::{FilterProblem, MAX_COMPILED};
use super::version_range::{TagVersion, VersionRange};
use crate::image::Tag;
use crate::plan::patterns::{Patterns, check_expression};
use crate::policy::wildcard_matches;
use crate::terms::{MAX_TAG_FILTER, TAG_FILTER_RULES, TagFilter, TagFilterType, broken};

/// The pattern of one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TagPattern {
    Exact(Tag),
    Glob(String),
    /// The index into the regex set of the list, and the text of the filter.
    Regex(usize, String),
    Semver(VersionRange),
}

impl TagPattern {
    /// Parses a filter. A regular expression is added to `expressions`.
    pub(super) fn parse(filter: &TagFilter, expressions: &mut Vec<String>) -> Result<Self, FilterProblem> {
        let text = &filter.filter;
        if text.is_empty() || text.len() > MAX_TAG_FILTER {
            return Err(FilterProblem::Length);
        }
        if let Some(message) = broken(&TAG_FILTER_RULES, filter) {
            return Err(FilterProblem::Rule(message));
        }
        Ok(match filter.filter_type {
            TagFilterType::ExactMatch => Self::Exact(text.parse().map_err(FilterProblem::Tag)?),
            TagFilterType::GlobMatch => Self::Glob(text.clone()),
            TagFilterType::RegexMatch => {
                check_expression(text, MAX_COMPILED).map_err(FilterProblem::Expression)?;
                expressions.push(text.clone());
                Self::Regex(expressions.len() - 1, text.clone())
            }
            TagFilterType::SemverMatch => Self::Semver(VersionRange::parse(text, filter.version_syntax)?),
        })
    }
}

/// The filter as a user wrote it: its type and its text.
impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(tag) => write!(f, "EXACT_MATCH {tag}"),
            Self::Glob(pattern) => write!(f, "GLOB_MATCH {pattern}"),
            Self::Regex(_, text) => write!(f, "REGEX_MATCH {text}"),
            Self::Semver(range) => write!(f, "SEMVER_MATCH {range}"),
        }
    }
}

/// A tag with everything that the patterns of a list compare.
pub(super) struct Candidate<'a> {
    tag: &'a Tag,
    version: Option<TagVersion>,
    expressions: Option<SetMatches>,
}

impl<'a> Candidate<'a> {
    /// Prepares `tag` for `patterns`: the version and the regular expressions are computed once, and only if a pattern
    /// needs them.
    pub(super) fn new(tag: &'a Tag, patterns: &Patterns<TagPattern>) -> Self {
        let text = tag.as_str();
        let is_versioned = patterns.all.iter().any(|pattern| matches!(pattern, TagPattern::Semver(..)));
        Self { tag, version: is_versioned.then(|| TagVersion::of(text)), expressions: patterns.expressions(text) }
    }

    /// Returns true if `pattern` matches the whole tag.
    pub(super) fn matches(&self, pattern: &TagPattern) -> bool {
        match pattern {
            TagPattern::Exact(wanted) => wanted == self.tag,
            TagPattern::Glob(pattern) => wildcard_matches(pattern, self.tag.as_str()),
            TagPattern::Regex(index, _) => self.expressions.as_ref().is_some_and(|found| found.matched(*index)),
            TagPattern::Semver(range) => self.version.as_ref().is_some_and(|version| range.takes(version)),
        }
    }
}

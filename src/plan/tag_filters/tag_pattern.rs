//! The pattern of one filter of tags, and the regular expressions of a list.

use std::fmt;

use regex::bytes::{RegexSet, RegexSetBuilder};
use semver::{Comparator, Version, VersionReq};

use super::tag_filter_error::{FilterProblem, MAX_COMPILED};
use crate::image::Tag;
use crate::policy::wildcard_matches;
use crate::terms::{MAX_TAG_FILTER, TAG_FILTER_RULES, TagFilter, TagFilterType, broken};

/// The pattern of one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TagPattern {
    Exact(Tag),
    Glob(String),
    /// The index into the regex set of the list, and the text of the filter.
    Regex(usize, String),
    /// The range, and the text of the filter.
    Semver(VersionReq, String),
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
                check_expression(text).map_err(FilterProblem::Expression)?;
                expressions.push(text.clone());
                Self::Regex(expressions.len() - 1, text.clone())
            }
            TagFilterType::SemverMatch => {
                let range = parse_range(text).map_err(FilterProblem::Range)?;
                if is_empty(&range) {
                    return Err(FilterProblem::Rule(EMPTY_RANGE));
                }
                Self::Semver(range, text.clone())
            }
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
            Self::Semver(_, text) => write!(f, "SEMVER_MATCH {text}"),
        }
    }
}

/// A tag with everything that the patterns of a list compare.
pub(super) struct Candidate<'a> {
    tag: &'a Tag,
    version: Option<Version>,
    expressions: Option<regex::bytes::SetMatches>,
}

impl<'a> Candidate<'a> {
    /// Prepares `tag` for `patterns`: the version and the regular expressions are computed once, and only if a pattern
    /// needs them.
    pub(super) fn new(tag: &'a Tag, patterns: &[TagPattern], expressions: &RegexSet) -> Self {
        let text = tag.as_str();
        let is_versioned = patterns.iter().any(|pattern| matches!(pattern, TagPattern::Semver(..)));
        Self {
            tag,
            version: if is_versioned { version_of(text) } else { None },
            expressions: (!expressions.is_empty()).then(|| expressions.matches(text.as_bytes())),
        }
    }

    /// Returns true if `pattern` matches the whole tag.
    pub(super) fn matches(&self, pattern: &TagPattern) -> bool {
        match pattern {
            TagPattern::Exact(wanted) => wanted == self.tag,
            TagPattern::Glob(pattern) => wildcard_matches(pattern, self.tag.as_str()),
            TagPattern::Regex(index, _) => self.expressions.as_ref().is_some_and(|found| found.matched(*index)),
            TagPattern::Semver(range, _) => self.version.as_ref().is_some_and(|version| range.matches(version)),
        }
    }
}

/// Checks that `text` is an expression by itself: `a)(b` is one only between the parentheses that we add.
fn check_expression(text: &String) -> Result<(), regex::Error> {
    build_set([text])?;
    whole_tag_set(std::slice::from_ref(text)).map(drop)
}

/// Builds expressions that match whole tags. Tags are ASCII, so that a class needs no table of Unicode.
pub(super) fn whole_tag_set(texts: &[String]) -> Result<RegexSet, regex::Error> {
    build_set(texts.iter().map(|text| format!(r"\A(?:{text})\z")))
}

fn build_set(texts: impl IntoIterator<Item = impl AsRef<str>>) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(texts).unicode(false).size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).build()
}

/// Parses a range: comparators with commas or spaces between them.
fn parse_range(text: &str) -> Result<VersionReq, semver::Error> {
    let mut comparators: Vec<String> = Vec::new();
    let mut has_operator_only = false;
    for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
        match comparators.last_mut().filter(|_| has_operator_only) {
            Some(last) => last.push_str(part),
            None => comparators.push(part.to_owned()),
        }
        has_operator_only = part.chars().all(|c| "<>=^~".contains(c));
    }
    comparators.join(", ").parse()
}

/// Returns true if no version is in `range`: none at its bounds, and none right behind them.
fn is_empty(range: &VersionReq) -> bool {
    let around = |comparator: &Comparator| {
        let (major, minor) = (comparator.major, comparator.minor.unwrap_or(0));
        let patch = comparator.patch.unwrap_or(0);
        let at = Version { pre: comparator.pre.clone(), ..Version::new(major, minor, patch) };
        let next = format!("{at}.0").parse().ok().filter(|_| !at.pre.is_empty());
        let behind = [
            (major, minor, patch),
            (major, minor, patch.saturating_add(1)),
            (major, minor.saturating_add(1), 0),
            (major.saturating_add(1), 0, 0),
        ];
        let behind = behind.map(|(major, minor, patch)| Version::new(major, minor, patch));
        behind.into_iter().chain([at]).chain(next).collect::<Vec<_>>()
    };
    let candidates = range.comparators.iter().flat_map(around).chain([Version::new(0, 0, 0)]);
    candidates.into_iter().all(|version| !range.matches(&version))
}

const EMPTY_RANGE: &str = "filter is a range that no version is in: correct its bounds";

/// Returns the version in a tag, with or without `v` in front.
fn version_of(tag: &str) -> Option<Version> {
    Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

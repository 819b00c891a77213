//! The pattern of one filter of tags.

use std::cell::OnceCell;
use std::fmt;

use super::tag_filter_error::FilterProblem;
use super::version_range::{TagVersion, VersionRange};
use crate::image::Tag;
use crate::plan::expression::{Expression, PatternRoom};
use crate::plan::tag_glob::{TagGlob, TagPlaces};
use crate::terms::{MAX_TAG_FILTER, TAG_FILTER_RULES, TagFilter, TagFilterType, broken};

/// The pattern of one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TagPattern {
    Exact(Tag),
    Glob(TagGlob),
    Regex(Expression),
    Semver(VersionRange),
}

impl TagPattern {
    /// Parses a filter, which takes its room among the patterns of the configuration.
    pub(super) fn parse(filter: &TagFilter, room: &mut PatternRoom) -> Result<Self, FilterProblem> {
        let text = &filter.filter;
        if text.is_empty() || text.len() > MAX_TAG_FILTER {
            return Err(FilterProblem::Length);
        }
        if let Some(message) = broken(&TAG_FILTER_RULES, filter) {
            return Err(FilterProblem::Rule(message));
        }
        Ok(match filter.filter_type {
            TagFilterType::ExactMatch => Self::Exact(text.parse().map_err(FilterProblem::Tag)?),
            TagFilterType::GlobMatch => Self::Glob(TagGlob::parse(text, room)?),
            TagFilterType::RegexMatch => Self::Regex(Expression::regex(text, room)?),
            TagFilterType::SemverMatch => {
                let range = VersionRange::parse(text, filter.version_syntax)?;
                room.take(range.comparators().div_ceil(COMPARATORS_OF_A_PATTERN), 0)?;
                Self::Semver(range)
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
            Self::Regex(expression) => write!(f, "REGEX_MATCH {expression}"),
            Self::Semver(range) => write!(f, "SEMVER_MATCH {range}"),
        }
    }
}

/// A tag that is compared with patterns; what they need of it is read once.
pub struct ComparedTag<'a> {
    tag: &'a Tag,
    places: OnceCell<TagPlaces>,
    version: OnceCell<TagVersion>,
}

impl<'a> ComparedTag<'a> {
    /// Prepares `tag`.
    pub fn new(tag: &'a Tag) -> Self {
        Self { tag, places: OnceCell::new(), version: OnceCell::new() }
    }

    /// Returns the tag.
    pub fn tag(&self) -> &'a Tag {
        self.tag
    }

    /// Returns true if `pattern` matches the whole tag.
    pub(super) fn matches(&self, pattern: &TagPattern) -> bool {
        match pattern {
            TagPattern::Exact(wanted) => wanted == self.tag,
            TagPattern::Glob(glob) => glob.matches(self.places.get_or_init(|| TagPlaces::new(self.tag))),
            TagPattern::Regex(expression) => expression.matches(self.tag.as_str()),
            TagPattern::Semver(range) => range.takes(self.version.get_or_init(|| TagVersion::of(self.tag.as_str()))),
        }
    }
}

/// The comparators of versions that take as long as one automaton.
const COMPARATORS_OF_A_PATTERN: usize = 4;

//! The tags that a rule takes: its filters, parsed, and the cause for which a tag is excluded.

mod tag_filter_error;
mod tag_pattern;

use regex::bytes::RegexSet;

pub use self::tag_filter_error::{FilterProblem, TagFilterError};
use self::tag_pattern::{Candidate, TagPattern, whole_tag_set};
use crate::image::Tag;
use crate::terms::{MAX_FILTERS, TagFilter};

/// The filters of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagFilters {
    /// Takes the tags that one of these matches; `None` takes every tag.
    include: Option<TagPatterns>,
    /// Excludes the tags that one of these matches.
    exclude: TagPatterns,
}

/// Patterns as alternatives: a tag matches the list if it matches one of them.
#[derive(Clone, Debug, Default)]
struct TagPatterns {
    all: Vec<TagPattern>,
    /// The regular expressions among them, which share one bound of memory.
    expressions: RegexSet,
}

impl TagFilters {
    /// Parses the filters of a rule.
    ///
    /// # Errors
    /// [`TagFilterError`], whose message begins with the name of the field.
    pub fn parse(include: Option<&[TagFilter]>, exclude: &[TagFilter]) -> Result<Self, TagFilterError> {
        let include = include.map(|filters| TagPatterns::parse("tagFilters", filters)).transpose()?;
        if include.as_ref().is_some_and(|filters| filters.all.is_empty()) {
            return Err(TagFilterError::Empty);
        }
        Ok(Self { include, exclude: TagPatterns::parse("excludeTagFilters", exclude)? })
    }

    /// Returns true if `tag` is taken.
    pub fn takes(&self, tag: &Tag) -> bool {
        self.cause(tag).is_none()
    }

    /// Returns the cause for which `tag` is excluded, as a number under [`TagFilters::causes`]; `None` if it is taken.
    pub fn cause(&self, tag: &Tag) -> Option<usize> {
        if self.include.as_ref().is_some_and(|filters| filters.first(tag).is_none()) {
            return Some(0);
        }
        self.exclude.first(tag).map(|index| index + 1)
    }

    /// Returns the number of different causes.
    pub fn causes(&self) -> usize {
        1 + self.exclude.all.len()
    }

    /// Describes a cause: no filter matches, or one excludes the tag.
    pub fn describe(&self, cause: usize) -> String {
        match cause.checked_sub(1).and_then(|index| self.exclude.all.get(index)) {
            Some(pattern) => format!("excludeTagFilters has {pattern}"),
            None => {
                let patterns = self.include.iter().flat_map(|filters| &filters.all);
                let mut named: Vec<String> = patterns.clone().take(MAX_NAMED).map(ToString::to_string).collect();
                if patterns.clone().nth(MAX_NAMED).is_some() {
                    named.push("…".to_owned());
                }
                format!("tagFilters has only {}", named.join(", "))
            }
        }
    }
}

impl TagPatterns {
    fn parse(field: &'static str, filters: &[TagFilter]) -> Result<Self, TagFilterError> {
        if filters.len() > MAX_FILTERS {
            return Err(TagFilterError::TooMany { field });
        }
        let (mut all, mut expressions) = (Vec::with_capacity(filters.len()), Vec::new());
        for (index, filter) in filters.iter().enumerate() {
            let pattern = TagPattern::parse(filter, &mut expressions);
            all.push(pattern.map_err(|problem| {
                let text = filter.filter.clone();
                TagFilterError::Unusable { field, index, text, problem }
            })?);
        }
        let expressions = whole_tag_set(&expressions).map_err(|_| TagFilterError::Expressions { field })?;
        Ok(Self { all, expressions })
    }

    /// Returns the index of the first pattern that matches.
    fn first(&self, tag: &Tag) -> Option<usize> {
        if self.all.is_empty() {
            return None;
        }
        let candidate = Candidate::new(tag, &self.all, &self.expressions);
        self.all.iter().position(|pattern| candidate.matches(pattern))
    }
}

/// The regex set follows from the patterns.
impl PartialEq for TagPatterns {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Eq for TagPatterns {}

/// The number of filters that a description names.
const MAX_NAMED: usize = 5;

#[cfg(test)]
mod tests;

//! The tags that a rule takes: its filters, parsed, and the cause for which a tag is excluded.

mod tag_filter_error;
mod tag_pattern;
mod version_range;

use self::tag_filter_error::MAX_COMPILED;
pub use self::tag_filter_error::{FilterProblem, TagFilterError};
use self::tag_pattern::{Candidate, TagPattern};
pub(super) use self::version_range::version_of;
use super::patterns::Patterns;
use crate::image::Tag;
use crate::terms::{MAX_FILTERS, TagFilter};

/// The filters of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagFilters {
    /// Takes the tags that one of these matches; `None` takes every tag.
    include: Option<Patterns<TagPattern>>,
    /// Excludes the tags that one of these matches.
    exclude: Patterns<TagPattern>,
}

impl TagFilters {
    /// Parses the filters of a rule.
    ///
    /// # Errors
    /// [`TagFilterError`], whose message begins with the name of the field.
    pub fn parse(include: Option<&[TagFilter]>, exclude: &[TagFilter]) -> Result<Self, TagFilterError> {
        let include = include.map(|filters| parse_patterns("tagFilters", filters)).transpose()?;
        if include.as_ref().is_some_and(|filters| filters.all.is_empty()) {
            return Err(TagFilterError::Empty);
        }
        Ok(Self { include, exclude: parse_patterns("excludeTagFilters", exclude)? })
    }

    /// Returns true if `tag` is taken.
    pub fn takes(&self, tag: &Tag) -> bool {
        self.cause(tag).is_none()
    }

    /// Returns the number of filters that a tag is compared with at most.
    pub fn filters(&self) -> usize {
        self.include.as_ref().map_or(0, |filters| filters.all.len()) + self.exclude.all.len()
    }

    /// Returns the cause for which `tag` is excluded, as a number under [`TagFilters::causes`]; `None` if it is taken.
    pub fn cause(&self, tag: &Tag) -> Option<usize> {
        if self.include.as_ref().is_some_and(|filters| first(filters, tag).is_none()) {
            return Some(0);
        }
        first(&self.exclude, tag).map(|index| index + 1)
    }

    /// Marks in `used`, which has an entry for each of the `tagFilters`, those that match `tag`.
    pub fn mark_used(&self, tag: &Tag, used: &mut Vec<bool>) {
        let Some(filters) = &self.include else { return };
        used.resize(filters.all.len(), false);
        if used.iter().all(|is_used| *is_used) {
            return;
        }
        let candidate = Candidate::new(tag, filters);
        for (is_used, pattern) in used.iter_mut().zip(&filters.all) {
            *is_used = *is_used || candidate.matches(pattern);
        }
    }

    /// Describes the `tagFilters` that are not marked in `used`.
    pub fn unused(&self, used: &[bool]) -> impl Iterator<Item = String> {
        let patterns = self.include.iter().flat_map(|filters| &filters.all).zip(used);
        patterns.filter(|(_, is_used)| !**is_used).map(|(pattern, _)| pattern.to_string())
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

fn parse_patterns(field: &'static str, filters: &[TagFilter]) -> Result<Patterns<TagPattern>, TagFilterError> {
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
    Patterns::new(all, &expressions, MAX_COMPILED).map_err(|_| TagFilterError::Expressions { field })
}

/// Returns the index of the first pattern that matches.
fn first(patterns: &Patterns<TagPattern>, tag: &Tag) -> Option<usize> {
    if patterns.all.is_empty() {
        return None;
    }
    let candidate = Candidate::new(tag, patterns);
    patterns.all.iter().position(|pattern| candidate.matches(pattern))
}

/// The number of filters that a description names.
const MAX_NAMED: usize = 5;

#[cfg(test)]
mod tests;

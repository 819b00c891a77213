//! The tags that a rule takes: its filters, parsed, and the cause for which a tag is excluded.

mod tag_filter_error;
mod tag_pattern;
mod version_range;

use std::collections::BTreeMap;

pub use self::tag_filter_error::{FilterProblem, TagFilterError};
pub use self::tag_pattern::ComparedTag;
use self::tag_pattern::TagPattern;
pub(super) use self::version_range::version_of;
use super::expression::PatternRoom;
use crate::image::Tag;
use crate::terms::{MAX_FILTERS, TagFilter};

/// The filters of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagFilters {
    /// Takes the tags that one of these matches; `None` takes every tag.
    include: Option<FilterList>,
    /// Excludes the tags that one of these matches.
    exclude: FilterList,
}

/// A list of filters. Exact tags are looked up, whatever their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct FilterList {
    all: Vec<TagPattern>,
    /// Of each exact tag, the index of its first filter.
    exact: BTreeMap<Tag, usize>,
    /// The indices of the other filters.
    others: Vec<usize>,
}

impl TagFilters {
    /// Parses the filters of a rule, whose patterns take their `room` among those of the configuration.
    ///
    /// # Errors
    /// [`TagFilterError`], whose message begins with the name of the field.
    pub fn parse(
        include: Option<&[TagFilter]>,
        exclude: &[TagFilter],
        room: &mut PatternRoom,
    ) -> Result<Self, TagFilterError> {
        let include = include.map(|filters| parse_list("tagFilters", filters, room)).transpose()?;
        if include.as_ref().is_some_and(|filters| filters.all.is_empty()) {
            return Err(TagFilterError::Empty);
        }
        Ok(Self { include, exclude: parse_list("excludeTagFilters", exclude, room)? })
    }

    /// Returns true if `tag` is taken.
    pub fn takes(&self, tag: &ComparedTag<'_>) -> bool {
        self.cause(tag).is_none()
    }

    /// Returns the number of filters that a tag is compared with at most.
    pub fn filters(&self) -> usize {
        self.include.as_ref().map_or(0, |filters| filters.all.len()) + self.exclude.all.len()
    }

    /// Returns the cause for which `tag` is excluded, as a number under [`TagFilters::causes`]; `None` if it is taken.
    pub fn cause(&self, tag: &ComparedTag<'_>) -> Option<usize> {
        if self.include.as_ref().is_some_and(|filters| filters.first(tag).is_none()) {
            return Some(0);
        }
        self.exclude.first(tag).map(|index| index + 1)
    }

    /// Marks in `used`, which has an entry for each of the `tagFilters`, those that match `tag`.
    pub fn mark_used(&self, tag: &ComparedTag<'_>, used: &mut Vec<bool>) {
        let Some(filters) = &self.include else { return };
        used.resize(filters.all.len(), false);
        if used.iter().all(|is_used| *is_used) {
            return;
        }
        for (is_used, pattern) in used.iter_mut().zip(&filters.all) {
            *is_used = *is_used || tag.matches(pattern);
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

impl FilterList {
    /// Returns the index of the first filter that matches.
    fn first(&self, tag: &ComparedTag<'_>) -> Option<usize> {
        let exact = if self.exact.is_empty() { None } else { self.exact.get(tag.tag()).copied() };
        let before = self.others.iter().copied().take_while(|index| exact.is_none_or(|exact| *index < exact));
        before.into_iter().find(|index| tag.matches(&self.all[*index])).or(exact)
    }
}

fn parse_list(
    field: &'static str,
    filters: &[TagFilter],
    room: &mut PatternRoom,
) -> Result<FilterList, TagFilterError> {
    if filters.len() > MAX_FILTERS {
        return Err(TagFilterError::TooMany { field });
    }
    let mut list = FilterList::default();
    for (index, filter) in filters.iter().enumerate() {
        let pattern = TagPattern::parse(filter, room);
        let pattern = pattern.map_err(|problem| {
            let text = filter.filter.clone();
            TagFilterError::Unusable { field, index, text, problem }
        })?;
        match &pattern {
            TagPattern::Exact(tag) => drop(list.exact.entry(tag.clone()).or_insert(index)),
            _ => list.others.push(index),
        }
        list.all.push(pattern);
    }
    Ok(list)
}

/// The number of filters that a description names.
const MAX_NAMED: usize = 5;

#[cfg(test)]
mod tests;

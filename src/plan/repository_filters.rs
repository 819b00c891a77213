//! The repositories that a rule takes: its filters, parsed, and the reason for each decision.

mod repository_pattern;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Bound;

use self::repository_pattern::RepositoryPattern;
use super::expression::PatternRoom;
use super::spec_error::{SpecError, check_field};
use crate::image::RepositoryName;
use crate::terms::{MAX_FILTERS, REPOSITORY_FILTER_RULES, RepositoryFilter};

/// The filters of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepositoryFilters {
    /// Takes the repositories that one of these matches; `None` takes every repository.
    include: Option<Vec<RepositoryPattern>>,
    /// Excludes the repositories that one of these matches.
    exclude: Vec<RepositoryPattern>,
}

impl RepositoryFilters {
    /// Parses the filters of the rule at `field`, whose patterns take their `room` among those of the configuration.
    ///
    /// # Errors
    /// [`SpecError`] names the field and the remedy.
    pub fn parse(
        field: &str,
        include: Option<&[RepositoryFilter]>,
        exclude: &[RepositoryFilter],
        room: &mut PatternRoom,
    ) -> Result<Self, SpecError> {
        if include.is_some_and(<[_]>::is_empty) {
            let message = format!("{field}.repositoryFilters is empty: remove it to take every repository");
            return Err(SpecError::invalid(message));
        }
        let exclude = parse_patterns(&format!("{field}.excludeRepositoryFilters"), exclude, room)?;
        let include = include.map(|filters| parse_patterns(&format!("{field}.repositoryFilters"), filters, room));
        Ok(Self { include: include.transpose()?, exclude })
    }

    /// Returns true if `repository` is taken.
    pub fn takes(&self, repository: &RepositoryName) -> bool {
        let is_included = self.include.as_ref().is_none_or(|filters| first(filters, repository).is_some());
        is_included && first(&self.exclude, repository).is_none()
    }

    /// Returns the number of filters that a repository is compared with at most.
    pub fn filters(&self) -> usize {
        self.include.as_ref().map_or(0, Vec::len) + self.exclude.len()
    }

    /// Explains why `repository` is taken; `None` if it is not.
    pub fn because(&self, repository: &RepositoryName) -> Option<String> {
        if first(&self.exclude, repository).is_some() {
            return None;
        }
        match &self.include {
            None => Some("takes every repository".to_owned()),
            Some(filters) => {
                let pattern = first(filters, repository)?;
                let beyond = if pattern.goes_beyond_its_segment(repository) {
                    ", which also takes names that go on after it"
                } else {
                    ""
                };
                Some(format!("{pattern}{beyond}"))
            }
        }
    }

    /// Describes the patterns that match none of `repositories`. Names that are given exactly are no patterns.
    pub fn unused(&self, repositories: &BTreeSet<RepositoryName>) -> Vec<String> {
        let Some(filters) = &self.include else { return Vec::new() };
        let is_used = |pattern: &RepositoryPattern| match pattern {
            RepositoryPattern::Exact(_) => true,
            RepositoryPattern::Prefix(prefix) => beginning_with(repositories, prefix).next().is_some(),
            other => repositories.iter().any(|name| other.matches(name)),
        };
        filters.iter().filter(|pattern| !is_used(pattern)).map(ToString::to_string).collect()
    }

    /// Returns the prefixes that also take one of `repositories` whose name goes on within their last word, each with
    /// the first of these; not all of them where many are excluded.
    pub fn beyond<'a>(&self, repositories: &'a BTreeSet<RepositoryName>) -> Vec<(String, &'a RepositoryName)> {
        let mut left = MAX_LOOKED_AT;
        let beyond = self.include.iter().flatten().filter_map(|pattern| {
            let mut names = pattern.beyond_its_segment(repositories).take_while(|_| {
                left = left.saturating_sub(1);
                left > 0
            });
            Some((pattern.to_string(), names.find(|name| self.takes(name))?))
        });
        beyond.collect()
    }

    /// Returns false if every repository is taken that is not excluded.
    pub fn has_patterns(&self) -> bool {
        self.include.is_some()
    }

    /// Explains why `repository` is not taken; meaningful only then.
    pub fn why_not(&self, repository: &RepositoryName) -> String {
        match first(&self.exclude, repository) {
            Some(pattern) => format!("excludeRepositoryFilters has {pattern}"),
            None => {
                let patterns = self.include.iter().flatten();
                patterns.map(ToString::to_string).collect::<Vec<_>>().join(" or ")
            }
        }
    }

    /// Returns true if the repositories of the source must be listed: unless each is named exactly.
    pub fn needs_listing(&self) -> bool {
        let is_exact = |pattern: &RepositoryPattern| matches!(pattern, RepositoryPattern::Exact(_));
        self.include.as_ref().is_none_or(|filters| !filters.iter().all(is_exact))
    }

    /// Returns the repositories that are named exactly and not excluded.
    pub fn exact(&self) -> impl Iterator<Item = &RepositoryName> {
        let names = self.include.iter().flatten().filter_map(|pattern| match pattern {
            RepositoryPattern::Exact(name) => Some(name),
            _ => None,
        });
        names.filter(|name| first(&self.exclude, name).is_none())
    }
}

fn parse_patterns(
    field: &str,
    filters: &[RepositoryFilter],
    room: &mut PatternRoom,
) -> Result<Vec<RepositoryPattern>, SpecError> {
    if filters.len() > MAX_FILTERS {
        return Err(SpecError::invalid(format!("{field} has more than {MAX_FILTERS} filters")));
    }
    let parse = |(index, filter): (usize, &RepositoryFilter)| {
        let field = format!("{field}[{index}]");
        check_field(&REPOSITORY_FILTER_RULES, filter, &field)?;
        let pattern = RepositoryPattern::parse(filter, room);
        pattern.map_err(|problem| SpecError::invalid(format!("{field}: {:?} {problem}", filter.filter)))
    };
    filters.iter().enumerate().map(parse).collect()
}

fn beginning_with<'a>(
    repositories: &'a BTreeSet<RepositoryName>,
    prefix: &str,
) -> impl Iterator<Item = &'a RepositoryName> {
    let names = repositories.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
    names.take_while(move |name| name.as_str().starts_with(prefix))
}

/// The names that the prefixes of one rule are compared with for a remark.
const MAX_LOOKED_AT: usize = 10_000;

/// Returns the first pattern that matches.
fn first<'a>(patterns: &'a [RepositoryPattern], repository: &RepositoryName) -> Option<&'a RepositoryPattern> {
    patterns.iter().find(|pattern| pattern.matches(repository))
}

//! The repositories that a rule takes: its filters, parsed, and the reason for each decision.

mod repository_pattern;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use self::repository_pattern::{MAX_COMPILED, RepositoryPattern};
use super::patterns::Patterns;
use super::spec_error::{SpecError, check_field};
use crate::image::RepositoryName;
use crate::terms::{MAX_FILTERS, REPOSITORY_FILTER_RULES, RepositoryFilter};

/// The filters of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepositoryFilters {
    /// Takes the repositories that one of these matches; `None` takes every repository.
    include: Option<Patterns<RepositoryPattern>>,
    /// Excludes the repositories that one of these matches.
    exclude: Patterns<RepositoryPattern>,
}

impl RepositoryFilters {
    /// Parses the filters of the rule at `field`.
    ///
    /// # Errors
    /// [`SpecError`] names the field and the remedy.
    pub fn parse(
        field: &str,
        include: Option<&[RepositoryFilter]>,
        exclude: &[RepositoryFilter],
    ) -> Result<Self, SpecError> {
        if include.is_some_and(<[_]>::is_empty) {
            let message = format!("{field}.repositoryFilters is empty: remove it to take every repository");
            return Err(SpecError::invalid(message));
        }
        let exclude = parse_patterns(&format!("{field}.excludeRepositoryFilters"), exclude)?;
        let include = include.map(|filters| parse_patterns(&format!("{field}.repositoryFilters"), filters));
        Ok(Self { include: include.transpose()?, exclude })
    }

    /// Returns true if `repository` is taken.
    pub fn takes(&self, repository: &RepositoryName) -> bool {
        let is_included = self.include.as_ref().is_none_or(|filters| first(filters, repository).is_some());
        is_included && first(&self.exclude, repository).is_none()
    }

    /// Returns the number of filters that a repository is compared with at most.
    pub fn filters(&self) -> usize {
        self.include.as_ref().map_or(0, |filters| filters.all.len()) + self.exclude.all.len()
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
        let is_used = |pattern: &RepositoryPattern| {
            let is_match = |name: &RepositoryName| pattern.matches(name, filters.expressions(name.as_str()).as_ref());
            matches!(pattern, RepositoryPattern::Exact(_)) || repositories.iter().any(is_match)
        };
        filters.all.iter().filter(|pattern| !is_used(pattern)).map(ToString::to_string).collect()
    }

    /// Returns the prefixes that also take one of `repositories` whose name goes on within their last word, each with
    /// the first of these.
    pub fn beyond<'a>(&self, repositories: &'a BTreeSet<RepositoryName>) -> Vec<(String, &'a RepositoryName)> {
        let patterns = self.include.iter().flat_map(|filters| &filters.all);
        let beyond = patterns.filter_map(|pattern| {
            let is_beyond = |name: &&RepositoryName| pattern.goes_beyond_its_segment(name) && self.takes(name);
            Some((pattern.to_string(), repositories.iter().find(is_beyond)?))
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
                let patterns = self.include.iter().flat_map(|filters| &filters.all);
                patterns.map(ToString::to_string).collect::<Vec<_>>().join(" or ")
            }
        }
    }

    /// Returns true if the repositories of the source must be listed: unless each is named exactly.
    pub fn needs_listing(&self) -> bool {
        let is_exact = |pattern: &RepositoryPattern| matches!(pattern, RepositoryPattern::Exact(_));
        self.include.as_ref().is_none_or(|filters| !filters.all.iter().all(is_exact))
    }

    /// Returns the repositories that are named exactly and not excluded.
    pub fn exact(&self) -> impl Iterator<Item = &RepositoryName> {
        let names = self.include.iter().flat_map(|filters| &filters.all).filter_map(|pattern| match pattern {
            RepositoryPattern::Exact(name) => Some(name),
            _ => None,
        });
        names.filter(|name| first(&self.exclude, name).is_none())
    }
}

fn parse_patterns(field: &str, filters: &[RepositoryFilter]) -> Result<Patterns<RepositoryPattern>, SpecError> {
    if filters.len() > MAX_FILTERS {
        return Err(SpecError::invalid(format!("{field} has more than {MAX_FILTERS} filters")));
    }
    let (mut all, mut expressions) = (Vec::with_capacity(filters.len()), Vec::new());
    for (index, filter) in filters.iter().enumerate() {
        let field = format!("{field}[{index}]");
        check_field(&REPOSITORY_FILTER_RULES, filter, &field)?;
        let pattern = RepositoryPattern::parse(filter, &mut expressions);
        all.push(pattern.map_err(|problem| SpecError::invalid(format!("{field}: {:?} {problem}", filter.filter)))?);
    }
    Patterns::new(all, &expressions, MAX_COMPILED).map_err(|_| {
        SpecError::invalid(format!(
            "{field}: its patterns and regular expressions together take over {MAX_COMPILED} bytes: make them simpler or fewer"
        ))
    })
}

/// Returns the first pattern that matches.
fn first<'a>(patterns: &'a Patterns<RepositoryPattern>, repository: &RepositoryName) -> Option<&'a RepositoryPattern> {
    if patterns.all.is_empty() {
        return None;
    }
    let expressions = patterns.expressions(repository.as_str());
    patterns.all.iter().find(|pattern| pattern.matches(repository, expressions.as_ref()))
}

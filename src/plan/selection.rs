//! Which repositories go where: the filters of the rules, and why a repository matched or not.

use super::{CopyOptions, DestinationReference};
use crate::image::{RepositoryName, Tag};
use crate::policy::wildcard_matches;

/// The rules of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// In the order of the spec; the order decides nothing.
    pub rules: Vec<Rule>,
}

/// Which repositories go to which destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name of the rule.
    pub name: String,
    /// `None` takes every repository; otherwise one of them has to match.
    pub filters: Option<Vec<Filter>>,
    /// Where they go.
    pub destinations: Vec<DestinationReference>,
    /// How their images are copied.
    pub options: CopyOptions,
    /// Patterns of tags that are promised never to move.
    pub immutable_tags: Vec<String>,
}

/// A filter of repository names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The whole name.
    Exact(RepositoryName),
    /// The beginning of the name, character by character, as ECR's PREFIX_MATCH.
    Prefix(String),
}

/// Where one repository goes, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The destination.
    pub destination: DestinationReference,
    /// The rule that says so (the first of them) and its filter, for people.
    pub because: String,
    /// How images are copied there: as the first of the rules says.
    pub options: CopyOptions,
}

impl Selection {
    /// Where `repository` goes: the union of the destinations of all rules that match it, each once. Empty if none does.
    pub fn matches(&self, repository: &RepositoryName) -> Vec<Match> {
        let mut found: Vec<Match> = Vec::new();
        for rule in &self.rules {
            let Some(because) = rule.because(repository) else {
                continue;
            };
            for destination in &rule.destinations {
                if !found.iter().any(|m| m.destination == *destination) {
                    found.push(Match {
                        destination: destination.clone(),
                        because: because.clone(),
                        options: rule.options.clone(),
                    });
                }
            }
        }
        found
    }

    /// Whether any rule promises anything of tags.
    pub fn has_promises(&self) -> bool {
        self.rules.iter().any(|rule| !rule.immutable_tags.is_empty())
    }

    /// Whether some rule that matches `repository` promises that `tag` never moves.
    pub fn is_immutable(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        let promises = |rule: &Rule| rule.immutable_tags.iter().any(|pattern| wildcard_matches(pattern, tag.as_str()));
        self.rules.iter().any(|rule| promises(rule) && rule.because(repository).is_some())
    }

    /// Whether the repositories of the source have to be listed: unless every rule names them exactly.
    pub fn needs_listing(&self) -> bool {
        self.rules.iter().any(|rule| match &rule.filters {
            None => true,
            Some(filters) => filters.iter().any(|filter| matches!(filter, Filter::Prefix(_))),
        })
    }

    /// The repositories that are named exactly, each once.
    pub fn exact_repositories(&self) -> Vec<&RepositoryName> {
        let mut names: Vec<_> = self
            .rules
            .iter()
            .flat_map(|rule| rule.filters.iter().flatten())
            .filter_map(|filter| match filter {
                Filter::Exact(name) => Some(name),
                Filter::Prefix(_) => None,
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Every destination, each once.
    pub fn destinations(&self) -> Vec<&DestinationReference> {
        let mut destinations: Vec<_> = self.rules.iter().flat_map(|rule| &rule.destinations).collect();
        destinations.sort();
        destinations.dedup();
        destinations
    }

    /// Why `repository` goes nowhere, for people.
    pub fn why_not(&self, repository: &RepositoryName) -> String {
        match self.rules.len() {
            0 => "the configuration has no rules".to_owned(),
            _ => {
                let rules: Vec<_> =
                    self.rules.iter().map(|rule| format!("{} ({})", rule.name, rule.filters_for_people())).collect();
                format!("{repository} matches no filter of {}", rules.join(", "))
            }
        }
    }
}

impl Rule {
    fn because(&self, repository: &RepositoryName) -> Option<String> {
        match &self.filters {
            None => Some(format!("rule {} takes every repository", self.name)),
            Some(filters) => {
                let filter = filters.iter().find(|filter| filter.matches(repository))?;
                Some(format!("rule {}: {}", self.name, filter.for_people()))
            }
        }
    }

    fn filters_for_people(&self) -> String {
        let filters: Vec<_> = self.filters.iter().flatten().map(Filter::for_people).collect();
        filters.join(" or ")
    }
}

impl Filter {
    fn matches(&self, repository: &RepositoryName) -> bool {
        match self {
            Self::Exact(name) => name == repository,
            Self::Prefix(prefix) => repository.as_str().starts_with(prefix.as_str()),
        }
    }

    fn for_people(&self) -> String {
        match self {
            Self::Exact(name) => format!("EXACT_MATCH {name}"),
            Self::Prefix(prefix) => format!("PREFIX_MATCH {prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(name: &str) -> DestinationReference {
        DestinationReference { namespace: "team-a".to_owned(), name: name.to_owned() }
    }

    fn rule(name: &str, filters: Option<Vec<Filter>>, destinations: &[&str]) -> Rule {
        let destinations = destinations.iter().map(|d| destination(d)).collect();
        Rule {
            name: name.to_owned(),
            filters,
            destinations,
            options: CopyOptions::default(),
            immutable_tags: Vec::new(),
        }
    }

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_is_compared_character_by_character_as_in_ecr() {
        let selection = Selection { rules: vec![rule("r", Some(vec![Filter::Prefix("prod".into())]), &["d"])] };
        for taken in ["prod", "prod-a", "production/x", "prod/y"] {
            assert_eq!(selection.matches(&name(taken)).len(), 1, "{taken}");
        }
        for left in ["pro", "team/prod", "preprod"] {
            assert!(selection.matches(&name(left)).is_empty(), "{left}");
        }
    }

    #[test]
    fn several_filters_are_alternatives_and_several_rules_a_union() {
        let selection = Selection {
            rules: vec![
                rule("one", Some(vec![Filter::Exact(name("a")), Filter::Prefix("b".into())]), &["x", "y"]),
                rule("two", None, &["y", "z"]),
            ],
        };
        let names: Vec<_> = selection.matches(&name("b1")).into_iter().map(|m| m.destination.name).collect();
        assert_eq!(names, ["x", "y", "z"]);
        let names: Vec<_> = selection.matches(&name("c")).into_iter().map(|m| m.destination.name).collect();
        assert_eq!(names, ["y", "z"]);
    }

    #[test]
    fn exact_names_alone_need_no_listing() {
        let exact = rule("r", Some(vec![Filter::Exact(name("a"))]), &["d"]);
        assert!(!Selection { rules: vec![exact.clone()] }.needs_listing());
        assert!(Selection { rules: vec![exact.clone(), rule("all", None, &["d"])] }.needs_listing());
        assert!(!Selection::default().needs_listing());
        assert_eq!(Selection { rules: vec![exact.clone(), exact] }.exact_repositories(), [&name("a")]);
    }

    #[test]
    fn a_promise_holds_for_the_repositories_of_its_rule() {
        let mut promising = rule("r", Some(vec![Filter::Prefix("prod".into())]), &["d"]);
        promising.immutable_tags = vec!["v?.*".into(), "stable".into()];
        let selection = Selection { rules: vec![rule("all", None, &["d"]), promising] };
        let is_immutable =
            |repository: &str, tag: &str| selection.is_immutable(&name(repository), &tag.parse().unwrap());
        assert!(is_immutable("prod-a", "v1.2") && is_immutable("prod-a", "stable"));
        assert!(!is_immutable("prod-a", "latest") && !is_immutable("prod-a", "v12") && !is_immutable("dev", "v1.2"));
    }

    #[test]
    fn the_reason_names_rule_and_filter() {
        let selection = Selection { rules: vec![rule("r", Some(vec![Filter::Prefix("prod".into())]), &["d"])] };
        assert_eq!(selection.matches(&name("prod1"))[0].because, "rule r: PREFIX_MATCH prod");
        assert_eq!(selection.why_not(&name("dev")), "dev matches no filter of r (PREFIX_MATCH prod)");
    }
}

//! The rules of a configuration: where repositories and tags go, and why.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::deletion::DeletionBrake;
use super::destination_template::{DestinationTemplate, TemplateError};
use super::namespaced_name::NamespacedName;
use super::options::CopyOptions;
use super::repository_filters::RepositoryFilters;
use super::tag_filters::TagFilters;
use crate::image::{RepositoryName, Tag, is_referrer_tag};
use crate::policy::wildcard_matches;

/// The rules of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The rules in the order of the spec. Only for copy options the order matters.
    pub rules: Vec<Rule>,
}

/// A rule: which repositories and tags go to which destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name of the rule.
    pub name: String,
    /// The filters of repositories.
    pub repositories: RepositoryFilters,
    /// The filters of tags.
    pub tags: Arc<TagFilters>,
    /// The destinations.
    pub destinations: Vec<RuleTarget>,
    /// The parts of images that are copied.
    pub options: CopyOptions,
    /// The brake of deletions at the destinations; `None` to delete nothing.
    pub deletion: Option<DeletionBrake>,
    /// Patterns of tags that are promised never to move.
    pub immutable_tags: Vec<String>,
}

/// A destination of a rule: a Registry, and the names that repositories have there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleTarget {
    /// The Registry.
    pub registry: NamespacedName,
    /// The template of the names.
    pub template: DestinationTemplate,
}

impl From<NamespacedName> for RuleTarget {
    /// Returns the destination where repositories keep their names.
    fn from(registry: NamespacedName) -> Self {
        Self { registry, template: DestinationTemplate::default() }
    }
}

/// A destination of one repository, with the rule that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The Registry of the destination.
    pub destination: NamespacedName,
    /// The name of the repository there.
    pub target: RepositoryName,
    /// The first rule that names the destination and its filter, as text for users.
    pub because: String,
    /// The parts of images that are copied there, by the first of the rules.
    pub options: CopyOptions,
    /// The brake of deletions there, by the first of the rules; `None` to delete nothing.
    pub deletion: Option<DeletionBrake>,
}

/// The tags that any of several rules takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagChoice {
    /// The names of the rules with their filters of tags.
    pub rules: Vec<(String, Arc<TagFilters>)>,
}

impl Selection {
    /// Returns the destinations of all rules that match `repository`, each once. A destination where it has no valid name
    /// is left out.
    pub fn matches(&self, repository: &RepositoryName) -> Vec<Match> {
        let mut found: Vec<Match> = Vec::new();
        for rule in &self.rules {
            let Some(because) = rule.because(repository) else {
                continue;
            };
            for RuleTarget { registry, template } in &rule.destinations {
                let Ok(target) = template.name_of(repository) else { continue };
                if !found.iter().any(|m| m.destination == *registry && m.target == target) {
                    let (destination, because, options) = (registry.clone(), because.clone(), rule.options.clone());
                    found.push(Match { destination, target, because, options, deletion: rule.deletion });
                }
            }
        }
        found
    }

    /// Returns the choice of the tags of `repository` that go to any destination.
    pub fn tags_of(&self, repository: &RepositoryName) -> TagChoice {
        let rules = self.rules.iter().filter(|rule| rule.takes(repository));
        TagChoice { rules: rules.map(|rule| (rule.name.clone(), rule.tags.clone())).collect() }
    }

    /// Returns the errors of the destinations where `repository` has no valid name, each once.
    pub fn template_errors(&self, repository: &RepositoryName) -> Vec<TemplateError> {
        let rules = self.rules.iter().filter(|rule| rule.has_templates() && rule.takes(repository));
        let targets = rules.flat_map(|rule| &rule.destinations);
        let mut errors: Vec<_> = targets.filter_map(|target| target.template.name_of(repository).err()).collect();
        errors.dedup();
        errors
    }

    /// Returns true if any rule gives repositories other names.
    pub fn has_templates(&self) -> bool {
        self.rules.iter().any(Rule::has_templates)
    }

    /// Returns true if `tag` of `repository` goes to the repository `target` of `destination`: a rule that sends the
    /// repository there takes it.
    pub fn takes(
        &self,
        repository: &RepositoryName,
        (destination, target): (&NamespacedName, &RepositoryName),
        tag: &Tag,
    ) -> bool {
        let is_there = |to: &RuleTarget| {
            to.registry == *destination && to.template.name_of(repository).is_ok_and(|name| name == *target)
        };
        let is_sent = |rule: &&Rule| rule.destinations.iter().any(is_there) && rule.takes(repository);
        self.rules.iter().filter(is_sent).any(|rule| rule.tags.takes(tag))
    }

    /// Returns true if any rule takes `repository`.
    pub fn takes_repository(&self, repository: &RepositoryName) -> bool {
        self.rules.iter().any(|rule| rule.takes(repository))
    }

    /// Returns true if a push of `tag` matters: a rule takes the image, or the tag may stand for a referrer.
    pub fn wants(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        let is_wanted = |rule: &Rule| rule.takes(repository) && (is_referrer_tag(tag) || rule.tags.takes(tag));
        self.rules.iter().any(is_wanted)
    }

    /// Returns true if any rule promises that tags never move.
    pub fn has_promises(&self) -> bool {
        self.rules.iter().any(|rule| !rule.immutable_tags.is_empty())
    }

    /// Returns true if a rule that matches `repository` promises that `tag` never moves.
    pub fn is_immutable(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        let promises = |rule: &Rule| rule.immutable_tags.iter().any(|pattern| wildcard_matches(pattern, tag.as_str()));
        self.rules.iter().any(|rule| promises(rule) && rule.takes(repository))
    }

    /// Returns true if the repositories of the source must be listed: unless every rule names them exactly.
    pub fn needs_listing(&self) -> bool {
        self.rules.iter().any(|rule| rule.repositories.needs_listing())
    }

    /// Names the filters of repositories that match none of those that a source lists, and the prefixes that also take names
    /// which go on within their last word.
    pub fn remarks_on_filters(&self, listed: &BTreeSet<RepositoryName>) -> Vec<String> {
        let of_rule = |rule: &Rule| {
            let unused = rule.repositories.unused(listed).into_iter();
            let unused = unused.map(|filter| format!("rule {}: {filter} matches no repository", rule.name));
            let beyond = rule.repositories.beyond(listed).into_iter().map(|(filter, name)| {
                format!("rule {}: {filter} also takes {name}: end it with / to stay within the segment", rule.name)
            });
            unused.chain(beyond).collect()
        };
        self.rules.iter().flat_map::<Vec<String>, _>(of_rule).collect()
    }

    /// Returns the repositories that are named exactly, each once.
    pub fn exact_repositories(&self) -> Vec<&RepositoryName> {
        let mut names: Vec<_> = self.rules.iter().flat_map(|rule| rule.repositories.exact()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Returns the Registry of every destination, each once.
    pub fn destinations(&self) -> Vec<&NamespacedName> {
        let targets = self.rules.iter().flat_map(|rule| &rule.destinations);
        let mut destinations: Vec<_> = targets.map(|target| &target.registry).collect();
        destinations.sort();
        destinations.dedup();
        destinations
    }

    /// Explains why `repository` goes nowhere.
    pub fn why_not(&self, repository: &RepositoryName) -> String {
        if let Some(error) = self.template_errors(repository).first() {
            return error.to_string();
        }
        match self.rules.len() {
            0 => "the configuration has no rules".to_owned(),
            _ => {
                let why_not = |rule: &Rule| format!("{} ({})", rule.name, rule.repositories.why_not(repository));
                let rules: Vec<_> = self.rules.iter().map(why_not).collect();
                format!("{repository} matches no filter of {}", rules.join(", "))
            }
        }
    }
}

impl TagChoice {
    /// Returns true if any rule takes `tag`.
    pub fn takes(&self, tag: &Tag) -> bool {
        self.rules.iter().any(|(_, filters)| filters.takes(tag))
    }

    /// Returns the cause of each rule for not taking `tag`; `None` if one takes it.
    pub fn why_not(&self, tag: &Tag) -> Option<Vec<usize>> {
        self.rules.iter().map(|(_, filters)| filters.cause(tag)).collect()
    }

    /// Describes the causes of [`TagChoice::why_not`].
    pub fn describe(&self, causes: &[usize]) -> String {
        let rules = self.rules.iter().zip(causes);
        let cause = |((name, filters), cause): (&(String, Arc<TagFilters>), &usize)| {
            format!("rule {name}: {}", filters.describe(*cause))
        };
        rules.map(cause).collect::<Vec<_>>().join("; ")
    }
}

impl Rule {
    fn has_templates(&self) -> bool {
        self.destinations.iter().any(|target| !target.template.keeps_names())
    }

    fn takes(&self, repository: &RepositoryName) -> bool {
        self.repositories.takes(repository)
    }

    fn because(&self, repository: &RepositoryName) -> Option<String> {
        let because = self.repositories.because(repository)?;
        let colon = if self.repositories.has_patterns() { ":" } else { "" };
        Some(format!("rule {}{colon} {because}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::RepositoryFilterType::{self, ExactMatch, PrefixMatch};
    use crate::terms::{RepositoryFilter, TagFilter, TagFilterType, VersionSyntax};

    fn destination(name: &str) -> NamespacedName {
        NamespacedName { namespace: "team-a".to_owned(), name: name.to_owned() }
    }

    fn rule(name: &str, filters: Option<&[(RepositoryFilterType, &str)]>, destinations: &[&str]) -> Rule {
        let filter = |(filter_type, text): &(RepositoryFilterType, &str)| RepositoryFilter {
            filter: (*text).to_owned(),
            filter_type: *filter_type,
        };
        let filters: Option<Vec<_>> = filters.map(|filters| filters.iter().map(filter).collect());
        let destinations = destinations.iter().map(|d| destination(d).into()).collect();
        Rule {
            name: name.to_owned(),
            repositories: RepositoryFilters::parse("spec.rules[r]", filters.as_deref(), &[]).unwrap(),
            tags: Arc::default(),
            destinations,
            options: CopyOptions::default(),
            deletion: None,
            immutable_tags: Vec::new(),
        }
    }

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn several_filters_are_alternatives_and_several_rules_a_union() {
        let selection = Selection {
            rules: vec![
                rule("one", Some(&[(ExactMatch, "aa"), (PrefixMatch, "bb")]), &["x", "y"]),
                rule("two", None, &["y", "z"]),
            ],
        };
        let names: Vec<_> = selection.matches(&name("bb1")).into_iter().map(|m| m.destination.name).collect();
        assert_eq!(names, ["x", "y", "z"]);
        let names: Vec<_> = selection.matches(&name("c")).into_iter().map(|m| m.destination.name).collect();
        assert_eq!(names, ["y", "z"]);
    }

    #[test]
    fn exact_names_alone_need_no_listing() {
        let exact = rule("r", Some(&[(ExactMatch, "aa")]), &["d"]);
        assert!(!Selection { rules: vec![exact.clone()] }.needs_listing());
        assert!(Selection { rules: vec![exact.clone(), rule("all", None, &["d"])] }.needs_listing());
        assert!(!Selection::default().needs_listing());
        assert_eq!(Selection { rules: vec![exact.clone(), exact] }.exact_repositories(), [&name("aa")]);
    }

    #[test]
    fn a_promise_holds_for_the_repositories_of_its_rule() {
        let mut promising = rule("r", Some(&[(PrefixMatch, "prod")]), &["d"]);
        promising.immutable_tags = vec!["v?.*".into(), "stable".into()];
        let selection = Selection { rules: vec![rule("all", None, &["d"]), promising] };
        let is_immutable =
            |repository: &str, tag: &str| selection.is_immutable(&name(repository), &tag.parse().unwrap());
        assert!(is_immutable("prod-a", "v1.2") && is_immutable("prod-a", "stable"));
        assert!(!is_immutable("prod-a", "latest") && !is_immutable("prod-a", "v12") && !is_immutable("dev", "v1.2"));
    }

    #[test]
    fn a_tag_goes_to_a_destination_if_a_rule_for_its_repository_takes_it() {
        let with_tags = |rule: Rule, filter_type, filter: &str| {
            let filter = TagFilter { filter: filter.to_owned(), filter_type, version_syntax: VersionSyntax::default() };
            Rule { tags: Arc::new(TagFilters::parse(Some(&[filter]), &[]).unwrap()), ..rule }
        };
        let releases = with_tags(rule("releases", None, &["x", "y"]), TagFilterType::SemverMatch, "*");
        let edge = with_tags(rule("edge", Some(&[(ExactMatch, "aa")]), &["y"]), TagFilterType::ExactMatch, "edge");
        let selection = Selection { rules: vec![releases, edge] };
        let taken = |repository: &str, tag: &str| {
            let (repository, tag) = (name(repository), tag.parse().unwrap());
            let taken =
                ["x", "y"].into_iter().filter(|d| selection.takes(&repository, (&destination(d), &repository), &tag));
            taken.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            (taken("aa", "v1.0.0"), taken("aa", "edge"), taken("aa", "x")),
            ("x y".into(), "y".into(), String::new())
        );
        assert_eq!(taken("b", "edge"), "");
        let wants = |repository: &str, tag: &str| selection.wants(&name(repository), &tag.parse().unwrap());
        assert!(wants("aa", "edge") && !wants("b", "edge") && wants("b", "1.0.0"));
        assert!(wants("b", &format!("sha256-{}.sig", "a".repeat(64))), "signatures are not subject to filters");
        let of = |repository: &str, tag: &str| selection.tags_of(&name(repository)).takes(&tag.parse().unwrap());
        assert!(of("aa", "edge") && !of("b", "edge"));
    }

    #[test]
    fn a_prefix_that_takes_more_than_its_word_is_remarked_on_once() {
        let selection =
            Selection { rules: vec![rule("r", Some(&[(PrefixMatch, "prod"), (PrefixMatch, "dev")]), &["d"])] };
        let remarks = |names: &[&str]| selection.remarks_on_filters(&names.iter().map(|text| name(text)).collect());
        assert!(remarks(&["prod", "prod/x", "prod-a", "dev/x"]).is_empty());
        let remark = "rule r: PREFIX_MATCH prod also takes production: end it with / to stay within the segment";
        assert_eq!(remarks(&["prod/x", "production", "products", "dev"]), [remark]);
        assert_eq!(remarks(&["prod"]), ["rule r: PREFIX_MATCH dev matches no repository"]);
    }

    #[test]
    fn the_reason_names_rule_and_filter() {
        let selection = Selection { rules: vec![rule("r", Some(&[(PrefixMatch, "prod")]), &["d"])] };
        assert_eq!(selection.matches(&name("prod1"))[0].because, "rule r: PREFIX_MATCH prod");
        assert_eq!(selection.why_not(&name("dev")), "dev matches no filter of r (PREFIX_MATCH prod)");
    }
}

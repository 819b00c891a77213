//! The rules of a configuration: where repositories and tags go, and why.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::deletion::DeletionBrake;
use super::destination_template::{DestinationTemplate, TemplateError};
use super::namespaced_name::NamespacedName;
use super::newest::{CreationDate, NarrowedTags, RankedTags, describe_newest};
use super::options::CopyOptions;
use super::repository_filters::RepositoryFilters;
use super::tag_filters::{ComparedTag, TagFilters};
use super::tag_glob::{TagGlob, TagPlaces};
use crate::image::{RepositoryName, Tag, is_referrer_tag};
use crate::terms::{Newest, NewestBy};

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
    /// The newest tags of each repository that are taken; `None` for all.
    pub newest: Option<Newest>,
    /// A fingerprint of the choice of tags as it is written in the spec.
    pub choice_hash: String,
    /// The destinations.
    pub destinations: Vec<RuleTarget>,
    /// The parts of images that are copied.
    pub options: CopyOptions,
    /// The brake of deletions at the destinations; `None` to delete nothing.
    pub deletion: Option<DeletionBrake>,
    /// Patterns of tags that are promised never to move.
    pub immutable_tags: Vec<TagGlob>,
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

/// The rules that send one repository to one place: its filters are matched once, and those of tags for each tag.
pub struct RulesTo<'a>(Vec<&'a Rule>);

/// A place where the rules send a repository.
pub struct RepositoryRoute<'a> {
    /// The Registry of the destination.
    pub destination: &'a NamespacedName,
    /// The name of the repository there.
    pub target: RepositoryName,
    /// The rules that send it there, at least one.
    pub rules: RulesTo<'a>,
}

/// The patterns of the tags of one repository that are promised never to move.
pub struct Promises<'a>(Vec<&'a TagGlob>);

/// The tags that any of several rules takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagChoice {
    /// The names of the rules with their filters of tags.
    pub rules: Vec<(String, Arc<TagFilters>)>,
    /// By the name of a rule, the newest tags that it takes.
    pub newest: BTreeMap<String, Newest>,
}

impl Selection {
    /// Returns true if a rule deletes at its destinations what the source has deleted.
    pub fn may_delete(&self) -> bool {
        self.rules.iter().any(|rule| rule.deletion.is_some())
    }

    /// Returns true if a rule that takes `repository` deletes at its destinations what the source has deleted.
    pub fn may_delete_in(&self, repository: &RepositoryName) -> bool {
        self.rules.iter().any(|rule| rule.deletion.is_some() && rule.takes(repository))
    }

    /// Returns the number of filters that a repository is compared with at most, at least one for each rule.
    pub fn repository_filters(&self) -> usize {
        self.rules.iter().map(|rule| rule.repositories.filters().max(1)).sum()
    }

    /// Returns the destinations of all rules that match `repository`, each once. A destination where it has no valid name
    /// is left out.
    pub fn matches(&self, repository: &RepositoryName) -> Vec<Match> {
        let found = self.routes(repository).into_iter().filter_map(|RepositoryRoute { destination, target, rules }| {
            let rule = rules.first()?;
            let (because, options) = (rule.because(repository)?, rule.options.clone());
            Some(Match { destination: destination.clone(), target, because, options, deletion: rule.deletion })
        });
        found.collect()
    }

    /// Returns the places where the rules send `repository`, each once, with the rules that do.
    pub fn routes(&self, repository: &RepositoryName) -> Vec<RepositoryRoute<'_>> {
        let (mut routes, mut known) = (Vec::<RepositoryRoute<'_>>::new(), HashMap::new());
        for rule in self.rules.iter().filter(|rule| rule.takes(repository)) {
            for RuleTarget { registry, template } in &rule.destinations {
                let Ok(target) = template.name_of(repository) else { continue };
                let index = *known.entry((registry, target.clone())).or_insert_with(|| {
                    routes.push(RepositoryRoute { destination: registry, target, rules: RulesTo(Vec::new()) });
                    routes.len() - 1
                });
                let rules = &mut routes[index].rules.0;
                if !rules.last().is_some_and(|last| std::ptr::eq(*last, rule)) {
                    rules.push(rule);
                }
            }
        }
        routes
    }

    /// Returns the choice of the tags of `repository` that go to any destination.
    pub fn tags_of(&self, repository: &RepositoryName) -> TagChoice {
        let rules = self.rules.iter().filter(|rule| rule.takes(repository));
        let newest = rules.clone().filter_map(|rule| Some((rule.name.clone(), rule.newest?))).collect();
        TagChoice { rules: rules.map(|rule| (rule.name.clone(), rule.tags.clone())).collect(), newest }
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

    /// Returns the rules that send `repository` to the repository `target` of `destination`.
    pub fn rules_to(
        &self,
        repository: &RepositoryName,
        (destination, target): (&NamespacedName, &RepositoryName),
    ) -> RulesTo<'_> {
        let is_there = |to: &RuleTarget| {
            to.registry == *destination && to.template.name_of(repository).is_ok_and(|name| name == *target)
        };
        let sends = |rule: &&Rule| rule.destinations.iter().any(is_there) && rule.takes(repository);
        RulesTo(self.rules.iter().filter(sends).collect())
    }

    /// Returns the tags of `repository` that a rule promises never to move; `None` if no rule promises that of any.
    pub fn promises(&self, repository: &RepositoryName) -> Option<Promises<'_>> {
        let promising = self.rules.iter().filter(|rule| !rule.immutable_tags.is_empty() && rule.takes(repository));
        let patterns: Vec<_> = promising.flat_map(|rule| &rule.immutable_tags).collect();
        (!patterns.is_empty()).then_some(Promises(patterns))
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
                format!("no rule takes {repository}: {}", rules.join(", "))
            }
        }
    }
}

impl<'a> RulesTo<'a> {
    /// Returns true if no rule does.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the first rule, which says how images are copied.
    pub fn first(&self) -> Option<&'a Rule> {
        self.0.first().copied()
    }

    /// Returns the rules.
    pub fn iter(&self) -> impl Iterator<Item = &'a Rule> {
        self.0.iter().copied()
    }

    /// Returns true if the filters let `tag` go there: a rule takes it, if it is one of its newest.
    pub fn take(&self, tag: &Tag) -> bool {
        let tag = ComparedTag::new(tag);
        self.0.iter().any(|rule| rule.tags.takes(&tag))
    }

    /// Returns true if `tag` goes there by what the last list has shown as the newest tags.
    pub fn take_now(&self, tag: &Tag, newest: &BTreeMap<String, RankedTags>) -> bool {
        let tag = ComparedTag::new(tag);
        self.0.iter().any(|rule| rule.takes_now(&tag, newest))
    }

    /// Returns a fingerprint of the rules; `None` if all of them take whatever their filters take.
    pub fn choice_hash(&self) -> Option<String> {
        let mut hashes: Vec<&str> = self.0.iter().map(|rule| rule.choice_hash.as_str()).collect();
        hashes.sort_unstable();
        self.0.iter().any(|rule| rule.newest.is_some()).then(|| hashes.join(" "))
    }
}

impl Promises<'_> {
    /// Returns true if `tag` is promised never to move.
    pub fn hold_for(&self, tag: &Tag) -> bool {
        let places = TagPlaces::new(tag);
        self.0.iter().any(|glob| glob.matches(&places))
    }
}

impl TagChoice {
    /// Returns true if any rule takes `tag`.
    pub fn takes(&self, tag: &Tag) -> bool {
        let tag = ComparedTag::new(tag);
        self.rules.iter().any(|(_, filters)| filters.takes(&tag))
    }

    /// Returns true if a push of `tag` matters: a rule takes the image, or the tag may stand for a referrer.
    pub fn wants(&self, tag: &Tag) -> bool {
        self.takes(tag) || (!self.rules.is_empty() && is_referrer_tag(tag))
    }

    /// Returns the number of filters that a tag is compared with at most, at least one for each rule.
    pub fn filters(&self) -> usize {
        self.rules.iter().map(|(_, filters)| filters.filters().max(1)).sum()
    }

    /// Returns true if a rule takes the newest tags only.
    pub fn is_narrowed(&self) -> bool {
        !self.newest.is_empty()
    }

    /// Returns true if a rule takes `tag` by the date of its image.
    pub fn needs_date(&self, tag: &Tag) -> bool {
        let is_by_date = |rule: &str| self.newest.get(rule).is_some_and(|newest| newest.by == NewestBy::Created);
        let tag = ComparedTag::new(tag);
        self.rules.iter().any(|(rule, filters)| is_by_date(rule) && filters.takes(&tag))
    }

    /// Divides the tags that the filters take by `newest`. Returns those that a rule takes, and the rest.
    pub fn narrow(
        &self,
        mut tags: BTreeSet<Tag>,
        dates: &BTreeMap<Tag, CreationDate>,
    ) -> (BTreeSet<Tag>, NarrowedTags) {
        if !self.is_narrowed() {
            return (tags, NarrowedTags::default());
        }
        let date = |tag: &Tag| dates.get(tag).copied().unwrap_or_default();
        let mut narrowed = NarrowedTags::default();
        for (rule, filters) in &self.rules {
            if let Some(newest) = self.newest.get(rule) {
                let taken = tags.iter().filter(|tag| filters.takes(&ComparedTag::new(tag)));
                let taken = taken.map(|tag| (tag, date(tag)));
                narrowed.by_rule.insert(rule.clone(), RankedTags::choose(*newest, taken));
            }
        }
        let is_taken = |tag: &Tag| {
            let compared = ComparedTag::new(tag);
            let takes = |(rule, filters): &(String, Arc<TagFilters>)| match narrowed.by_rule.get(rule) {
                Some(ranked) => ranked.takes(tag),
                None => filters.takes(&compared),
            };
            self.rules.iter().any(takes)
        };
        let rest: BTreeSet<Tag> = tags.iter().filter(|tag| !is_taken(tag)).cloned().collect();
        tags.retain(|tag| !rest.contains(tag));
        let is_unknown = |tag: &Tag| self.needs_date(tag) && date(tag) == CreationDate::Unknown;
        (narrowed.unknown, narrowed.outside) = rest.into_iter().partition(is_unknown);
        narrowed.unknown.extend(tags.iter().filter(|tag| is_unknown(tag)).cloned());
        (tags, narrowed)
    }

    /// Describes the rules that do not take `tag`, which their filters take, as one of their newest.
    pub fn describe_outside(&self, tag: &Tag) -> String {
        let tag = ComparedTag::new(tag);
        let rules = self.rules.iter().filter(|(_, filters)| filters.takes(&tag));
        let rules = rules.filter_map(|(rule, _)| {
            let newest = self.newest.get(rule)?;
            Some(format!("rule {rule}: not one of {}", describe_newest(*newest)))
        });
        rules.collect::<Vec<_>>().join("; ")
    }

    /// Returns the cause of each rule for not taking `tag`; `None` if one takes it.
    pub fn why_not(&self, tag: &ComparedTag<'_>) -> Option<Vec<usize>> {
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

    /// Returns true if the rule takes `tag` by what the last list has shown as the newest tags.
    pub fn takes_now(&self, tag: &ComparedTag<'_>, newest: &BTreeMap<String, RankedTags>) -> bool {
        let is_newest = || newest.get(&self.name).is_some_and(|ranked| ranked.takes(tag.tag()));
        (self.newest.is_none() || is_newest()) && self.tags.takes(tag)
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
    use crate::plan::expression::PatternRoom;
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
        let mut room = PatternRoom::default();
        Rule {
            name: name.to_owned(),
            repositories: RepositoryFilters::parse("spec.rules[r]", filters.as_deref(), &[], &mut room).unwrap(),
            tags: Arc::default(),
            newest: None,
            choice_hash: String::new(),
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
        let mut room = PatternRoom::default();
        promising.immutable_tags = ["v?.*", "stable"].map(|glob| TagGlob::parse(glob, &mut room).unwrap()).into();
        let selection = Selection { rules: vec![rule("all", None, &["d"]), promising] };
        let is_immutable = |repository: &str, tag: &str| {
            selection.promises(&name(repository)).is_some_and(|promises| promises.hold_for(&tag.parse().unwrap()))
        };
        assert!(is_immutable("prod-a", "v1.2") && is_immutable("prod-a", "stable"));
        assert!(!is_immutable("prod-a", "latest") && !is_immutable("prod-a", "v12") && !is_immutable("dev", "v1.2"));
    }

    #[test]
    fn a_tag_goes_to_a_destination_if_a_rule_for_its_repository_takes_it() {
        let with_tags = |rule: Rule, filter_type, filter: &str| {
            let filter = TagFilter { filter: filter.to_owned(), filter_type, version_syntax: VersionSyntax::default() };
            Rule {
                tags: Arc::new(TagFilters::parse(Some(&[filter]), &[], &mut PatternRoom::default()).unwrap()),
                ..rule
            }
        };
        let releases = with_tags(rule("releases", None, &["x", "y"]), TagFilterType::SemverMatch, "*");
        let edge = with_tags(rule("edge", Some(&[(ExactMatch, "aa")]), &["y"]), TagFilterType::ExactMatch, "edge");
        let selection = Selection { rules: vec![releases, edge] };
        let taken = |repository: &str, tag: &str| {
            let (repository, tag) = (name(repository), tag.parse().unwrap());
            let taken = ["x", "y"]
                .into_iter()
                .filter(|d| selection.rules_to(&repository, (&destination(d), &repository)).take(&tag));
            taken.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            (taken("aa", "v1.0.0"), taken("aa", "edge"), taken("aa", "x")),
            ("x y".into(), "y".into(), String::new())
        );
        assert_eq!(taken("b", "edge"), "");
        let wants = |repository: &str, tag: &str| selection.tags_of(&name(repository)).wants(&tag.parse().unwrap());
        assert!(wants("aa", "edge") && !wants("b", "edge") && wants("b", "1.0.0"));
        assert!(wants("b", &format!("sha256-{}.sig", "a".repeat(64))), "signatures are not subject to filters");
        let of = |repository: &str, tag: &str| selection.tags_of(&name(repository)).takes(&tag.parse().unwrap());
        assert!(of("aa", "edge") && !of("b", "edge"));
    }

    #[test]
    fn the_newest_tags_are_chosen_rule_by_rule_and_add_up() {
        let newest =
            |rule: Rule, count, by| Rule { newest: Some(Newest { count, by }), choice_hash: rule.name.clone(), ..rule };
        let mut selection = Selection {
            rules: vec![
                newest(rule("versions", None, &["x", "y"]), 1, NewestBy::Semver),
                newest(rule("dates", None, &["y"]), 1, NewestBy::Created),
            ],
        };
        let tags = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<BTreeSet<Tag>>();
        let day = |day: i64| CreationDate::At(jiff::Timestamp::from_second(day * 86_400).unwrap());
        let (app, all) = (name("app"), tags(&["1.0.0", "1.1.0", "edge", "gone"]));
        let dates = [("1.0.0", day(1)), ("1.1.0", day(2)), ("edge", day(3))];
        let dates = dates.into_iter().map(|(tag, date)| (tag.parse().unwrap(), date)).collect();
        let choice = selection.tags_of(&app);
        let (taken, narrowed) = choice.narrow(all.clone(), &dates);
        assert_eq!((taken, &narrowed.outside), (tags(&["1.1.0", "edge"]), &tags(&["1.0.0"])));
        assert_eq!(narrowed.unknown, tags(&["gone"]), "its date is not known: it has not left");
        let goes = |to: &str, tag: &str| {
            selection.rules_to(&app, (&destination(to), &app)).take_now(&tag.parse().unwrap(), &narrowed.by_rule)
        };
        assert_eq!(
            [goes("x", "1.1.0"), goes("x", "edge"), goes("y", "edge"), goes("y", "1.0.0")],
            [true, false, true, false]
        );
        assert_eq!(
            choice.describe_outside(&"1.0.0".parse().unwrap()),
            "rule versions: not one of the newest 1 by Semver; rule dates: not one of the newest 1 by Created"
        );
        let hash = |selection: &Selection, to: &str| selection.rules_to(&app, (&destination(to), &app)).choice_hash();
        assert_eq!(
            (hash(&selection, "x").unwrap(), hash(&selection, "y").unwrap()),
            ("versions".into(), "dates versions".into())
        );
        selection.rules[0].newest = None;
        assert_eq!(hash(&selection, "x"), None);
        let (taken, narrowed) = selection.tags_of(&app).narrow(all.clone(), &dates);
        assert_eq!((taken, narrowed.outside.len()), (all, 0), "the other rule takes every tag");
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
        assert_eq!(selection.why_not(&name("dev")), "no rule takes dev: r (PREFIX_MATCH prod)");
    }
}

//! Parses the spec of a ReplicationConfiguration into what the program works with, or says what is wrong.

use std::sync::Arc;
use std::time::Duration;

use super::CopyOptions;
use super::selection::{Filter, Rule, Selection};
use super::tag_filters::TagFilters;
use crate::terms::{
    DEFAULT_EXECUTION_CLASS, Execution, FilterType, ReplicationConfigurationSpec, ReplicationRule, RepositoryFilter,
    parse_interval, reason,
};

/// A configuration that can be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The namespace and name of the configuration.
    pub namespace: String,
    /// See `namespace`.
    pub name: String,
    /// The name of the source Registry, in `namespace`.
    pub source: String,
    /// Which repositories go where.
    pub selection: Selection,
    /// How often the source is compared.
    pub interval: Duration,
    /// Whether nothing is to be done.
    pub suspend: bool,
    /// Where images are copied.
    pub execution: Execution,
}

/// The Registry that images go to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationReference {
    /// Its namespace, written out.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Why a spec cannot be carried out, with the reason of the `Stalled` condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// One of [`crate::terms::reason`].
    pub reason: &'static str,
    /// A sentence that names the field and the remedy.
    pub message: String,
}

/// Parses the spec of the configuration `namespace`/`name`.
///
/// The API server has checked most of it already; what CEL cannot see is checked here, and the rest again, since a file
/// given to `transship sync` did not pass an API server.
///
/// # Errors
/// [`Invalid`] names the field and the remedy.
pub fn parse_configuration(
    namespace: &str,
    name: &str,
    spec: &ReplicationConfigurationSpec,
) -> Result<Configuration, Invalid> {
    if spec.rules.len() > MAX_RULES {
        return Err(invalid(format!("spec.rules has more than {MAX_RULES} rules: split the configuration")));
    }
    let mut rules = Vec::with_capacity(spec.rules.len());
    for rule in &spec.rules {
        let field = format!("spec.rules[{}]", rule.name);
        let filters =
            rule.repository_filters.iter().flatten().map(|f| parse_filter(&field, f)).collect::<Result<_, _>>()?;
        let filters = rule.repository_filters.is_some().then_some(filters);
        let mut destinations = Vec::with_capacity(rule.destinations.len());
        for destination in &rule.destinations {
            let reference = &destination.registry_ref;
            let destination = DestinationReference {
                namespace: reference.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
                name: reference.name.clone(),
            };
            if destination.namespace == namespace && destination.name == spec.source.registry_ref.name {
                return Err(Invalid {
                    reason: reason::SELF_REPLICATION,
                    message: format!("{field}.destinations names the source registry {}: remove it", reference.name),
                });
            }
            if destinations.contains(&destination) {
                return Err(invalid(format!(
                    "{field}.destinations names {}/{} twice, once with its namespace and once without: remove one",
                    destination.namespace, destination.name
                )));
            }
            destinations.push(destination);
        }
        if destinations.is_empty() || destinations.len() > MAX_DESTINATIONS {
            return Err(invalid(format!("{field}.destinations must have 1 to {MAX_DESTINATIONS} entries")));
        }
        let options = parse_options(&field, rule)?;
        check_immutable_tags(&field, rule)?;
        let tags = Arc::new(parse_tag_filters(&field, rule)?);
        let (name, immutable_tags) = (rule.name.clone(), rule.immutable_tags.clone());
        rules.push(Rule { name, filters, tags, destinations, options, immutable_tags });
    }
    let interval = parse_interval(&spec.interval).ok_or_else(|| {
        invalid(format!("spec.interval {:?} must be a duration from 10s to 24h, such as 90s or 1h30m", spec.interval))
    })?;
    Ok(Configuration {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        source: spec.source.registry_ref.name.clone(),
        selection: Selection { rules },
        interval,
        suspend: spec.suspend,
        execution: spec
            .execution
            .clone()
            .unwrap_or_else(|| Execution { mode: None, class: DEFAULT_EXECUTION_CLASS.to_owned() }),
    })
}

fn parse_tag_filters(field: &str, rule: &ReplicationRule) -> Result<TagFilters, Invalid> {
    let parsed = TagFilters::parse(rule.tag_filters.as_deref(), &rule.exclude_tag_filters);
    parsed.map_err(|message| invalid(format!("{field}.{message}")))
}

fn parse_options(field: &str, rule: &ReplicationRule) -> Result<CopyOptions, Invalid> {
    if rule.platforms.len() > MAX_PLATFORMS {
        return Err(invalid(format!("{field}.platforms has more than {MAX_PLATFORMS} entries")));
    }
    let platforms = rule.platforms.iter().map(|platform| {
        platform.parse().map_err(|error| invalid(format!("{field}.platforms: {error}; write it as linux/amd64")))
    });
    let platforms = platforms.collect::<Result<_, _>>()?;
    check_artifact_types(field, &rule.referrer_artifact_types)?;
    Ok(CopyOptions {
        platforms,
        platform_index: rule.platform_index,
        referrers: rule.referrers,
        referrer_artifact_types: rule.referrer_artifact_types.clone(),
    })
}

fn check_artifact_types(field: &str, types: &[String]) -> Result<(), Invalid> {
    if types.len() > MAX_ARTIFACT_TYPES {
        return Err(invalid(format!("{field}.referrerArtifactTypes has more than {MAX_ARTIFACT_TYPES} entries")));
    }
    let is_name = |name: &str| {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b);
        (1..=127).contains(&name.len()) && name.as_bytes()[0].is_ascii_alphanumeric() && name.bytes().all(is_allowed)
    };
    let is_type = |text: &String| text.split_once('/').is_some_and(|(kind, name)| is_name(kind) && is_name(name));
    match types.iter().find(|text| !is_type(text)) {
        Some(wrong) => Err(invalid(format!(
            "{field}.referrerArtifactTypes: {wrong:?} is not a media type, such as application/vnd.example.sbom+json"
        ))),
        None => Ok(()),
    }
}

fn check_immutable_tags(field: &str, rule: &ReplicationRule) -> Result<(), Invalid> {
    let is_pattern = |pattern: &String| {
        (1..=128).contains(&pattern.len())
            && pattern.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'*' | b'?'))
    };
    match rule.immutable_tags.iter().find(|pattern| !is_pattern(pattern)) {
        Some(pattern) => Err(invalid(format!(
            "{field}.immutableTags: {pattern:?} is no pattern of tags: use letters, digits, '_', '.', '-', '*' and '?'"
        ))),
        None if rule.immutable_tags.len() > MAX_PATTERNS => {
            Err(invalid(format!("{field}.immutableTags has more than {MAX_PATTERNS} patterns")))
        }
        None => Ok(()),
    }
}

fn parse_filter(field: &str, filter: &RepositoryFilter) -> Result<Filter, Invalid> {
    match filter.filter_type {
        FilterType::PrefixMatch => Ok(Filter::Prefix(filter.filter.clone())),
        FilterType::ExactMatch => match filter.filter.parse() {
            Ok(name) => Ok(Filter::Exact(name)),
            Err(error) => Err(invalid(format!("{field}.repositoryFilters: {error}; wildcards are not understood"))),
        },
    }
}

fn invalid(message: String) -> Invalid {
    Invalid { reason: reason::INVALID_SPEC, message }
}

const MAX_RULES: usize = 25;
const MAX_DESTINATIONS: usize = 25;
const MAX_PLATFORMS: usize = 20;
const MAX_ARTIFACT_TYPES: usize = 20;
const MAX_PATTERNS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<Configuration, Invalid> {
        parse_configuration("team-a", "services", &serde_saphyr::from_str(yaml).unwrap())
    }

    #[test]
    fn wrong_platforms_and_patterns_are_told_by_field() {
        let rule = |more: &str| {
            let destinations = "destinations: [{registryRef: {name: d}}]";
            parse(&format!("{{source: {{registryRef: {{name: s}}}}, rules: [{{name: r, {destinations}, {more}}}]}}"))
        };
        let good = rule("platforms: [linux/amd64], platformIndex: Rewrite, immutableTags: ['v?.*']").unwrap();
        assert!(good.selection.rules[0].options.may_rewrite());
        let error = |more: &str| rule(more).unwrap_err().message;
        assert!(error("platforms: [linux]").contains("spec.rules[r].platforms: "));
        assert!(
            error("immutableTags: ['v1/*']").contains("spec.rules[r].immutableTags: \"v1/*\" is no pattern of tags")
        );
        assert!(error(&format!("immutableTags: [{}]", "a, ".repeat(101))).contains("more than 100"));
        assert!(error(&format!("platforms: [{}]", "linux/a, ".repeat(21))).contains("more than 20"));
        assert!(rule("referrerArtifactTypes: [application/vnd.dev.sigstore.bundle.v0.3+json]").is_ok());
        for wrong in ["sbom", "a/b/c", "/b", "a/", "a/*", "'a/b; v=1'"] {
            let told = error(&format!("referrerArtifactTypes: [{wrong}]"));
            assert!(
                told.contains("spec.rules[r].referrerArtifactTypes: ") && told.contains("is not a media type"),
                "{told}"
            );
        }
        assert!(error(&format!("referrerArtifactTypes: [{}]", "a/b, ".repeat(21))).contains("more than 20"));
    }

    #[test]
    fn wrong_tag_filters_are_told_by_field() {
        let rule = |more: &str| {
            let destinations = "destinations: [{registryRef: {name: d}}]";
            parse(&format!("{{source: {{registryRef: {{name: s}}}}, rules: [{{name: r, {destinations}, {more}}}]}}"))
        };
        let good = rule("tagFilters: [{filter: '>=1.2 <2', filterType: SEMVER_MATCH}]").unwrap();
        assert!(good.selection.rules[0].tags.takes(&"v1.5.0".parse().unwrap()));
        let invalid = rule("excludeTagFilters: [{filter: 'v[', filterType: REGEX_MATCH}]").unwrap_err();
        assert_eq!(invalid.reason, reason::INVALID_SPEC);
        assert!(invalid.message.starts_with("spec.rules[r].excludeTagFilters[0]: \"v[\" is no regular"), "{invalid:?}");
    }

    #[test]
    fn a_destination_without_a_namespace_is_of_the_own_one() {
        let yaml = "{source: {registryRef: {name: s}}, rules: [{name: r, destinations: [{registryRef: {name: d}}]}]}";
        let configuration = parse(yaml).unwrap();
        let destination = &configuration.selection.rules[0].destinations[0];
        assert_eq!((destination.namespace.as_str(), destination.name.as_str()), ("team-a", "d"));
        assert_eq!(configuration.interval, Duration::from_secs(600));
    }

    #[test]
    fn the_source_as_its_own_destination_is_stalled_not_copied() {
        for reference in ["{name: s}", "{name: s, namespace: team-a}"] {
            let yaml = format!(
                "{{source: {{registryRef: {{name: s}}}}, rules: [{{name: r, destinations: [{{registryRef: {reference}}}]}}]}}"
            );
            assert_eq!(parse(&yaml).unwrap_err().reason, reason::SELF_REPLICATION);
        }
    }

    #[test]
    fn one_destination_written_two_ways_is_refused() {
        let yaml = "{source: {registryRef: {name: s}}, rules: [{name: r, destinations: \
                    [{registryRef: {name: d}}, {registryRef: {name: d, namespace: team-a}}]}]}";
        assert!(parse(yaml).unwrap_err().message.contains("twice"));
    }
}

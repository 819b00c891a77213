//! Parses the spec of a ReplicationConfiguration, or names the field that is wrong.

use std::sync::Arc;
use std::time::Duration;

use super::deletion::DeletionBrake;
use super::destination_template::DestinationTemplate;
use super::expression::PatternRoom;
use super::namespaced_name::NamespacedName;
use super::options::CopyOptions;
use super::repository_filters::RepositoryFilters;
use super::schedule::{Pace, Windows};
use super::selection::{Rule, RuleTarget, Selection};
use super::spec_error::{SpecError, check, check_field};
use super::tag_filters::TagFilters;
use super::tag_glob::TagGlob;
use crate::image::Digest;
use crate::terms::{
    ARTIFACT_TYPE, COSIGN_KEY_RULES, DEFAULT_EXECUTION_CLASS, DESTINATIONS_RULES, DeleteReplication, Execution,
    LAG_OBJECTIVE_RULES, MAX_ARTIFACT_TYPES, MAX_DESTINATIONS, MAX_IMMUTABLE_TAGS, MAX_MIN_ALLOWED, MAX_NEWEST,
    MAX_PERCENT, MAX_PLATFORMS, MAX_RULES, MAX_TAG_PATTERN, Newest, REPLICATION_RULE_RULES,
    ReplicationConfigurationSpec, ReplicationRule, RuleDestination, SAME_REPOSITORY, SignatureVerification,
    TAG_PATTERN, parse_lag_objective, reason,
};

/// A configuration that can be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The namespace of the configuration.
    pub namespace: String,
    /// The name of the configuration.
    pub name: String,
    /// The name of the source Registry, in `namespace`.
    pub source: String,
    /// The rules.
    pub selection: Selection,
    /// The times at which the source is compared.
    pub pace: Pace,
    /// The windows during which copies may start.
    pub windows: Windows,
    /// The priority among the configurations of the namespace.
    pub priority: i32,
    /// The longest time that an image should wait.
    pub lag_objective: Option<Duration>,
    /// True if nothing is read or written.
    pub suspend: bool,
    /// The place where images are copied.
    pub execution: Execution,
}

/// Parses the spec of the configuration `namespace`/`name`.
///
/// The API server has checked most of it already. The rest is checked here, and so are the rules of the API: a file
/// given to `transship sync` did not pass an API server.
///
/// # Errors
/// [`SpecError`] names the field and the remedy.
pub fn parse_configuration(
    namespace: &str,
    name: &str,
    spec: &ReplicationConfigurationSpec,
) -> Result<Configuration, SpecError> {
    if spec.rules.len() > MAX_RULES {
        return Err(SpecError::invalid(format!("spec.rules has more than {MAX_RULES} rules: split the configuration")));
    }
    let source = NamespacedName { namespace: namespace.to_owned(), name: spec.source.registry_ref.name.clone() };
    let mut room = FilterRoom::default();
    let rules = spec.rules.iter().map(|rule| parse_rule(&source, rule, &mut room));
    let mut rules = rules.collect::<Result<Vec<_>, _>>()?;
    rules.shrink_to_fit();
    Ok(Configuration {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        source: source.name,
        selection: Selection { rules },
        pace: Pace::parse(spec)?,
        windows: Windows::parse(&spec.allowed_windows)?,
        priority: spec.priority,
        lag_objective: parse_objective(spec)?,
        suspend: spec.suspend,
        execution: spec
            .execution
            .clone()
            .unwrap_or_else(|| Execution { mode: None, class: DEFAULT_EXECUTION_CLASS.to_owned() }),
    })
}

fn parse_objective(spec: &ReplicationConfigurationSpec) -> Result<Option<Duration>, SpecError> {
    let Some(objective) = spec.lag_objective.as_deref() else { return Ok(None) };
    check(&LAG_OBJECTIVE_RULES, objective)?;
    Ok(parse_lag_objective(objective))
}

/// The room for the patterns of a configuration.
#[derive(Default)]
struct FilterRoom {
    repositories: PatternRoom,
    tags: PatternRoom,
}

fn parse_rule(source: &NamespacedName, rule: &ReplicationRule, room: &mut FilterRoom) -> Result<Rule, SpecError> {
    let field = format!("spec.rules[{}]", rule.name);
    check_field(&REPLICATION_RULE_RULES, rule, &field)?;
    let (include, exclude) = (rule.repository_filters.as_deref(), &rule.exclude_repository_filters);
    let repositories = RepositoryFilters::parse(&field, include, exclude, &mut room.repositories)?;
    let destinations = parse_destinations(&field, source, &rule.destinations)?;
    let options = parse_options(&field, rule)?;
    let immutable_tags = parse_immutable_tags(&field, rule, &mut room.tags)?;
    let tags = Arc::new(parse_tag_filters(&field, rule, &mut room.tags)?);
    let deletion = parse_deletion(&field, rule)?;
    let newest = parse_newest(&field, rule)?;
    let (name, choice_hash) = (rule.name.clone(), choice_hash(rule));
    Ok(Rule { name, repositories, tags, newest, choice_hash, destinations, options, deletion, immutable_tags })
}

fn parse_destinations(
    field: &str,
    source: &NamespacedName,
    destinations: &[RuleDestination],
) -> Result<Vec<RuleTarget>, SpecError> {
    let field = format!("{field}.destinations");
    check_field(&DESTINATIONS_RULES, destinations, &field)?;
    let mut parsed = Vec::with_capacity(destinations.len());
    for (index, RuleDestination { registry_ref, repository }) in destinations.iter().enumerate() {
        let namespace = registry_ref.namespace.clone().unwrap_or_else(|| source.namespace.clone());
        let registry = NamespacedName { namespace, name: registry_ref.name.clone() };
        let text = repository.as_deref().unwrap_or(SAME_REPOSITORY);
        let template = DestinationTemplate::parse(&format!("{field}[{index}].repository"), text)?;
        if registry == *source && template.keeps_names() {
            let message = format!(
                "{field} names the source registry {}: remove it, or give its repositories other names by repository",
                source.name
            );
            return Err(SpecError { reason: reason::SELF_REPLICATION, message });
        }
        let target = RuleTarget { registry, template };
        if parsed.contains(&target) {
            return Err(SpecError::invalid(format!(
                "{field} names {}/{} twice, once with its defaults and once without: remove one",
                target.registry.namespace, target.registry.name
            )));
        }
        parsed.push(target);
    }
    if !(1..=MAX_DESTINATIONS).contains(&parsed.len()) {
        return Err(SpecError::invalid(format!("{field} must have 1 to {MAX_DESTINATIONS} entries")));
    }
    Ok(parsed)
}

fn parse_deletion(field: &str, rule: &ReplicationRule) -> Result<Option<DeletionBrake>, SpecError> {
    let Some(DeleteReplication { enabled, max_percent, min_allowed }) = rule.delete_replication else {
        return Ok(None);
    };
    for (name, value, most) in [("maxPercent", max_percent, MAX_PERCENT), ("minAllowed", min_allowed, MAX_MIN_ALLOWED)]
    {
        if value > most {
            return Err(SpecError::invalid(format!("{field}.deleteReplication.{name} must be from 0 to {most}")));
        }
    }
    Ok(enabled.then_some(DeletionBrake { max_percent, min_allowed }))
}

fn parse_newest(field: &str, rule: &ReplicationRule) -> Result<Option<Newest>, SpecError> {
    match rule.newest {
        Some(Newest { count, .. }) if !(1..=MAX_NEWEST).contains(&count) => {
            Err(SpecError::invalid(format!("{field}.newest.count must be from 1 to {MAX_NEWEST}")))
        }
        newest => Ok(newest),
    }
}

/// Returns a fingerprint of the fields that choose tags.
fn choice_hash(rule: &ReplicationRule) -> String {
    let ReplicationRule { name, tag_filters, exclude_tag_filters, newest, .. } = rule;
    let text = serde_json::to_vec(&(name, tag_filters, exclude_tag_filters, newest)).expect("filters are JSON");
    Digest::sha256(&text).encoded()[..16].to_owned()
}

fn parse_tag_filters(field: &str, rule: &ReplicationRule, room: &mut PatternRoom) -> Result<TagFilters, SpecError> {
    let parsed = TagFilters::parse(rule.tag_filters.as_deref(), &rule.exclude_tag_filters, room);
    parsed.map_err(|error| SpecError::invalid(format!("{field}.{error}")))
}

fn parse_options(field: &str, rule: &ReplicationRule) -> Result<CopyOptions, SpecError> {
    if rule.platforms.len() > MAX_PLATFORMS {
        return Err(SpecError::invalid(format!("{field}.platforms has more than {MAX_PLATFORMS} entries")));
    }
    let platforms = rule.platforms.iter().map(|platform| {
        platform
            .parse()
            .map_err(|error| SpecError::invalid(format!("{field}.platforms: {error}; write it as linux/amd64")))
    });
    let platforms = platforms.collect::<Result<_, _>>()?;
    check_artifact_types(field, &rule.referrer_artifact_types)?;
    Ok(CopyOptions {
        platforms,
        platform_index: rule.platform_index,
        referrers: rule.referrers,
        referrer_artifact_types: rule.referrer_artifact_types.clone(),
        on_tag_conflict: rule.on_tag_conflict,
        signed_by: parse_verification(field, rule)?,
    })
}

/// Returns the public key of `verification`. One in a Secret has been put into the spec by now, where Secrets are read.
fn parse_verification(field: &str, rule: &ReplicationRule) -> Result<Option<String>, SpecError> {
    let Some(SignatureVerification { cosign }) = &rule.verification else { return Ok(None) };
    check_field(&COSIGN_KEY_RULES, cosign, &format!("{field}.verification.cosign"))?;
    match &cosign.public_key {
        Some(key) => Ok(Some(key.trim().to_owned())),
        None => Err(SpecError::invalid(format!(
            "{field}.verification.cosign.publicKeySecretRef: no Secrets are read here: write the key itself in publicKey"
        ))),
    }
}

fn check_artifact_types(field: &str, types: &[String]) -> Result<(), SpecError> {
    if types.len() > MAX_ARTIFACT_TYPES {
        return Err(SpecError::invalid(format!(
            "{field}.referrerArtifactTypes has more than {MAX_ARTIFACT_TYPES} entries"
        )));
    }
    match types.iter().find(|text| !ARTIFACT_TYPE.matches(text)) {
        Some(wrong) => Err(SpecError::invalid(format!(
            "{field}.referrerArtifactTypes: {wrong:?} is not a media type, such as application/vnd.example.sbom+json"
        ))),
        None => Ok(()),
    }
}

fn parse_immutable_tags(
    field: &str,
    rule: &ReplicationRule,
    room: &mut PatternRoom,
) -> Result<Vec<TagGlob>, SpecError> {
    if rule.immutable_tags.len() > MAX_IMMUTABLE_TAGS {
        return Err(SpecError::invalid(format!("{field}.immutableTags has more than {MAX_IMMUTABLE_TAGS} patterns")));
    }
    let mut parse = |pattern: &String| match pattern.len() <= MAX_TAG_PATTERN && TAG_PATTERN.matches(pattern) {
        false => Err("is no pattern of tags: use letters, digits, '_', '.', '-', '*' and '?'".to_owned()),
        true => TagGlob::parse(pattern, room).map_err(|error| error.to_string()),
    };
    let named = |pattern: &String| {
        let parsed = parse(pattern);
        parsed.map_err(|problem| SpecError::invalid(format!("{field}.immutableTags: {pattern:?} {problem}")))
    };
    rule.immutable_tags.iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::RepositoryName;
    use crate::plan::tag_filters::ComparedTag;
    use crate::terms::{RepositoryFilter, RepositoryFilterType};

    fn parse(yaml: &str) -> Result<Configuration, SpecError> {
        parse_configuration("team-a", "services", &serde_saphyr::from_str(yaml).unwrap())
    }

    proptest::proptest! {
        #[test]
        fn a_prefix_is_taken_exactly_if_it_begins_a_valid_name(prefix in "[a-z0-9._/A-]{2,12}") {
            let filter = RepositoryFilter { filter: prefix.clone(), filter_type: RepositoryFilterType::PrefixMatch };
            let is_taken = RepositoryFilters::parse("f", Some(&[filter]), &[], &mut PatternRoom::default()).is_ok();
            let begins_one = ["", "a", "-a"].iter().any(|rest| format!("{prefix}{rest}").parse::<RepositoryName>().is_ok());
            proptest::prop_assert_eq!(is_taken, begins_one);
        }
    }

    #[test]
    fn wrong_platforms_and_patterns_are_refused_by_field() {
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
            let message = error(&format!("referrerArtifactTypes: [{wrong}]"));
            assert!(
                message.contains("spec.rules[r].referrerArtifactTypes: ") && message.contains("is not a media type"),
                "{message}"
            );
        }
        assert!(error(&format!("referrerArtifactTypes: [{}]", "a/b, ".repeat(21))).contains("more than 20"));
    }

    #[test]
    fn wrong_tag_filters_are_refused_by_field() {
        let rule = |more: &str| {
            let destinations = "destinations: [{registryRef: {name: d}}]";
            parse(&format!("{{source: {{registryRef: {{name: s}}}}, rules: [{{name: r, {destinations}, {more}}}]}}"))
        };
        let good = rule("tagFilters: [{filter: '>=1.2 <2', filterType: SEMVER_MATCH}]").unwrap();
        assert!(good.selection.rules[0].tags.takes(&ComparedTag::new(&"v1.5.0".parse().unwrap())));
        let invalid = rule("excludeTagFilters: [{filter: 'v[', filterType: REGEX_MATCH}]").unwrap_err();
        assert_eq!(invalid.reason, reason::INVALID_SPEC);
        assert!(invalid.message.starts_with("spec.rules[r].excludeTagFilters[0]: \"v[\" is no regular"), "{invalid:?}");
    }

    #[test]
    fn what_has_no_effect_beside_another_field_is_refused() {
        let rule = |fields: &str| {
            parse(&format!(
                "{{source: {{registryRef: {{name: s}}}}, rules: [{{name: r, {fields}, destinations: [{{registryRef: {{name: d}}}}]}}]}}"
            ))
        };
        let message = |fields: &str| rule(fields).unwrap_err().message;
        assert!(message("platformIndex: Rewrite").starts_with("spec.rules[r]: platformIndex has no effect without"));
        assert!(message("referrers: Ignore, referrerArtifactTypes: [a/b]").contains("remove one of them"));
        assert!(rule("platformIndex: Keep").is_ok() && rule("referrers: Ignore").is_ok());
        assert!(rule("referrerArtifactTypes: [a/b]").is_ok());
    }

    #[test]
    fn a_destination_without_a_namespace_is_of_the_own_one() {
        let yaml = "{source: {registryRef: {name: s}}, rules: [{name: r, destinations: [{registryRef: {name: d}}]}]}";
        let configuration = parse(yaml).unwrap();
        let destination = &configuration.selection.rules[0].destinations[0].registry;
        assert_eq!((destination.namespace.as_str(), destination.name.as_str()), ("team-a", "d"));
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

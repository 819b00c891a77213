//! The evaluator against examples, laws, and a second evaluator that is written another way.

use proptest::prelude::*;

use super::*;
use crate::terms::LocalRegistryReference;

fn statement(sid: &str, effect: StatementEffect, namespace: &str, actions: &[Action], resource: &str) -> Statement {
    Statement {
        sid: sid.to_owned(),
        effect,
        principals: vec![Principal { namespace: namespace.to_owned(), configuration: None }],
        actions: actions.to_vec(),
        resources: vec![resource.to_owned()],
    }
}

fn policy(name: &str, registry: &str, statements: Vec<Statement>) -> Policy {
    let registry_ref = LocalRegistryReference { name: registry.to_owned() };
    Policy { name: name.to_owned(), spec: Some(RegistryPermissionPolicySpec { registry_ref, statements }) }
}

fn request<'a>(namespace: &'a str, action: Action, repository: &'a str) -> PermissionRequest<'a> {
    PermissionRequest {
        namespace,
        configuration: "services",
        action,
        registry_namespace: "team-b",
        registry: "eu-west-1",
        repository,
    }
}

#[test]
fn the_own_namespace_needs_no_policy() {
    let decision = evaluate(&request("team-b", Action::CreateRepository, "mservice"), &[]);
    assert!(decision.allowed);
    assert_eq!(decision.reason, reason::SAME_NAMESPACE);
}

#[test]
fn another_namespace_is_denied_without_a_statement_that_allows() {
    let decision = evaluate(&request("team-a", Action::ReplicateImage, "mservice"), &[]);
    assert!(!decision.allowed);
    assert!(decision.message.contains("no statement allows ReplicateImage into repository mservice"), "{decision:?}");
}

#[test]
fn an_owner_shows_a_registry_to_those_that_it_allows_anything() {
    let shown = |namespace: &str, effect, registry: &str| {
        let statement = statement("S", effect, "team-a", &[Action::CreateRepository], "other");
        is_introduced(&request(namespace, Action::ReplicateImage, ""), &[policy("p", registry, vec![statement])])
    };
    assert!(shown("team-a", StatementEffect::Allow, "eu-west-1"));
    assert!(!shown("team-c", StatementEffect::Allow, "eu-west-1"), "others");
    assert!(!shown("team-a", StatementEffect::Deny, "eu-west-1"), "a refusal shows nothing");
    assert!(!shown("team-a", StatementEffect::Allow, "us-east-1"), "of another Registry");
    assert!(shown("team-b", StatementEffect::Deny, "eu-west-1"), "its own");
}

#[test]
fn an_allow_names_the_statement_that_decided() {
    let allow = statement("CrossAccount", StatementEffect::Allow, "team-a", &[Action::ReplicateImage], "prod-*");
    let policies = [policy("allow-team-a", "eu-west-1", vec![allow])];
    let allowed = evaluate(&request("team-a", Action::ReplicateImage, "prod-x"), &policies);
    assert!(allowed.allowed);
    assert!(allowed.message.contains("CrossAccount"), "{allowed:?}");
    assert!(!evaluate(&request("team-a", Action::ReplicateImage, "dev-x"), &policies).allowed);
    assert!(!evaluate(&request("team-c", Action::ReplicateImage, "prod-x"), &policies).allowed);
    assert!(!evaluate(&request("team-a", Action::CreateRepository, "prod-x"), &policies).allowed);
}

#[test]
fn a_deny_wins_over_every_allow_and_over_the_own_namespace() {
    let allow = statement("A", StatementEffect::Allow, "*", &[Action::ReplicateImage], "*");
    let deny = statement("D", StatementEffect::Deny, "*", &[Action::ReplicateImage], "secret/*");
    let policies = [policy("a", "eu-west-1", vec![allow]), policy("d", "eu-west-1", vec![deny])];
    for namespace in ["team-a", "team-b"] {
        let decision = evaluate(&request(namespace, Action::ReplicateImage, "secret/x"), &policies);
        assert_eq!((decision.allowed, decision.reason), (false, reason::STATEMENT_DENIES));
        assert!(evaluate(&request(namespace, Action::ReplicateImage, "open/x"), &policies).allowed);
    }
}

#[test]
fn overwriting_comes_with_replicating_and_can_be_denied() {
    let allow = statement("A", StatementEffect::Allow, "team-a", &[Action::ReplicateImage], "*");
    let deny = statement("D", StatementEffect::Deny, "team-a", &[Action::OverwriteTag], "*");
    let allowing = [policy("a", "eu-west-1", vec![allow.clone()])];
    assert!(evaluate(&request("team-a", Action::OverwriteTag, "x"), &allowing).allowed);
    let both = [policy("a", "eu-west-1", vec![allow, deny])];
    assert!(!evaluate(&request("team-a", Action::OverwriteTag, "x"), &both).allowed);
    assert!(evaluate(&request("team-a", Action::ReplicateImage, "x"), &both).allowed);
}

#[test]
fn a_policy_of_another_registry_does_not_count() {
    let allow = statement("A", StatementEffect::Allow, "*", &[Action::ReplicateImage], "*");
    let policies = [policy("a", "us-west-2", vec![allow])];
    assert!(!evaluate(&request("team-a", Action::ReplicateImage, "x"), &policies).allowed);
}

#[test]
fn a_policy_that_cannot_be_decoded_and_an_empty_principal_deny() {
    let broken = [Policy { name: "broken".to_owned(), spec: None }];
    let decision = evaluate(&request("team-b", Action::ReplicateImage, "x"), &broken);
    assert_eq!((decision.allowed, decision.reason), (false, reason::POLICY_UNREADABLE));
    let allow = statement("A", StatementEffect::Allow, "*", &[Action::ReplicateImage], "*");
    let policies = [policy("a", "eu-west-1", vec![allow])];
    assert!(!evaluate(&request("", Action::ReplicateImage, "x"), &policies).allowed);
}

#[test]
fn a_principal_may_be_narrowed_to_one_configuration() {
    let mut allow = statement("A", StatementEffect::Allow, "team-a", &[Action::ReplicateImage], "*");
    allow.principals[0].configuration = Some("other".to_owned());
    let policies = [policy("a", "eu-west-1", vec![allow])];
    assert!(!evaluate(&request("team-a", Action::ReplicateImage, "x"), &policies).allowed);
}

/// Returns the evaluator once more, as nested loops that vote, with a recursive wildcard.
fn second_opinion(request: &PermissionRequest<'_>, policies: &[Policy]) -> bool {
    fn glob(pattern: &[char], text: &[char]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some('*'), _) if glob(&pattern[1..], text) => true,
            (Some('*'), Some(_)) => glob(pattern, &text[1..]),
            (Some(p), Some(t)) if *p == '?' || p == t => glob(&pattern[1..], &text[1..]),
            _ => false,
        }
    }
    let mut votes_for = request.namespace == request.registry_namespace;
    let mut votes_against = false;
    for policy in policies {
        let spec = policy.spec.as_ref().unwrap();
        for statement in &spec.statements {
            for principal in &statement.principals {
                for action in &statement.actions {
                    for resource in &statement.resources {
                        let pattern: Vec<char> = resource.chars().collect();
                        let text: Vec<char> = request.repository.chars().collect();
                        let covers = *action == request.action
                            || (statement.effect == StatementEffect::Allow
                                && request.action == Action::OverwriteTag
                                && *action == Action::ReplicateImage);
                        let applies = spec.registry_ref.name == request.registry
                            && (principal.namespace == "*" || principal.namespace == request.namespace)
                            && (principal.configuration.is_none()
                                || principal.configuration.as_deref() == Some(request.configuration))
                            && covers
                            && glob(&pattern, &text);
                        votes_for |= applies && statement.effect == StatementEffect::Allow;
                        votes_against |= applies && statement.effect == StatementEffect::Deny;
                    }
                }
            }
        }
    }
    votes_for && !votes_against
}

fn any_statement() -> impl Strategy<Value = Statement> {
    let actions =
        prop::sample::subsequence(vec![Action::CreateRepository, Action::OverwriteTag, Action::ReplicateImage], 1..=3);
    let principal = (
        prop::sample::select(vec!["*", "team-a", "team-b"]),
        prop::option::of(prop::sample::select(vec!["services", "other"])),
    );
    (
        "[a-c]",
        any::<bool>(),
        prop::collection::vec(principal, 1..3),
        actions,
        prop::collection::vec("[ab*?/]{1,5}", 1..3),
    )
        .prop_map(|(sid, allow, principals, mut actions, resources)| {
            if allow {
                actions.retain(|action| *action != Action::OverwriteTag); // as the CRD's rule demands
            }
            Statement {
                sid,
                effect: if allow { StatementEffect::Allow } else { StatementEffect::Deny },
                principals: principals
                    .into_iter()
                    .map(|(namespace, configuration)| Principal {
                        namespace: namespace.to_owned(),
                        configuration: configuration.map(str::to_owned),
                    })
                    .collect(),
                actions,
                resources,
            }
        })
}

fn any_policies() -> impl Strategy<Value = Vec<Policy>> {
    let registry = prop::sample::select(vec!["eu-west-1", "us-west-2"]);
    let one = (registry, prop::collection::vec(any_statement(), 0..4));
    prop::collection::vec(one, 0..4).prop_map(|policies| {
        policies
            .into_iter()
            .enumerate()
            .map(|(i, (registry, statements))| policy(&format!("p{i}"), registry, statements))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn two_evaluators_agree(
        policies in any_policies(),
        namespace in prop::sample::select(vec!["team-a", "team-b", "team-c"]),
        action in prop::sample::select(vec![Action::CreateRepository, Action::OverwriteTag, Action::ReplicateImage]),
        repository in "[ab/]{1,5}",
    ) {
        let request = request(namespace, action, &repository);
        prop_assert_eq!(evaluate(&request, &policies).allowed, second_opinion(&request, &policies));
    }

    #[test]
    fn order_and_repetition_never_matter(policies in any_policies(), repository in "[ab/]{1,5}") {
        let request = request("team-a", Action::ReplicateImage, &repository);
        let mut turned: Vec<Policy> = policies.iter().rev().cloned().collect();
        for policy in &mut turned {
            if let Some(spec) = &mut policy.spec {
                spec.statements.reverse();
                spec.statements.extend(spec.statements.clone());
            }
        }
        let (first, second) = (evaluate(&request, &policies), evaluate(&request, &turned));
        prop_assert_eq!(first.allowed, second.allowed);
        prop_assert_eq!(first.message, second.message);
    }
}

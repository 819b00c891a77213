//! The evaluator against the documentation of the kind, read as a formula over sets, in many random cases.
//!
//! `make prove` runs 10,000,000 cases, `make test` 100,000. TRANSSHIP_SEED=N replays a run.

use std::collections::BTreeSet;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::super::*;
use crate::terms::LocalRegistryReference;

/// One tuple that a set of statements gives an effect to: everything that a statement multiplies out to.
type Entry<'a> = (StatementEffect, Option<&'a str>, Option<&'a str>, Action, &'a str);

/// Returns the answer of the documentation: `docs/reference/registry-permission-policy.md`.
///
/// The statements of all policies of the Registry are one set of entries. A request is allowed if its policies can be
/// read, its principal has a name, no entry that denies covers it, and it stays in its namespace or an entry that allows
/// covers it. `OverwriteTag` is allowed with `ReplicateImage`, and `DeleteImage` only by an entry.
fn documented(request: &PermissionRequest<'_>, policies: &[Policy]) -> bool {
    let readable: Option<Vec<&RegistryPermissionPolicySpec>> = policies.iter().map(|p| p.spec.as_ref()).collect();
    let Some(readable) = readable else { return false };
    let entries: BTreeSet<String> = readable
        .into_iter()
        .filter(|spec| spec.registry_ref.name == request.registry)
        .flat_map(|spec| &spec.statements)
        .flat_map(|statement| {
            let tuples = statement.principals.iter().flat_map(move |principal| {
                let namespace = (principal.namespace != "*").then_some(principal.namespace.as_str());
                let configuration = principal.configuration.as_deref();
                statement.actions.iter().flat_map(move |action| {
                    let entry = move |resource| (statement.effect, namespace, configuration, *action, resource);
                    statement.resources.iter().map(move |resource| entry(resource.as_str()))
                })
            });
            tuples.filter(|entry| covers(entry, request)).map(|entry| format!("{:?}", entry.0))
        })
        .collect();
    let (denied, allowed) = (entries.contains("Deny"), entries.contains("Allow"));
    let has_name = !request.namespace.is_empty() && !request.configuration.is_empty();
    let is_own = request.namespace == request.registry_namespace && request.action != Action::DeleteImage;
    has_name && !denied && (allowed || is_own)
}

fn covers((effect, namespace, configuration, action, resource): &Entry<'_>, request: &PermissionRequest<'_>) -> bool {
    let asked = match (effect, request.action) {
        (StatementEffect::Allow, Action::OverwriteTag) => Action::ReplicateImage,
        (_, action) => action,
    };
    namespace.is_none_or(|namespace| namespace == request.namespace)
        && configuration.is_none_or(|configuration| configuration == request.configuration)
        && *action == asked
        && language_holds(resource.as_bytes(), request.repository.as_bytes())
}

/// Decides by the set of places in the pattern that are reachable after each character, as for a regular language.
fn language_holds(pattern: &[u8], text: &[u8]) -> bool {
    let skip_stars = |places: &mut Vec<bool>| {
        for place in 0..pattern.len() {
            if places[place] && pattern[place] == b'*' {
                places[place + 1] = true;
            }
        }
    };
    let mut places = vec![false; pattern.len() + 1];
    places[0] = true;
    skip_stars(&mut places);
    for character in text {
        let mut next = vec![false; pattern.len() + 1];
        for (place, symbol) in pattern.iter().enumerate().filter(|(place, _)| places[*place]) {
            next[place] |= *symbol == b'*';
            next[place + 1] |= *symbol == b'?' || symbol == character;
        }
        skip_stars(&mut next);
        places = next;
    }
    places[pattern.len()]
}

const ACTIONS: [Action; 4] =
    [Action::CreateRepository, Action::DeleteImage, Action::OverwriteTag, Action::ReplicateImage];
const NAMESPACES: [&str; 4] = ["*", "team-a", "team-b", "team-c"];
const CONFIGURATIONS: [&str; 2] = ["services", "other"];
const REGISTRIES: [&str; 2] = ["eu-west-1", "us-west-2"];

fn pick<T: Copy>(random: &mut SmallRng, from: &[T]) -> T {
    from[random.random_range(0..from.len())]
}

fn text(random: &mut SmallRng, alphabet: &[u8], most: usize) -> String {
    let length = random.random_range(1..=most);
    (0..length).map(|_| char::from(pick(random, alphabet))).collect()
}

fn several<T>(random: &mut SmallRng, most: usize, mut make: impl FnMut(&mut SmallRng) -> T) -> Vec<T> {
    (0..random.random_range(1..=most)).map(|_| make(random)).collect()
}

fn any_statement(random: &mut SmallRng) -> Statement {
    let principal = |random: &mut SmallRng| Principal {
        namespace: pick(random, &NAMESPACES).to_owned(),
        configuration: random.random_bool(0.3).then(|| pick(random, &CONFIGURATIONS).to_owned()),
    };
    Statement {
        sid: text(random, b"ab", 1),
        effect: pick(random, &[StatementEffect::Allow, StatementEffect::Allow, StatementEffect::Deny]),
        principals: several(random, 2, principal),
        actions: several(random, 3, |random| pick(random, &ACTIONS)),
        resources: several(random, 2, |random| text(random, b"ab*?/", 5)),
    }
}

fn any_policies(random: &mut SmallRng) -> Vec<Policy> {
    let one = |random: &mut SmallRng| {
        let registry_ref = LocalRegistryReference { name: pick(random, &REGISTRIES).to_owned() };
        let statements = (0..random.random_range(0..4)).map(|_| any_statement(random)).collect();
        let is_readable = !random.random_bool(0.01);
        let spec = is_readable.then_some(RegistryPermissionPolicySpec { registry_ref, statements });
        Policy { name: text(random, b"pq", 2), spec }
    };
    (0..random.random_range(0..4)).map(|_| one(random)).collect()
}

#[test]
fn the_evaluator_does_what_the_documentation_says() {
    let from = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (cases, seed) =
        (from("TRANSSHIP_CASES").unwrap_or(100_000), from("TRANSSHIP_SEED").unwrap_or_else(rand::random));
    let mut random = SmallRng::seed_from_u64(seed);
    let mut allowed = 0;
    for case in 0..cases {
        let policies = any_policies(&mut random);
        let repository = text(&mut random, b"ab/", 5);
        let request = PermissionRequest {
            namespace: pick(&mut random, &["team-a", "team-a", "team-b", "team-c", ""]),
            configuration: pick(&mut random, &["services", "services", "other", ""]),
            action: pick(&mut random, &ACTIONS),
            registry_namespace: "team-b",
            registry: "eu-west-1",
            repository: &repository,
        };
        let decision = evaluate(&request, &policies);
        let expected = documented(&request, &policies);
        assert_eq!(decision.allowed, expected, "TRANSSHIP_SEED={seed}, case {case}: {request:?} {policies:#?}");
        allowed += u64::from(expected);
    }
    println!("{cases} cases with TRANSSHIP_SEED={seed}: {allowed} allowed");
    assert!(
        (cases / 10..cases * 9 / 10).contains(&allowed),
        "{allowed} of {cases} are allowed: the cases prove little"
    );
}

//! Destinations of other owners that consent to nothing show nothing, and nothing is lost when consent comes back.

use super::*;
use crate::plan::NamespacedName;
use crate::policy::Policy;
use crate::terms::RegistryPermissionPolicySpec;

const SOURCE: &[(&str, &[(&str, &str)])] = &[("app", &[("v1", "1")])];
const ALLOW: &str = "{registryRef: {name: d}, statements: [{sid: Yes, effect: Allow, principals: [{namespace: a}], actions: [ReplicateImage, CreateRepository], resources: ['*']}]}";

fn theirs() -> NamespacedName {
    NamespacedName { namespace: "b".to_owned(), name: "d".to_owned() }
}

/// Returns orders of a configuration with a destination of another owner, which is `identity` to it.
fn cross(identity: Option<RegistryIdentity>, has_consent: bool, dependencies: u64) -> Orders {
    let spec = SPEC.replace("RULE", "").replace("registryRef: {name: d}", "registryRef: {namespace: b, name: d}");
    let spec: ReplicationConfigurationSpec = serde_saphyr::from_str(&spec).unwrap();
    let mut orders = orders(1, "");
    orders.configuration = parse_configuration("a", "c", &spec).map(Arc::new);
    orders.registries.retain(|reference, _| reference.name == "s");
    orders.registries.extend(identity.map(|identity| (theirs(), identity)));
    let spec: RegistryPermissionPolicySpec = serde_saphyr::from_str(ALLOW).unwrap();
    let policy = Policy { name: "p".to_owned(), spec: Some(spec) };
    orders.policies = Arc::new(has_consent.then(|| ("b".to_owned(), vec![policy])).into_iter().collect());
    orders.dependencies = dependencies;
    orders
}

fn hidden(dependencies: u64) -> Orders {
    cross(Some(RegistryIdentity::hidden(&theirs())), false, dependencies)
}

fn known(dependencies: u64) -> Orders {
    let identity = RegistryIdentity { uid: "uid-d".to_owned(), host: "d.example".to_owned() };
    cross(Some(identity), true, dependencies)
}

fn place() -> RepositoryAddress {
    RepositoryAddress { host: "d.example".to_owned(), repository: "app".parse().unwrap() }
}

fn is_permitted(bench: &Bench) -> Vec<bool> {
    let conditions = bench.statuses.values().flat_map(|status| &status.conditions);
    conditions.filter(|c| c.type_ == "Permitted").map(|condition| condition.status == "True").collect()
}

#[test]
fn without_consent_a_pair_shows_neither_uid_nor_host_and_claims_nothing() {
    let mut bench = Bench::resumed(hidden(0), Stored::default(), 0);
    bench.compare(SOURCE, true);
    bench.copied(Err(FailureCode::RegistryPermissionDenied));
    let uid = |bench: &Bench| {
        let pair = bench.machine.pairs().next().expect("a pair");
        pair.identity.spec.destination.registry_ref.uid.clone()
    };
    assert_eq!(uid(&bench), "00000000-0000-0000-0000-000000000000");
    assert_eq!(bench.report.problem, None);
    assert_eq!(is_permitted(&bench), [false]);
    assert_eq!(bench.report.blocked.as_ref().map(|problem| problem.reason), Some(reason::NO_STATEMENT_ALLOWS));
    bench.step(Event::Orders(Arc::new(known(1))));
    bench.compare(SOURCE, true);
    assert_eq!((uid(&bench).as_str(), bench.copies.len()), ("uid-d", 1));
    assert!(bench.claims.holds("uid-c", &place()));
    bench.copied(Ok(()));
    assert!(bench.is_ready() && bench.statuses.len() == 1);
}

#[test]
fn what_was_verified_is_kept_while_consent_is_away_also_over_a_restart() {
    for restarts in [false, true] {
        let mut bench = Bench::resumed(known(0), Stored::default(), 0);
        bench.compare(SOURCE, true);
        bench.copied(Ok(()));
        let name = bench.statuses.keys().next().cloned();
        bench.step(Event::Orders(Arc::new(hidden(1))));
        bench.passes(6);
        assert!(!bench.claims.holds("uid-c", &place()));
        if restarts {
            let stored = bench.stored();
            let identities = bench.identities.clone();
            bench = Bench { identities, ..Bench::resumed(hidden(1), stored, 10) };
        }
        assert!(matches!(bench.row("v1"), Some(crate::plan::RowState::Complete { .. })), "restarts: {restarts}");
        bench.step(Event::Orders(Arc::new(known(2))));
        assert!(bench.claims.holds("uid-c", &place()) && bench.copies.is_empty(), "restarts: {restarts}");
        bench.compare(SOURCE, true);
        bench.passes(6);
        assert!(matches!(bench.row("v1"), Some(crate::plan::RowState::Complete { .. })), "restarts: {restarts}");
        let is_same = |other: &String| Some(other) == name.as_ref();
        assert!(bench.statuses.keys().all(is_same), "restarts: {restarts}");
        bench.pushed("v2", "2");
        let places: Vec<_> = bench.copies.values().map(|copy| copy.place.clone()).collect();
        assert_eq!(places, [place()], "restarts: {restarts}");
    }
}

#[test]
fn a_registry_that_is_another_one_when_consent_comes_back_starts_anew() {
    let mut bench = Bench::resumed(known(0), Stored::default(), 0);
    bench.compare(SOURCE, true);
    bench.copied(Ok(()));
    bench.step(Event::Orders(Arc::new(hidden(1))));
    let mut orders = known(2);
    orders.registries.get_mut(&theirs()).unwrap().uid = "uid-other".to_owned();
    bench.step(Event::Orders(Arc::new(orders)));
    assert!(bench.statuses.is_empty());
    bench.compare(SOURCE, true);
    assert!(bench.copies.values().all(|copy| copy.destination_uid == "uid-other") && bench.copies.len() == 1);
}

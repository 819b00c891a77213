//! Configurations of one process that are refused for one cause: one of them tries for all.

use super::*;
use crate::plan::NamespacedName;
use crate::policy::Policy;
use crate::terms::RegistryPermissionPolicySpec;

const SHARED: &str = "{source: {registryRef: {name: s}}, interval: 10m, rules: [{name: all, destinations: [{registryRef: {name: d, namespace: a}}]}]}";
const ALLOW: &str = "{registryRef: {name: d}, statements: [{sid: Yes, effect: Allow, principals: [{namespace: TEAM}], actions: [ReplicateImage, CreateRepository], resources: ['*']}]}";

/// Returns the orders of the configuration `n` of a namespace, whose destination is one Registry of another namespace.
fn orders_of(n: usize, namespace: &str) -> Orders {
    let spec: ReplicationConfigurationSpec = serde_saphyr::from_str(SHARED).unwrap();
    let policy: RegistryPermissionPolicySpec = serde_saphyr::from_str(&ALLOW.replace("TEAM", namespace)).unwrap();
    let mut orders = orders(1, "");
    orders.namespace = namespace.to_owned();
    orders.holder.uid = format!("uid-{n}");
    orders.configuration = parse_configuration(namespace, "c", &spec).map(Arc::new);
    let source = NamespacedName { namespace: namespace.to_owned(), name: "s".to_owned() };
    let identity = RegistryIdentity { uid: format!("uid-s-{namespace}"), host: format!("{namespace}.example") };
    orders.registries.insert(source, identity);
    let policy = Policy { name: "p".to_owned(), spec: Some(policy) };
    orders.policies = Arc::new([("a".to_owned(), vec![policy])].into());
    orders
}

/// Returns configurations of a number of namespaces that each found `images` images, with claims that they share.
fn fleet(configurations: usize, namespaces: usize, images: usize) -> Vec<Bench> {
    fleet_of((0..configurations).map(|n| orders_of(n, &format!("team-{}", n % namespaces))), images)
}

fn fleet_of(all: impl Iterator<Item = Orders>, images: usize) -> Vec<Bench> {
    let mut fleet: Vec<Bench> = Vec::new();
    for (n, orders) in all.enumerate() {
        let claims = fleet.last_mut().map(|bench| std::mem::take(&mut bench.claims)).unwrap_or_default();
        let mut bench = Bench::resumed(orders, Stored::default(), 0);
        bench.claims = claims;
        let tags: Vec<String> = (0..images).map(|i| format!("v{i}")).collect();
        let tags: Vec<(&str, &str)> = tags.iter().map(|tag| (tag.as_str(), tag.as_str())).collect();
        bench.compare(&[(&format!("app-{n}"), &tags[..])], true);
        fleet.push(bench);
    }
    if let Some(claims) = fleet.last_mut().map(|bench| std::mem::take(&mut bench.claims)) {
        fleet[0].claims = claims;
    }
    fleet
}

/// Acts on each configuration in turn, as those of one process.
fn each(fleet: &mut [Bench], mut act: impl FnMut(&mut Bench)) {
    let mut claims = std::mem::take(&mut fleet[0].claims);
    for bench in fleet.iter_mut() {
        std::mem::swap(&mut bench.claims, &mut claims);
        act(bench);
        std::mem::swap(&mut bench.claims, &mut claims);
    }
    fleet[0].claims = claims;
}

/// Fails every copy until `seconds` have passed. Returns the second of each attempt.
fn refused(fleet: &mut [Bench], code: FailureCode, seconds: std::ops::Range<i64>) -> Vec<i64> {
    let mut attempts = Vec::new();
    for second in seconds {
        each(fleet, |bench| {
            bench.now = at(second);
            if bench.machine.wake_at(bench.now).is_some_and(|wake| wake <= bench.now) {
                bench.step(Event::Wake);
            }
            while !bench.copies.is_empty() {
                attempts.extend(bench.copies.iter().map(|_| second));
                bench.copied(Err(code));
            }
        });
    }
    attempts
}

#[test]
fn two_hundred_refused_configurations_try_once_in_fifteen_seconds() {
    for (code, namespaces) in [
        (FailureCode::RegistryPermissionDenied, 1),
        (FailureCode::DestinationDenied, 4),
        (FailureCode::SourceDenied, 200),
    ] {
        let mut fleet = fleet(200, namespaces, 5);
        let attempts = refused(&mut fleet, code, 0..560);
        let late: Vec<i64> = attempts.into_iter().filter(|second| *second > 120).collect();
        // The source of each namespace is another one.
        let sources = if code == FailureCode::SourceDenied { 200 } else { 1 };
        let bound = sources * (440 / 15 + 1);
        assert!(late.len() <= bound, "{code:?}: {} in 440 s", late.len());
        assert!(late.len() >= 20, "{code:?}: {}", late.len());
    }
}

#[test]
fn the_first_that_is_admitted_has_the_others_follow_soon() {
    let mut fleet = fleet(20, 4, 5);
    refused(&mut fleet, FailureCode::DestinationDenied, 0..200);
    let mut complete_at = None;
    for second in 200..400 {
        each(&mut fleet, |bench| {
            bench.now = at(second);
            bench.step(Event::Wake); // It stands for the wakes that others ask for.
            bench.copied(Ok(()));
        });
        let complete =
            fleet.iter().filter(|it| it.statuses.values().all(|status| status.summary.complete == 5)).count();
        if complete == fleet.len() {
            complete_at = Some(second);
            break;
        }
    }
    let complete_at = complete_at.expect("all are complete in the end");
    assert!(complete_at <= 260, "all within a minute: {complete_at}");
}

#[test]
fn a_refused_namespace_keeps_its_turns_beside_one_with_many_configurations() {
    let mut fleet = fleet_of((0..60).map(|n| orders_of(n, if n == 0 { "good" } else { "evil" })), 2);
    refused(&mut fleet, FailureCode::RegistryPermissionDenied, 0..120);
    let mut own = 0;
    for second in 120..420 {
        each(&mut fleet, |bench| {
            bench.now = at(second);
            bench.step(Event::Wake);
            own += if bench.machine.orders.namespace == "evil" { 0 } else { bench.copies.len() };
            bench.copied(Err(FailureCode::RegistryPermissionDenied));
        });
    }
    assert!((6..=20).contains(&own), "every second turn of 300 s: {own}");
}

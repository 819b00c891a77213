//! Names at the destination: what the state machine does about those that meet.

use super::*;
use crate::plan::RepositoryAddress;

/// Returns orders whose destinations are these, by Registry and template.
fn to(generation: i64, destinations: &[(&str, &str)]) -> Orders {
    let destination = |(registry, repository): &(&str, &str)| {
        format!("{{registryRef: {{name: {registry}}}, repository: '{repository}'}}")
    };
    let destinations: Vec<_> = destinations.iter().map(destination).collect();
    let spec = SPEC.replace("{registryRef: {name: d}}", &destinations.join(", ")).replace("RULE", "");
    let spec: ReplicationConfigurationSpec = serde_saphyr::from_str(&spec).unwrap();
    Orders { configuration: parse_configuration("a", "c", &spec).map(Arc::new), ..orders(generation, "") }
}

fn started(orders: Orders) -> Bench {
    Bench::resumed(orders, Stored::default(), 0)
}

/// Returns the copies that run, as `source > target`.
fn running(bench: &Bench) -> Vec<String> {
    let line = |copy: &Arc<Assignment>| format!("{} > {}", copy.repository, copy.place.repository);
    let mut lines: Vec<_> = bench.copies.values().map(line).collect();
    lines.sort();
    lines
}

fn reasons(bench: &Bench) -> Vec<&'static str> {
    bench.machine.problems().map(|problem| problem.reason).collect()
}

#[test]
fn repositories_that_would_merge_are_not_copied_also_after_a_push() {
    let mut bench = started(to(1, &[("d", "m/{basename}")]));
    let source: [(&str, &[(&str, &str)]); 3] = [("a/x", &[("v", "1")]), ("b/x", &[("v", "2")]), ("c/z", &[("v", "3")])];
    bench.compare(&source, true);
    assert_eq!(running(&bench), ["c/z > m/z"]);
    assert_eq!(reasons(&bench), [reason::DESTINATION_NAME_COLLISION]);
    let pushed = bench.observed("b/x", "w", "4", bench.now);
    bench.step(Event::Looked(Looked::Seen(pushed)));
    assert_eq!(running(&bench), ["c/z > m/z"]);
    bench.copied(Ok(()));
    assert!(!bench.is_ready() && bench.report.phase == ComparisonPhase::Compared);

    // One of them goes: the other takes its place.
    bench.passes(600);
    bench.compare(&[source[0], source[2]], true);
    assert_eq!(running(&bench), ["a/x > m/x"]);
    bench.copied(Ok(()));
    assert!(bench.is_ready());
    bench.passes(600);
    bench.compare(&source, true);
    assert!(bench.copies.is_empty(), "the one that was copied goes on, and the newcomer is refused");
    assert_eq!(reasons(&bench), [reason::DESTINATION_NAME_COLLISION]);
}

#[test]
fn what_was_copied_before_a_restart_keeps_its_destination() {
    let orders = || to(1, &[("d", "{basename}")]);
    let mut before = started(orders());
    before.compare(&[("b/x", &[("v", "1")])], true);
    before.copied(Ok(()));
    before.passes(20);
    let mut bench = Bench::resumed(orders(), before.stored(), 100);
    let pushed = bench.observed("a/x", "v", "2", bench.now);
    bench.step(Event::Looked(Looked::Seen(pushed)));
    bench.compare(&[("a/x", &[("v", "2")]), ("b/x", &[("v", "3")])], true);
    assert_eq!(running(&bench), ["b/x > x"]);
}

#[test]
fn one_registry_takes_a_repository_under_two_names() {
    let mut bench = started(to(1, &[("d", "one/{repository}"), ("d", "two/{repository}")]));
    bench.compare(&[("x", &[("v", "1")])], true);
    assert_eq!(running(&bench), ["x > one/x", "x > two/x"]);
    bench.copied(Ok(()));
    bench.passes(20);
    assert!(bench.is_ready() && bench.statuses.len() == 2);
    bench.step(Event::Orders(Arc::new(to(2, &[("d", "two/{repository}")]))));
    assert_eq!(bench.statuses.len(), 1, "the status of a name that no rule gives goes");
}

#[test]
fn what_the_configuration_writes_is_never_read_by_it() {
    let mut bench = started(to(1, &[("s", "m/{repository}")]));
    bench.compare(&[("x", &[("v", "1")])], true);
    assert_eq!(running(&bench), ["x > m/x"]);
    bench.copied(Ok(()));
    assert!(bench.is_ready());
    let own = bench.observed("m/x", "v", "1", bench.now);
    bench.step(Event::Looked(Looked::Seen(own)));
    assert!(bench.copies.is_empty(), "a notification of its own write");
    bench.passes(600);
    bench.compare(&[("m/x", &[("v", "1")]), ("x", &[("v", "2")])], true);
    assert_eq!(running(&bench), ["x > m/x"]);
    assert_eq!(reasons(&bench), [reason::SELF_REPLICATION]);
    let place = RepositoryAddress { host: "s.example".to_owned(), repository: "m/x".parse().unwrap() };
    assert!(bench.claims.holds("uid-c", &place));
}

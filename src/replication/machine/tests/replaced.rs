//! Copies stop when the Registries that they use are no longer those of the spec.

use super::*;
use crate::plan::NamespacedName;

const SOURCE: &[(&str, &[(&str, &str)])] = &[("app", &[("v1", "1")])];

fn copying() -> Bench {
    let mut bench = Bench::new("");
    bench.compare(SOURCE, true);
    assert_eq!(bench.copies.len(), 1);
    bench
}

/// Has the Registry `name` be another object of the same name.
fn replaced(name: &str) -> Orders {
    let mut orders = orders(1, "");
    let replaced = orders.registries.iter_mut().filter(|(reference, _)| reference.name == name);
    replaced.for_each(|(_, identity)| identity.uid = "another".to_owned());
    orders.dependencies = 1;
    orders
}

#[test]
fn copies_from_or_to_a_registry_that_was_made_anew_stop() {
    for name in ["s", "d"] {
        let mut bench = copying();
        bench.step(Event::Orders(Arc::new(replaced(name))));
        assert!(bench.copies.is_empty() && bench.statuses.is_empty(), "{name}");
        bench.compare(SOURCE, true);
        let copy = bench.copies.values().next().expect("it is copied anew");
        assert!([&copy.source_uid, &copy.destination_uid].iter().any(|uid| *uid == "another"), "{name}");
    }
}

#[test]
fn copies_of_a_source_that_the_spec_no_longer_names_stop() {
    let mut bench = copying();
    let mut orders = orders(2, "");
    let spec = SPEC.replace("RULE", "").replace("source: {registryRef: {name: s}}", "source: {registryRef: {name: t}}");
    let spec: ReplicationConfigurationSpec = serde_saphyr::from_str(&spec).unwrap();
    orders.configuration = parse_configuration("a", "c", &spec).map(Arc::new);
    let other = NamespacedName { namespace: "a".to_owned(), name: "t".to_owned() };
    let identity = RegistryIdentity { uid: "uid-t".to_owned(), host: "t.example".to_owned() };
    orders.registries.insert(other, identity);
    bench.step(Event::Orders(Arc::new(orders)));
    assert!(bench.copies.is_empty() && bench.statuses.is_empty(), "what was copied of the other source is not its own");
    bench.compare(SOURCE, true);
    assert!(bench.copies.values().all(|copy| copy.source_uid == "uid-t") && bench.copies.len() == 1);
}

#[test]
fn an_answer_from_before_a_registry_was_replaced_is_looked_at_again() {
    let mut bench = Bench::new("");
    bench.compare(SOURCE, true);
    bench.copied(Ok(()));
    bench.passes(10);
    let late = bench.observed("app", "v1", "2", bench.now);
    bench.passes(5);
    bench.pushed("v1", "3");
    bench.passes(10);
    assert_eq!(bench.copying(), [digest("3")]);
    bench.copied(Ok(()));
    bench.step(Event::Orders(Arc::new(replaced("d"))));
    let looks = bench.machine.hints_wanted();
    bench.step(Event::Looked(Looked::Seen(late)));
    bench.passes(10);
    assert!(bench.copying().is_empty(), "what is there is newer");
    assert!(bench.machine.hints_wanted() <= looks);
}

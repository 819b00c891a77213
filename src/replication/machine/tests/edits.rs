//! Edits of a spec: each takes effect without a restart, and none deletes anything by itself.

use super::deletions::{Play, RULE};
use super::*;
use crate::plan::NamespacedName;

#[test]
fn a_destination_that_is_added_is_filled_at_once() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "1"), ("v2", "2")])], true);
    bench.copied(Ok(()));
    let spec = SPEC
        .replace("RULE", "")
        .replace("[{registryRef: {name: d}}]", "[{registryRef: {name: d}}, {registryRef: {name: e}}]");
    let spec: ReplicationConfigurationSpec = serde_saphyr::from_str(&spec).unwrap();
    let mut changed = orders(2, "");
    changed.configuration = parse_configuration("a", "c", &spec).map(Arc::new);
    let added = NamespacedName { namespace: "a".to_owned(), name: "e".to_owned() };
    let identity = RegistryIdentity { uid: "uid-e".to_owned(), host: "e.example".to_owned() };
    changed.registries.insert(added.clone(), identity);
    bench.step(Event::Orders(Arc::new(changed)));
    assert!(bench.machine.is_comparing(), "it does not wait for the interval");
    bench.compare(&[("app", &[("v1", "1"), ("v2", "2")])], true);
    let to: Vec<(&NamespacedName, &str)> =
        bench.copies.values().map(|copy| (&copy.destination, copy.tag.as_str())).collect();
    assert_eq!(to, [(&added, "v1"), (&added, "v2")]);
}

#[test]
fn an_edit_takes_effect_without_a_restart_and_deletes_nothing() {
    // edit; tags that are left in the status
    let exact = |list: &str, filter: &str| format!("{list}: [{{filter: {filter}, filterType: EXACT_MATCH}}],");
    let edits = [
        (exact("tagFilters", "a"), "a"),
        (exact("excludeTagFilters", "c"), "abd"),
        ("newest: {count: 2, by: Name},".to_owned(), "cd"),
        ("newest: {count: 1, by: Semver},".to_owned(), "d"),
        (format!("{} newest: {{count: 2, by: Name}},", exact("excludeTagFilters", "d")), "bc"),
        (exact("repositoryFilters", "other"), ""),
        (exact("excludeRepositoryFilters", "app"), ""),
        ("platforms: [linux/amd64],".to_owned(), "abcd"),
        ("onTagConflict: Keep,".to_owned(), "abcd"),
    ];
    for (edit, left) in edits {
        let mut play = Play::new(RULE, "abcd");
        play.pass(600);
        let configuration = orders(1, &format!("{RULE} {edit}")).configuration;
        assert!(configuration.is_ok(), "{edit}");
        play.order(|orders| orders.configuration = configuration);
        for _ in 0..4 {
            play.list("abcd");
            play.pass(601);
        }
        assert_eq!(play.deleted(), "", "{edit}");
        let pair = play.bench.machine.pairs().next();
        let rows: String = pair.iter().flat_map(|pair| pair.ledger.rows()).map(|(tag, _)| tag.as_str()).collect();
        assert_eq!(rows, left, "{edit}");
    }
}

#[test]
fn an_image_that_is_back_after_a_deletion_that_a_rule_ended_is_copied_once() {
    let mut play = Play::new(RULE, "ab");
    for _ in 0..2 {
        play.bench.passes(700);
        play.begin();
        play.bench.compare(&[("app", &[("a", "a")])], true);
    }
    play.bench.passes(30);
    assert_eq!(play.bench.deletions.len(), 1, "it runs");
    play.orders.configuration = orders(2, "").configuration;
    play.bench.step(Event::Orders(Arc::new(play.orders.clone())));
    play.settle();
    play.list("ab");
    play.pass(700);
    let counts: Vec<u64> = play.bench.machine.pairs().map(|pair| pair.ledger.counts().complete).collect();
    assert_eq!((counts, play.bench.copies.len()), (vec![2], 0));
}

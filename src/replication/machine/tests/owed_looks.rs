//! Looks that are owed: after a comparison that did not list everything, and after hints that were not followed.

use super::sweep::{tag, verified};
use super::*;

#[test]
fn a_request_that_met_a_source_that_is_down_stays_thorough() {
    let mut bench = Bench::resumed(Orders { request: Some("now".to_owned()), ..orders(1, "") }, verified(1), 1_000);
    let down = Problem { stalled: false, reason: reason::SOURCE_UNREADABLE, message: "no answer".to_owned() };
    bench.find(Finding::Problem(down));
    bench.find(Finding::Done(Coverage::Partial));
    for is_thorough in [true, false] {
        bench.passes(600);
        bench.compare(&[("app", &[("v000000", "A")])], true);
        assert_eq!(bench.looks.pop().unwrap().known == KnownLooks::All, is_thorough);
    }
}

#[test]
fn a_repository_that_a_requested_comparison_could_not_list_is_still_owed() {
    let mut bench = Bench::resumed(Orders { request: Some("now".to_owned()), ..orders(1, "") }, verified(1), 1_000);
    bench.find_repositories(&["app"]);
    bench.find(Finding::Done(Coverage::Partial));
    for is_thorough in [true, false] {
        bench.passes(600);
        bench.compare(&[("app", &[("v000000", "A")])], true);
        assert_eq!(bench.looks.pop().unwrap().known == KnownLooks::All, is_thorough);
    }
}

#[test]
fn a_tag_that_was_pushed_during_a_suspension_is_looked_at_after_it() {
    let suspended = |is_suspended: bool, generation: i64| {
        let spec = SPEC.replace("interval", &format!("suspend: {is_suspended}, interval")).replace("RULE", "");
        let spec: ReplicationConfigurationSpec = serde_saphyr::from_str(&spec).unwrap();
        let configuration = parse_configuration("a", "c", &spec).map(Arc::new);
        Event::Orders(Arc::new(Orders { configuration, ..orders(generation, "") }))
    };
    let mut bench = Bench::resumed(orders(1, ""), verified(1_000), 1_000);
    let tags: Vec<(String, &str)> = (0..1_000).map(|number| (tag(number).to_string(), "A")).collect();
    let tags: Vec<(&str, &str)> = tags.iter().map(|(tag, content)| (tag.as_str(), *content)).collect();
    bench.compare(&[("app", &tags)], true);
    bench.step(suspended(true, 2));
    let hinted = vec![("app".parse().unwrap(), tag(7), None)];
    bench.step(Event::Hints(Hints { tags: hinted, ..Hints::default() }));
    bench.step(suspended(false, 3));
    bench.compare(&[("app", &tags)], true);
    let (KnownLooks::Only(due) | KnownLooks::WithinBudget(due)) = bench.looks.pop().unwrap().known else { return };
    assert!(due.contains(&tag(7)), "{due:?}");
}

#[test]
fn after_an_invalid_spec_every_tag_is_looked_at_as_no_hint_came() {
    let mut bench = Bench::resumed(orders(1, ""), verified(1), 1_000);
    bench.compare(&[("app", &[("v000000", "A")])], true);
    let invalid = orders(2, "tagFilters: [{filter: '[', filterType: REGEX_MATCH}],");
    assert!(invalid.configuration.is_err());
    bench.step(Event::Orders(Arc::new(invalid)));
    bench.step(Event::Orders(Arc::new(orders(3, ""))));
    bench.compare(&[("app", &[("v000000", "A")])], true);
    assert_eq!(bench.looks.pop().unwrap().known, KnownLooks::All);
}

#[test]
fn a_look_that_shows_the_old_digest_leaves_a_pushed_tag_in_doubt() {
    let mut bench = Bench::resumed(orders(1, ""), verified(2), 1_000);
    bench.compare(&[("app", &[("v000000", "A"), ("v000001", "A")])], true);
    for tag in ["v000000", "v000001"] {
        let observed = bench.observed("app", tag, "A", bench.now);
        let is_other = tag == "v000001";
        let looked = if is_other { Looked::SeenOtherwise(observed) } else { Looked::Seen(observed) };
        bench.step(Event::Looked(looked));
    }
    bench.passes(600);
    bench.compare(&[("app", &[("v000000", "A"), ("v000001", "A")])], true);
    assert_eq!(bench.looks.pop().unwrap().known, KnownLooks::WithinBudget([tag(1)].into()));
}

#[test]
fn a_look_that_shows_another_push_leaves_no_doubt() {
    let mut bench = Bench::resumed(orders(1, ""), verified(1), 1_000);
    bench.compare(&[("app", &[("v000000", "A")])], true);
    let observed = bench.observed("app", "v000000", "B", bench.now);
    bench.step(Event::Looked(Looked::SeenOtherwise(observed)));
    bench.passes(10);
    assert!(bench.copying().contains(&digest("B")));
    bench.copied(Ok(()));
    bench.passes(600);
    bench.compare(&[("app", &[("v000000", "B")])], true);
    assert_eq!(bench.looks.pop().unwrap().known, KnownLooks::WithinBudget(BTreeSet::new()));
}

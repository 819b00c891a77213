//! Looks that are owed: after a comparison that did not list everything, and after hints that were not followed.

use super::sweep::{tag, verified};
use super::*;

fn suspended(is_suspended: bool, generation: i64) -> Event {
    let spec = SPEC.replace("interval", &format!("suspend: {is_suspended}, interval")).replace("RULE", "");
    let spec: ReplicationConfigurationSpec = serde_saphyr::from_str(&spec).unwrap();
    let configuration = parse_configuration("a", "c", &spec).map(Arc::new);
    Event::Orders(Arc::new(Orders { configuration, ..orders(generation, "") }))
}

/// The next comparison looks at every tag, and the one after it does not.
fn owes_one_comparison(mut bench: Bench) {
    for is_thorough in [true, false] {
        bench.passes(600);
        bench.compare(&[("app", &[("v000000", "A")])], true);
        assert_eq!(bench.looks.pop().unwrap().known == KnownLooks::All, is_thorough);
    }
}

#[test]
fn a_request_that_met_a_source_that_is_down_stays_thorough() {
    let mut bench = Bench::resumed(Orders { request: Some("now".to_owned()), ..orders(1, "") }, verified(1), 1_000);
    let down = Problem { stalled: false, reason: reason::SOURCE_UNREADABLE, message: "no answer".to_owned() };
    bench.find(Finding::Problem(down));
    bench.find(Finding::Done(Coverage::Partial));
    owes_one_comparison(bench);
}

#[test]
fn a_repository_that_a_requested_comparison_could_not_list_is_still_owed() {
    let mut bench = Bench::resumed(Orders { request: Some("now".to_owned()), ..orders(1, "") }, verified(1), 1_000);
    bench.find_repositories(&["app"]);
    bench.find(Finding::Done(Coverage::Partial));
    owes_one_comparison(bench);
}

#[test]
fn a_tag_that_was_pushed_during_a_suspension_is_looked_at_after_it() {
    let mut bench = Bench::resumed(orders(1, ""), verified(1_000), 1_000);
    let tags: Vec<(String, &str)> = (0..1_000).map(|number| (tag(number).to_string(), "A")).collect();
    let tags: Vec<(&str, &str)> = tags.iter().map(|(tag, content)| (tag.as_str(), *content)).collect();
    bench.compare(&[("app", &tags)], true);
    bench.step(suspended(true, 2));
    let hinted = vec![("app".parse().unwrap(), tag(7), None)];
    bench.step(Event::Hints(Hints { tags: hinted, ..Hints::default() }));
    bench.step(suspended(false, 3));
    bench.compare(&[("app", &tags)], true);
    let (KnownLooks::Only(due) | KnownLooks::WithinBudget(due)) = bench.looks.pop().unwrap().known else {
        panic!("nothing asks for every tag");
    };
    assert!(due.contains(&tag(7)), "{due:?}");
}

#[test]
fn after_an_invalid_spec_every_tag_is_looked_at_as_no_hint_came() {
    let mut bench = Bench::resumed(orders(1, ""), verified(1), 1_000);
    bench.compare(&[("app", &[("v000000", "A")])], true);
    let invalid = orders(2, "tagFilters: [{filter: '[', filterType: REGEX_MATCH}],");
    assert!(invalid.configuration.is_err());
    bench.step(Event::Orders(Arc::new(invalid)));
    bench.step(suspended(true, 3));
    bench.step(suspended(false, 4));
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
fn a_burst_of_pushes_leaves_the_tag_in_doubt_whatever_a_look_shows() {
    let mut bench = Bench::resumed(orders(1, ""), verified(1), 1_000);
    bench.compare(&[("app", &[("v000000", "A")])], true);
    let observed = bench.observed("app", "v000000", "B", bench.now);
    bench.step(Event::Looked(Looked::SeenOtherwise(observed)));
    bench.passes(10);
    assert!(bench.copying().contains(&digest("B")), "it is copied all the same");
    bench.copied(Ok(()));
    bench.passes(600);
    bench.compare(&[("app", &[("v000000", "C")])], true);
    assert_eq!(bench.looks.pop().unwrap().known, KnownLooks::WithinBudget([tag(0)].into()));
}

#[test]
fn a_signature_that_was_pushed_during_a_suspension_is_read_after_it() {
    let repository: RepositoryName = "app".parse().unwrap();
    let signature: Tag = format!("sha256-{}.sig", digest("A").encoded()).parse().unwrap();
    let mut bench = Bench::resumed(orders(1, ""), verified(1), 1_000);
    let list = |bench: &mut Bench, read: Option<Digest>| {
        bench.find_repositories(&["app"]);
        bench.find_tags("app", &["v000000"]);
        bench.find(Finding::ReferrerTags(repository.clone(), [(signature.clone(), read)].into()));
        bench.find(Finding::Done(Coverage::Whole));
        bench.copied(Ok(()));
        let (KnownLooks::Only(due) | KnownLooks::WithinBudget(due)) = bench.looks.pop().unwrap().known else {
            panic!("nothing asks for every tag");
        };
        due.contains(&signature)
    };
    assert!(!list(&mut bench, Some(digest("one"))));
    bench.step(suspended(true, 2));
    let hinted = vec![(repository.clone(), signature.clone(), None)];
    bench.step(Event::Hints(Hints { tags: hinted, ..Hints::default() }));
    bench.step(suspended(false, 3));
    assert!(list(&mut bench, None), "it could not be read");
    bench.passes(600);
    assert!(list(&mut bench, Some(digest("two"))));
    bench.passes(600);
    assert!(!list(&mut bench, Some(digest("two"))));
}

#[test]
fn a_stopped_comparison_still_owes_what_it_had_listed() {
    let mut bench = Bench::resumed(Orders { request: Some("now".to_owned()), ..orders(1, "") }, verified(1), 1_000);
    bench.find_repositories(&["app"]);
    bench.find(Finding::Done(Coverage::Partial));
    bench.passes(600);
    bench.find_repositories(&["app"]);
    bench.find_tags("app", &["v000000"]);
    assert_eq!(bench.looks.pop().unwrap().known, KnownLooks::All);
    bench.step(Event::Orders(Arc::new(Orders { request: Some("now".to_owned()), ..orders(2, "") })));
    bench.compare(&[("app", &[("v000000", "A")])], true);
    assert_eq!(bench.looks.pop().unwrap().known, KnownLooks::All);
}

#[test]
fn too_many_doubts_cost_looks_in_their_repository_alone() {
    let mut bench = Bench::resumed(orders(1, ""), verified(1), 1_000);
    bench.compare(&[("app", &[("v000000", "A")]), ("other", &[("v000000", "A")])], true);
    bench.copied(Ok(()));
    for number in 0..=1_000 {
        bench.step(Event::Swept(Looked::Unreadable("other".parse().unwrap(), tag(number)), None));
    }
    bench.looks.clear();
    bench.passes(600);
    bench.compare(&[("app", &[("v000000", "A")]), ("other", &[("v000000", "A")])], true);
    let known: Vec<bool> = bench.looks.iter().map(|looks| looks.known == KnownLooks::All).collect();
    assert_eq!(known, [false, true]);
}

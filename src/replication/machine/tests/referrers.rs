//! Lists of the referrers API: what they say of an image that is verified.

use super::*;

#[test]
fn a_list_of_referrers_that_could_not_be_read_changes_nothing() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "A")])], true);
    let permission = Decision { allowed: true, reason: reason::SAME_NAMESPACE, message: String::new() };
    let replica = Replica { bytes: 7, listed: Some("0123456789ab".to_owned()), ..Replica::default() };
    let outcome = Outcome { permission, result: Ok(replica), moved: 0, is_unanswered: false };
    let copy = *bench.copies.keys().next().unwrap();
    bench.copies.clear();
    bench.step(Event::Ended(copy, Some(outcome), 0.5));
    let mut requested = orders(1, "");
    requested.request = Some("compare everything".to_owned());
    bench.now += Duration::from_secs(3_700);
    bench.step(Event::Orders(Arc::new(requested)));

    let repository: RepositoryName = "app".parse().unwrap();
    let tags = BTreeSet::from(["v1".parse().unwrap()]);
    let (names, (unmatched, invalid), sent_at) = ([repository.clone()].into(), Default::default(), bench.now);
    bench.find(Finding::Repositories { names, unmatched, invalid, sent_at });
    bench.find(Finding::Opened(repository.clone()));
    let (narrowed, left_out, invalid) = Default::default();
    bench.find(Finding::Tags(Listed { repository: repository.clone(), tags, narrowed, sent_at, left_out, invalid }));
    assert_eq!(bench.looks.last().map(|looks| looks.referrers), Some(ReferrerLooks::Everywhere), "it is time to ask");
    let unanswered = bench.observed("app", "v1", "A", bench.now);
    bench.find(Finding::Image(unanswered.clone()));
    assert!(bench.copies.is_empty(), "without an answer nothing is known");
    bench.find(Finding::Referrers { repository, subject: digest("A"), listed: Vec::new() });
    bench.find(Finding::Image(Observed { with_referrers: true, ..unanswered }));
    assert_eq!(bench.copies.len(), 1, "an empty list is another one");
}

//! Restarts keep apart, or leave as they were: the times of comparisons, and statuses that had no room for all images.

use super::*;
use crate::terms::Condition;

#[test]
fn configurations_that_start_together_do_not_compare_together_again() {
    let next = |uid: &str, is_resumed: bool| {
        let mut orders = orders(1, "");
        orders.holder.uid = uid.to_owned();
        let predecessor = if is_resumed { Predecessor::Ended } else { Predecessor::None };
        let mut bench = Bench::resumed(orders, Stored { predecessor, ..Stored::default() }, 0);
        bench.compare(&[], true);
        let first = bench.machine.compare_at;
        bench.now = first;
        bench.step(Event::Wake);
        bench.compare(&[], true);
        (first.duration_since(at(0)).as_secs(), bench.machine.compare_at.duration_since(first).as_secs())
    };
    assert_eq!(next("uid-1", false), (600, 600));
    let resumed: Vec<_> = (0..20).map(|n| next(&format!("uid-{n}"), true)).collect();
    assert!(resumed.iter().all(|(first, second)| (540..=600).contains(first) && *second == 600), "{resumed:?}");
    let distinct: BTreeSet<_> = resumed.iter().map(|(first, _)| first).collect();
    assert!(distinct.len() > 10, "{resumed:?}");
}

#[test]
fn a_status_that_had_no_room_stays_while_nothing_is_observed() {
    let bench = published(&[("v1", "A"), ("v2", "B")]);
    let mut stored = bench.stored();
    stored.pairs[0].status.images.truncate(1);
    let mut again = Bench::resumed(orders(1, ""), stored, 5_000);
    again.unanswered = Some(Vec::new());
    again.passes(100_000);
    assert!(again.unanswered.as_ref().unwrap().is_empty(), "the source may be away for a day");
    again.compare(&[("app", &[("v1", "A")])], true);
    again.passes(1_000);
    let published = again.unanswered.as_ref().unwrap().last().map(|(_, _, status)| status.summary.images);
    assert_eq!(published, Some(1), "what a list lacks is gone after a while");
}

#[test]
fn a_status_goes_on_after_a_restart_though_a_tag_cannot_be_read() {
    let bench = published(&[("v1", "A"), ("v2", "B"), ("v3", "C")]);
    let mut stored = bench.stored();
    stored.pairs[0].status.images.truncate(1);
    let mut again = Bench::resumed(orders(1, ""), stored, 5_000);
    let repository: RepositoryName = "app".parse().unwrap();
    for _ in 0..3 {
        again.find_repositories(&["app"]);
        again.find_tags("app", &["v1", "v2", "v3", "v4"]);
        for (tag, content) in [("v1", "A"), ("v2", "B"), ("v4", "D")] {
            again.find(Finding::Image(again.observed("app", tag, content, again.now)));
        }
        let failed = FailedRead { code: FailureCode::SourceUnavailable, message: "500".to_owned(), is_of_tag: false };
        let (tag, sent_at) = ("v3".parse().unwrap(), again.now);
        again.find(Finding::Unread(Unread { repository: repository.clone(), tag, failed, sent_at }));
        again.find(Finding::Done(Coverage::Whole));
        again.copied(Ok(()));
        again.passes(600);
    }
    let status = again.statuses.values().next().expect("it is written again");
    let shown = status.images.iter().find(|image| image.tag == "v4").map(|image| image.status);
    assert_eq!(shown, Some(ReplicationState::Complete));
    assert_eq!(status.summary.complete, 3, "{:?}", status.summary);
}

#[test]
fn an_image_in_doubt_is_read_back_however_often_processes_start() {
    let mut bench = Bench::new("");
    bench.compare(&[("app", &[("v1", "1"), ("v2", "1")])], true);
    let late = bench.copies.iter().find(|(_, copy)| copy.tag.as_str() == "v1").map(|(id, _)| *id).unwrap();
    let result = Err(CodedError::new(FailureCode::DestinationUnavailable, "no answer".to_owned()));
    let permission = Decision { allowed: true, reason: reason::SAME_NAMESPACE, message: String::new() };
    bench.copies.remove(&late);
    bench.step(Event::Ended(late, Some(Outcome { permission, result, is_unanswered: true, moved: 0 }), 0.5));
    bench.copied(Ok(()));
    bench.passes(10);
    bench.copied(Ok(()));
    bench.passes(5);
    assert!(bench.statuses.values().all(|status| status.summary.complete == 2));
    for second in [30, 45] {
        let (statuses, identities) = (bench.statuses.clone(), bench.identities.clone());
        bench = Bench { statuses, identities, ..Bench::resumed(orders(1, ""), bench.stored(), second) };
        bench.compare(&[("app", &[("v1", "1"), ("v2", "1")])], true);
        assert_eq!(bench.copying(), [], "nothing is read back at once");
    }
    bench.passes(60);
    let read: Vec<&str> = bench.copies.values().map(|copy| copy.tag.as_str()).collect();
    assert_eq!(read, ["v1"]);
}

#[test]
fn a_decision_that_was_never_published_shows_although_nothing_is_copied() {
    let bench = published(&[("v1", "A")]);
    let mut stored = bench.stored();
    stored.pairs[0].status.conditions.retain(|condition| condition.type_ != "Permitted");
    let mut again = Bench::resumed(orders(1, ""), stored, 5_000);
    again.compare(&[("app", &[("v1", "A")])], true);
    again.passes(60);
    let status = again.statuses.values().next().expect("it is written once");
    let permitted = status.conditions.iter().find(|condition| condition.type_ == "Permitted");
    assert!(permitted.is_some_and(|condition| condition.status == "True"), "{:?}", status.conditions);
    assert!(again.copies.is_empty());
}

#[test]
fn a_consent_that_came_between_two_processes_shows() {
    let bench = published(&[("v1", "A")]);
    let mut stored = bench.stored();
    let denied = |it: &&mut Condition| it.type_ == "Permitted";
    stored.pairs[0].status.conditions.iter_mut().find(denied).expect("a decision").status = "False".to_owned();
    let mut again = Bench::resumed(orders(1, ""), stored, 5_000);
    again.compare(&[("app", &[("v1", "A")])], true);
    again.passes(30);
    assert!(again.copies.is_empty() && permitted(&again) == ["True"], "{:?}", permitted(&again));
}

#[test]
fn a_lost_status_is_written_again_with_the_decision() {
    let bench = published(&[("v1", "A")]);
    let mut again = Bench::resumed(orders(1, ""), bench.stored(), 5_000);
    again.compare(&[("app", &[("v1", "A")])], true);
    again.step(Event::StatusesListed(BTreeSet::new()));
    again.passes(30);
    assert_eq!(permitted(&again), ["True"]);
}

fn permitted(bench: &Bench) -> Vec<&str> {
    let conditions = bench.statuses.values().flat_map(|status| &status.conditions);
    conditions.filter(|it| it.type_ == "Permitted").map(|it| it.status.as_str()).collect()
}

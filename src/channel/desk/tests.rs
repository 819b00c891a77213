use super::*;
use crate::channel::Held;

fn lane() -> Lane {
    Lane { namespace: "n".into(), source: "s".into(), destination: "d".into(), class: "default".into() }
}

fn submission(id: &str, hurried: bool) -> Submission {
    let item = Item {
        id: ItemId(id.into()),
        repository: "r".parse().unwrap(),
        tag: id.parse().unwrap(),
        digest: format!("sha256:{}", "0".repeat(64)).parse().unwrap(),
        scope: "c".into(),
        across_owners: false,
    };
    Submission { item, lane: lane(), hurried }
}

fn report(session: &str, sequence: u64, held: &[&str], ended: &[&str]) -> Report {
    Report {
        session: session.into(),
        sequence,
        slots: 2,
        held: held.iter().map(|id| Held { id: ItemId((*id).into()), bytes: 7 }).collect(),
        ended: ended.iter().map(|id| Ended { id: ItemId((*id).into()), result: Ok(9), moved: 9 }).collect(),
        access_version: None,
    }
}

fn ids(items: &[Item]) -> Vec<&str> {
    items.iter().map(|item| item.id.0.as_str()).collect()
}

fn desk_with_worker(now: Instant) -> Desk {
    let mut desk = Desk::default();
    desk.add_worker("job", lane(), false, now);
    desk
}

#[test]
fn an_answer_that_is_lost_is_given_again_and_a_report_that_is_late_is_ignored() {
    let now = Instant::now();
    let mut desk = desk_with_worker(now);
    let told = desk.submit(submission("a", false), now);
    assert_eq!(ids(&desk.report("job", &report("x", 1, &[], &[]), now).unwrap().items), ["a"]);
    // The answer was lost: the worker still has nothing.
    assert_eq!(ids(&desk.report("job", &report("x", 2, &[], &[]), now).unwrap().items), ["a"]);
    assert_eq!(desk.report("job", &report("x", 1, &[], &[]), now).err(), Some(Refused::Late));
    let answer = desk.report("job", &report("x", 3, &["a"], &[]), now).unwrap();
    assert_eq!((answer.items.len(), answer.keep.len()), (0, 1));
    assert_eq!(*told.borrow(), Told::Running { bytes: 7 });
    for sequence in [4, 5] {
        desk.report("job", &report("x", sequence, &[], &["a"]), now).unwrap();
    }
    assert!(matches!(&*told.borrow(), Told::Ended(ended) if ended.result == Ok(9)));
}

#[test]
fn a_hurried_image_is_given_beyond_the_slots_and_before_the_others() {
    let now = Instant::now();
    let mut desk = desk_with_worker(now);
    let _told: Vec<_> = ["a", "b", "c"].map(|id| desk.submit(submission(id, false), now)).into();
    assert_eq!(ids(&desk.report("job", &report("x", 1, &[], &[]), now).unwrap().items), ["a", "b"]);
    let _hurried = desk.submit(submission("h", true), now);
    assert_eq!(ids(&desk.report("job", &report("x", 2, &["a", "b"], &[]), now).unwrap().items), ["h"]);
}

#[test]
fn a_second_process_with_the_same_token_is_refused() {
    let now = Instant::now();
    let mut desk = desk_with_worker(now);
    assert!(desk.report("job", &report("x", 1, &[], &[]), now).is_ok());
    assert_eq!(desk.report("job", &report("y", 2, &[], &[]), now).err(), Some(Refused::Unknown));
    assert_eq!(desk.report("another", &report("x", 2, &[], &[]), now).err(), Some(Refused::Unknown));
}

#[test]
fn an_image_that_is_withdrawn_is_cancelled_at_the_worker_and_gets_no_grant() {
    let now = Instant::now();
    let mut desk = desk_with_worker(now);
    let _told = desk.submit(submission("a", false), now);
    desk.report("job", &report("x", 1, &[], &[]), now).unwrap();
    assert!(desk.may_commit("job", "x", &ItemId("a".into()), now));
    assert!(!desk.may_commit("job", "y", &ItemId("a".into()), now));
    desk.withdraw(&ItemId("a".into()));
    assert!(!desk.may_commit("job", "x", &ItemId("a".into()), now));
    let answer = desk.report("job", &report("x", 2, &["a"], &[]), now).unwrap();
    assert_eq!(answer.cancel, [ItemId("a".into())]);
}

#[test]
fn what_a_lost_worker_had_is_given_to_the_next_and_fails_after_three() {
    let now = Instant::now();
    let mut desk = Desk::default();
    let told = desk.submit(submission("a", false), now);
    for loss in 0..3 {
        let job = format!("job-{loss}");
        desk.add_worker(&job, lane(), false, now);
        assert_eq!(ids(&desk.report(&job, &report("x", 1, &[], &[]), now).unwrap().items), ["a"]);
        desk.give_up(&job, "OOMKilled", now);
        assert_eq!(desk.report(&job, &report("x", 2, &["a"], &[]), now).err(), Some(Refused::Unknown));
    }
    let told = told.borrow().clone();
    let Told::Ended(Ended { result: Err(bad), .. }) = told else { panic!("{told:?}") };
    assert_eq!(bad.code, FailureCode::WorkerFailed);
    assert!(bad.message.contains("OOMKilled"));
}

#[test]
fn a_worker_that_outlived_the_operator_is_taken_up_and_its_image_is_not_given_twice() {
    let now = Instant::now();
    let mut desk = Desk::default();
    desk.add_worker("job", lane(), true, now);
    // Not handed in yet: no authority, no cancellation.
    let answer = desk.report("job", &report("x", 41, &["a"], &[]), now).unwrap();
    assert_eq!((answer.keep.len(), answer.cancel.len()), (0, 0));
    let told = desk.submit(submission("a", false), now);
    let answer = desk.report("job", &report("x", 42, &["a"], &[]), now).unwrap();
    assert_eq!((answer.keep.len(), answer.items.len()), (1, 0));
    assert_eq!(*told.borrow(), Told::Running { bytes: 7 });
    // One that nobody hands in again is dropped in the end.
    let later = now + TAKEN_UP_WITHIN;
    let answer = desk.report("job", &report("x", 43, &["a", "b"], &[]), later).unwrap();
    assert_eq!(answer.cancel, [ItemId("b".into())]);
}

#[test]
fn a_worker_that_is_dismissed_ends_when_it_has_nothing_and_gets_nothing_new() {
    let now = Instant::now();
    let mut desk = desk_with_worker(now);
    let _told = desk.submit(submission("a", false), now);
    desk.report("job", &report("x", 1, &[], &[]), now).unwrap();
    desk.dismiss("job");
    let _other = desk.submit(submission("b", false), now);
    assert!(!desk.report("job", &report("x", 2, &["a"], &[]), now).unwrap().end);
    let answer = desk.report("job", &report("x", 3, &[], &["a"]), now).unwrap();
    assert!(answer.end && answer.items.is_empty());
}

use super::*;
use crate::channel::Held;

fn lane() -> Lane {
    Lane { namespace: "n".into(), source: "s".into(), destination: "d".into(), class: "default".into() }
}

fn submission(id: &str, hurried: bool) -> Submission {
    let image = crate::plan::ImageRequest {
        repository: "r".parse().unwrap(),
        tag: id.parse().unwrap(),
        digest: format!("sha256:{}", "0".repeat(64)).parse().unwrap(),
        referrer_tags: None,
        options: crate::plan::CopyOptions::default(),
        was_there: false,
        scope: "c".into(),
        across_owners: false,
    };
    let item = Item { id: ItemId(id.into()), image };
    Submission { item, lane: lane(), hurried }
}

fn holds(id: &str, tag: &str) -> Held {
    Held { id: ItemId(id.into()), repository: "r".parse().unwrap(), tag: tag.parse().unwrap(), bytes: 7 }
}

fn report(session: &str, sequence: u64, held: &[&str], ended: &[&str]) -> Report {
    Report {
        session: session.into(),
        sequence,
        slots: 2,
        held: held.iter().map(|id| holds(id, id)).collect(),
        ended: ended.iter().map(|id| Ended { id: ItemId((*id).into()), result: Ok(replica()), moved: 9 }).collect(),
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
    assert!(matches!(&*told.borrow(), Told::Ended(ended) if ended.result == Ok(replica())));
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
fn an_older_image_that_outlived_the_operator_makes_room_at_once_for_a_newer_one_of_its_tag() {
    let now = Instant::now();
    let mut desk = Desk::default();
    desk.add_worker("job", lane(), true, now);
    let with =
        |sequence| Report { held: vec![holds("older", "t"), holds("other", "u")], ..report("x", sequence, &[], &[]) };
    assert!(desk.report("job", &with(1), now).unwrap().cancel.is_empty());
    let mut newer = submission("newer", false);
    newer.item.image.tag = "t".parse().unwrap();
    let _told = desk.submit(newer, now);
    assert!(desk.has_news("job", &with(2)));
    let answer = desk.report("job", &Report { slots: 3, ..with(2) }, now).unwrap();
    assert_eq!(answer.cancel, [ItemId("older".into())]);
    assert_eq!(ids(&answer.items), ["newer"]);
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

/// A worker as the operator may meet it: it does what answers say, as far as they reach it, and counts time from when it asked.
#[derive(Debug, Default)]
struct ModelWorker {
    sequence: u64,
    /// The version of the tag that it copies, until when it may go on, and until when it may write.
    copying: Option<(u64, Option<Instant>, Option<Instant>)>,
    ended: Vec<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    /// The tag moves at the source: the earlier version is taken back, the new one handed in.
    Push,
    Report {
        worker: usize,
        lost: bool,
    },
    Ask {
        worker: usize,
        lost: bool,
    },
    Write {
        worker: usize,
    },
    Pass {
        ms: u64,
    },
    /// The operator gives up who was silent for too long, and starts another worker.
    GiveUp {
        worker: usize,
    },
    /// Another operator process takes over, which knows nothing but the Jobs.
    NewLeader,
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::*;
    let worker = || (0..2_usize, prop::bool::weighted(0.2));
    let step = prop_oneof![
        2 => Just(Step::Push),
        8 => worker().prop_map(|(worker, lost)| Step::Report { worker, lost }),
        8 => worker().prop_map(|(worker, lost)| Step::Ask { worker, lost }),
        8 => (0..2_usize).prop_map(|worker| Step::Write { worker }),
        4 => (1..13_000_u64).prop_map(|ms| Step::Pass { ms }),
        2 => (0..2_usize).prop_map(|worker| Step::GiveUp { worker }),
        1 => Just(Step::NewLeader),
    ];
    prop::collection::vec(step, 0..200)
}

proptest::proptest! {
    /// Two workers, operators that follow one another, messages that are lost, clocks that stand still for whoever sleeps: the tag
    /// never moves back, and nobody writes without a grant that nobody else can have.
    #[test]
    fn a_tag_never_moves_back(steps in steps()) {
        use crate::channel::{Ask, Grants, Holder, Subject};
        let mut now = Instant::now();
        let (mut desk, mut grants) = (Desk::default(), Grants::default());
        let subject = Subject { host: "h".into(), repository: "r".parse().unwrap(), tag: Some("t".parse().unwrap()) };
        let jobs = ["a", "b"];
        let (mut version, mut tag, mut alive) = (0_u64, 0_u64, [true, false]);
        let mut workers = [ModelWorker::default(), ModelWorker::default()];
        let id = |version: u64| ItemId(format!("v{version}"));
        let mut told = None;
        desk.add_worker("a", lane(), false, now);
        for step in steps {
            match step {
                Step::Push => {
                    desk.withdraw(&id(version));
                    version += 1;
                    told = Some(desk.submit(submission(&format!("v{version}"), false), now));
                }
                Step::Pass { ms } => now += Duration::from_millis(ms),
                Step::Report { worker: index, lost } => {
                    let worker = &mut workers[index];
                    worker.sequence += 1;
                    let (held, ended): (Vec<_>, Vec<_>) = (
                        worker.copying.iter().map(|(version, ..)| format!("v{version}")).collect(),
                        worker.ended.iter().map(|version| format!("v{version}")).collect(),
                    );
                    let (held, ended): (Vec<_>, Vec<_>) =
                        (held.iter().map(String::as_str).collect(), ended.iter().map(String::as_str).collect());
                    let report = report(&format!("session-{index}"), worker.sequence, &held, &ended);
                    for version in &worker.ended {
                        grants.give_back(&Holder { session: format!("session-{index}"), copy: format!("v{version}") });
                    }
                    let Ok(answer) = desk.report(jobs[index], &report, now) else { continue };
                    if lost {
                        continue;
                    }
                    worker.ended.clear();
                    let until = now + AUTHORITY_LASTS;
                    if let Some((version, lease, _)) = &mut worker.copying {
                        if answer.cancel.contains(&id(*version)) {
                            worker.copying = None;
                        } else if answer.keep.contains(&id(*version)) {
                            *lease = Some(until);
                        }
                    }
                    // Images of one tag go one after the other.
                    if let (None, Some(item)) = (&worker.copying, answer.items.first()) {
                        worker.copying = Some((item.id.0[1..].parse().unwrap(), Some(until), None));
                    }
                }
                Step::Ask { worker: index, lost } => {
                    let Some((version, Some(lease), grant)) = &mut workers[index].copying else { continue };
                    let session = format!("session-{index}");
                    if *lease > now && desk.may_commit(jobs[index], &session, &id(*version), now) {
                        let holder = Holder { session, copy: format!("v{version}") };
                        if let Ask::Granted(until) = grants.ask(&subject, &holder, now) && !lost {
                            *grant = Some(until);
                        }
                    }
                }
                Step::Write { worker: index } => {
                    if let Some((copied, Some(lease), Some(grant))) = workers[index].copying
                        && now < lease.min(grant)
                    {
                        proptest::prop_assert!(copied >= tag, "version {copied} was written over {tag}");
                        tag = copied;
                        workers[index].copying = None;
                        workers[index].ended.push(copied);
                    }
                }
                Step::GiveUp { worker: index } => {
                    let (_, views) = desk.overview();
                    let Some(view) = views.iter().find(|view| view.job == jobs[index]) else { continue };
                    let silent = now.saturating_duration_since(view.seen.unwrap_or(view.made));
                    if silent > AUTHORITY_LASTS && !alive[1 - index] {
                        desk.give_up(jobs[index], "silence", now);
                        alive[index] = false;
                        alive[1 - index] = true;
                        // A Job of its own: another session, a new process.
                        workers[1 - index] = ModelWorker { copying: workers[1 - index].copying.take(), ..ModelWorker::default() };
                        desk.add_worker(jobs[1 - index], lane(), false, now);
                    }
                }
                Step::NewLeader => {
                    (desk, grants) = (Desk::default(), Grants::default());
                    grants.hold_back(now + AUTHORITY_LASTS);
                    for index in 0..2 {
                        if alive[index] {
                            desk.add_worker(jobs[index], lane(), true, now);
                        }
                    }
                    if version > tag {
                        told = Some(desk.submit(submission(&format!("v{version}"), false), now));
                    }
                }
            }
        }
        drop(told);
    }
}

fn replica() -> crate::plan::Replica {
    crate::plan::Replica { bytes: 9, destination_digest: None }
}

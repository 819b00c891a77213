//! Tests of the work queue, with a model of workers and of operators that follow one another.

use super::*;
use crate::channel::{HeldItem, RouteQuotas};
use crate::plan::MIN_THROUGHPUT;

const LIFE: Duration = Duration::from_secs(3_600);

fn lane() -> Lane {
    Lane { namespace: "n".into(), source: "s".into(), destination: "d".into(), class: "default".into() }
}

fn submission(id: &str, urgent: bool) -> Submission {
    let image = crate::plan::ImageRequest {
        repository: "r".parse().unwrap(),
        target: "r".parse().unwrap(),
        tag: id.parse().unwrap(),
        digest: format!("sha256:{}", "0".repeat(64)).parse().unwrap(),
        referrer_tags: None,
        options: crate::plan::CopyOptions::default(),
        was_there: false,
        written: None,
        scope: "c".into(),
        across_owners: false,
    };
    let item = Item { id: ItemId(id.into()), image };
    Submission { item, lane: lane(), urgent, priority: 0 }
}

fn holds(id: &str, tag: &str) -> HeldItem {
    HeldItem { id: ItemId(id.into()), repository: "r".parse().unwrap(), tag: tag.parse().unwrap(), bytes: 7 }
}

fn report(session: &str, sequence: u64, held: &[&str], ended: &[&str]) -> Report {
    Report {
        session: session.into(),
        sequence,
        slots: 2,
        held: held.iter().map(|id| holds(id, id)).collect(),
        ended: ended.iter().map(|id| EndedItem { id: ItemId((*id).into()), result: Ok(replica()), moved: 9 }).collect(),
        access_version: None,
        quotas: RouteQuotas::default(),
    }
}

fn ids(items: &[Item]) -> Vec<&str> {
    items.iter().map(|item| item.id.0.as_str()).collect()
}

fn queue_with_worker(now: Instant) -> WorkQueue {
    let mut queue = WorkQueue::default();
    queue.add_worker("job", lane(), WorkerDuty::AllImages, LIFE, now);
    queue
}

#[test]
fn a_worker_gets_on_if_it_moves_enough_in_a_minute() {
    let now = Instant::now();
    let mut queue = queue_with_worker(now);
    let _state = queue.submit(submission("a", false), now);
    queue.report("job", &report("x", 1, &[], &[]), now).unwrap();
    let mut bytes = 0;
    for (minute, moved, expected) in [(1, 60 * MIN_THROUGHPUT, true), (2, 1_000, false), (3, 61 * MIN_THROUGHPUT, true)]
    {
        bytes += moved;
        let mut report = report("x", 1 + minute, &["a"], &[]);
        report.held[0].bytes = bytes;
        queue.report("job", &report, now + Duration::from_secs(60 * minute)).unwrap();
        assert_eq!(queue.overview().1[0].is_getting_on, expected, "minute {minute}");
    }
    let ends_at = queue.overview().1[0].ends_at;
    queue.extend("job", Duration::from_secs(7));
    assert_eq!(queue.overview().1[0].ends_at, ends_at + Duration::from_secs(7));
}

#[test]
fn a_lost_answer_is_repeated_and_a_late_report_is_ignored() {
    let now = Instant::now();
    let mut queue = queue_with_worker(now);
    let state = queue.submit(submission("a", false), now);
    assert_eq!(ids(&queue.report("job", &report("x", 1, &[], &[]), now).unwrap().items), ["a"]);
    // The answer was lost: the worker still has nothing.
    assert_eq!(ids(&queue.report("job", &report("x", 2, &[], &[]), now).unwrap().items), ["a"]);
    assert_eq!(queue.report("job", &report("x", 1, &[], &[]), now).err(), Some(ReportError::Late));
    let answer = queue.report("job", &report("x", 3, &["a"], &[]), now).unwrap();
    assert_eq!((answer.items.len(), answer.keep.len()), (0, 1));
    assert_eq!(*state.borrow(), ItemState::Running { bytes: 7 });
    for sequence in [4, 5] {
        queue.report("job", &report("x", sequence, &[], &["a"]), now).unwrap();
    }
    assert!(matches!(&*state.borrow(), ItemState::Ended(ended, _) if ended.result == Ok(replica())));
}

#[test]
fn an_urgent_image_is_given_beyond_the_slots_and_before_the_others() {
    let now = Instant::now();
    let mut queue = queue_with_worker(now);
    let _state: Vec<_> = ["a", "b", "c"].map(|id| queue.submit(submission(id, false), now)).into();
    assert_eq!(ids(&queue.report("job", &report("x", 1, &[], &[]), now).unwrap().items), ["a", "b"]);
    let _urgent = queue.submit(submission("h", true), now);
    assert_eq!(ids(&queue.report("job", &report("x", 2, &["a", "b"], &[]), now).unwrap().items), ["h"]);
}

#[test]
fn a_worker_for_urgent_images_takes_no_others_until_there_is_room() {
    let now = Instant::now();
    let mut queue = WorkQueue::default();
    queue.add_worker("job", lane(), WorkerDuty::UrgentImages, LIFE, now);
    let _state: Vec<_> =
        [("a", false), ("h", true)].map(|(id, urgent)| queue.submit(submission(id, urgent), now)).into();
    let (waiting, workers) = queue.overview();
    assert!(waiting[0].is_urgent && workers[0].is_urgent);
    assert_eq!(ids(&queue.report("job", &report("x", 1, &[], &[]), now).unwrap().items), ["h"]);
    let (waiting, workers) = queue.overview();
    assert_eq!((waiting[0].is_urgent, workers[0].is_urgent), (false, true));
    assert!(!queue.has_news("job", &report("x", 2, &["h"], &[])));
    assert!(queue.report("job", &report("x", 2, &[], &["h"]), now).unwrap().items.is_empty());
    assert!(!queue.overview().1[0].is_urgent);
    queue.broaden("job");
    assert!(queue.has_news("job", &report("x", 3, &[], &[])));
    assert_eq!(ids(&queue.report("job", &report("x", 3, &[], &[]), now).unwrap().items), ["a"]);
}

#[test]
fn images_that_no_longer_wait_leave_nothing_behind() {
    let now = Instant::now();
    let mut queue = queue_with_worker(now);
    let _state: Vec<_> = ["a", "b", "c", "d"].map(|id| queue.submit(submission(id, id == "d"), now)).into();
    let _again = queue.submit(submission("c", false), now);
    queue.report("job", &report("x", 1, &["b"], &[]), now).unwrap();
    assert_eq!(queue.workers["job"].items.len(), 2, "what it had, and the urgent one");
    for id in ["a", "b", "c", "d"] {
        queue.withdraw(&ItemId(id.into()));
    }
    assert!(queue.workers["job"].items.is_empty() && queue.items.is_empty());
    assert!(queue.overview().0.is_empty() && queue.lanes.is_empty());
}

#[test]
fn a_report_costs_no_more_with_many_images_of_others() {
    let now = Instant::now();
    let mut queue = queue_with_worker(now);
    let mut states = Vec::new();
    for n in 0..50_000 {
        let mut submission = submission(&format!("i{n}"), false);
        submission.lane.namespace = format!("n{}", n % 50);
        states.push(queue.submit(submission, now));
    }
    let began = Instant::now();
    for sequence in 1..=1_000 {
        queue.report("job", &report("x", sequence, &[], &[]), now).unwrap();
        assert_eq!(queue.overview().0.len(), 50);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_second_process_with_the_same_token_is_refused() {
    let now = Instant::now();
    let mut queue = queue_with_worker(now);
    assert!(queue.report("job", &report("x", 1, &[], &[]), now).is_ok());
    assert_eq!(queue.report("job", &report("y", 2, &[], &[]), now).err(), Some(ReportError::Unknown));
    assert_eq!(queue.report("another", &report("x", 2, &[], &[]), now).err(), Some(ReportError::Unknown));
}

#[test]
fn an_image_that_is_withdrawn_is_cancelled_at_the_worker_and_gets_no_grant() {
    let now = Instant::now();
    let mut queue = queue_with_worker(now);
    let _state = queue.submit(submission("a", false), now);
    queue.report("job", &report("x", 1, &[], &[]), now).unwrap();
    assert!(queue.may_commit("job", "x", &ItemId("a".into()), now));
    assert!(!queue.may_commit("job", "y", &ItemId("a".into()), now));
    queue.withdraw(&ItemId("a".into()));
    assert!(!queue.may_commit("job", "x", &ItemId("a".into()), now));
    let answer = queue.report("job", &report("x", 2, &["a"], &[]), now).unwrap();
    assert_eq!(answer.cancel, [ItemId("a".into())]);
}

#[test]
fn what_a_lost_worker_had_is_given_to_the_next_and_fails_after_three() {
    let now = Instant::now();
    let mut queue = WorkQueue::default();
    let state = queue.submit(submission("a", false), now);
    for loss in 0..3 {
        let job = format!("job-{loss}");
        queue.add_worker(&job, lane(), WorkerDuty::AllImages, LIFE, now);
        assert_eq!(ids(&queue.report(&job, &report("x", 1, &[], &[]), now).unwrap().items), ["a"]);
        queue.give_up(&job, "OOMKilled", now);
        assert_eq!(queue.report(&job, &report("x", 2, &["a"], &[]), now).err(), Some(ReportError::Unknown));
    }
    let state = state.borrow().clone();
    let ItemState::Ended(EndedItem { result: Err(error), .. }, _) = state else { panic!("{state:?}") };
    assert_eq!(error.code, FailureCode::WorkerFailed);
    assert!(error.message.contains("OOMKilled"));
}

#[test]
fn a_worker_that_outlived_the_operator_is_adopted_with_its_image() {
    let now = Instant::now();
    let mut queue = WorkQueue::default();
    queue.adopt_worker("job", lane(), LIFE, now);
    // Not handed in yet: no authority, no cancellation.
    let answer = queue.report("job", &report("x", 41, &["a"], &[]), now).unwrap();
    assert_eq!((answer.keep.len(), answer.cancel.len()), (0, 0));
    let state = queue.submit(submission("a", false), now);
    let answer = queue.report("job", &report("x", 42, &["a"], &[]), now).unwrap();
    assert_eq!((answer.keep.len(), answer.items.len()), (1, 0));
    assert_eq!(*state.borrow(), ItemState::Running { bytes: 7 });
    // An image that is not handed in again is dropped in the end.
    let later = now + ADOPTED_WAIT;
    let answer = queue.report("job", &report("x", 43, &["a", "b"], &[]), later).unwrap();
    assert_eq!(answer.cancel, [ItemId("b".into())]);
}

#[test]
fn an_adopted_older_image_gives_way_at_once_to_a_newer_one_of_its_tag() {
    let now = Instant::now();
    let mut queue = WorkQueue::default();
    queue.adopt_worker("job", lane(), LIFE, now);
    let with =
        |sequence| Report { held: vec![holds("older", "t"), holds("other", "u")], ..report("x", sequence, &[], &[]) };
    assert!(queue.report("job", &with(1), now).unwrap().cancel.is_empty());
    let mut newer = submission("newer", false);
    newer.item.image.tag = "t".parse().unwrap();
    let _state = queue.submit(newer, now);
    assert!(queue.has_news("job", &with(2)));
    let answer = queue.report("job", &Report { slots: 3, ..with(2) }, now).unwrap();
    assert_eq!(answer.cancel, [ItemId("older".into())]);
    assert_eq!(ids(&answer.items), ["newer"]);
}

#[test]
fn a_worker_that_is_dismissed_ends_when_it_has_nothing_and_gets_nothing_new() {
    let now = Instant::now();
    let mut queue = queue_with_worker(now);
    let _state = queue.submit(submission("a", false), now);
    queue.report("job", &report("x", 1, &[], &[]), now).unwrap();
    queue.dismiss("job");
    let _other = queue.submit(submission("b", false), now);
    assert!(!queue.report("job", &report("x", 2, &["a"], &[]), now).unwrap().end);
    let answer = queue.report("job", &report("x", 3, &[], &["a"]), now).unwrap();
    assert!(answer.end && answer.items.is_empty());
}

/// A worker as the operator may meet it: it does what answers say, as far as they reach it, and counts time from when
/// it asked.
#[derive(Debug, Default)]
struct ModelWorker {
    sequence: u64,
    /// The version of the tag that it copies, until when it may go on, and until when it may write.
    copying: Option<(u64, Option<Instant>, Option<Instant>)>,
    ended: Vec<u64>,
}

#[derive(Clone, Debug)]
enum QueueStep {
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
    /// The operator gives up a worker that was silent for too long, and starts another one.
    GiveUp {
        worker: usize,
    },
    /// Another operator process takes over, which knows nothing but the Jobs.
    NewLeader,
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<QueueStep>> {
    use proptest::prelude::*;
    let worker = || (0..2_usize, prop::bool::weighted(0.2));
    let step = prop_oneof![
        2 => Just(QueueStep::Push),
        8 => worker().prop_map(|(worker, lost)| QueueStep::Report { worker, lost }),
        8 => worker().prop_map(|(worker, lost)| QueueStep::Ask { worker, lost }),
        8 => (0..2_usize).prop_map(|worker| QueueStep::Write { worker }),
        4 => (1..13_000_u64).prop_map(|ms| QueueStep::Pass { ms }),
        2 => (0..2_usize).prop_map(|worker| QueueStep::GiveUp { worker }),
        1 => Just(QueueStep::NewLeader),
    ];
    prop::collection::vec(step, 0..200)
}

proptest::proptest! {
    /// Two workers, operators that follow one another, messages that are lost, clocks that stand still while a process
    /// sleeps: the tag never moves back, and no worker writes without a grant that no other can have.
    #[test]
    fn a_tag_never_moves_back(steps in steps()) {
        use crate::channel::{GrantDecision, Grants, GrantHolder, GrantSubject};
        let mut now = Instant::now();
        let (mut queue, mut grants) = (WorkQueue::default(), Grants::default());
        let subject = GrantSubject { host: "h".into(), repository: "r".parse().unwrap(), tag: Some("t".parse().unwrap()) };
        let jobs = ["a", "b"];
        let (mut version, mut tag, mut alive) = (0_u64, 0_u64, [true, false]);
        let mut workers = [ModelWorker::default(), ModelWorker::default()];
        let id = |version: u64| ItemId(format!("v{version}"));
        let mut state = None;
        queue.add_worker("a", lane(), WorkerDuty::AllImages, LIFE, now);
        for step in steps {
            match step {
                QueueStep::Push => {
                    queue.withdraw(&id(version));
                    version += 1;
                    state = Some(queue.submit(submission(&format!("v{version}"), false), now));
                }
                QueueStep::Pass { ms } => now += Duration::from_millis(ms),
                QueueStep::Report { worker: index, lost } => {
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
                        grants.give_back(&GrantHolder { session: format!("session-{index}"), copy: format!("v{version}") });
                    }
                    let Ok(answer) = queue.report(jobs[index], &report, now) else { continue };
                    if lost {
                        continue;
                    }
                    worker.ended.clear();
                    let until = now + AUTHORITY_TTL;
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
                QueueStep::Ask { worker: index, lost } => {
                    let Some((version, Some(lease), grant)) = &mut workers[index].copying else { continue };
                    let session = format!("session-{index}");
                    if *lease > now && queue.may_commit(jobs[index], &session, &id(*version), now) {
                        let holder = GrantHolder { session, copy: format!("v{version}") };
                        if let GrantDecision::Granted(until) = grants.ask(&subject, &holder, now) && !lost {
                            *grant = Some(until);
                        }
                    }
                }
                QueueStep::Write { worker: index } => {
                    if let Some((copied, Some(lease), Some(grant))) = workers[index].copying
                        && now < lease.min(grant)
                    {
                        proptest::prop_assert!(copied >= tag, "version {copied} was written over {tag}");
                        tag = copied;
                        workers[index].copying = None;
                        workers[index].ended.push(copied);
                    }
                }
                QueueStep::GiveUp { worker: index } => {
                    let (_, views) = queue.overview();
                    let Some(view) = views.iter().find(|view| view.job == jobs[index]) else { continue };
                    let silent = now.saturating_duration_since(view.seen.unwrap_or(view.made));
                    if silent > AUTHORITY_TTL && !alive[1 - index] {
                        queue.give_up(jobs[index], "silence", now);
                        alive[index] = false;
                        alive[1 - index] = true;
                        // A Job of its own: another session, a new process.
                        workers[1 - index] = ModelWorker { copying: workers[1 - index].copying.take(), ..ModelWorker::default() };
                        queue.add_worker(jobs[1 - index], lane(), WorkerDuty::AllImages, LIFE, now);
                    }
                }
                QueueStep::NewLeader => {
                    (queue, grants) = (WorkQueue::default(), Grants::default());
                    grants.hold_back(now + AUTHORITY_TTL);
                    for index in 0..2 {
                        if alive[index] {
                            queue.adopt_worker(jobs[index], lane(), LIFE, now);
                        }
                    }
                    if version > tag {
                        state = Some(queue.submit(submission(&format!("v{version}"), false), now));
                    }
                }
            }
        }
        drop(state);
    }
}

fn replica() -> crate::plan::Replica {
    crate::plan::Replica { bytes: 9, ..Default::default() }
}

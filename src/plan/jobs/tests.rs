//! Tests of the decisions about copy Jobs.

use std::collections::BTreeSet;

use super::*;

fn lane(namespace: &str, destination: &str) -> Lane {
    Lane { namespace: namespace.into(), source: "s".into(), destination: destination.into(), class: "default".into() }
}

fn waits(namespace: &str, destination: &str, since: Instant) -> WaitingLane {
    WaitingLane { lane: lane(namespace, destination), is_urgent: false, priority: 0, since, hold_until: None }
}

fn worker(job: &str, lane: Lane, now: Instant) -> WorkerView {
    WorkerView {
        job: job.into(),
        lane,
        duty: WorkerDuty::AllImages,
        is_urgent: false,
        made: now,
        seen: Some(now),
        idle_since: None,
        given: 1,
        moved: 0,
        phase: WorkerPhase::Serving,
        adopted: false,
        ends_at: now + Duration::from_secs(3_600),
        is_getting_on: false,
    }
}

fn start(lane: Lane) -> JobOrder {
    JobOrder::Start(lane, WorkerDuty::AllImages)
}

fn started(orders: &[JobOrder]) -> Vec<&Lane> {
    orders.iter().filter_map(|order| if let JobOrder::Start(lane, _) = order { Some(lane) } else { None }).collect()
}

#[test]
fn a_lane_has_one_job_and_no_namespace_starves_another() {
    let now = Instant::now();
    let limits = JobLimits { jobs: 4, reserved: 0, jobs_per_destination: 9, ..JobLimits::default() };
    let mut waiting: Vec<_> = (0..10).map(|n| waits("loud", &format!("d{n}"), now)).collect();
    waiting.push(waits("quiet", "d", now + Duration::from_secs(1)));
    let orders = decide_jobs(&waiting, &[], &limits, now);
    assert_eq!(started(&orders).len(), 4);
    assert!(started(&orders).iter().any(|lane| lane.namespace == "quiet"), "{orders:?}");
    let busy = worker("j", lane("loud", "d0"), now);
    assert!(!started(&decide_jobs(&waiting[..1], &[busy], &limits, now)).contains(&&lane("loud", "d0")));
}

#[test]
fn a_priority_orders_the_lanes_of_its_namespace_alone() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let limits = JobLimits { jobs: 2, reserved: 0, ..JobLimits::default() };
    let waiting = [
        waits("a", "low", now),
        WaitingLane { priority: 5, ..waits("a", "high", later) },
        waits("b", "first", now),
        WaitingLane { priority: 100, ..waits("c", "later", later) },
    ];
    let orders = decide_jobs(&waiting, &[], &limits, later);
    let destinations: Vec<_> = started(&orders).iter().map(|lane| lane.destination.as_str()).collect();
    assert_eq!(destinations, ["high", "first"]);
}

#[test]
fn a_namespace_without_a_job_always_gets_one() {
    let now = Instant::now();
    let limits = JobLimits { jobs_per_destination: 99, ..JobLimits::default() };
    let lanes: Vec<_> = (0..25).map(|n| waits("loud", &format!("d{n}"), now)).collect();
    let orders = decide_jobs(&lanes, &[], &limits, now);
    assert_eq!(started(&orders).len(), 15, "the others are reserved");
    let mut workers: Vec<_> =
        started(&orders).into_iter().enumerate().map(|(n, lane)| worker(&format!("j{n}"), lane.clone(), now)).collect();
    for tenant in ["b", "c", "d", "e", "f"] {
        let mut waiting = lanes.clone();
        waiting.push(waits(tenant, "d", now));
        let orders = decide_jobs(&waiting, &workers, &limits, now);
        assert_eq!(started(&orders), [&lane(tenant, "d")]);
        workers.push(worker(tenant, lane(tenant, "d"), now));
    }
    workers[3].made = now - Duration::from_secs(60);
    let waiting = [waits("g", "d", now)];
    assert_eq!(decide_jobs(&waiting, &workers, &limits, now), [JobOrder::Dismiss("j3".into())]);
    workers[3].phase = WorkerPhase::Leaving;
    assert_eq!(decide_jobs(&waiting, &workers, &limits, now), [], "one leaves already");
}

#[test]
fn a_worker_that_leaves_does_not_serve_its_lane() {
    let now = Instant::now();
    let mut leaving = worker("j", lane("a", "d"), now);
    leaving.phase = WorkerPhase::Leaving;
    let orders = decide_jobs(&[waits("a", "d", now)], &[leaving], &JobLimits::default(), now);
    assert_eq!(orders, [start(lane("a", "d"))]);
}

#[test]
fn no_destination_has_more_than_its_jobs_and_an_idle_worker_makes_room() {
    let now = Instant::now();
    let limits = JobLimits { jobs_per_destination: 1, ..JobLimits::default() };
    let mut idle = worker("j", lane("a", "d"), now);
    idle.idle_since = Some(now);
    let orders = decide_jobs(&[waits("b", "d", now)], &[idle.clone()], &limits, now);
    assert_eq!(orders, [JobOrder::Dismiss("j".into())]);
    assert_eq!(decide_jobs(&[waits("b", "e", now)], &[idle], &limits, now), [start(lane("b", "e"))]);
}

#[test]
fn a_worker_is_given_up_when_its_authority_has_run_out_and_not_before() {
    let now = Instant::now();
    let silent = worker("j", lane("a", "d"), now);
    let waiting = [waits("a", "d", now)];
    let limits = JobLimits::default();
    assert_eq!(decide_jobs(&waiting, std::slice::from_ref(&silent), &limits, now + AUTHORITY_TTL), []);
    let later = now + AUTHORITY_TTL + Duration::from_secs(2);
    let orders = decide_jobs(&waiting, &[silent], &limits, later);
    assert_eq!(orders, [JobOrder::GiveUp("j".into()), start(lane("a", "d"))]);
}

#[test]
fn a_worker_whose_pod_waits_is_not_given_up_and_one_that_ended_is() {
    let now = Instant::now();
    let mut pending = worker("j", lane("a", "d"), now);
    pending.seen = None;
    let later = now + Duration::from_secs(600);
    assert_eq!(decide_jobs(&[waits("a", "d", now)], &[pending.clone()], &JobLimits::default(), later), []);
    pending.phase = WorkerPhase::Ended;
    assert_eq!(decide_jobs(&[], &[pending], &JobLimits::default(), now), [JobOrder::GiveUp("j".into())]);
}

#[test]
fn a_worker_that_has_done_its_share_is_given_no_more() {
    let now = Instant::now();
    let limits = JobLimits::default();
    let (mut many, mut large) = (worker("many", lane("a", "d"), now), worker("large", lane("b", "d"), now));
    assert_eq!(decide_jobs(&[], &[many.clone(), large.clone()], &limits, now), []);
    (many.given, large.moved) = (500, 20 << 30);
    assert_eq!(decide_jobs(&[], &[many, large], &limits, now).len(), 2);
}

#[test]
fn a_job_lives_longer_while_its_worker_gets_on_and_keeps_none_out() {
    let now = Instant::now();
    let mut busy = worker("j", lane("a", "d"), now);
    (busy.phase, busy.is_getting_on) = (WorkerPhase::Leaving, true);
    let limits = JobLimits { jobs: 1, reserved: 0, ..JobLimits::default() };
    for (seconds, expected) in [(3_000, 0), (3_400, 1)] {
        let at = now + Duration::from_secs(seconds);
        busy.seen = Some(at);
        assert_eq!(decide_jobs(&[], &[busy.clone()], &limits, at).len(), expected);
        let waiting = [waits("b", "e", at)];
        assert_eq!(decide_jobs(&waiting, &[busy.clone()], &limits, at), [], "another has none");
        let slow = WorkerView { is_getting_on: false, ..busy.clone() };
        assert_eq!(decide_jobs(&[], &[slow], &limits, at), []);
    }
}

#[test]
fn a_worker_without_work_lingers_and_then_goes() {
    let now = Instant::now();
    let mut idle = worker("j", lane("a", "d"), now);
    idle.idle_since = Some(now);
    let limits = JobLimits::default();
    for (seconds, expected) in [(29, 0), (30, 1)] {
        let at = now + Duration::from_secs(seconds);
        idle.seen = Some(at);
        assert_eq!(decide_jobs(&[], &[idle.clone()], &limits, at).len(), expected);
    }
}

#[test]
fn two_thousand_lanes_are_put_in_order_at_once() {
    let now = Instant::now();
    let limits = JobLimits { jobs_per_destination: 99, ..JobLimits::default() };
    let mut waiting: Vec<_> = (0..2_000).map(|n| waits("many", &format!("d{n}"), now)).collect();
    waiting.extend((0..200).map(|n| waits(&format!("one-{n:03}"), "d", now)));
    let began = Instant::now();
    let orders = decide_jobs(&waiting, &[], &limits, now);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let namespaces: BTreeSet<&str> = started(&orders).iter().map(|lane| lane.namespace.as_str()).collect();
    assert_eq!((started(&orders).len(), namespaces.len()), (20, 20), "one each");
}

/// Returns `count` workers of `namespace` at `destination`, each with a source of its own.
fn workers_at(namespace: &str, destination: &str, count: usize, now: Instant) -> Vec<WorkerView> {
    let source = |n| Lane { source: format!("s{n}"), ..lane(namespace, destination) };
    (0..count).map(|n| worker(&format!("{namespace}-{n}"), source(n), now)).collect()
}

#[test]
fn a_shared_destination_that_one_namespace_fills_makes_room_for_another() {
    let now = Instant::now();
    let limits = JobLimits::default();
    let mut workers = workers_at("loud", "shared", 4, now);
    workers[2].made = now - Duration::from_secs(60);
    // A worker that leaves elsewhere makes no room here.
    let mut elsewhere = worker("elsewhere", lane("loud", "other"), now);
    elsewhere.phase = WorkerPhase::Leaving;
    workers.push(elsewhere);
    let waiting = [waits("quiet", "shared", now)];
    assert_eq!(decide_jobs(&waiting, &workers, &limits, now), [JobOrder::Dismiss("loud-2".into())]);
    workers[2].phase = WorkerPhase::Leaving;
    assert_eq!(decide_jobs(&waiting, &workers, &limits, now), [], "one leaves already");
    let two = [waits("quiet", "shared", now), waits("silent", "shared", now)];
    assert_eq!(decide_jobs(&two, &workers, &limits, now).len(), 1, "one for each that has none");
    workers.remove(2);
    let mut waiting: Vec<_> = (0..9)
        .map(|n| WaitingLane { lane: Lane { source: format!("t{n}"), ..lane("loud", "shared") }, ..waiting[0].clone() })
        .collect();
    waiting.push(waits("quiet", "shared", now));
    assert_eq!(started(&decide_jobs(&waiting, &workers, &limits, now)), [&lane("quiet", "shared")]);
}

#[test]
fn a_destination_where_each_namespace_has_one_job_keeps_them() {
    let now = Instant::now();
    let workers: Vec<_> = ["a", "b", "c", "d"].map(|name| worker(name, lane(name, "shared"), now)).into();
    assert_eq!(decide_jobs(&[waits("e", "shared", now)], &workers, &JobLimits::default(), now), []);
}

#[test]
fn no_job_lives_longer_where_its_destination_keeps_a_namespace_out() {
    let now = Instant::now();
    let limits = JobLimits::default();
    let mut workers: Vec<_> = ["a", "b", "c", "d"].map(|name| worker(name, lane(name, "shared"), now)).into();
    workers.push(worker("elsewhere", lane("a", "other"), now));
    for worker in &mut workers {
        (worker.is_getting_on, worker.ends_at) = (true, now + Duration::from_secs(60));
    }
    let waiting = [waits("e", "shared", now)];
    assert_eq!(decide_jobs(&waiting, &workers, &limits, now), [JobOrder::Extend("elsewhere".into())]);
    assert_eq!(decide_jobs(&[], &workers, &limits, now).len(), 5);
}

#[test]
fn a_namespace_with_a_job_elsewhere_gets_one_where_another_has_all() {
    let now = Instant::now();
    let limits = JobLimits::default();
    let mut workers = workers_at("loud", "shared", 4, now);
    workers.push(worker("quiet", lane("quiet", "other"), now));
    let waiting = [waits("quiet", "shared", now)];
    assert_eq!(decide_jobs(&waiting, &workers, &limits, now), [JobOrder::Dismiss("loud-0".into())]);
    // It would get the place back, as it has fewer Jobs than the one that waits.
    workers.extend(workers_at("quiet", "more", 3, now));
    assert_eq!(decide_jobs(&waiting, &workers, &limits, now), []);
}

/// Returns workers that copy a backfill of `count` lanes of `namespace`, the first one made first.
fn backfills(namespace: &str, count: usize, now: Instant) -> Vec<WorkerView> {
    let made = |n| now - Duration::from_secs(60 - n as u64);
    let worker_of = |n| worker(&format!("{namespace}-{n}"), lane(namespace, &format!("{namespace}{n}")), now);
    (0..count).map(|n| WorkerView { made: made(n), ..worker_of(n) }).collect()
}

fn pushed(namespace: &str, destination: &str, now: Instant) -> WaitingLane {
    WaitingLane { is_urgent: true, ..waits(namespace, destination, now) }
}

#[test]
fn a_push_has_a_reserved_job_where_backfills_have_the_others() {
    let now = Instant::now();
    let limits = JobLimits::default();
    let push = |lane| JobOrder::Start(lane, WorkerDuty::UrgentImages);
    let mut workers = backfills("a", 15, now);
    let waiting = [waits("a", "old", now - Duration::from_secs(9)), pushed("a", "push", now)];
    assert_eq!(decide_jobs(&waiting, &workers, &limits, now), [push(lane("a", "push"))], "of its own namespace");
    workers.push(worker("b", lane("b", "b0"), now));
    assert_eq!(decide_jobs(&[pushed("b", "push", now)], &workers, &limits, now), [push(lane("b", "push"))]);
    // One is enough: for the next push a backfill of the namespace takes no more.
    workers[15] = WorkerView { duty: WorkerDuty::UrgentImages, ..worker("push", lane("a", "push"), now) };
    let waiting = [pushed("a", "next", now), pushed("a", "third", now)];
    assert_eq!(decide_jobs(&waiting, &workers, &limits, now), [JobOrder::Dismiss("a-0".into())]);
    workers.remove(0);
    assert_eq!(decide_jobs(&waiting, &workers, &limits, now)[0], start(lane("a", "next")));
}

#[test]
fn a_push_has_the_job_of_a_backfill_where_all_are_taken() {
    let now = Instant::now();
    let limits = JobLimits::default();
    let mut workers = backfills("a", 15, now);
    workers.extend(["b", "c", "d", "e", "f"].map(|name| worker(name, lane(name, name), now)));
    let waiting = [pushed("b", "push", now)];
    assert_eq!(decide_jobs(&waiting, &workers, &limits, now), [JobOrder::Dismiss("a-0".into())]);
    workers[0].is_urgent = true;
    assert_eq!(
        decide_jobs(&waiting, &workers, &limits, now),
        [JobOrder::Dismiss("a-1".into())],
        "a push keeps its own"
    );
    workers[1].phase = WorkerPhase::Leaving;
    assert_eq!(decide_jobs(&waiting, &workers, &limits, now), [], "one leaves already");
    let backfill = [waits("b", "more", now)];
    assert_eq!(decide_jobs(&backfill, &backfills("a", 20, now), &limits, now).len(), 1, "it has none");
    workers[1].phase = WorkerPhase::Serving;
    assert_eq!(decide_jobs(&backfill, &workers, &limits, now), [], "a backfill waits");
}

#[test]
fn a_push_to_a_full_destination_has_the_job_of_its_own_backfill() {
    let now = Instant::now();
    let mut workers: Vec<_> = ["a", "b", "c", "d"].map(|name| worker(name, lane(name, "shared"), now)).into();
    workers.extend(backfills("a", 3, now));
    let push = WaitingLane { lane: Lane { source: "other".into(), ..lane("a", "shared") }, ..pushed("a", "", now) };
    let limits = JobLimits::default();
    assert_eq!(decide_jobs(&[push], &workers, &limits, now), [JobOrder::Dismiss("a".into())]);
    assert_eq!(decide_jobs(&[pushed("e", "shared", now)], &workers, &limits, now), [], "the others have one each");
}

#[test]
fn a_worker_for_pushes_takes_all_once_there_is_room() {
    let now = Instant::now();
    let limits = JobLimits::default();
    let mut workers = backfills("a", 15, now);
    workers.push(WorkerView { duty: WorkerDuty::UrgentImages, ..worker("push", lane("a", "push"), now) });
    assert_eq!(decide_jobs(&[], &workers, &limits, now), []);
    workers.remove(0);
    assert_eq!(decide_jobs(&[], &workers, &limits, now), [JobOrder::Broaden("push".into())]);
    workers[14].idle_since = Some(now);
    let waiting = [pushed("a", "next", now)];
    assert_eq!(decide_jobs(&waiting, &workers, &limits, now)[0], start(lane("a", "next")));
}

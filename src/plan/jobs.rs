//! Decides which copy Jobs start, end or are given up.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The work that one copy Job serves: tenants never share a process, and each blob crosses once to a destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// The namespace of the configurations.
    pub namespace: String,
    /// The uid of the source Registry.
    pub source: String,
    /// The uid of the destination Registry.
    pub destination: String,
    /// The execution class.
    pub class: String,
}

/// A lane with images that wait for a worker.
#[derive(Clone, Debug)]
pub struct WaitingLane {
    /// The lane.
    pub lane: Lane,
    /// The highest priority of its images.
    pub priority: i32,
    /// The time since which the oldest image waits.
    pub since: Instant,
    /// The earliest time of the next Job, after the last worker was lost.
    pub hold_until: Option<Instant>,
}

/// The state of one worker, as last heard.
#[derive(Clone, Debug)]
pub struct WorkerView {
    /// The name of its Job.
    pub job: String,
    /// The lane that it serves.
    pub lane: Lane,
    /// The time at which its Job was created, or adopted after a restart.
    pub made: Instant,
    /// The time of its last request; `None` before the first one.
    pub seen: Option<Instant>,
    /// The time since which it has no work; `None` while it has some.
    pub idle_since: Option<Instant>,
    /// The number of images that were assigned to it.
    pub given: usize,
    /// The bytes that it has transferred.
    pub moved: u64,
    /// Its phase.
    pub phase: WorkerPhase,
    /// True if it was adopted after a restart of the operator, and has not been heard since.
    pub adopted: bool,
    /// The time at which Kubernetes ends its Job.
    pub ends_at: Instant,
    /// True if it moved at least [`MIN_THROUGHPUT`] in the last minute.
    pub is_getting_on: bool,
}

/// The phase of a worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerPhase {
    /// It takes images.
    Serving,
    /// It takes no more images, and ends once it has none.
    Leaving,
    /// Its pod has ended, or its Job is gone.
    Ended,
}

/// Bounds over all workers.
#[derive(Clone, Copy, Debug)]
pub struct JobLimits {
    /// The largest number of Jobs. Default: 20.
    pub jobs: usize,
    /// The number of Jobs among them that only namespaces without a Job may start. Default: 5.
    pub reserved: usize,
    /// The largest number of Jobs that write to one destination. Default: 4.
    pub jobs_per_destination: usize,
    /// The number of images after which a Job is assigned no more. Default: 500.
    pub images_per_job: usize,
    /// The number of transferred bytes after which a Job is assigned no more images. Default: 20 GiB.
    pub bytes_per_job: u64,
    /// The time that a worker without work waits for more. Default: 30 s.
    pub linger: Duration,
    /// The age after which a Job is assigned no more images. Default: 30 minutes.
    pub max_age: Duration,
}

impl Default for JobLimits {
    fn default() -> Self {
        Self {
            jobs: 20,
            reserved: 5,
            jobs_per_destination: 4,
            images_per_job: 500,
            bytes_per_job: 20 << 30,
            linger: Duration::from_secs(30),
            max_age: Duration::from_secs(1_800),
        }
    }
}

/// A decision about one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobOrder {
    /// Start a Job for the lane.
    Start(Lane),
    /// Let the worker of this Job end once it has no work.
    Dismiss(String),
    /// Give up the worker of this Job: its images are assigned to another.
    GiveUp(String),
    /// Let this Job live [`EXTENSION`] longer: its worker still transfers an image.
    Extend(String),
}

/// Decides about the workers. A lane has at most one that takes images; the namespace with the fewest Jobs comes first,
/// then the one that has waited longest, and of its lanes that of the highest priority. A namespace without a Job finds some reserved for it; when they are taken
/// too, the namespace with the most Jobs takes no more images with one of them.
///
/// A worker that was not heard for [`AUTHORITY_TTL`] cannot write any more: only then it is given up.
pub fn decide_jobs(waiting: &[WaitingLane], workers: &[WorkerView], limits: &JobLimits, now: Instant) -> Vec<JobOrder> {
    let mut orders = Vec::new();
    let mut jobs: BTreeMap<&str, usize> = BTreeMap::new();
    let mut at_destination: BTreeMap<&str, usize> = BTreeMap::new();
    for worker in workers {
        if is_lost(worker, now) {
            orders.push(JobOrder::GiveUp(worker.job.clone()));
            continue;
        }
        *jobs.entry(&worker.lane.namespace).or_default() += 1;
        *at_destination.entry(&worker.lane.destination).or_default() += 1;
    }
    let mut total: usize = jobs.values().sum();
    // A worker that leaves may hold a slow image for long; grants keep two workers of a lane apart.
    let serves = |worker: &WorkerView| worker.phase == WorkerPhase::Serving && !is_lost(worker, now);
    let served = |lane: &Lane| workers.iter().any(|worker| worker.lane == *lane && serves(worker));
    let mut unserved: Vec<&WaitingLane> = waiting.iter().filter(|waiting| !served(&waiting.lane)).collect();
    unserved.retain(|waiting| waiting.hold_until.is_none_or(|until| until <= now));
    let mut crowded = Vec::new();
    while let Some(lane) = take_next(&mut unserved, &jobs) {
        let beside = at_destination.entry(&lane.destination).or_default();
        let has_one = jobs.contains_key(lane.namespace.as_str());
        let room = if has_one { limits.jobs.saturating_sub(limits.reserved) } else { limits.jobs };
        if total >= room || *beside >= limits.jobs_per_destination {
            crowded.push(lane);
            continue;
        }
        total += 1;
        *beside += 1;
        *jobs.entry(&lane.namespace).or_default() += 1;
        orders.push(JobOrder::Start(lane.clone()));
    }
    let is_kept_out = total >= limits.jobs && crowded.iter().any(|lane| !jobs.contains_key(lane.namespace.as_str()));
    let yields = if is_kept_out { yielding(workers, &jobs, now) } else { None };
    for worker in workers.iter().filter(|worker| serves(worker)) {
        let in_the_way = crowded.iter().any(|lane| total >= limits.jobs || lane.destination == worker.lane.destination);
        let idle = worker.idle_since.map(|since| now.saturating_duration_since(since));
        let is_over = worker.given >= limits.images_per_job
            || worker.moved >= limits.bytes_per_job
            || now.saturating_duration_since(worker.made) >= limits.max_age
            || idle.is_some_and(|idle| idle >= limits.linger || in_the_way)
            || yields == Some(worker.job.as_str());
        if is_over {
            orders.push(JobOrder::Dismiss(worker.job.clone()));
        }
    }
    if !is_kept_out {
        let ends_soon = |worker: &&WorkerView| worker.is_getting_on && worker.ends_at < now + EXTEND_BEFORE;
        let living = workers.iter().filter(|worker| !is_lost(worker, now));
        orders.extend(living.filter(ends_soon).map(|worker| JobOrder::Extend(worker.job.clone())));
    }
    orders
}

/// Takes the lane whose turn it is out of `unserved`. Priorities order the lanes of one namespace: they say nothing to
/// others.
fn take_next<'a>(unserved: &mut Vec<&'a WaitingLane>, jobs: &BTreeMap<&str, usize>) -> Option<&'a Lane> {
    let since = |namespace: &str| {
        let of_namespace = unserved.iter().filter(|waiting| waiting.lane.namespace == namespace);
        of_namespace.map(|waiting| waiting.since).min()
    };
    let index = (0..unserved.len()).min_by_key(|index| {
        let waiting = unserved[*index];
        let namespace = waiting.lane.namespace.as_str();
        let of_namespace = (jobs.get(namespace).copied().unwrap_or(0), since(namespace), namespace);
        (of_namespace, Reverse(waiting.priority), waiting.since)
    })?;
    Some(&unserved.swap_remove(index).lane)
}

/// Returns the Job that takes no more images, so that a namespace without one may have its place: the oldest of the
/// namespace with the most, unless one of them leaves already.
fn yielding<'a>(workers: &'a [WorkerView], jobs: &BTreeMap<&str, usize>, now: Instant) -> Option<&'a str> {
    let (most, _) = jobs.iter().filter(|(_, count)| **count > 1).max_by_key(|(_, count)| **count)?;
    let mut theirs = workers.iter().filter(|worker| worker.lane.namespace == **most && !is_lost(worker, now));
    if theirs.clone().any(|worker| worker.phase == WorkerPhase::Leaving) {
        return None;
    }
    theirs.by_ref().min_by_key(|worker| worker.made).map(|worker| worker.job.as_str())
}

fn is_lost(worker: &WorkerView, now: Instant) -> bool {
    let last = match (worker.seen, worker.adopted) {
        (Some(seen), _) => seen,
        (None, true) => worker.made,
        // It has not called yet: its pod may still wait for a node or an image.
        (None, false) => return worker.phase == WorkerPhase::Ended,
    };
    worker.phase == WorkerPhase::Ended || now.saturating_duration_since(last) > AUTHORITY_TTL + MARGIN
}

/// The throughput in bytes a second by which a worker keeps its Job, however long an image takes.
pub const MIN_THROUGHPUT: u64 = 64 << 10;
/// The time by which the life of a Job is extended.
pub const EXTENSION: Duration = Duration::from_secs(1_800);
const EXTEND_BEFORE: Duration = Duration::from_secs(300);
/// The time for which a worker may write after the operator's last answer.
pub const AUTHORITY_TTL: Duration = Duration::from_secs(10);
/// The time for which a grant to write lasts: less than [`AUTHORITY_TTL`], so that a worker that is lost holds none.
pub const GRANT_LASTS: Duration = Duration::from_secs(8);
const MARGIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(namespace: &str, destination: &str) -> Lane {
        Lane {
            namespace: namespace.into(),
            source: "s".into(),
            destination: destination.into(),
            class: "default".into(),
        }
    }

    fn waits(namespace: &str, destination: &str, since: Instant) -> WaitingLane {
        WaitingLane { lane: lane(namespace, destination), priority: 0, since, hold_until: None }
    }

    fn worker(job: &str, lane: Lane, now: Instant) -> WorkerView {
        WorkerView {
            job: job.into(),
            lane,
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

    fn started(orders: &[JobOrder]) -> Vec<&Lane> {
        orders.iter().filter_map(|order| if let JobOrder::Start(lane) = order { Some(lane) } else { None }).collect()
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
        let mut workers: Vec<_> = started(&orders)
            .into_iter()
            .enumerate()
            .map(|(n, lane)| worker(&format!("j{n}"), lane.clone(), now))
            .collect();
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
        assert_eq!(orders, [JobOrder::Start(lane("a", "d"))]);
    }

    #[test]
    fn no_destination_has_more_than_its_jobs_and_an_idle_worker_makes_room() {
        let now = Instant::now();
        let limits = JobLimits { jobs_per_destination: 1, ..JobLimits::default() };
        let mut idle = worker("j", lane("a", "d"), now);
        idle.idle_since = Some(now);
        let orders = decide_jobs(&[waits("b", "d", now)], &[idle.clone()], &limits, now);
        assert_eq!(orders, [JobOrder::Dismiss("j".into())]);
        assert_eq!(decide_jobs(&[waits("b", "e", now)], &[idle], &limits, now), [JobOrder::Start(lane("b", "e"))]);
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
        assert_eq!(orders, [JobOrder::GiveUp("j".into()), JobOrder::Start(lane("a", "d"))]);
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
}

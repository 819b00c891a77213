//! Decides which copy Jobs start, end or are given up.

mod lane_turns;
mod lanes;
mod taken_jobs;
mod yielding;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use self::lane_turns::LaneTurns;
pub use self::lanes::{JobLimits, Lane, WaitingLane, WorkerDuty, WorkerPhase, WorkerView};
use self::taken_jobs::TakenJobs;
use self::yielding::{is_kept_out, yielding};

/// A decision about one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobOrder {
    /// Start a Job for images of the lane.
    Start(Lane, WorkerDuty),
    /// Let the worker of this Job take all images of its lane: others have room beside the reserved Jobs.
    Broaden(String),
    /// Let the worker of this Job end once it has no work.
    Dismiss(String),
    /// Give up the worker of this Job: its images are assigned to another.
    GiveUp(String),
    /// Let this Job live [`EXTENSION`] longer: its worker still transfers an image.
    Extend(String),
}

/// Decides about the workers. A lane has at most one that takes images; the namespace with the fewest Jobs comes first,
/// then the one that has waited longest, and of its lanes those with urgent images, then that of the highest priority. A
/// namespace without a Job finds some reserved for it, and so does one lane with urgent images of each other namespace.
/// Where they are taken too, or the destination is full, the namespace with the most Jobs takes no more images with one
/// of them.
///
/// A worker that was not heard for [`AUTHORITY_TTL`] cannot write any more: only then it is given up.
pub fn decide_jobs(waiting: &[WaitingLane], workers: &[WorkerView], limits: &JobLimits, now: Instant) -> Vec<JobOrder> {
    let (lost, living): (Vec<_>, Vec<_>) = workers.iter().partition(|worker| is_lost(worker, now));
    let mut orders: Vec<_> = lost.into_iter().map(|worker| JobOrder::GiveUp(worker.job.clone())).collect();
    let mut taken = TakenJobs::new(*limits, &living);
    let ends_soon = |worker: &&WorkerView| worker.is_getting_on && worker.ends_at < now + EXTEND_BEFORE;
    let ending: Vec<&WorkerView> = living.iter().copied().filter(ends_soon).collect();
    // A worker that leaves may hold a slow image for long; grants keep two workers of a lane apart.
    let (serving, mut leaving): (Vec<_>, Vec<_>) =
        living.into_iter().partition(|worker| worker.phase == WorkerPhase::Serving);
    let served: BTreeSet<&Lane> = serving.iter().map(|worker| &worker.lane).collect();
    let unserved = waiting.iter().filter(|waiting| !served.contains(&waiting.lane));
    let unserved = unserved.filter(|waiting| waiting.hold_until.is_none_or(|until| until <= now));
    let (mut turns, mut crowded) = (LaneTurns::new(unserved, &taken), Vec::new());
    while let Some(waiting) = turns.next(&taken) {
        if let Some(duty) = taken.duty_for(waiting) {
            taken.take(&waiting.lane, duty);
            orders.push(JobOrder::Start(waiting.lane.clone(), duty));
        } else {
            crowded.push(waiting);
        }
    }
    let crowd = Crowd::new(&crowded);
    let is_over = |worker: &&WorkerView| has_done_its_share(worker, crowd.wants(worker, &taken), limits, now);
    let (over, going_on): (Vec<_>, Vec<_>) = serving.into_iter().partition(is_over);
    leaving.extend(&over);
    let yields = yielding(&crowded, going_on.clone(), leaving, taken.clone());
    orders.extend(over.iter().chain(&yields).map(|worker| JobOrder::Dismiss(worker.job.clone())));
    let mut broadened = taken.clone();
    let broadens = going_on.iter().filter(|worker| broadened.broaden(&worker.lane, worker.duty));
    orders.extend(broadens.map(|worker| JobOrder::Broaden(worker.job.clone())));
    let kept_out: Vec<_> = crowded.into_iter().filter(|waiting| is_kept_out(waiting, &taken)).collect();
    let keeps_out = |worker: &WorkerView| {
        let is_in_place = |waiting: &&WaitingLane| {
            let destination = &waiting.lane.destination;
            *destination == worker.lane.destination || !taken.is_full_at(destination)
        };
        kept_out.iter().any(is_in_place)
    };
    let extended = ending.into_iter().filter(|worker| !keeps_out(worker));
    orders.extend(extended.map(|worker| JobOrder::Extend(worker.job.clone())));
    orders
}

/// The needs of the lanes that cannot have a Job.
struct Crowd<'a> {
    destinations: BTreeSet<&'a str>,
    /// The namespaces of which urgent images wait.
    urgent: BTreeSet<&'a str>,
}

impl<'a> Crowd<'a> {
    fn new(crowded: &[&'a WaitingLane]) -> Self {
        let urgent = crowded.iter().filter(|waiting| waiting.is_urgent);
        Self {
            destinations: crowded.iter().map(|waiting| waiting.lane.destination.as_str()).collect(),
            urgent: urgent.map(|waiting| waiting.lane.namespace.as_str()).collect(),
        }
    }

    /// Returns true if a lane could have the place of the worker.
    fn wants(&self, worker: &WorkerView, taken: &TakenJobs<'_>) -> bool {
        taken.is_full() && !self.destinations.is_empty()
            || self.destinations.contains(worker.lane.destination.as_str())
            || self.urgent.contains(worker.lane.namespace.as_str())
    }
}

/// Returns true if the worker is to take no more images. One without work goes at once where it is in the way.
fn has_done_its_share(worker: &WorkerView, is_in_the_way: bool, limits: &JobLimits, now: Instant) -> bool {
    let idle = worker.idle_since.map(|since| now.saturating_duration_since(since));
    worker.given >= limits.images_per_job
        || worker.moved >= limits.bytes_per_job
        || now.saturating_duration_since(worker.made) >= limits.max_age
        || idle.is_some_and(|idle| idle >= limits.linger || is_in_the_way)
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
mod tests;

//! The queue of images for copy Jobs: takes images in, hands them out by lane, and follows the reports of workers.

mod priority_line;
mod worker_record;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use self::priority_line::{LinePlace, PriorityLine};
use self::worker_record::WorkerRecord;
use super::messages::{EndedItem, HeldItem, Item, ItemError, ItemId, Report, ReportAnswer};
use crate::plan::{AUTHORITY_TTL, Lane, WaitingLane, WorkerDuty, WorkerPhase, WorkerView};
use crate::terms::FailureCode;

/// All images that Jobs copy, and the workers that copy them. Decides nothing about Jobs, sends nothing.
#[derive(Debug, Default)]
pub(crate) struct WorkQueue {
    items: HashMap<ItemId, QueuedItem>,
    lanes: BTreeMap<Lane, LaneQueue>,
    workers: BTreeMap<String, WorkerRecord>,
}

/// One image that is handed in.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    /// The image.
    pub item: Item,
    /// The lane whose worker copies it.
    pub lane: Lane,
    /// True if it goes before the images of a comparison: its push was notified.
    pub urgent: bool,
    /// The priority among the images of its namespace.
    pub priority: i32,
}

/// The progress of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ItemState {
    /// No worker has it.
    Waiting,
    /// A worker copies it.
    Running {
        /// The bytes of blobs that were read so far.
        bytes: u64,
    },
    /// It was copied, or it failed.
    Ended(EndedItem, Option<String>),
}

/// A report that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReportError {
    /// The Job is not known, or another process has used its token.
    #[error("this worker is not known: it has to end")]
    Unknown,
    /// A newer report was there before.
    #[error("a newer report was there before")]
    Late,
}

#[derive(Debug)]
struct QueuedItem {
    submission: Submission,
    /// The Job whose worker has it.
    job: Option<String>,
    /// Its place in the line of its lane, while no worker has it.
    turn: Option<LinePlace>,
    /// Workers that were lost with it.
    losses: u32,
    since: Instant,
    state: watch::Sender<ItemState>,
}

#[derive(Debug, Default)]
struct LaneQueue {
    urgent: PriorityLine,
    waiting: PriorityLine,
    /// Workers that were lost in a row.
    losses: u32,
    hold_until: Option<Instant>,
}

impl LaneQueue {
    /// Returns true if nothing waits, and no loss has to be remembered.
    fn is_forgotten(&self) -> bool {
        self.urgent.is_empty() && self.waiting.is_empty() && self.hold_until.is_none()
    }
}

impl WorkQueue {
    /// Takes an image in. The receiver ends with [`ItemState::Ended`], unless the image is withdrawn.
    pub(crate) fn submit(&mut self, submission: Submission, now: Instant) -> watch::Receiver<ItemState> {
        let (state, receiver) = watch::channel(ItemState::Waiting);
        let id = submission.item.id.clone();
        self.withdraw(&id);
        self.items.insert(id.clone(), QueuedItem { submission, job: None, turn: None, losses: 0, since: now, state });
        self.enqueue(&id, QueueEnd::Back);
        receiver
    }

    /// Takes an image back: the next answer to the worker that has it cancels it.
    pub(crate) fn withdraw(&mut self, id: &ItemId) {
        self.release(id);
        self.items.remove(id);
    }

    /// Adds a worker that is about to start, in a Job that lives for `life`.
    pub(crate) fn add_worker(&mut self, job: &str, lane: Lane, duty: WorkerDuty, life: Duration, now: Instant) {
        self.workers.insert(job.to_owned(), WorkerRecord::new(lane, duty, false, life, now));
    }

    /// Adds a worker that an earlier operator process has started, in a Job that lives for another `life`.
    pub(crate) fn adopt_worker(&mut self, job: &str, lane: Lane, life: Duration, now: Instant) {
        self.workers.insert(job.to_owned(), WorkerRecord::new(lane, WorkerDuty::AllImages, true, life, now));
    }

    /// Lets a worker take all images of its lane.
    pub(crate) fn broaden(&mut self, job: &str) {
        if let Some(worker) = self.workers.get_mut(job) {
            worker.duty = WorkerDuty::AllImages;
        }
    }

    /// Notes that a Job lives longer.
    pub(crate) fn extend(&mut self, job: &str, by: Duration) {
        if let Some(worker) = self.workers.get_mut(job) {
            worker.ends_at += by;
        }
    }

    /// Notes that the worker's pod has ended, or its Job is gone.
    pub(crate) fn worker_ended(&mut self, job: &str) {
        if let Some(worker) = self.workers.get_mut(job) {
            worker.phase = WorkerPhase::Ended;
        }
    }

    /// Lets a worker end as soon as it has nothing to do.
    pub(crate) fn dismiss(&mut self, job: &str) {
        if let Some(worker) = self.workers.get_mut(job).filter(|worker| worker.phase == WorkerPhase::Serving) {
            worker.phase = WorkerPhase::Leaving;
        }
    }

    /// Gives a worker up. Its images wait again, at the front; an image that was lost [`MAX_LOSSES`] times has failed,
    /// because of `cause`.
    pub(crate) fn give_up(&mut self, job: &str, cause: &str, now: Instant) {
        let Some(worker) = self.workers.remove(job) else { return };
        for id in &worker.items {
            let Some(item) = self.items.get_mut(id) else { continue };
            item.losses += 1;
            item.job = None;
            if item.losses >= MAX_LOSSES {
                item.state.send_replace(ItemState::Ended(lost(id, item.losses, cause), Some(job.to_owned())));
                self.items.remove(id);
                continue;
            }
            item.state.send_replace(ItemState::Waiting);
            self.enqueue(id, QueueEnd::Front);
        }
        let queue = self.lanes.entry(worker.lane.clone()).or_default();
        // A worker that was dismissed, or had nothing to do, is no loss.
        if !worker.items.is_empty() || worker.seen.is_none() {
            queue.losses += 1;
            let pause = MIN_PAUSE.saturating_mul(1 << (queue.losses - 1).min(6)).min(MAX_PAUSE);
            queue.hold_until = Some(now + pause);
        }
    }

    /// Takes a report of `job`'s worker. Returns its next orders.
    ///
    /// # Errors
    /// [`ReportError`].
    pub(crate) fn report(&mut self, job: &str, report: &Report, now: Instant) -> Result<ReportAnswer, ReportError> {
        let worker = self
            .workers
            .get_mut(job)
            .filter(|worker| worker.phase != WorkerPhase::Ended)
            .ok_or(ReportError::Unknown)?;
        if worker.session.as_ref().is_some_and(|session| *session != report.session) {
            return Err(ReportError::Unknown);
        }
        if report.sequence <= worker.sequence {
            return Err(ReportError::Late);
        }
        worker.session = Some(report.session.clone());
        (worker.sequence, worker.seen) = (report.sequence, Some(now));
        let (lane, adopted_at) = (worker.lane.clone(), worker.adopted.then_some(worker.made));
        for ended in &report.ended {
            self.take_ended(job, &lane, ended);
        }
        let mut answer = ReportAnswer {
            sequence: report.sequence,
            authority_ms: u64::try_from(AUTHORITY_TTL.as_millis()).unwrap_or(u64::MAX),
            ..ReportAnswer::default()
        };
        let may_wait = adopted_at.is_some_and(|at| now.saturating_duration_since(at) < ADOPTED_WAIT);
        for held in &report.held {
            self.keep_or_cancel(job, &lane, held, may_wait, &mut answer);
        }
        let given = self.hand_out(job, &lane, report, &mut answer);
        let worker = self.workers.get_mut(job).ok_or(ReportError::Unknown)?;
        worker.given += given;
        let held: u64 = report.held.iter().map(|held| held.bytes).sum();
        worker.progress.note(worker.moved + held, now);
        let idle = report.held.is_empty() && answer.items.is_empty();
        worker.idle_since = if idle { worker.idle_since.or(Some(now)) } else { None };
        answer.end = idle && worker.phase == WorkerPhase::Leaving;
        Ok(answer)
    }

    /// Returns true if `session` of `job` has the image and may be given grants for it. Renews nothing but the time of
    /// its last call.
    pub(crate) fn may_commit(&mut self, job: &str, session: &str, id: &ItemId, now: Instant) -> bool {
        let Some(worker) = self.workers.get_mut(job) else { return false };
        let has = self.items.get(id).is_some_and(|item| item.job.as_deref() == Some(job));
        let may = has && worker.phase != WorkerPhase::Ended && worker.session.as_deref() == Some(session);
        if may {
            worker.seen = Some(now);
        }
        may
    }

    /// Returns true if the answer to the next report of `job` would be new to the worker.
    pub(crate) fn has_news(&self, job: &str, report: &Report) -> bool {
        let Some(worker) = self.workers.get(job) else { return true };
        let is_gone = |held: &HeldItem| {
            !self.items.contains_key(&held.id) && (!worker.adopted || self.is_superseded(held, &worker.lane))
        };
        let gone = report.held.iter().any(is_gone);
        let waits = self.lanes.get(&worker.lane).is_some_and(|queue| {
            let has = report.held.len();
            let takes_all = worker.duty == WorkerDuty::AllImages;
            (has < report.slots && takes_all && !queue.waiting.is_empty())
                || (has < report.slots + URGENT_SLOTS && !queue.urgent.is_empty())
        });
        let is_leaving = worker.phase == WorkerPhase::Leaving;
        gone || (waits && !is_leaving) || (is_leaving && report.held.is_empty())
    }

    /// Returns the lanes in which images wait, and all workers, for decisions about Jobs.
    pub(crate) fn overview(&mut self) -> (Vec<WaitingLane>, Vec<WorkerView>) {
        self.lanes.retain(|_, queue| !queue.is_forgotten());
        let lanes = self.lanes.iter().filter_map(|(lane, queue)| {
            let lines = [queue.urgent.summary(), queue.waiting.summary()].into_iter().flatten();
            let (priority, since) = lines.reduce(|a, b| (a.0.max(b.0), a.1.min(b.1)))?;
            let is_urgent = !queue.urgent.is_empty();
            Some(WaitingLane { lane: lane.clone(), is_urgent, priority, since, hold_until: queue.hold_until })
        });
        (lanes.collect(), self.workers())
    }

    /// Returns all workers.
    pub(crate) fn workers(&self) -> Vec<WorkerView> {
        let is_urgent = |worker: &WorkerRecord| {
            let waits = self.lanes.get(&worker.lane).is_some_and(|queue| !queue.urgent.is_empty());
            waits || worker.items.iter().any(|id| self.items.get(id).is_some_and(|item| item.submission.urgent))
        };
        self.workers.iter().map(|(job, worker)| worker.view(job, is_urgent(worker))).collect()
    }

    /// Returns the lane of a worker.
    pub(crate) fn lane(&self, job: &str) -> Option<&Lane> {
        self.workers.get(job).map(|worker| &worker.lane)
    }

    /// Returns true if another image waits for the tag of one that is not known here.
    fn is_superseded(&self, held: &HeldItem, lane: &Lane) -> bool {
        self.items.values().any(|queued| {
            let Submission { item, lane: wanted, .. } = &queued.submission;
            item.image.tag == held.tag && item.image.target == held.repository && wanted == lane
        })
    }

    fn take_ended(&mut self, job: &str, lane: &Lane, ended: &EndedItem) {
        let Some(item) = self.items.get(&ended.id) else { return };
        let is_its_own = item.job.as_deref() == Some(job);
        // An image that was copied for an earlier operator process, and handed in again meanwhile, is there and read
        // back.
        let is_there = item.job.is_none() && item.submission.lane == *lane && ended.result.is_ok();
        if !is_its_own && !is_there {
            return;
        }
        self.release(&ended.id);
        if let Some(item) = self.items.remove(&ended.id) {
            item.state.send_replace(ItemState::Ended(ended.clone(), Some(job.to_owned())));
            if let Some(worker) = self.workers.get_mut(job) {
                worker.moved += ended.moved;
            }
            if let Some(queue) = self.lanes.get_mut(lane) {
                (queue.losses, queue.hold_until) = (0, None);
            }
        }
    }

    /// Answers for one image that the worker has. `may_wait` is true while images of an earlier operator process may be
    /// handed in again.
    fn keep_or_cancel(&mut self, job: &str, lane: &Lane, held: &HeldItem, may_wait: bool, answer: &mut ReportAnswer) {
        let may_wait = may_wait && !self.is_superseded(held, lane);
        match self.items.get_mut(&held.id) {
            Some(item) if item.submission.lane == *lane && item.job.as_deref().is_none_or(|other| other == job) => {
                item.state.send_replace(ItemState::Running { bytes: held.bytes });
                answer.keep.push(held.id.clone());
                self.assign(&held.id, job);
            }
            // Until it is handed in again it goes on without authority.
            None if may_wait => {}
            _ => answer.cancel.push(held.id.clone()),
        }
    }

    /// Adds to the answer the images that were given and not received, and then new ones as far as there is room.
    /// Returns the number of new ones.
    fn hand_out(&mut self, job: &str, lane: &Lane, report: &Report, answer: &mut ReportAnswer) -> usize {
        let is_held = |id: &ItemId| report.held.iter().any(|held| held.id == *id);
        let Some(worker) = self.workers.get(job) else { return 0 };
        let given = worker.items.iter().filter(|id| !is_held(id)).filter_map(|id| self.items.get(id));
        answer.items = given.map(|item| item.submission.item.clone()).collect();
        let takes_all = worker.duty == WorkerDuty::AllImages;
        if worker.phase != WorkerPhase::Serving {
            return 0;
        }
        let again = answer.items.len();
        let mut count = report.held.len() + answer.items.len();
        while count < report.slots + URGENT_SLOTS {
            let Some(queue) = self.lanes.get_mut(lane) else { break };
            let others = if takes_all && count < report.slots { Some(&mut queue.waiting) } else { None };
            let Some(next) = queue.urgent.pop().or_else(|| others?.pop()) else { break };
            if let Some(item) = self.items.get(&next) {
                answer.items.push(item.submission.item.clone());
                count += 1;
            }
            self.assign(&next, job);
        }
        answer.items.len() - again
    }

    /// Lets an image wait in the line of its lane.
    fn enqueue(&mut self, id: &ItemId, end: QueueEnd) {
        let Some(item) = self.items.get_mut(id) else { return };
        let Submission { lane, urgent, priority, .. } = &item.submission;
        let queue = self.lanes.entry(lane.clone()).or_default();
        let line = if *urgent { &mut queue.urgent } else { &mut queue.waiting };
        item.turn = Some(match end {
            QueueEnd::Front => line.push_front(*priority, id.clone(), item.since),
            QueueEnd::Back => line.push_back(*priority, id.clone(), item.since),
        });
    }

    /// Assigns an image to the worker of `job`.
    fn assign(&mut self, id: &ItemId, job: &str) {
        self.release(id);
        if let (Some(item), Some(worker)) = (self.items.get_mut(id), self.workers.get_mut(job)) {
            item.job = Some(job.to_owned());
            worker.items.insert(id.clone());
        }
    }

    /// Takes an image out of its line, and from the worker that has it.
    fn release(&mut self, id: &ItemId) {
        let Some(item) = self.items.get_mut(id) else { return };
        if let (Some(turn), Some(queue)) = (item.turn.take(), self.lanes.get_mut(&item.submission.lane)) {
            let line = if item.submission.urgent { &mut queue.urgent } else { &mut queue.waiting };
            line.remove(turn);
        }
        if let Some(worker) = item.job.take().and_then(|job| self.workers.get_mut(&job)) {
            worker.items.remove(id);
        }
    }
}

/// An end of a queue.
#[derive(Clone, Copy)]
enum QueueEnd {
    Front,
    Back,
}

fn lost(id: &ItemId, losses: u32, cause: &str) -> EndedItem {
    let message = format!("{losses} workers ended before the image was copied, the last one because: {cause}");
    let error = ItemError { code: FailureCode::WorkerFailed, message, retry_after: None, suspect: None };
    EndedItem { id: id.clone(), result: Err(error), moved: 0 }
}

/// Images beyond the slots of a worker, so that an urgent one never waits behind a backfill.
const URGENT_SLOTS: usize = 2;
const MAX_LOSSES: u32 = 3;
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The time in which images of an earlier operator process may be handed in again.
const ADOPTED_WAIT: Duration = Duration::from_secs(30);

#[cfg(test)]
#[path = "work_queue/tests.rs"]
mod tests;

//! What every worker is to copy: takes images in, hands them out by lane, and takes in what workers tell of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::messages::{Answer, Ended, EndedBadly, Held, Item, ItemId, Report};
use crate::plan::{AUTHORITY_LASTS, Lane, WaitingLane, WorkerView};
use crate::terms::FailureCode;

/// All images that are to be copied by Jobs, and the workers that copy them. Decides nothing about Jobs, calls nobody.
#[derive(Debug, Default)]
pub struct Desk {
    entries: HashMap<ItemId, Entry>,
    lanes: BTreeMap<Lane, Queue>,
    workers: BTreeMap<String, Worker>,
}

/// One image that is handed in.
#[derive(Clone, Debug)]
pub struct Submission {
    /// What is copied.
    pub item: Item,
    /// By which lane.
    pub lane: Lane,
    /// Somebody waits for it: it goes before what a comparison found.
    pub hurried: bool,
}

/// How far an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// No worker has it.
    Waiting,
    /// A worker copies it and has read so many bytes.
    Running {
        /// Of blobs.
        bytes: u64,
    },
    /// It ended.
    Ended(Ended),
}

/// Why a report is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The Job is not known, or another process has used its token.
    #[error("this worker is not known: it has to end")]
    Unknown,
    /// A newer report was there before.
    #[error("a newer report was there before")]
    Late,
}

#[derive(Debug)]
struct Entry {
    submission: Submission,
    job: Option<String>,
    losses: u32,
    since: Instant,
    told: watch::Sender<Told>,
}

#[derive(Debug, Default)]
struct Queue {
    hurried: VecDeque<ItemId>,
    waiting: VecDeque<ItemId>,
    losses: u32,
    hold_until: Option<Instant>,
}

#[derive(Debug)]
struct Worker {
    lane: Lane,
    session: Option<String>,
    sequence: u64,
    made: Instant,
    seen: Option<Instant>,
    idle_since: Option<Instant>,
    given: usize,
    moved: u64,
    leaving: bool,
    ended: bool,
    adopted: bool,
}

impl Queue {
    /// Whether nothing waits, and no loss is to be remembered.
    fn is_forgotten(&self) -> bool {
        self.hurried.is_empty() && self.waiting.is_empty() && self.hold_until.is_none()
    }
}

impl Desk {
    /// Takes an image in. What is told of it ends with [`Told::Ended`], unless it is withdrawn.
    pub fn submit(&mut self, submission: Submission, now: Instant) -> watch::Receiver<Told> {
        let (told, receiver) = watch::channel(Told::Waiting);
        let id = submission.item.id.clone();
        self.queue(&submission, false);
        self.entries.insert(id, Entry { submission, job: None, losses: 0, since: now, told });
        receiver
    }

    /// Takes an image back: the worker that has it is told to drop it.
    pub fn withdraw(&mut self, id: &ItemId) {
        self.entries.remove(id);
    }

    /// A worker that is about to start, or (`adopted`) one that an earlier operator process has started.
    pub fn add_worker(&mut self, job: &str, lane: Lane, adopted: bool, now: Instant) {
        let worker = Worker {
            lane,
            session: None,
            sequence: 0,
            made: now,
            seen: None,
            idle_since: None,
            given: 0,
            moved: 0,
            leaving: false,
            ended: false,
            adopted,
        };
        self.workers.insert(job.to_owned(), worker);
    }

    /// The worker's pod has ended, or its Job is gone.
    pub fn worker_ended(&mut self, job: &str) {
        if let Some(worker) = self.workers.get_mut(job) {
            worker.ended = true;
        }
    }

    /// Tells a worker to end when it has nothing to do.
    pub fn dismiss(&mut self, job: &str) {
        if let Some(worker) = self.workers.get_mut(job) {
            worker.leaving = true;
        }
    }

    /// Gives a worker up. What it had waits again, at the front; what was lost [`MOST_LOSSES`] times has failed, because of `cause`.
    pub fn give_up(&mut self, job: &str, cause: &str, now: Instant) {
        let Some(worker) = self.workers.remove(job) else { return };
        let mut had: Vec<ItemId> = Vec::new();
        self.entries.retain(|id, entry| {
            if entry.job.as_deref() != Some(job) {
                return true;
            }
            entry.losses += 1;
            entry.job = None;
            if entry.losses >= MOST_LOSSES {
                entry.told.send_replace(Told::Ended(lost(id, entry.losses, cause)));
                return false;
            }
            entry.told.send_replace(Told::Waiting);
            had.push(id.clone());
            true
        });
        for id in &had {
            let submission = self.entries[id].submission.clone();
            self.queue(&submission, true);
        }
        let queue = self.lanes.entry(worker.lane.clone()).or_default();
        // One that ended as it was told to, or had nothing to do, is no loss.
        if !had.is_empty() || worker.seen.is_none() {
            queue.losses += 1;
            let pause = FIRST_PAUSE.saturating_mul(1 << (queue.losses - 1).min(6)).min(LONGEST_PAUSE);
            queue.hold_until = Some(now + pause);
        }
    }

    /// Takes a report of `job`'s worker and says what it is to do.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn report(&mut self, job: &str, report: &Report, now: Instant) -> Result<Answer, Refused> {
        let worker = self.workers.get_mut(job).filter(|worker| !worker.ended).ok_or(Refused::Unknown)?;
        if worker.session.as_ref().is_some_and(|session| *session != report.session) {
            return Err(Refused::Unknown);
        }
        if report.sequence <= worker.sequence {
            return Err(Refused::Late);
        }
        worker.session = Some(report.session.clone());
        (worker.sequence, worker.seen) = (report.sequence, Some(now));
        let (lane, adopted_at) = (worker.lane.clone(), worker.adopted.then_some(worker.made));
        for ended in &report.ended {
            self.take_ended(job, &lane, ended);
        }
        let mut answer = Answer {
            sequence: report.sequence,
            authority_ms: u64::try_from(AUTHORITY_LASTS.as_millis()).unwrap_or(u64::MAX),
            ..Answer::default()
        };
        for held in &report.held {
            let may_wait = adopted_at.is_some_and(|at| now.saturating_duration_since(at) < TAKEN_UP_WITHIN)
                && !self.is_superseded(held, &lane);
            match self.entries.get_mut(&held.id) {
                Some(entry)
                    if entry.submission.lane == lane && entry.job.as_deref().is_none_or(|other| other == job) =>
                {
                    entry.job = Some(job.to_owned());
                    entry.told.send_replace(Told::Running { bytes: held.bytes });
                    answer.keep.push(held.id.clone());
                }
                Some(_) => answer.cancel.push(held.id.clone()),
                // Of an earlier operator process: it may be handed in again. Until then it goes on without authority.
                None if may_wait => {}
                None => answer.cancel.push(held.id.clone()),
            }
        }
        self.hand_out(job, &lane, report, &mut answer);
        let worker = self.workers.get_mut(job).ok_or(Refused::Unknown)?;
        worker.given += answer.items.len();
        let idle = report.held.is_empty() && answer.items.is_empty();
        worker.idle_since = if idle { worker.idle_since.or(Some(now)) } else { None };
        answer.end = idle && worker.leaving;
        Ok(answer)
    }

    /// Whether `session` of `job` has the image and may be given grants for it; renews nothing but the time it was heard.
    pub fn may_commit(&mut self, job: &str, session: &str, id: &ItemId, now: Instant) -> bool {
        let Some(worker) = self.workers.get_mut(job) else { return false };
        let has = self.entries.get(id).is_some_and(|entry| entry.job.as_deref() == Some(job));
        let may = has && !worker.ended && worker.session.as_deref() == Some(session);
        if may {
            worker.seen = Some(now);
        }
        may
    }

    /// Whether the next report of `job` would be answered with something new.
    pub fn has_news(&self, job: &str, report: &Report) -> bool {
        let Some(worker) = self.workers.get(job) else { return true };
        let is_gone = |held: &Held| {
            !self.entries.contains_key(&held.id) && (!worker.adopted || self.is_superseded(held, &worker.lane))
        };
        let gone = report.held.iter().any(is_gone);
        let waits = self.lanes.get(&worker.lane).is_some_and(|queue| {
            let is_live = |id: &ItemId| self.entries.get(id).is_some_and(|entry| entry.job.is_none());
            let has = report.held.len();
            (has < report.slots && queue.waiting.iter().any(is_live))
                || (has < report.slots + HURRIED_SLOTS && queue.hurried.iter().any(is_live))
        });
        gone || (waits && !worker.leaving) || (worker.leaving && report.held.is_empty())
    }

    /// What decisions about Jobs need to know.
    pub fn overview(&mut self) -> (Vec<WaitingLane>, Vec<WorkerView>) {
        let entries = &self.entries;
        for queue in self.lanes.values_mut() {
            let waits = |id: &ItemId| entries.get(id).is_some_and(|entry| entry.job.is_none());
            queue.hurried.retain(waits);
            queue.waiting.retain(waits);
        }
        self.lanes.retain(|_, queue| !queue.is_forgotten());
        let lanes = self.lanes.iter().filter_map(|(lane, queue)| {
            let since =
                queue.hurried.iter().chain(&queue.waiting).filter_map(|id| entries.get(id)).map(|e| e.since).min();
            Some(WaitingLane { lane: lane.clone(), since: since?, hold_until: queue.hold_until })
        });
        let lanes = lanes.collect();
        let workers = self.workers.iter().map(|(job, worker)| WorkerView {
            job: job.clone(),
            lane: worker.lane.clone(),
            made: worker.made,
            seen: worker.seen,
            idle_since: worker.idle_since,
            given: worker.given,
            moved: worker.moved,
            leaving: worker.leaving,
            ended: worker.ended,
            adopted: worker.adopted && worker.seen.is_none(),
        });
        (lanes, workers.collect())
    }

    /// The lane of a worker.
    pub fn lane(&self, job: &str) -> Option<&Lane> {
        self.workers.get(job).map(|worker| &worker.lane)
    }

    /// Whether another image waits for the tag of one that is not known here.
    fn is_superseded(&self, held: &Held, lane: &Lane) -> bool {
        self.entries.values().any(|entry| {
            let Submission { item, lane: wanted, .. } = &entry.submission;
            item.image.tag == held.tag && item.image.repository == held.repository && wanted == lane
        })
    }

    fn take_ended(&mut self, job: &str, lane: &Lane, ended: &Ended) {
        let Some(entry) = self.entries.get(&ended.id) else { return };
        let is_his = entry.job.as_deref() == Some(job);
        // One that was copied for an earlier operator process and handed in again meanwhile: it is there, read back.
        let is_there = entry.job.is_none() && entry.submission.lane == *lane && ended.result.is_ok();
        if (is_his || is_there)
            && let Some(entry) = self.entries.remove(&ended.id)
        {
            entry.told.send_replace(Told::Ended(ended.clone()));
            if let Some(worker) = self.workers.get_mut(job) {
                worker.moved += ended.moved;
            }
            if let Some(queue) = self.lanes.get_mut(lane) {
                (queue.losses, queue.hold_until) = (0, None);
            }
        }
    }

    /// Adds to the answer what was given and not received, and then new images as far as there is room.
    fn hand_out(&mut self, job: &str, lane: &Lane, report: &Report, answer: &mut Answer) {
        let is_held = |id: &ItemId| report.held.iter().any(|held| held.id == *id);
        let given = self.entries.values().filter(|entry| entry.job.as_deref() == Some(job));
        answer.items = given.map(|entry| entry.submission.item.clone()).filter(|item| !is_held(&item.id)).collect();
        let Some(worker) = self.workers.get(job).filter(|worker| !worker.leaving) else { return };
        let Some(queue) = self.lanes.get_mut(&worker.lane) else { return };
        let mut count = report.held.len() + answer.items.len();
        while count < report.slots + HURRIED_SLOTS {
            let next = match queue.hurried.pop_front() {
                Some(id) => id,
                None if count < report.slots => match queue.waiting.pop_front() {
                    Some(id) => id,
                    None => break,
                },
                None => break,
            };
            if let Some(entry) = self.entries.get_mut(&next)
                && entry.job.is_none()
                && entry.submission.lane == *lane
            {
                entry.job = Some(job.to_owned());
                answer.items.push(entry.submission.item.clone());
                count += 1;
            }
        }
    }

    fn queue(&mut self, submission: &Submission, first: bool) {
        let queue = self.lanes.entry(submission.lane.clone()).or_default();
        let line = if submission.hurried { &mut queue.hurried } else { &mut queue.waiting };
        if first {
            line.push_front(submission.item.id.clone());
        } else {
            line.push_back(submission.item.id.clone());
        }
    }
}

fn lost(id: &ItemId, losses: u32, cause: &str) -> Ended {
    let message = format!("{losses} workers ended before the image was copied, the last one because: {cause}");
    let bad = EndedBadly { code: FailureCode::WorkerFailed, message, retry_after: None, suspect_source: None };
    Ended { id: id.clone(), result: Err(bad), moved: 0 }
}

/// Beyond the slots that a worker has, so that an image in a hurry never waits behind a backfill.
const HURRIED_SLOTS: usize = 2;
const MOST_LOSSES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long images of an earlier operator process wait to be handed in again.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
#[path = "desk/tests.rs"]
mod tests;

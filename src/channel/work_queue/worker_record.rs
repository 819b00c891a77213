//! One worker of the queue: its last report, and if it gets on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::super::messages::ItemId;
use crate::plan::{Lane, MIN_THROUGHPUT, WorkerDuty, WorkerPhase, WorkerView};

/// One worker, as last heard.
#[derive(Debug)]
pub(super) struct WorkerRecord {
    pub(super) lane: Lane,
    pub(super) duty: WorkerDuty,
    /// The images that it has.
    pub(super) items: BTreeSet<ItemId>,
    pub(super) session: Option<String>,
    /// The sequence number of its last report.
    pub(super) sequence: u64,
    pub(super) made: Instant,
    pub(super) seen: Option<Instant>,
    pub(super) idle_since: Option<Instant>,
    pub(super) given: usize,
    pub(super) moved: u64,
    pub(super) phase: WorkerPhase,
    pub(super) adopted: bool,
    pub(super) ends_at: Instant,
    pub(super) progress: TransferProgress,
}

/// The bytes that a worker had moved at the beginning of the present period.
#[derive(Debug)]
pub(super) struct TransferProgress {
    since: Instant,
    bytes: u64,
    is_getting_on: bool,
}

impl TransferProgress {
    /// Counts the bytes that the worker has moved in all.
    pub(super) fn note(&mut self, bytes: u64, now: Instant) {
        let period = now.saturating_duration_since(self.since);
        if period >= PROGRESS_PERIOD {
            self.is_getting_on = bytes.saturating_sub(self.bytes) >= MIN_THROUGHPUT * period.as_secs();
            (self.since, self.bytes) = (now, bytes);
        }
    }
}

impl WorkerRecord {
    /// Returns the record of a worker that has not called yet.
    pub(super) fn new(lane: Lane, duty: WorkerDuty, adopted: bool, life: Duration, now: Instant) -> Self {
        Self {
            lane,
            duty,
            items: BTreeSet::new(),
            session: None,
            sequence: 0,
            made: now,
            seen: None,
            idle_since: None,
            given: 0,
            moved: 0,
            phase: WorkerPhase::Serving,
            adopted,
            ends_at: now + life,
            progress: TransferProgress { since: now, bytes: 0, is_getting_on: false },
        }
    }

    /// Returns the state for decisions about Jobs; `is_urgent` if the worker has an urgent image, or one waits for it.
    pub(super) fn view(&self, job: &str, is_urgent: bool) -> WorkerView {
        WorkerView {
            job: job.to_owned(),
            lane: self.lane.clone(),
            duty: self.duty,
            is_urgent,
            made: self.made,
            seen: self.seen,
            idle_since: self.idle_since,
            given: self.given,
            moved: self.moved,
            phase: self.phase,
            adopted: self.adopted && self.seen.is_none(),
            ends_at: self.ends_at,
            is_getting_on: self.progress.is_getting_on,
        }
    }
}

/// The period over which the throughput of a worker is judged.
const PROGRESS_PERIOD: Duration = Duration::from_secs(60);

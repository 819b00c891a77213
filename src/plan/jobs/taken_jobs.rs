//! The Jobs that are taken, counted by namespace and destination.

use std::collections::BTreeMap;

use super::lanes::{JobLimits, Lane, WaitingLane, WorkerDuty, WorkerView};

/// The Jobs that are taken, and the bounds that they keep.
#[derive(Clone)]
pub(super) struct TakenJobs<'a> {
    limits: JobLimits,
    total: usize,
    /// Those for urgent images alone, in all and by namespace.
    urgent: usize,
    urgent_of: BTreeMap<&'a str, usize>,
    by_namespace: BTreeMap<&'a str, usize>,
    by_destination: BTreeMap<&'a str, usize>,
    /// By namespace and destination.
    by_both: BTreeMap<(&'a str, &'a str), usize>,
}

impl<'a> TakenJobs<'a> {
    /// Counts the Jobs of `workers`.
    pub(super) fn new(limits: JobLimits, workers: &[&'a WorkerView]) -> Self {
        let (urgent_of, by_namespace, by_destination, by_both) = Default::default();
        let mut taken = Self { limits, total: 0, urgent: 0, urgent_of, by_namespace, by_destination, by_both };
        workers.iter().for_each(|worker| taken.take(&worker.lane, worker.duty));
        taken
    }

    /// Counts one Job more.
    pub(super) fn take(&mut self, lane: &'a Lane, duty: WorkerDuty) {
        let both = (lane.namespace.as_str(), lane.destination.as_str());
        self.total += 1;
        *self.by_namespace.entry(both.0).or_default() += 1;
        *self.by_destination.entry(both.1).or_default() += 1;
        *self.by_both.entry(both).or_default() += 1;
        if duty == WorkerDuty::UrgentImages {
            self.urgent += 1;
            *self.urgent_of.entry(both.0).or_default() += 1;
        }
    }

    /// Counts one Job less.
    pub(super) fn give_back(&mut self, lane: &'a Lane, duty: WorkerDuty) {
        let both = (lane.namespace.as_str(), lane.destination.as_str());
        self.total -= 1;
        *self.by_namespace.entry(both.0).or_insert(1) -= 1;
        *self.by_destination.entry(both.1).or_insert(1) -= 1;
        *self.by_both.entry(both).or_insert(1) -= 1;
        if duty == WorkerDuty::UrgentImages {
            self.urgent -= 1;
            *self.urgent_of.entry(both.0).or_insert(1) -= 1;
        }
    }

    /// Returns the duty of a Job that the lane may take; `None` if there is none for it.
    pub(super) fn duty_for(&self, waiting: &WaitingLane) -> Option<WorkerDuty> {
        let namespace = waiting.lane.namespace.as_str();
        if self.is_full() || self.is_full_at(&waiting.lane.destination) {
            return None;
        }
        if self.of(namespace) == 0 || self.has_shared_room() {
            return Some(WorkerDuty::AllImages);
        }
        let urgent = self.urgent_of.get(namespace).copied().unwrap_or(0);
        (waiting.is_urgent && urgent < MAX_URGENT_JOBS).then_some(WorkerDuty::UrgentImages)
    }

    /// Counts a Job for urgent images as one for all, if there is room. Returns true if it was one and there is.
    pub(super) fn broaden(&mut self, lane: &'a Lane, duty: WorkerDuty) -> bool {
        let may = duty == WorkerDuty::UrgentImages && self.has_shared_room();
        if may {
            self.give_back(lane, duty);
            self.take(lane, WorkerDuty::AllImages);
        }
        may
    }

    /// Returns true if a Job is left beside the reserved ones.
    fn has_shared_room(&self) -> bool {
        self.total - self.urgent < self.limits.jobs.saturating_sub(self.limits.reserved)
    }

    /// Returns true if no Job is left.
    pub(super) fn is_full(&self) -> bool {
        self.total >= self.limits.jobs
    }

    /// Returns true if no Job is left that writes to the destination.
    pub(super) fn is_full_at(&self, destination: &str) -> bool {
        self.by_destination.get(destination).copied().unwrap_or(0) >= self.limits.jobs_per_destination
    }

    /// Returns the number of Jobs of a namespace.
    pub(super) fn of(&self, namespace: &str) -> usize {
        self.by_namespace.get(namespace).copied().unwrap_or(0)
    }

    /// Returns the number of Jobs of a namespace that write to the destination.
    pub(super) fn of_at(&self, namespace: &str, destination: &str) -> usize {
        self.by_both.get(&(namespace, destination)).copied().unwrap_or(0)
    }
}

/// Reserved Jobs of one namespace for its urgent images.
const MAX_URGENT_JOBS: usize = 1;

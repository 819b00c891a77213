//! The Jobs that are taken, counted by namespace and destination.

use std::collections::BTreeMap;

use super::{JobLimits, Lane, WaitingLane, WorkerView};

/// The Jobs that are taken, and the bounds that they keep.
#[derive(Clone)]
pub(super) struct TakenJobs<'a> {
    limits: JobLimits,
    total: usize,
    by_namespace: BTreeMap<&'a str, usize>,
    by_destination: BTreeMap<&'a str, usize>,
    /// By namespace and destination.
    by_both: BTreeMap<(&'a str, &'a str), usize>,
}

impl<'a> TakenJobs<'a> {
    /// Counts the Jobs of `workers`.
    pub(super) fn new(limits: JobLimits, workers: &[&'a WorkerView]) -> Self {
        let (by_namespace, by_destination, by_both) = Default::default();
        let mut taken = Self { limits, total: 0, by_namespace, by_destination, by_both };
        workers.iter().for_each(|worker| taken.take(&worker.lane));
        taken
    }

    /// Counts one Job more.
    pub(super) fn take(&mut self, lane: &'a Lane) {
        let both = (lane.namespace.as_str(), lane.destination.as_str());
        self.total += 1;
        *self.by_namespace.entry(both.0).or_default() += 1;
        *self.by_destination.entry(both.1).or_default() += 1;
        *self.by_both.entry(both).or_default() += 1;
    }

    /// Counts one Job less.
    pub(super) fn give_back(&mut self, lane: &'a Lane) {
        let both = (lane.namespace.as_str(), lane.destination.as_str());
        self.total -= 1;
        *self.by_namespace.entry(both.0).or_insert(1) -= 1;
        *self.by_destination.entry(both.1).or_insert(1) -= 1;
        *self.by_both.entry(both).or_insert(1) -= 1;
    }

    /// Returns true if the lane may take a Job.
    pub(super) fn has_room(&self, waiting: &WaitingLane) -> bool {
        let JobLimits { jobs, reserved, .. } = self.limits;
        let room = if self.of(&waiting.lane.namespace) == 0 { jobs } else { jobs.saturating_sub(reserved) };
        self.total < room && !self.is_full_at(&waiting.lane.destination)
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

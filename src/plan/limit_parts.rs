//! Divides the limits of a Registry among the processes that use it: the operator and the workers of copy Jobs.

use std::collections::BTreeMap;

use super::{WorkerPhase, WorkerView};

/// The parts of one Registry's limits, which add up to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitParts {
    /// The part of the operator itself.
    pub operator: f64,
    /// The part of each worker, by the name of its Job.
    pub workers: BTreeMap<String, f64>,
}

impl LimitParts {
    /// Returns the number of processes among which the limits are divided.
    pub fn processes(&self) -> u32 {
        u32::try_from(self.workers.len() + 1).unwrap_or(u32::MAX)
    }
}

/// Returns the parts of each Registry that a worker uses, by its uid. A process that has no work for the Registry gets
/// little, enough to begin with. `is_used_here` says if the operator sends requests to a Registry at present.
pub fn limit_parts(workers: &[WorkerView], is_used_here: impl Fn(&str) -> bool) -> BTreeMap<String, LimitParts> {
    let mut users: BTreeMap<&str, BTreeMap<&str, f64>> = BTreeMap::new();
    for worker in workers.iter().filter(|worker| worker.phase != WorkerPhase::Ended) {
        let is_busy = worker.seen.is_some() && worker.idle_since.is_none();
        for registry in [&worker.lane.source, &worker.lane.destination] {
            users.entry(registry).or_default().insert(&worker.job, weight(is_busy));
        }
    }
    let parts = users.into_iter().map(|(registry, workers)| {
        let here = weight(is_used_here(registry));
        let all = here + workers.values().sum::<f64>();
        let workers = workers.into_iter().map(|(job, weight)| (job.to_owned(), weight / all)).collect();
        (registry.to_owned(), LimitParts { operator: here / all, workers })
    });
    parts.collect()
}

fn weight(is_busy: bool) -> f64 {
    if is_busy { 1.0 } else { IDLE }
}

/// The weight of a process without work, where one with work has 1.
const IDLE: f64 = 0.02;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::plan::{Lane, WorkerDuty};

    fn worker(job: &str, source: &str, destination: &str, is_busy: bool) -> WorkerView {
        let now = Instant::now();
        WorkerView {
            job: job.to_owned(),
            lane: Lane {
                namespace: "a".to_owned(),
                source: source.to_owned(),
                destination: destination.to_owned(),
                class: "default".to_owned(),
            },
            duty: WorkerDuty::AllImages,
            is_urgent: false,
            made: now,
            seen: Some(now),
            idle_since: (!is_busy).then_some(now),
            given: 1,
            moved: 0,
            phase: WorkerPhase::Serving,
            adopted: false,
            ends_at: now + Duration::from_secs(60),
            is_getting_on: true,
        }
    }

    #[test]
    fn workers_with_work_share_nearly_all_of_a_limit() {
        let workers: Vec<_> = (0..4).map(|number| worker(&format!("j{number}"), "hub", "eu", true)).collect();
        let parts = limit_parts(&workers, |_| false);
        let hub = &parts["hub"];
        assert_eq!((parts.len(), hub.processes()), (2, 5));
        assert!(hub.workers.values().all(|part| (0.24..0.25).contains(part)), "{hub:?}");
        let all = hub.operator + hub.workers.values().sum::<f64>();
        assert!((all - 1.0).abs() < 1e-9);
    }

    #[test]
    fn an_idle_process_and_one_that_has_ended_leave_the_limit_to_others() {
        let mut ended = worker("ended", "hub", "eu", true);
        ended.phase = WorkerPhase::Ended;
        let starting = WorkerView { seen: None, ..worker("starting", "hub", "us", true) };
        let workers = [worker("busy", "hub", "eu", true), worker("idle", "hub", "us", false), starting, ended];
        let parts = limit_parts(&workers, |registry| registry == "us");
        assert!(parts["hub"].workers["busy"] > 0.9 && !parts["hub"].workers.contains_key("ended"));
        assert!(parts["us"].operator > 0.9, "only the operator works there: {parts:?}");
        assert!(parts["eu"].operator < 0.05);
    }

    #[test]
    fn a_worker_within_one_registry_has_one_part_of_it() {
        let parts = limit_parts(&[worker("promotes", "one", "one", true)], |_| true);
        assert_eq!(parts["one"], LimitParts { operator: 0.5, workers: [("promotes".to_owned(), 0.5)].into() });
    }
}

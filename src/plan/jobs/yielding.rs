//! Workers that take no more images, so that lanes that may not wait have their Jobs.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::lanes::{WaitingLane, WorkerView};
use super::taken_jobs::TakenJobs;

/// Returns the workers among `serving` that are to take no more images, so that a lane of each namespace that is kept
/// out, or has urgent images, has a Job: of each namespace one lane at a time. A worker of `leaving` makes room for one
/// of them already, if its place is of use to that.
pub(super) fn yielding<'a>(
    crowded: &[&'a WaitingLane],
    mut serving: Vec<&'a WorkerView>,
    mut leaving: Vec<&'a WorkerView>,
    mut taken: TakenJobs<'a>,
) -> Vec<&'a WorkerView> {
    let (mut yielding, mut helped, mut seen) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for waiting in crowded {
        let (namespace, destination) = (waiting.lane.namespace.as_str(), waiting.lane.destination.as_str());
        // Lanes from other sources are in the same position.
        if helped.contains(namespace) || !seen.insert((namespace, destination, waiting.is_urgent)) {
            continue;
        }
        if taken.duty_for(waiting).is_some() || !(waiting.is_urgent || is_kept_out(waiting, &taken)) {
            continue;
        }
        let is_of_use = |worker: &&WorkerView| makes_room(worker, waiting, &taken);
        let worker = if let Some(index) = leaving.iter().position(is_of_use) {
            leaving.swap_remove(index)
        } else if let Some(index) = chosen(&serving, waiting, &taken) {
            yielding.push(serving[index]);
            serving.swap_remove(index)
        } else {
            continue;
        };
        // The next ones meet what will be, once this worker has ended.
        helped.insert(namespace);
        taken.give_back(&worker.lane, worker.duty);
        if let Some(duty) = taken.duty_for(waiting) {
            taken.take(&waiting.lane, duty);
        }
    }
    yielding
}

/// Returns true if the lane waits because of Jobs of others, while its own namespace has none; or none at its
/// destination, where no more may be.
pub(super) fn is_kept_out(waiting: &WaitingLane, taken: &TakenJobs<'_>) -> bool {
    let (namespace, destination) = (waiting.lane.namespace.as_str(), waiting.lane.destination.as_str());
    let is_first = taken.of(namespace) == 0;
    let is_kept_out_there = taken.is_full_at(destination) && taken.of_at(namespace, destination) == 0;
    is_first && taken.is_full() || is_kept_out_there
}

/// Returns the index of the worker that yields to the lane: the oldest of the namespace with the most Jobs, at the
/// destination if that is full.
fn chosen(serving: &[&WorkerView], waiting: &WaitingLane, taken: &TakenJobs<'_>) -> Option<usize> {
    let destination = waiting.lane.destination.as_str();
    let is_full_there = taken.is_full_at(destination);
    let jobs = |worker: &WorkerView| {
        let theirs = worker.lane.namespace.as_str();
        if is_full_there { taken.of_at(theirs, destination) } else { taken.of(theirs) }
    };
    let yields =
        |worker: &WorkerView| may_ask(worker, waiting, jobs(worker), taken) && makes_room(worker, waiting, taken);
    let candidates = serving.iter().enumerate().filter(|(_, worker)| yields(worker));
    let turn = |worker: &WorkerView| (worker.is_urgent, worker.made);
    candidates
        .min_by_key(|(_, worker)| (Reverse(jobs(worker)), worker.lane.namespace.as_str(), turn(worker)))
        .map(|(index, _)| index)
}

/// Returns true if the worker's namespace, which has `jobs` of those in question, owes one to the lane. Each keeps one,
/// and no fewer than the namespace of the lane has then: it would take the place back. A namespace owes its own urgent
/// images any worker that copies others.
fn may_ask(worker: &WorkerView, waiting: &WaitingLane, jobs: usize, taken: &TakenJobs<'_>) -> bool {
    let (theirs, namespace) = (worker.lane.namespace.as_str(), waiting.lane.namespace.as_str());
    if theirs == namespace {
        return waiting.is_urgent && !worker.is_urgent;
    }
    let is_spared = worker.is_urgent && taken.of(namespace) > 0;
    !is_spared && jobs > 1 && taken.of(theirs) > taken.of(namespace) + 1
}

/// Returns true if the lane may take a Job once the worker has ended.
fn makes_room(worker: &WorkerView, waiting: &WaitingLane, taken: &TakenJobs<'_>) -> bool {
    let mut then = taken.clone();
    then.give_back(&worker.lane, worker.duty);
    then.duty_for(waiting).is_some()
}

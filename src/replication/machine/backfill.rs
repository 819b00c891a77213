//! The brake of first fills: images that were not tried yet wait while too many of the others fail.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::state::Queued;
use super::{Machine, Pair, PairId};
use crate::plan::{NamespacedName, Row, RowState, is_backfill_stopped};

impl Machine {
    /// Takes those images out of `queued` that wait because the first fill of their destination is stopped. Pushes, and
    /// images that were tried before, go on.
    pub(super) fn without_held(&mut self, mut queued: Queued) -> Queued {
        if queued.is_urgent {
            return queued;
        }
        let is_held = |id: &PairId| {
            let Some(pair) = self.pairs.get(id) else { return false };
            let is_new = |row: &Row| matches!(row.state, RowState::Pending) && row.written.is_none();
            // Those of a pair that is refused as a whole are not tried anyway.
            pair.refused.is_none()
                && (self.awaits_verdict(*id)
                    || self.is_stopped(&pair.key.destination) && pair.ledger.row(&queued.tag).is_some_and(is_new))
        };
        let held: Vec<PairId> = queued.pairs.iter().copied().filter(is_held).collect();
        for id in held {
            queued.pairs.retain(|other| *other != id);
            if let Some(pair) = self.pairs.get_mut(&id) {
                pair.queued.remove(&queued.tag);
            }
            self.hold_backfill(id);
        }
        queued
    }

    fn hold_backfill(&mut self, id: PairId) {
        let Some(pair) = self.pairs.get(&id) else { return };
        if self.is_stopped(&pair.key.destination) {
            self.backfills.stopped.entry(pair.key.destination.clone()).or_default().insert(id);
        } else {
            self.backfills.suspected.insert(id);
        }
    }

    /// Queues what waited for destinations whose first fill is no longer stopped. Looks at these destinations, and not
    /// at each pair that waits.
    pub(super) fn release_backfills(&mut self, now: Timestamp) {
        let is_free = |destination: &&NamespacedName| !self.is_stopped(destination);
        let free: Vec<NamespacedName> = self.backfills.stopped.keys().filter(is_free).cloned().collect();
        let going_on = free.iter().filter_map(|destination| self.backfills.stopped.remove(destination)).flatten();
        let going_on: Vec<PairId> = going_on.collect();
        let suspected = std::mem::take(&mut self.backfills.suspected).into_iter();
        let (waiting, judged): (BTreeSet<PairId>, BTreeSet<PairId>) =
            suspected.partition(|id| self.awaits_verdict(*id));
        self.backfills.suspected = waiting;
        for id in going_on.into_iter().chain(judged) {
            self.release_backfill(id, now);
        }
    }

    fn release_backfill(&mut self, id: PairId, now: Timestamp) {
        let Some(pair) = self.pairs.get(&id) else { return };
        if self.awaits_verdict(id) || self.is_stopped(&pair.key.destination) {
            return self.hold_backfill(id);
        }
        let (due, _) = pair.ledger.due(now);
        due.iter().for_each(|tag| self.enqueue(tag, vec![id], false));
    }

    /// Forgets that images of a pair wait, as the pair is gone.
    pub(super) fn forget_backfill(&mut self, id: PairId, destination: &NamespacedName) {
        self.backfills.suspected.remove(&id);
        if let Some(held) = self.backfills.stopped.get_mut(destination) {
            held.remove(&id);
            if held.is_empty() {
                self.backfills.stopped.remove(destination);
            }
        }
    }

    /// Has every first fill go on, to be judged anew.
    pub(super) fn judge_backfills_anew(&mut self) {
        self.backfills.judged_since = self.totals.clone();
    }

    /// Describes the first fills that are stopped.
    pub(crate) fn stopped_backfill(&self) -> Option<String> {
        let suspected = self.backfills.suspected.iter().filter_map(|id| Some(&self.pairs.get(id)?.key.destination));
        let destinations = self.backfills.stopped.keys().chain(suspected);
        let destinations = destinations.filter(|destination| self.is_stopped(destination));
        let destinations: BTreeSet<String> =
            destinations.map(|destination| format!("{}/{}", destination.namespace, destination.name)).collect();
        (!destinations.is_empty()).then(|| {
            format!(
                "at least half of the first images failed at {}: those that were not tried yet wait until fewer fail; \
                 remove the cause, or have them go on with a new value of the annotation \
                 transship.dev/replicate-requested-at",
                destinations.into_iter().collect::<Vec<_>>().join(", ")
            )
        })
    }

    /// Returns true if a run has images of a pair under way beside one that was refused: if these are refused as well, no
    /// other one is tried.
    fn awaits_verdict(&self, id: PairId) -> bool {
        let is_running = |pair: &Pair| pair.refused.is_none() && !pair.running.is_empty();
        self.orders.once.is_some() && self.pairs.get(&id).is_some_and(is_running) && self.is_suspected(id)
    }

    fn is_stopped(&self, destination: &NamespacedName) -> bool {
        let since = self.backfills.judged_since.get(destination).copied().unwrap_or_default();
        self.totals.get(destination).is_some_and(|counts| is_backfill_stopped(counts, &since))
    }
}

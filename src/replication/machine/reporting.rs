//! Publication of the statuses of pairs and of the report of the configuration, and its pace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::state::{LastReport, MAX_PUBLICATIONS};
use super::{Effect, Machine, PairId, PairKey, StoreOutcome};
use crate::plan::{
    ByRegistry, Claims, ComparisonPhase, Configuration, ConfigurationReport, DestinationTotals, LagWindow,
    NamespacedName, Problem, oldest_pending_since,
};
use crate::terms::reason;

impl Machine {
    pub(super) fn publish(&mut self, now: Timestamp) {
        while self.publishing < MAX_PUBLICATIONS
            && let Some(id) = self.publications.pop(now)
        {
            self.publish_pair(id, now);
        }
    }

    /// Publishes everything that changed, at once: the process ends.
    pub(super) fn publish_all(&mut self, now: Timestamp) {
        let changed = self.pairs.iter().filter(|(_, pair)| !pair.is_published() && pair.publish_at(now).is_some());
        let room = ENDING_AT_ONCE.saturating_sub(self.publishing);
        let changed: Vec<PairId> = changed.map(|(id, _)| *id).take(room).collect();
        changed.into_iter().for_each(|id| self.publish_pair(id, now));
    }

    fn publish_pair(&mut self, id: PairId, now: Timestamp) {
        if self.touch(id, now, |pair| pair.publish_at(now)).flatten().is_none_or(|at| at > now) {
            return;
        }
        let Some(pair) = self.pairs.get_mut(&id) else { return };
        match pair.publish(now) {
            Some(status) => {
                self.publishing += 1;
                self.effects.push(Effect::Publish(id, pair.identity.clone(), status));
            }
            None => self.release(id, now),
        }
    }

    pub(super) fn take_published(&mut self, id: PairId, outcome: StoreOutcome, now: Timestamp) {
        self.publishing = self.publishing.saturating_sub(1);
        if let Some(identity) = self.doomed.remove(&id) {
            match self.deletions.counted.contains(&identity.name) && self.ending.is_none() {
                true => self.delete_counted(identity, now),
                false => self.delete(identity),
            }
        }
        let is_ending = self.ending.is_some();
        self.touch(id, now, |pair| pair.published(outcome == StoreOutcome::Done || is_ending, now));
        if let Some(pair) = self.pairs.get(&id).filter(|pair| pair.has_stored_deletions()) {
            let (registry, target) = pair.key.to();
            self.is_changed |= self.deletions.history.forget((registry, target.as_str()));
        }
        self.release(id, now);
    }

    /// A deletion that failed is tried again, but at the end of the configuration or the process: its owner's garbage
    /// collection and the next start delete what is left.
    pub(super) fn take_deleted(&mut self, name: &str, outcome: StoreOutcome, now: Timestamp) {
        if outcome == StoreOutcome::Failed && self.ending.is_none() && self.deleting.contains_key(name) {
            self.delete_again_at.insert(name.to_owned(), now + DELETE_AGAIN_AFTER);
            return;
        }
        self.deleting.remove(name);
        if let Some(id) = self.names.get(name).copied() {
            self.touch(id, now, |_| ()); // It was made anew meanwhile, and waited to be published.
        }
    }

    pub(super) fn delete_again(&mut self, now: Timestamp) {
        let due = self.delete_again_at.iter().filter(|(_, at)| **at <= now);
        let due: Vec<String> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            self.deletions.counted.remove(&name);
            self.delete_again_at.remove(&name);
            self.effects.extend(self.deleting.get(&name).cloned().map(Effect::Delete));
        }
    }

    /// Makes the pairs anew whose objects wait to be deleted, and which the spec selects again.
    pub(super) fn want_again(&mut self, former: Option<&Configuration>, claims: &mut Claims, now: Timestamp) {
        let was_selected = |key: &PairKey| {
            former.is_some_and(|former| !former.selection.rules_to(&key.repository, key.to()).is_empty())
        };
        let waiting = self.delete_again_at.keys().filter_map(|name| self.stored_key(&self.deleting.get(name)?.spec));
        let wanted: Vec<PairKey> = waiting.filter(|key| !was_selected(key) && self.is_selected(key)).collect();
        for key in wanted {
            self.ensure(&key, claims, now);
        }
    }

    pub(super) fn take_lost(&mut self, names: &BTreeSet<String>, now: Timestamp) {
        // Pairs that wait for their Registry, or for a valid spec, are made anew then.
        self.stored.retain(|stored| !names.contains(&stored.identity.name));
        let lost: Vec<PairId> = names.iter().filter_map(|name| self.names.get(name).copied()).collect();
        for id in lost {
            self.decide_unshown(id);
            self.touch(id, now, |pair| pair.lost(now));
        }
    }

    /// Has the status of a pair show a decision that only its lost object had: nothing may be copied now.
    pub(super) fn decide_unshown(&mut self, id: PairId) {
        let decision =
            self.pairs.get(&id).filter(|pair| pair.permission.is_none()).map(|pair| self.decision(&pair.key));
        if let (Some(pair), Some(decision)) = (self.pairs.get_mut(&id), decision) {
            pair.permission = Some(decision);
        }
    }

    /// Has every status written again that was published and is not among `names`.
    pub(super) fn take_listed(&mut self, names: &BTreeSet<String>, now: Timestamp) {
        let published = self.pairs.values().filter(|pair| pair.has_object()).map(|pair| &pair.identity.name);
        let lost = published.filter(|name| !names.contains(*name)).cloned().collect();
        self.take_lost(&lost, now);
    }

    /// Publishes the configuration's own status where it changed. Counts follow at rest, together with what else
    /// changes, or every 10 s: no write of the configuration for every image.
    pub(super) fn report(&mut self, now: Timestamp) {
        let is_settled = self.comparison.is_none() && self.untried() == 0;
        if self.handling.is_some() && is_settled {
            self.handled = self.handling.take();
        }
        let (problem, phase, generation) = (self.present_trouble(), self.phase(), self.orders.generation);
        let blocked = self.blocked().filter(|_| self.is_active());
        let stopped_backfill = self.is_active().then(|| self.stopped_backfill()).flatten();
        let is_changed = (
            &problem,
            &blocked,
            &self.excluded.invalid_names,
            phase,
            (self.waits_for_window(), &stopped_backfill, self.lag_watch.missed_since()),
            generation,
            &self.handled,
            self.owes(),
            self.fails(),
        ) != (
            &self.reported.report.problem,
            &self.reported.report.blocked,
            &self.reported.report.invalid_names,
            self.reported.report.phase,
            (
                self.reported.report.waits_for_window,
                &self.reported.report.stopped_backfill,
                self.reported.report.late_since,
            ),
            self.reported.report.generation,
            &self.reported.report.handled_request,
            self.reported.owes,
            self.reported.fails,
        );
        let is_changed = is_changed
            || self.excluded.unused_filters != self.reported.report.unused_filters
            || self.deletions.condition != self.reported.report.held_deletions
            || self.deletions.history != self.reported.report.deletion_history
            || self.is_sweep_slow(now) != self.reported.report.is_sweep_slow;
        let is_urgent = is_changed || self.reported.is_doubted;
        self.is_changed |= self.counted_repositories() != self.reported.report.repositories;
        let is_due = self.reported.at + REPORT_EVERY <= now;
        let is_quiet = self.is_at_rest() && self.publications.next().is_none() && self.publishing == 0;
        if !is_urgent && !(self.is_changed && (is_due || is_quiet)) {
            return;
        }
        self.is_changed = false;
        let report = Arc::new(self.present_report(problem, blocked, stopped_backfill, now));
        if !report.shows_the_same(&self.reported.report) || self.reported.is_doubted {
            let (owes, fails) = (self.owes(), self.fails());
            self.reported = LastReport { report: report.clone(), owes, fails, is_doubted: false, at: now };
            self.effects.push(Effect::Report(report));
        }
    }

    fn counted_repositories(&self) -> u64 {
        self.stored_repositories.max(self.repositories.len() as u64)
    }

    fn present_report(
        &self,
        problem: Option<Problem>,
        blocked: Option<Problem>,
        stopped_backfill: Option<String>,
        now: Timestamp,
    ) -> ConfigurationReport {
        let (generation, phase) = (self.orders.generation, self.phase());
        ConfigurationReport {
            generation,
            problem,
            blocked,
            invalid_names: self.excluded.invalid_names.clone(),
            envelope: None, // The store knows it.
            unused_filters: self.excluded.unused_filters.clone(),
            held_deletions: self.deletions.condition.clone(),
            phase,
            late_since: self.lag_watch.missed_since(),
            sweep: self.sweep.last(),
            is_sweep_slow: self.is_sweep_slow(now),
            waits_for_window: self.waits_for_window(),
            stopped_backfill,
            repositories: self.counted_repositories(),
            destinations: self.destination_totals(),
            handled_request: self.handled.clone(),
            deletion_history: self.deletions.history.clone(),
        }
    }

    /// Returns the time when the report is due without any event.
    pub(super) fn report_at(&self) -> Option<Timestamp> {
        let is_busy = !self.copies.is_empty() || !self.queue.is_empty();
        (is_busy && self.is_changed).then_some(self.reported.at + REPORT_EVERY)
    }

    /// Returns the problem to show: of several the first that needs a change by a person.
    fn present_trouble(&self) -> Option<Problem> {
        if let Err(invalid) = &self.orders.configuration {
            return Some(Problem { stalled: true, reason: invalid.reason, message: invalid.message.clone() });
        }
        if !self.is_active() {
            return None;
        }
        let first = self.problems().find(|problem| problem.stalled).or_else(|| self.problems().next());
        let Some(problem) = first else {
            let message = self.workers.clone()?;
            return Some(Problem { stalled: false, reason: reason::WORKER_PENDING, message });
        };
        let (mut problem, count) = (problem.clone(), self.problems().count());
        if count > 1 {
            problem.message = format!("{} (and {} more)", problem.message, count - 1);
        }
        Some(problem)
    }

    fn phase(&self) -> ComparisonPhase {
        match (self.is_active(), self.compared) {
            (false, _) => ComparisonPhase::Suspended,
            (true, Some(generation)) if generation == self.orders.generation => ComparisonPhase::Compared,
            _ => ComparisonPhase::Comparing,
        }
    }

    fn owes(&self) -> bool {
        self.totals.values().any(|counts| counts.owed > 0)
    }

    fn fails(&self) -> bool {
        self.totals.values().any(|counts| counts.failed > 0)
    }

    fn untried(&self) -> u64 {
        self.totals.values().map(|counts| counts.untried).sum()
    }

    /// Returns the totals of each destination; looks once at each pair.
    fn destination_totals(&self) -> ByRegistry<DestinationTotals> {
        let waiting =
            self.pairs.values().filter_map(|pair| Some((&pair.key.destination, oldest_pending_since(&pair.ledger)?)));
        let mut oldest: BTreeMap<&NamespacedName, Timestamp> = BTreeMap::new();
        for (destination, since) in waiting {
            let oldest = oldest.entry(destination).or_insert(since);
            *oldest = since.min(*oldest);
        }
        let totals = self.totals.iter().filter(|(_, counts)| counts.images > 0).map(|(destination, counts)| {
            let is_waiting = counts.complete + counts.skipped < counts.images;
            let oldest_pending_since = oldest.get(destination).copied().filter(|_| is_waiting);
            let lag = self.lags.get(destination).and_then(LagWindow::quantiles);
            (destination.clone(), DestinationTotals { counts: *counts, oldest_pending_since, lag })
        });
        let mut exact = ByRegistry::with_capacity(self.totals.len());
        exact.extend(totals);
        exact
    }
}

/// The interval at which the counts of a busy configuration are published.
const REPORT_EVERY: Duration = Duration::from_secs(10);
const ENDING_AT_ONCE: usize = 32;
const DELETE_AGAIN_AFTER: Duration = Duration::from_secs(15);

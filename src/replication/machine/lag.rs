//! The lag of verified images, and the objective for those that wait.

use std::time::Duration;

use jiff::Timestamp;

use super::{Effect, Machine, PairId};
use crate::image::Tag;
use crate::plan::{lag, lag_text, of_registry, oldest_pending_since};

impl Machine {
    /// Takes an image that was verified. One that was complete before was only read back again.
    pub(super) fn take_verified(&mut self, id: PairId, tag: &Tag, was_complete: bool, now: Timestamp) {
        self.record(id, tag);
        let Some(pair) = self.pairs.get_mut(&id).filter(|pair| !was_complete && pair.ledger.is_complete(tag)) else {
            return;
        };
        let Some(row) = pair.ledger.row(tag) else { return };
        let lag = lag(row.since.get(), now);
        pair.lag = Some(lag_text(lag));
        let destination = pair.key.destination.clone();
        of_registry(&mut self.lags, destination.clone()).record(lag);
        self.effects.push(Effect::Verified(destination, lag));
    }

    /// Compares the image that waits longest with the objective of the spec, when it may be too old.
    pub(super) fn watch_lag(&mut self, now: Timestamp) {
        let objective = self.lag_objective();
        let is_waiting = self.totals.values().any(|counts| counts.complete + counts.skipped < counts.images);
        let pairs = &self.pairs;
        let oldest = || pairs.values().filter_map(|pair| oldest_pending_since(&pair.ledger)).min();
        self.lag_watch.check(objective, is_waiting, oldest, now);
    }

    /// Returns true if a sweep of known tags takes longer than the objective.
    pub(super) fn is_sweep_slow(&self, now: Timestamp) -> bool {
        self.lag_objective().is_some_and(|objective| self.sweep.exceeds(objective, now))
    }

    fn lag_objective(&self) -> Option<Duration> {
        self.configuration.as_ref().filter(|_| self.is_active())?.lag_objective
    }
}

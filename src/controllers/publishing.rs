//! What a replicator shows: statuses of pairs, its report, and what it leaves behind when it ends.

use std::time::Duration;

use jiff::Timestamp;

use super::replicator::Replicator;
use crate::plan::{ConfigurationReport, Phase, Publication};

impl Replicator {
    /// Writes every status that is due, and has the configuration's own status written where it changed.
    pub(super) async fn publish(&mut self, now: Timestamp) {
        for pair in self.pairs.values_mut() {
            if pair.publication(now) != Some(Publication::Now) {
                continue;
            }
            if let Some(status) = pair.status(now) {
                match self.context.statuses.write(&pair.identity, &self.current.object, &status).await {
                    Ok(()) => pair.written(status, Timestamp::now()),
                    Err(error) => {
                        tracing::warn!(%error, "a status waits to be written");
                        pair.not_written(Timestamp::now());
                    }
                }
                self.context.metrics.status_writes.inc();
            }
        }
        self.report().await;
    }

    async fn report(&mut self) {
        let at_rest = self.comparison.is_none()
            && self.queue.is_empty()
            && self.copies.is_empty()
            && self.observations.is_empty();
        if at_rest && self.compared && !self.settled {
            self.settled = true;
            self.handled = self.asked.clone();
        }
        let seen = self.pairs.values().all(|pair| pair.publication(Timestamp::now()).is_none());
        let earlier = self.report.borrow().clone();
        let report = self.present_report(&earlier);
        // Counts follow at rest, together with what else changes, or every 10 s: no write of the configuration for every image.
        let changed = (&report.trouble, report.phase, report.generation, &report.handled_request)
            != (&earlier.trouble, earlier.phase, earlier.generation, &earlier.handled_request);
        let is_due = self.reported_at + REPORT_EVERY <= Timestamp::now();
        if changed || (report != earlier && ((at_rest && seen) || is_due)) {
            self.reported_at = Timestamp::now();
            self.report.send_replace(report);
            self.context.nudge(&self.current.configuration.namespace, &self.current.configuration.name).await;
        }
    }

    fn present_report(&self, earlier: &ConfigurationReport) -> ConfigurationReport {
        // What arrived since the last complete comparison takes nothing away; what stood in its way does.
        let was_compared = earlier.phase == Phase::Compared && earlier.trouble.is_none();
        let phase = match (self.current.configuration.suspend, self.settled || was_compared) {
            (true, _) => Phase::Suspended,
            (false, true) if self.settled || self.compared => Phase::Compared,
            (false, _) => Phase::Comparing,
        };
        ConfigurationReport {
            generation: self.current.object.metadata.generation,
            trouble: self.present_trouble(),
            phase,
            repositories: self.repositories.len() as u64,
            pairs: self.pairs.iter().map(|(key, pair)| (key.destination.clone(), pair.summary.clone())).collect(),
            handled_request: self.handled.clone(),
        }
    }

    /// When there is something to do next, if nothing happens before.
    pub(super) fn next_wake(&self) -> Timestamp {
        let now = Timestamp::now();
        let publications = self.pairs.values().filter_map(|pair| match pair.publication(now) {
            Some(Publication::At(at)) => Some(at),
            Some(Publication::Now) => Some(now),
            None => None,
        });
        let suspended = self.current.configuration.suspend;
        let comparison = (self.comparison.is_none() && !suspended).then_some(self.compare_at);
        let retry = self.retry_at.filter(|_| !suspended);
        let is_busy = !(self.copies.is_empty() && self.queue.is_empty());
        let report = is_busy.then_some((self.reported_at + REPORT_EVERY).max(now + REPORT_AGAIN));
        publications.chain(comparison).chain(retry).chain(report).min().unwrap_or(now + LONGEST_SLEEP)
    }

    /// The operator ends: nothing stays in progress without a living owner.
    pub(super) async fn interrupt(mut self) {
        self.copies.shutdown().await;
        let now = Timestamp::now();
        for pair in self.pairs.values_mut() {
            let running: Vec<_> = pair.running.drain().collect();
            for (tag, _) in &running {
                pair.ledger.interrupt(tag);
            }
            if (!running.is_empty() || pair.publication(now).is_some())
                && let Some(status) = pair.status(now)
                && let Err(error) = self.context.statuses.write(&pair.identity, &self.current.object, &status).await
            {
                tracing::warn!(%error, "a status could not be written before the end");
            }
        }
    }

    /// The configuration ends: its statuses are deleted and its claims given up.
    pub(super) async fn retire(mut self) {
        self.copies.shutdown().await;
        for pair in self.pairs.values() {
            if let Err(error) = self.context.statuses.delete(&pair.identity).await {
                tracing::warn!(%error, "a status waits for the garbage collector");
            }
        }
        let waiting = self.context.claims(|claims| claims.release(&self.current.holder.uid, |_| false));
        self.context.nudge_uids(&waiting).await;
    }
}

/// How often the counts of a configuration are written while it is busy.
const REPORT_EVERY: Duration = Duration::from_secs(10);
const REPORT_AGAIN: Duration = Duration::from_secs(1);
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

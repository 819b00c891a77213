//! One run over a configuration: for how long failures are tried again, and an end in order.

use std::time::Duration;

use jiff::Timestamp;

use super::state::Retried;
use super::{Machine, PairId};
use crate::image::Tag;
use crate::plan::{RowFailure, RowState, passes_by_itself, retry_delay};

/// The next attempt of a run in which nothing else is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NextAttempt {
    /// The time of the attempt.
    pub at: Timestamp,
    /// The images that wait for an attempt.
    pub images: usize,
    /// The last failure of one of them, or of the comparison.
    pub because: String,
}

impl Machine {
    /// Returns true if a run is over: nothing is under way, and no failure is worth another attempt.
    pub(crate) fn is_run_over(&self) -> bool {
        self.is_at_rest() && self.retried.due.is_empty() && !self.retried.compares_again
    }

    /// Returns the next attempt, if nothing else is under way.
    pub(crate) fn next_attempt(&self) -> Option<NextAttempt> {
        if !self.is_at_rest() || self.is_run_over() {
            return None;
        }
        let compares_at = self.retried.compares_again.then_some(self.compare_at);
        let first = self.retried.due.first();
        let at = [compares_at, first.map(|(at, ..)| *at)].into_iter().flatten().min()?;
        let failure = first.and_then(|(_, id, tag)| self.failure(*id, tag)).map(|failure| failure.message.clone());
        let because = failure.or_else(|| self.problems().next().map(|problem| problem.message.clone()));
        Some(NextAttempt { at, images: self.retried.due.len(), because: because.unwrap_or_else(|| UNREAD.to_owned()) })
    }

    /// Returns the time at which an image of a run is tried again.
    pub(super) fn retry_at(&self) -> Option<Timestamp> {
        self.retried.due.first().map(|(at, ..)| *at)
    }

    /// Returns true if a run has given a tag up: what happens later does not have it tried again.
    pub(super) fn is_given_up(&self, id: PairId, tag: &Tag) -> bool {
        !self.retried.given_up.is_empty() && self.retried.given_up.contains(&(id, tag.clone()))
    }

    /// Decides if an image of a run is tried again after a copy of it has ended. `failed` has the wait that a registry
    /// asked for, and is true of a failure that may pass by itself.
    pub(super) fn settle(
        &mut self,
        id: PairId,
        tag: &Tag,
        failed: Option<(Option<Duration>, bool)>,
        jitter: f64,
        now: Timestamp,
    ) {
        let Some(retry_for) = self.orders.once else { return };
        let key = (id, tag.clone());
        let (first, due) = self.retried.images.remove(&key).unwrap_or((now, now));
        self.retried.due.remove(&(due, id, tag.clone()));
        let Some(failure) = self.failure(id, tag) else { return };
        let pause = retry_delay(failure.code, failure.attempts, None, jitter).min(MAX_PAUSE);
        let (asked, is_transient) = failed.unwrap_or((None, passes_by_itself(failure.code)));
        let is_worth_it = is_transient && !self.retried.is_draining;
        match next_attempt_at(first, retry_for, pause, asked, now).filter(|_| is_worth_it) {
            Some(at) => {
                self.retried.images.insert(key, (first, at));
                self.retried.due.insert((at, id, tag.clone()));
            }
            None => drop(self.retried.given_up.insert(key)),
        }
    }

    /// Queues the images of a run whose next attempt is due.
    pub(super) fn queue_attempts(&mut self, now: Timestamp) {
        if self.retry_at().is_none_or(|at| at > now) {
            return;
        }
        let until = now + RETRY_TOGETHER;
        while let Some((_, id, tag)) = self.retried.due.first().filter(|(at, ..)| *at <= until).cloned() {
            self.retried.due.pop_first();
            if !self.pairs.contains_key(&id) {
                continue;
            }
            self.touch(id, now, |pair| pair.ledger.retry(&tag, now));
            self.enqueue(&tag, vec![id], false);
        }
    }

    /// Has the source of a run compared again if that failed in a way that may pass, also for a single tag (`is_partial`),
    /// and never else: a run compares once.
    pub(super) fn settle_comparison(&mut self, is_whole: bool, is_partial: bool, now: Timestamp) {
        let Some(retry_for) = self.orders.once else { return };
        let may_pass = is_partial || self.problems.iter().any(|problem| !problem.stalled);
        let is_worth_it = !is_whole && !self.retried.is_draining && may_pass;
        let first = self.retried.compared_since.filter(|_| is_worth_it).unwrap_or(now);
        let pause = FIRST_PAUSE.saturating_mul(1 << self.pacing.incomplete_comparisons.saturating_sub(1).min(8));
        let at = next_attempt_at(first, retry_for, pause.min(MAX_PAUSE), None, now).filter(|_| is_worth_it);
        self.retried.compared_since = at.map(|_| first);
        self.retried.compares_again = at.is_some();
        self.compare_at = at.unwrap_or(Timestamp::MAX);
    }

    /// Has a run compare once more: what it has observed proves nothing any more.
    pub(super) fn compare_again(&mut self) {
        self.retried.compares_again = self.orders.once.is_some() && !self.retried.is_draining;
    }

    /// Begins nothing any more. Copies that run go on.
    pub(super) fn drain(&mut self, now: Timestamp) {
        self.stop_comparison();
        self.queue.clear();
        self.ahead.clear();
        let waiting: Vec<PairId> =
            self.pairs.iter().filter(|(_, pair)| !pair.queued.is_empty()).map(|(id, _)| *id).collect();
        for id in waiting {
            self.touch(id, now, |pair| {
                pair.queued.clear();
                pair.urgent.clear();
                pair.is_awaited = false;
            });
        }
        self.retried = Retried { is_draining: true, ..Retried::default() };
    }

    fn failure(&self, id: PairId, tag: &Tag) -> Option<&RowFailure> {
        match &self.pairs.get(&id)?.ledger.row(tag)?.state {
            RowState::Failed(failure) => Some(failure),
            _ => None,
        }
    }
}

/// Returns the time of the next attempt after a failure at `now`; `None` if `retry_for` since the first one is over, or
/// a registry `asked` for a longer wait. The last attempt is made at its end.
fn next_attempt_at(
    first: Timestamp,
    retry_for: Duration,
    pause: Duration,
    asked: Option<Duration>,
    now: Timestamp,
) -> Option<Timestamp> {
    let end = first + retry_for;
    let at = (now + pause).min(end).max(now + asked.unwrap_or_default());
    (now < end && at <= end).then_some(at)
}

/// Attempts that are due within so long start together.
const RETRY_TOGETHER: Duration = Duration::from_millis(500);
/// The pause after the first comparison that failed.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause between two attempts, unless a registry asks for more: people wait for the end of a run.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The cause of a further comparison where each image that failed says its own.
const UNREAD: &str = "the source could not be read completely";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_is_made_when_the_time_is_over() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let seconds = Duration::from_secs;
        let next = |pause, asked: Option<u64>, now| {
            next_attempt_at(at(0), seconds(120), seconds(pause), asked.map(seconds), at(now)).map(Timestamp::as_second)
        };
        assert_eq!(next(2, None, 0), Some(2));
        assert_eq!(next(10, None, 115), Some(120), "no later than the end");
        assert_eq!(next(10, None, 120), None, "it was the last one");
        assert_eq!(next(2, Some(90), 1), Some(91), "as the registry asks");
        assert_eq!(next(2, Some(90), 31), None, "later than the end");
        assert_eq!(next_attempt_at(at(0), Duration::ZERO, seconds(2), None, at(0)), None);
    }
}

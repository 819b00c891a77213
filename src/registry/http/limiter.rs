//! Limits the concurrent requests to one registry, and adapts the limit to its load.

use std::sync::{Arc, MutexGuard};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::locked::Locked;

/// The limiter of the reads from one registry, or of the writes to it.
///
/// Bodies of blobs and small requests have permits of their own, so that no HEAD or manifest waits behind layers. Both
/// have the same limit: it starts at the maximum, is halved when the registry is overloaded, once for all requests that
/// were sent before the cut, and grows by one for each limit's worth of successes.
pub(crate) struct Limiter {
    state: Locked<LimitState>,
    small: Arc<PermitPool>,
    bodies: Arc<PermitPool>,
}

/// The load of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// A request whose body and answer are small.
    Small,
    /// The bytes of a blob, as long as they last.
    Body,
}

impl Load {
    /// Returns the load of a blob of `size` bytes.
    pub(crate) fn of_blob(size: u64) -> Self {
        if size <= MAX_SMALL_BLOB { Self::Small } else { Self::Body }
    }
}

/// The result of a request, as far as it shows the load of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feedback {
    /// Any response but 429 and 503.
    Answered,
    /// A response of 429 or 503, or a failed connection.
    Overloaded,
}

struct LimitState {
    max: usize,
    limit: f64,
    cut_at: Option<Instant>,
}

/// The permission to send a request; returned to its pool when dropped.
pub(crate) struct Permit {
    pool: Arc<PermitPool>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Limiter {
    /// `max` is the number of permits for each load, at least one.
    pub(super) fn new(max: usize) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        let pool = || Arc::new(PermitPool { permits: Arc::new(Semaphore::new(max)), surplus: Locked::new(0) });
        let state = LimitState { max, limit: max as f64, cut_at: None };
        Self { state: Locked::new(state), small: pool(), bodies: pool() }
    }

    /// Waits for a permit; requests get them in the order of arrival.
    pub(super) async fn acquire(&self, load: Load) -> Permit {
        let pool = match load {
            Load::Small => &self.small,
            Load::Body => &self.bodies,
        };
        let permit = pool.permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        Permit { pool: pool.clone(), permit: Some(permit) }
    }

    /// Adapts the limit to the result of a request that was sent at `sent_at`.
    pub(super) fn record(&self, sent_at: Instant, feedback: Feedback) {
        let mut state = self.state.lock();
        // A request that was sent before the last cut says nothing about the present limit.
        if state.cut_at.is_some_and(|cut_at| sent_at <= cut_at) {
            return;
        }
        let before = state.limit as usize;
        match feedback {
            Feedback::Answered => state.limit = (state.limit + 1.0 / state.limit).min(state.max as f64),
            Feedback::Overloaded => {
                state.limit = (state.limit / 2.0).max(1.0);
                state.cut_at = Some(Instant::now());
            }
        }
        let after = state.limit as usize;
        self.resize(before, after);
        if after < before {
            tracing::debug!(before, after, "fewer requests at once");
        }
    }

    /// Changes the maximum. A limit that an overload has cut grows no faster for it.
    pub(super) fn set_max(&self, max: usize) {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        let mut state = self.state.lock();
        let before = state.limit as usize;
        if before == state.max || before > max {
            state.limit = max as f64;
        }
        state.max = max;
        self.resize(before, state.limit as usize);
    }

    fn resize(&self, before: usize, after: usize) {
        for pool in [&self.small, &self.bodies] {
            pool.resize(before, after);
        }
    }

    /// Returns the number of permits for each load.
    #[cfg(test)]
    pub(crate) fn limit(&self) -> usize {
        self.state.lock().limit as usize
    }

    /// Returns the number of bodies that may start at this moment.
    #[cfg(test)]
    pub(crate) fn free_for_bodies(&self) -> usize {
        self.bodies.permits.available_permits()
    }
}

/// The permits for one load.
struct PermitPool {
    permits: Arc<Semaphore>,
    /// The permits that are in use, and are removed when they are returned.
    surplus: Locked<usize>,
}

impl PermitPool {
    fn resize(&self, before: usize, after: usize) {
        let mut surplus = self.surplus();
        if after < before {
            *surplus += before - after - self.permits.forget_permits(before - after);
        } else {
            let kept = (after - before).min(*surplus);
            *surplus -= kept;
            self.permits.add_permits(after - before - kept);
        }
    }

    fn surplus(&self) -> MutexGuard<'_, usize> {
        self.surplus.lock()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut surplus = self.pool.surplus();
        if let Some(permit) = self.permit.take()
            && *surplus > 0
        {
            *surplus -= 1;
            permit.forget();
        }
    }
}

/// A blob up to this size is no larger than a manifest.
const MAX_SMALL_BLOB: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Returns an instant after every cut.
    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn an_overload_halves_the_limit_once_and_successes_raise_it_again() {
        let limiter = Limiter::new(8);
        let sent_at = Instant::now();
        for _ in 0..8 {
            limiter.record(sent_at, Feedback::Overloaded);
        }
        assert_eq!(limiter.limit(), 4, "eight requests of one moment are one overload");
        limiter.record(sent_at, Feedback::Answered);
        assert_eq!(limiter.limit(), 4, "a response to a request from before the cut says nothing");
        for limit in [2, 1, 1] {
            limiter.record(later(), Feedback::Overloaded);
            assert_eq!(limiter.limit(), limit);
        }
        let mut successes = 0;
        while limiter.limit() < 8 {
            limiter.record(later(), Feedback::Answered);
            successes += 1;
        }
        assert!((20..40).contains(&successes), "one more permit for each limit's worth: {successes}");
        for _ in 0..100 {
            limiter.record(later(), Feedback::Answered);
        }
        assert_eq!((limiter.limit(), limiter.free_for_bodies()), (8, 8), "never more than configured");
    }

    #[test]
    fn a_new_maximum_holds_at_once_unless_an_overload_has_cut_the_limit() {
        let limiter = Limiter::new(8);
        for max in [2, 6, 8] {
            limiter.set_max(max);
            assert_eq!((limiter.limit(), limiter.free_for_bodies()), (max, max));
        }
        limiter.record(Instant::now(), Feedback::Overloaded);
        for (max, limit) in [(16, 4), (3, 3), (12, 12)] {
            limiter.set_max(max);
            assert_eq!(limiter.limit(), limit, "a maximum of {max}");
        }
    }

    #[tokio::test]
    async fn permits_in_use_when_the_limit_is_cut_are_removed_when_returned() {
        let limiter = Limiter::new(4);
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.push(limiter.acquire(Load::Body).await);
        }
        limiter.record(Instant::now(), Feedback::Overloaded);
        assert_eq!(limiter.free_for_bodies(), 0);
        drop(taken.pop());
        assert_eq!(limiter.free_for_bodies(), 0, "two are still under way, and two are all there is");
        drop(taken.pop());
        assert_eq!(limiter.free_for_bodies(), 1);
        drop(taken.pop());
        assert_eq!(limiter.free_for_bodies(), 2);
    }

    #[tokio::test]
    async fn a_small_request_does_not_wait_behind_bodies() {
        let limiter = Limiter::new(1);
        let _body = limiter.acquire(Load::Body).await;
        let _small = limiter.acquire(Load::of_blob(MAX_SMALL_BLOB)).await;
        let second =
            tokio::time::timeout(Duration::from_millis(20), limiter.acquire(Load::of_blob(MAX_SMALL_BLOB + 1))).await;
        assert!(second.is_err());
    }
}

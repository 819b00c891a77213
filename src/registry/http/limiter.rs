//! Bounds the requests of one kind that are under way to one registry, and learns how many of them it bears.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The requests that read from one registry, or those that write to it.
///
/// Bodies of blobs and small requests have places of their own, so that no HEAD or manifest waits behind layers. How
/// many places there are of each is one number: it starts at the most there may be, is halved when the registry is
/// overloaded, once for all requests that were sent before the cut, and grows by one for each windowful of successes.
pub(crate) struct Limiter {
    most: usize,
    size: Mutex<LimitState>,
    small: Arc<PermitPool>,
    bodies: Arc<PermitPool>,
}

/// What a place is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// A request whose body and answer are small.
    Small,
    /// The bytes of a blob, as long as they last.
    Body,
}

impl Load {
    /// What a blob of `size` bytes is.
    pub(crate) fn of_blob(size: u64) -> Self {
        if size <= MAX_SMALL_BLOB { Self::Small } else { Self::Body }
    }
}

/// How a request went, as far as it tells how much the registry bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feedback {
    /// It was answered.
    Answered,
    /// It was answered with 429 or 503, or the connection failed.
    Overloaded,
}

struct LimitState {
    now: f64,
    cut_at: Option<Instant>,
}

/// A place in a window; given back when it is dropped.
pub(crate) struct Permit {
    lane: Arc<PermitPool>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Limiter {
    /// With `most` places of each kind, at least one.
    pub(crate) fn new(most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        let lane = || Arc::new(PermitPool { places: Arc::new(Semaphore::new(most)), surplus: Mutex::new(0) });
        Self { most, size: Mutex::new(LimitState { now: most as f64, cut_at: None }), small: lane(), bodies: lane() }
    }

    /// Waits for a place; who came first gets the first one.
    pub(crate) async fn enter(&self, load: Load) -> Permit {
        let lane = match load {
            Load::Small => &self.small,
            Load::Body => &self.bodies,
        };
        let permit = lane.places.clone().acquire_owned().await.expect("the semaphore is never closed");
        Permit { lane: lane.clone(), permit: Some(permit) }
    }

    /// Takes into account how a request went that was sent at `sent_at`.
    pub(crate) fn note(&self, sent_at: Instant, outcome: Feedback) {
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        // What was sent before the last cut tells nothing about the window as it is now.
        if size.cut_at.is_some_and(|cut_at| sent_at <= cut_at) {
            return;
        }
        let before = size.now as usize;
        match outcome {
            Feedback::Answered => size.now = (size.now + 1.0 / size.now).min(self.most as f64),
            Feedback::Overloaded => {
                size.now = (size.now / 2.0).max(1.0);
                size.cut_at = Some(Instant::now());
            }
        }
        let after = size.now as usize;
        for lane in [&self.small, &self.bodies] {
            lane.resize(before, after);
        }
        if after < before {
            tracing::debug!(before, after, "fewer requests at once");
        }
    }

    /// How many places there are of each kind.
    #[cfg(test)]
    pub(crate) fn places(&self) -> usize {
        self.size.lock().unwrap().now as usize
    }

    /// How many bodies may still start at this moment.
    #[cfg(test)]
    pub(crate) fn free_for_bodies(&self) -> usize {
        self.bodies.places.available_permits()
    }
}

/// The places for one kind of load.
struct PermitPool {
    places: Arc<Semaphore>,
    /// The places that are taken, and go away when they are given back.
    surplus: Mutex<usize>,
}

impl PermitPool {
    fn resize(&self, before: usize, after: usize) {
        let mut surplus = self.surplus();
        if after < before {
            *surplus += before - after - self.places.forget_permits(before - after);
        } else {
            let kept = (after - before).min(*surplus);
            *surplus -= kept;
            self.places.add_permits(after - before - kept);
        }
    }

    fn surplus(&self) -> MutexGuard<'_, usize> {
        self.surplus.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut surplus = self.lane.surplus();
        if let Some(permit) = self.permit.take()
            && *surplus > 0
        {
            *surplus -= 1;
            permit.forget();
        }
    }
}

/// A blob up to this size is no more than a manifest.
const MAX_SMALL_BLOB: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// An instant after every cut.
    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn an_overload_halves_the_window_once_and_successes_open_it_again() {
        let window = Limiter::new(8);
        let sent_at = Instant::now();
        for _ in 0..8 {
            window.note(sent_at, Feedback::Overloaded);
        }
        assert_eq!(window.places(), 4, "eight requests of one moment are one overload");
        window.note(sent_at, Feedback::Answered);
        assert_eq!(window.places(), 4, "an answer to what was sent before the cut tells nothing");
        for places in [2, 1, 1] {
            window.note(later(), Feedback::Overloaded);
            assert_eq!(window.places(), places);
        }
        let mut successes = 0;
        while window.places() < 8 {
            window.note(later(), Feedback::Answered);
            successes += 1;
        }
        assert!((20..40).contains(&successes), "one more place for each windowful: {successes}");
        for _ in 0..100 {
            window.note(later(), Feedback::Answered);
        }
        assert_eq!((window.places(), window.free_for_bodies()), (8, 8), "never more than configured");
    }

    #[tokio::test]
    async fn places_that_are_taken_when_the_window_is_cut_go_away_when_they_come_back() {
        let window = Limiter::new(4);
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.push(window.enter(Load::Body).await);
        }
        window.note(Instant::now(), Feedback::Overloaded);
        assert_eq!(window.free_for_bodies(), 0);
        drop(taken.pop());
        assert_eq!(window.free_for_bodies(), 0, "two are still under way, and two are all there is");
        drop(taken.pop());
        assert_eq!(window.free_for_bodies(), 1);
        drop(taken.pop());
        assert_eq!(window.free_for_bodies(), 2);
    }

    #[tokio::test]
    async fn a_small_request_does_not_wait_behind_bodies() {
        let window = Limiter::new(1);
        let _body = window.enter(Load::Body).await;
        let _small = window.enter(Load::of_blob(MAX_SMALL_BLOB)).await;
        let second =
            tokio::time::timeout(Duration::from_millis(20), window.enter(Load::of_blob(MAX_SMALL_BLOB + 1))).await;
        assert!(second.is_err());
    }
}

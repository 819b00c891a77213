//! The time of a process: it never goes back, and stops of the process are noticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::plan::MicroTime;

/// A wall clock that is read once, and goes on by the monotonic one: a clock that is set back delays nothing.
#[derive(Clone, Debug)]
pub(crate) struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wall: Timestamp,
    began: Instant,
    /// Milliseconds since `began` when the process was last seen to run.
    beat: AtomicU64,
    stops: watch::Sender<u64>,
}

impl Default for Clock {
    fn default() -> Self {
        let (wall, began) = (Timestamp::now(), Instant::now());
        Self(Arc::new(Inner { wall, began, beat: AtomicU64::new(0), stops: watch::Sender::new(0) }))
    }
}

impl Clock {
    /// Returns the present time, to the microsecond as rows keep times.
    pub(crate) fn now(&self) -> Timestamp {
        MicroTime::from(self.0.wall + self.0.began.elapsed()).get()
    }

    /// Beats until it is dropped, so that [`Clock::stops`] notices when the process does not run.
    pub(crate) async fn beat(self) {
        loop {
            self.stops();
            tokio::time::sleep(BEAT_EVERY).await;
        }
    }

    /// Counts the times when the process did not run for longer than authority lasts: another one may have taken its
    /// place meanwhile.
    pub(crate) fn stops(&self) -> u64 {
        let elapsed = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.0.beat.fetch_max(elapsed, Ordering::SeqCst);
        if elapsed.saturating_sub(last) > STOPPED_AFTER_MS {
            self.0.stops.send_modify(|stops| *stops += 1);
        }
        *self.0.stops.borrow()
    }

    /// Changes with [`Clock::stops`].
    pub(crate) fn watch_stops(&self) -> watch::Receiver<u64> {
        self.0.stops.subscribe()
    }
}

const BEAT_EVERY: Duration = Duration::from_millis(500);
/// Longer than [`CONSENT_LASTS`](crate::copy::CONSENT_LASTS), shorter than another process waits before it writes.
const STOPPED_AFTER_MS: u64 = 6_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_goes_on_by_the_monotonic_clock_alone() {
        // A wall clock that was a day ahead when it was read: setting it back changes nothing that is due.
        let (wall, began) = (Timestamp::now() + Duration::from_secs(86_400), Instant::now());
        let (beat, stops) = (AtomicU64::new(0), watch::Sender::new(0));
        let clock = Clock(Arc::new(Inner { wall, began, beat, stops }));
        let (first, elapsed) = (clock.now(), began.elapsed());
        std::thread::sleep(Duration::from_millis(20));
        let second = clock.now();
        assert!(first >= wall && first <= wall + elapsed, "{first} {wall} {elapsed:?}");
        assert!(second >= first + Duration::from_millis(19) && second <= wall + began.elapsed());
    }
}

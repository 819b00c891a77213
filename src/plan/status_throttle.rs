//! Limits how often a status object is written: at once when work comes to rest, seldom while it is under way.

use std::time::Duration;

use jiff::Timestamp;

/// A token bucket of [`BURST`] writes that refills by one every [`REFILL`], for one object.
///
/// A change after which the object is at rest (a push was replicated) is written at once while the bucket has a token.
/// Other changes wait a second, since they are usually over by then, and at least [`REFILL`] since the last write, longer
/// for many images: their record is written with the status. So a user who pushes a few images sees each at once, and an
/// object under load is written at most once in 5 s.
#[derive(Clone, Debug)]
pub struct StatusThrottle {
    writes: f64,
    counted_at: Option<Timestamp>,
    last_write: Option<Timestamp>,
    went_ahead_at: Option<Timestamp>,
}

/// The earliest time at which a change may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publication {
    /// The change may be written now.
    Now,
    /// The change may not be written before this time.
    At(Timestamp),
}

impl Default for StatusThrottle {
    fn default() -> Self {
        Self { writes: BURST, counted_at: None, last_write: None, went_ahead_at: None }
    }
}

impl StatusThrottle {
    /// Returns the time at which a change of `changed_at` may be written of a pair with so many images, as seen at `now`.
    pub fn publication(&self, changed_at: Timestamp, at_rest: bool, images: u64, now: Timestamp) -> Publication {
        let writes = self.writes_at(now);
        let bucket = if writes >= 1.0 { now } else { now + REFILL.mul_f64(1.0 - writes) };
        let earliest = if at_rest {
            bucket
        } else {
            let since_last = self.last_write.map_or(changed_at, |last| last + pause(images));
            bucket.max(since_last).max(changed_at + SETTLE)
        };
        if earliest <= now { Publication::Now } else { Publication::At(earliest) }
    }

    /// Returns the earliest time of a write that other work waits for: at once, but seldom while it happens often.
    pub fn ahead_at(&self, now: Timestamp) -> Timestamp {
        self.went_ahead_at.map_or(now, |last| (last + AHEAD_EVERY).max(now))
    }

    /// Records the begin of a write that other work waits for.
    pub fn went_ahead(&mut self, now: Timestamp) {
        self.went_ahead_at = Some(now);
    }

    /// Records a write.
    pub fn written(&mut self, now: Timestamp) {
        self.writes = (self.writes_at(now) - 1.0).max(0.0);
        self.counted_at = Some(now);
        self.last_write = Some(now);
    }

    fn writes_at(&self, now: Timestamp) -> f64 {
        let elapsed = self.counted_at.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0));
        (self.writes + elapsed / REFILL.as_secs_f64()).min(BURST)
    }
}

/// Returns the least time between two writes of a pair with so many images under load.
fn pause(images: u64) -> Duration {
    let refills = u32::try_from(images / IMAGES_A_REFILL).unwrap_or(u32::MAX).saturating_add(1);
    REFILL.saturating_mul(refills).min(MAX_PAUSE)
}

/// The number of writes that may follow one another at once.
const BURST: f64 = 10.0;
/// The time in which one more write becomes possible.
const REFILL: Duration = Duration::from_secs(5);
/// The images for which the time between two writes grows by [`REFILL`]: as many as a part of a record has.
const IMAGES_A_REFILL: u64 = 1_000;
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The time that a change which is not at rest waits for the next.
const SETTLE: Duration = Duration::from_secs(1);
/// The least time between two writes that other work waits for.
const AHEAD_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_at_rest_is_written_at_once() {
        let mut pace = StatusThrottle::default();
        for _ in 0..10 {
            assert_eq!(pace.publication(at(100), true, 9, at(100)), Publication::Now);
            pace.written(at(100));
        }
        assert_eq!(pace.publication(at(100), true, 9, at(100)), Publication::At(at(105)));
        assert_eq!(pace.publication(at(100), true, 9, at(105)), Publication::Now);
    }

    #[test]
    fn work_under_way_is_written_once_in_five_seconds() {
        let mut pace = StatusThrottle::default();
        assert_eq!(pace.publication(at(100), false, 9, at(100)), Publication::At(at(101)));
        assert_eq!(pace.publication(at(100), false, 9, at(101)), Publication::Now);
        pace.written(at(101));
        assert_eq!(pace.publication(at(102), false, 9, at(102)), Publication::At(at(106)));
    }

    #[test]
    fn work_on_many_images_is_written_more_seldom_and_what_is_at_rest_is_not() {
        let mut pace = StatusThrottle::default();
        pace.written(at(100));
        for (images, next) in [(999, 105), (1_000, 110), (5_000, 130), (1_000_000, 160)] {
            assert_eq!(pace.publication(at(101), false, images, at(102)), Publication::At(at(next)), "{images}");
            assert_eq!(pace.publication(at(101), true, images, at(102)), Publication::Now, "{images}");
        }
    }

    #[test]
    fn over_time_there_is_at_most_one_write_in_five_seconds_and_the_burst() {
        let mut pace = StatusThrottle::default();
        let mut writes = 0;
        for second in 0..1000 {
            if pace.publication(at(second), second % 3 == 0, 9, at(second)) == Publication::Now {
                pace.written(at(second));
                writes += 1;
            }
        }
        assert!(writes <= 1000 / 5 + 10, "{writes}");
    }
}

//! Lag: the time from the push of an image to its verification at a destination, and the objective for it.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

/// The lags of the images that were verified last at one destination, at most [`SAMPLES`] of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LagWindow {
    /// In milliseconds, the oldest first.
    lags: VecDeque<u32>,
}

/// Two quantiles of the lags of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LagQuantiles {
    /// Half of the images took at most this long.
    pub p50: Duration,
    /// 99 of 100 images took at most this long.
    pub p99: Duration,
}

impl LagWindow {
    /// Adds the lag of an image that was verified.
    pub fn record(&mut self, lag: Duration) {
        if self.lags.len() == SAMPLES {
            self.lags.pop_front();
        }
        self.lags.push_back(u32::try_from(lag.as_millis()).unwrap_or(u32::MAX));
    }

    /// Returns the quantiles; `None` if no image was verified yet.
    pub fn quantiles(&self) -> Option<LagQuantiles> {
        let mut sorted: Vec<u32> = self.lags.iter().copied().collect();
        sorted.sort_unstable();
        // The nearest rank: the smallest lag that at least so many percent of the images do not exceed.
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).map(|lag| Duration::from_millis(u64::from(*lag)))
        };
        Some(LagQuantiles { p50: at(50)?, p99: at(99)? })
    }
}

/// Returns the lag of an image that was pushed at `pushed_at` and verified at `verified_at`.
pub fn lag(pushed_at: Timestamp, verified_at: Timestamp) -> Duration {
    Duration::try_from(verified_at.duration_since(pushed_at)).unwrap_or_default()
}

/// Formats a lag for people: in milliseconds below 10 s, then in seconds, minutes and hours.
pub fn lag_text(lag: Duration) -> String {
    let seconds = lag.as_secs();
    match seconds {
        0..1 => format!("{}ms", lag.as_millis()),
        1..10 => format!("{:.1}s", (lag.as_millis() / 100) as f64 / 10.0),
        10..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        _ => format!("{}h", seconds / 3600),
    }
}

/// Watches over the objective of a configuration. The oldest image that waits is searched for only when it may be
/// older than the objective.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LagWatch {
    check_at: Option<Timestamp>,
    missed_since: Option<Timestamp>,
}

impl LagWatch {
    /// Returns the time since which the oldest image waits, while that is longer than the objective.
    pub fn missed_since(&self) -> Option<Timestamp> {
        self.missed_since
    }

    /// Returns the time of the next check.
    pub fn check_at(&self) -> Option<Timestamp> {
        self.check_at
    }

    /// Compares the oldest image that waits with `objective`. `is_waiting` is false if none waits; `oldest` searches for
    /// it.
    pub fn check(
        &mut self,
        objective: Option<Duration>,
        is_waiting: bool,
        oldest: impl FnOnce() -> Option<Timestamp>,
        now: Timestamp,
    ) {
        let Some(objective) = objective.filter(|_| is_waiting) else {
            *self = Self::default();
            return;
        };
        match self.check_at {
            // An image that begins to wait now is not too old before then.
            None => self.check_at = Some(now + objective),
            Some(at) if at > now => {}
            Some(_) => {
                let oldest = oldest().unwrap_or(now);
                self.missed_since = (oldest + objective <= now).then_some(oldest);
                let next = if self.missed_since.is_some() { now + CHECK_AGAIN } else { oldest + objective };
                self.check_at = Some(next.max(now + MIN_PAUSE));
            }
        }
    }
}

/// The images whose lags count.
const SAMPLES: usize = 128;
/// The interval of checks while the objective is missed.
const CHECK_AGAIN: Duration = Duration::from_secs(5);
const MIN_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn quantiles_are_those_of_the_last_images() {
        let mut window = LagWindow::default();
        assert_eq!(window.quantiles(), None);
        window.record(Duration::from_secs(3));
        let same = Duration::from_secs(3);
        assert_eq!(window.quantiles(), Some(LagQuantiles { p50: same, p99: same }));
        let mut window = LagWindow::default();
        (1..=100).for_each(|seconds| window.record(Duration::from_secs(seconds)));
        let expected = LagQuantiles { p50: Duration::from_secs(50), p99: Duration::from_secs(99) };
        assert_eq!(window.quantiles(), Some(expected));
        (0..1000).for_each(|_| window.record(Duration::from_millis(7)));
        assert_eq!(window.lags.len(), SAMPLES);
        assert_eq!(window.quantiles().unwrap().p99, Duration::from_millis(7), "the old ones are forgotten");
    }

    #[test]
    fn a_lag_reads_in_the_unit_of_its_size_and_is_never_negative() {
        assert_eq!(lag(at(9), at(3)), Duration::ZERO);
        for (millis, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_250, "1.2s"),
            (9_999, "9.9s"),
            (59_000, "59s"),
            (119_000, "119s"),
            (120_000, "2m"),
            (7_199_000, "119m"),
            (90_000_000, "25h"),
        ] {
            assert_eq!(lag_text(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn the_objective_is_missed_while_an_image_waits_for_longer() {
        let objective = Some(Duration::from_secs(60));
        let mut watch = LagWatch::default();
        watch.check(objective, true, || panic!("it is too early to search"), at(100));
        assert_eq!((watch.check_at(), watch.missed_since()), (Some(at(160)), None));
        watch.check(objective, true, || panic!("it is too early to search"), at(159));
        watch.check(objective, true, || Some(at(130)), at(160));
        assert_eq!((watch.check_at(), watch.missed_since()), (Some(at(190)), None), "another image waits by now");
        watch.check(objective, true, || Some(at(130)), at(190));
        assert_eq!((watch.check_at(), watch.missed_since()), (Some(at(195)), Some(at(130))));
        watch.check(objective, true, || Some(at(190)), at(195));
        assert_eq!((watch.check_at(), watch.missed_since()), (Some(at(250)), None), "the late one arrived");
        watch.check(objective, true, || Some(at(190)), at(250));
        watch.check(objective, false, || panic!("nothing waits"), at(251));
        assert_eq!(watch, LagWatch::default());
        watch.check(None, true, || panic!("there is no objective"), at(400));
        assert_eq!(watch, LagWatch::default());
    }
}

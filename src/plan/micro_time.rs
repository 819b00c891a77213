//! A time in microseconds, half the size of a [`Timestamp`].

use std::fmt;

use jiff::Timestamp;

/// A point in time, to the microsecond: what is finer is cut off. There is one of each kind in every row, of which a
/// process keeps hundreds of thousands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MicroTime(i64);

impl MicroTime {
    /// Returns the time as a timestamp.
    pub fn get(self) -> Timestamp {
        Timestamp::from_microsecond(self.0).unwrap_or(Timestamp::MIN)
    }
}

impl From<Timestamp> for MicroTime {
    fn from(time: Timestamp) -> Self {
        Self(time.as_microsecond())
    }
}

impl PartialEq<Timestamp> for MicroTime {
    fn eq(&self, other: &Timestamp) -> bool {
        *self == Self::from(*other)
    }
}

impl PartialOrd<Timestamp> for MicroTime {
    fn partial_cmp(&self, other: &Timestamp) -> Option<std::cmp::Ordering> {
        self.partial_cmp(&Self::from(*other))
    }
}

impl fmt::Debug for MicroTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn times_are_kept_to_the_microsecond_and_in_order() {
        let second = Timestamp::from_second(1_700_000_000).unwrap();
        for (nanoseconds, kept) in [(0, 0), (999, 0), (1_000, 1_000), (1_999, 1_000)] {
            let of = |nanoseconds| second + SignedDuration::from_nanos(nanoseconds);
            assert_eq!(MicroTime::from(of(nanoseconds)).get(), of(kept), "{nanoseconds}");
        }
        for time in [Timestamp::MIN, Timestamp::UNIX_EPOCH, second] {
            assert_eq!(MicroTime::from(time).get(), time);
            assert!(MicroTime::from(time) == time && MicroTime::from(Timestamp::MIN) <= time);
        }
        assert!(MicroTime::from(second) < second + SignedDuration::from_micros(1));
    }
}

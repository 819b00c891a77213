//! Counts of the requests that this process sent to registries, by the class of the answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The classes of answers; `none` is a request without an answer.
pub(crate) const ANSWER_CLASSES: [&str; 6] = ["2xx", "3xx", "4xx", "429", "5xx", "none"];

/// The requests so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RequestCounts {
    /// Their numbers, in the order of [`ANSWER_CLASSES`].
    pub by_class: [u64; ANSWER_CLASSES.len()],
    /// The time from their start to the head of the answer, in seconds, summed up.
    pub seconds: f64,
}

/// Returns the requests of this process so far.
pub(crate) fn request_counts() -> RequestCounts {
    let by_class = std::array::from_fn(|class| COUNTS[class].load(Ordering::Relaxed));
    RequestCounts { by_class, seconds: MICROSECONDS.load(Ordering::Relaxed) as f64 / 1e6 }
}

/// Counts a request that was answered with `status` after `took`.
pub(super) fn count(status: Option<u16>, took: Duration) {
    COUNTS[class(status)].fetch_add(1, Ordering::Relaxed);
    MICROSECONDS.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

fn class(status: Option<u16>) -> usize {
    match status {
        Some(..300) => 0,
        Some(300..400) => 1,
        Some(429) => 3,
        Some(400..500) => 2,
        Some(_) => 4,
        None => 5,
    }
}

static COUNTS: [AtomicU64; ANSWER_CLASSES.len()] = [const { AtomicU64::new(0) }; ANSWER_CLASSES.len()];
static MICROSECONDS: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_their_class() {
        for (status, expected) in [
            (Some(200), "2xx"),
            (Some(307), "3xx"),
            (Some(404), "4xx"),
            (Some(429), "429"),
            (Some(503), "5xx"),
            (None, "none"),
        ] {
            assert_eq!(ANSWER_CLASSES[class(status)], expected);
        }
    }
}

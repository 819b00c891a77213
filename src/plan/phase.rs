//! Places in a cycle: what many things do at the same interval is spread over it.

use std::time::Duration;

use jiff::Timestamp;

use crate::image::Digest;

/// Maps a name to a number from 0 to 1, the same at each start.
pub(super) fn phase(name: &str) -> f64 {
    let hash = Digest::sha256(name.as_bytes());
    let part = u32::from_str_radix(&hash.encoded()[..8], 16).unwrap_or(0);
    f64::from(part) / f64::from(u32::MAX)
}

/// Returns the next time after `now` at which `name` has its turn in every cycle of `interval`, whenever the process
/// began.
pub(super) fn next_in_cycle(name: &str, interval: Duration, now: Timestamp) -> Timestamp {
    let seconds = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX).max(1);
    let turn = interval.mul_f64(phase(name)).as_secs();
    let passed = (now.as_second() - i64::try_from(turn).unwrap_or_default()).rem_euclid(seconds);
    now + Duration::from_secs((seconds - passed).unsigned_abs())
}

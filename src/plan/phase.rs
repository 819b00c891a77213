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

/// Returns the part of the present cycle of `name` that has passed, from 0 to below 1, whenever the process began.
pub fn part_of_cycle(name: &str, cycle: Duration, now: Timestamp) -> f64 {
    let seconds = i64::try_from(cycle.as_secs()).unwrap_or(i64::MAX).max(1);
    let passed = now.as_second().rem_euclid(seconds) as f64 / seconds as f64;
    (passed + phase(name)).fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_goes_on_with_the_clock_and_differs_by_name() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let part = |name: &str, second| part_of_cycle(name, Duration::from_secs(1_000), at(second));
        assert!((0..20).all(|n| (0.0..1.0).contains(&part("a", n * 77))));
        let moved = (part("a", 250) - part("a", 0)).rem_euclid(1.0);
        assert!((moved - 0.25).abs() < 1e-9, "a quarter of the cycle");
        assert!((part("a", 0) - part("b", 0)).abs() > 1e-3);
        assert_eq!(part("a", 0), part("a", 1_000));
    }
}

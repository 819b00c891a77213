//! Durations of a spec, such as `1h30m`.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Parses intervals such as `90s`, `10m` and `1h30m`, from 10 seconds to 24 hours.
pub fn parse_interval(text: &str) -> Option<Duration> {
    parse_duration(text, 10..=86_400)
}

/// Parses an objective for the lag, from 1 second to 168 hours.
pub fn parse_lag_objective(text: &str) -> Option<Duration> {
    parse_duration(text, 1..=168 * 3600)
}

/// Parses a duration of so many seconds.
pub(super) fn parse_duration(text: &str, bounds: RangeInclusive<u64>) -> Option<Duration> {
    let mut seconds: u64 = 0;
    let mut number = String::new();
    for symbol in text.chars() {
        let factor = match symbol {
            '0'..='9' if number.len() < 6 => {
                number.push(symbol);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return None,
        };
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
        number.clear();
    }
    (number.is_empty() && bounds.contains(&seconds)).then_some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_as_people_write_them() {
        for (text, seconds) in [("10s", 10), ("10m", 600), ("1h30m", 5400), ("24h", 86_400), ("90s", 90)] {
            assert_eq!(parse_interval(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "9s", "25h", "10", "m", "1.5h", "-10s", "99999999999999999999s", "10m5"] {
            assert_eq!(parse_interval(text), None, "{text}");
        }
    }
}

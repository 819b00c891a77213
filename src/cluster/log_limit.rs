//! Keeps repeated messages out of a log.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The messages that were logged within the last [`WINDOW`], at most [`MAX_MESSAGES`].
#[derive(Debug, Default)]
pub(super) struct LogLimit(HashMap<String, Logged>);

#[derive(Debug)]
struct Logged {
    at: Instant,
    suppressed: u64,
}

impl LogLimit {
    /// Returns the number of times that `message` was suppressed since it was last logged; `None` if it is to be
    /// suppressed now, because it or too many others were logged within the last [`WINDOW`].
    pub(super) fn admit(&mut self, message: &str, now: Instant) -> Option<u64> {
        let is_recent = |logged: &Logged| now.duration_since(logged.at) < WINDOW;
        if let Some(logged) = self.0.get_mut(message) {
            if is_recent(logged) {
                logged.suppressed = logged.suppressed.saturating_add(1);
                return None;
            }
            logged.at = now;
            return Some(std::mem::take(&mut logged.suppressed));
        }
        self.0.retain(|_, logged| is_recent(logged));
        if self.0.len() >= MAX_MESSAGES {
            return None;
        }
        self.0.insert(message.to_owned(), Logged { at: now, suppressed: 0 });
        Some(0)
    }
}

/// The same message is logged once in this time.
const WINDOW: Duration = Duration::from_secs(60);
/// Different messages that are logged within [`WINDOW`].
const MAX_MESSAGES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_logged_once_in_a_window_and_then_with_its_repeats() {
        let (mut limit, start) = (LogLimit::default(), Instant::now());
        assert_eq!(limit.admit("a", start), Some(0));
        for second in 1..60 {
            assert_eq!(limit.admit("a", start + Duration::from_secs(second)), None);
        }
        assert_eq!(limit.admit("a", start + WINDOW), Some(59));
        assert_eq!(limit.admit("a", start + WINDOW), None);
    }

    #[test]
    fn different_messages_are_bounded_and_return_after_the_window() {
        let (mut limit, start) = (LogLimit::default(), Instant::now());
        let logged = (0..1000).filter(|number| limit.admit(&number.to_string(), start).is_some()).count();
        assert_eq!((logged, limit.0.len()), (MAX_MESSAGES, MAX_MESSAGES));
        assert_eq!(limit.admit("another", start + WINDOW), Some(0));
        assert_eq!(limit.0.len(), 1);
    }
}

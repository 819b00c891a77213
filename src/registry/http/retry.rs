//! Retries of failed requests: backoff, `Retry-After`, and the pause after a 429.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;
use rand::RngExt;
use tokio::time::Instant;

use crate::locked::Locked;
use crate::registry::error::{AttemptError, ErrorKind, Operation, RegistryError};
use crate::registry::http::deadlines::Deadlines;

/// The attempts of one request.
pub(crate) struct Retries<'a> {
    pause: &'a Pause,
    deadlines: &'a Deadlines,
    tries: u32,
}

impl<'a> Retries<'a> {
    pub(crate) fn new(pause: &'a Pause, deadlines: &'a Deadlines) -> Self {
        Self { pause, deadlines, tries: 0 }
    }

    /// Waits until the request is to be repeated.
    ///
    /// # Errors
    /// The failure itself, if another attempt is not worth it or would have to wait for too long.
    pub(crate) async fn again(&mut self, failed: AttemptError) -> Result<(), RegistryError> {
        self.tries += 1;
        let error = failed.error;
        let backoff = self.backoff();
        let mut wait = error.retry_after.map_or(backoff, |asked| backoff.max(asked + backoff.min(asked / 10)));
        // A request that was never sent, because the quota is known to be used up, keeps no other from being sent.
        if error.kind == ErrorKind::RateLimited && failed.max_tries > 1 {
            // Registries ask for microseconds, or for nothing at all.
            let asked = error.retry_after.unwrap_or(backoff).max(self.deadlines.min_pause);
            if self.pause.until(Instant::now() + asked) {
                tracing::info!(target: WAITING, "no request is sent for {} s: {}", asked.as_secs(), error.message);
            }
            wait = wait.max(asked);
        }
        if self.tries >= failed.max_tries || wait > self.deadlines.max_wait {
            return Err(error);
        }
        if wait >= LONG_WAIT && error.kind != ErrorKind::RateLimited {
            tracing::info!(target: WAITING, "trying again in {} s: {}", wait.as_secs(), error.message);
        } else {
            tracing::debug!(error = %error.message, tries = self.tries, ?wait, "trying again");
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Full jitter: a random wait up to a bound that doubles with each attempt.
    fn backoff(&self) -> Duration {
        let bound = self.deadlines.first_backoff.saturating_mul(1 << self.tries.min(16)) / 2;
        rand::rng().random_range(Duration::ZERO..=bound.min(self.deadlines.last_backoff))
    }
}

/// The pause that a registry asked for; until it ends, the client sends nothing.
#[derive(Default)]
pub(crate) struct Pause(Locked<Option<Instant>>);

impl Pause {
    /// Extends the pause to `instant`; never shortens it. Returns true if that makes it longer by a time that matters.
    fn until(&self, instant: Instant) -> bool {
        let mut not_before = self.0.lock();
        let known = not_before.unwrap_or_else(Instant::now).max(Instant::now());
        *not_before = (*not_before).max(Some(instant));
        instant >= known + LONG_WAIT
    }

    /// Waits for the end of the pause.
    ///
    /// # Errors
    /// `RateLimited` if that is further away than the longest wait.
    pub(crate) async fn wait(&self, operation: &Operation, deadlines: &Deadlines) -> Result<(), RegistryError> {
        loop {
            let not_before = *self.0.lock();
            let left = not_before.map_or(Duration::ZERO, |instant| instant.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(());
            }
            if left > deadlines.max_wait {
                let detail = format!("no request is sent until {}, as the registry asked for", until(left));
                let error = operation.error(ErrorKind::RateLimited, detail);
                return Err(RegistryError { retry_after: Some(left), ..error });
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// Returns the time after `wait` as people read it, in UTC.
pub(super) fn until(wait: Duration) -> String {
    let end = jiff::Timestamp::now().saturating_add(jiff::SignedDuration::try_from(wait).unwrap_or_default());
    end.map_or_else(|_| "later".to_owned(), |end| end.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

/// Returns the wait after which a request is worth repeating; at most one hour.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    asked_wait(headers).map(|wait| wait.min(MAX_RETRY_AFTER))
}

/// Returns the wait that the headers of a response ask for; at most a month.
pub(crate) fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    // Not only ASCII: GHCR writes microseconds with their sign.
    let text = String::from_utf8_lossy(headers.get(RETRY_AFTER)?.as_bytes());
    parse_retry_after(&text, SystemTime::now())
}

/// Parses `Retry-After` (RFC 9110, 10.2.3): seconds or a date; also `1.5`, `23.722µs` and the like, which registries
/// send. The result is neither negative nor over a month.
fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let seconds = match text.parse::<f64>() {
        Ok(seconds) => Some(seconds),
        Err(_) => parse_go_duration(text),
    };
    if let Some(seconds) = seconds {
        let bounded = seconds.clamp(0.0, MAX_ASKED_WAIT.as_secs_f64());
        return Duration::try_from_secs_f64(bounded).ok();
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    let wait = SystemTime::from(date).duration_since(now).unwrap_or(Duration::ZERO);
    Some(wait.min(MAX_ASKED_WAIT))
}

/// Parses a duration as Go prints it (`1m30.5s`), in seconds.
fn parse_go_duration(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let length = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(length);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    (!text.is_empty()).then_some(seconds)
}

/// A wait of which users are informed.
const LONG_WAIT: Duration = Duration::from_secs(2);
/// The target of log lines about waits, which commands show by default.
const WAITING: &str = "transship::waiting";

/// The registry is asked again after this, although it asks for a longer wait: it may change its mind.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

const MAX_ASKED_WAIT: Duration = Duration::from_secs(30 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_registries_write_it() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_431_696_861);
        let seconds = Duration::from_secs_f64;
        let table = [
            ("120", Some(seconds(120.0))),
            (" 0 ", Some(Duration::ZERO)),
            ("1.5", Some(seconds(1.5))),
            ("-3", Some(Duration::ZERO)),
            ("99999999999999999999", Some(MAX_ASKED_WAIT)),
            ("21600", Some(seconds(21_600.0))),
            ("inf", Some(MAX_ASKED_WAIT)),
            ("23.722µs", Some(seconds(23.722e-6))),
            ("1m30s", Some(seconds(90.0))),
            ("3ms", Some(seconds(0.003))),
            ("Fri, 15 May 2015 13:35:21 GMT", Some(seconds(60.0))),
            ("Fri, 15 May 2015 13:34:20 GMT", Some(Duration::ZERO)),
            ("Fri, 15 May 2026 13:34:20 GMT", Some(MAX_ASKED_WAIT)),
            ("NaN", None),
            ("", None),
            ("soon", None),
            ("5 apples", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_retry_after(text, now), expected, "{text}");
        }
    }

    #[test]
    fn a_pause_is_news_only_if_it_makes_the_known_one_longer() {
        let (pause, now) = (Pause::default(), Instant::now());
        assert!(!pause.until(now + Duration::from_secs(1)), "too short to matter");
        assert!(pause.until(now + Duration::from_secs(10)));
        assert!(!pause.until(now + Duration::from_secs(11)), "as good as known");
        assert!(!pause.until(now + Duration::from_secs(3)), "it is never shortened");
        assert!(pause.until(now + Duration::from_secs(20)));
    }

    #[tokio::test]
    async fn a_wait_that_is_too_long_is_reported_and_pauses_the_others() {
        let pause = Pause::default();
        let deadlines =
            Deadlines { max_wait: Duration::from_millis(10), min_pause: Duration::ZERO, ..Deadlines::default() };
        let operation = Operation::new("registry.example", "reading", "");
        let asked = Some(Duration::from_millis(60));
        let error = RegistryError { retry_after: asked, ..operation.error(ErrorKind::RateLimited, "answered 429") };
        let refused = Retries::new(&pause, &deadlines).again(error.into()).await.unwrap_err();
        assert_eq!(refused.retry_after, asked);
        let other = pause.wait(&operation, &deadlines).await.unwrap_err();
        assert_eq!(other.kind, ErrorKind::RateLimited);
        tokio::time::sleep(Duration::from_millis(300)).await;
        pause.wait(&operation, &deadlines).await.unwrap();
    }
}

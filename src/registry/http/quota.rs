//! The quota of requests that a registry states in its answers, and the pace that keeps within it.
//!
//! Docker Hub states `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 76;w=21600` with manifests, counts GETs of
//! manifests, and answers HEAD without counting it. Requests go at full speed until a tenth of the quota is left; the
//! rest is spread over the window, and none is sent once the quota is used up.

use std::time::Duration;

use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// The state of a quota, as an answer states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuotaStatement {
    /// The requests that the registry takes in each window.
    pub limit: u64,
    /// The requests that are left.
    pub remaining: u64,
    /// The window in seconds, or the time until the quota is restored.
    pub window: u64,
}

impl QuotaStatement {
    /// Parses the headers of an answer: those of Docker Hub, and `RateLimit-Reset` in place of a window.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let limit = text("ratelimit-limit")?;
        let remaining = number(text("ratelimit-remaining")?)?;
        let window = window(limit).or_else(|| number(text("ratelimit-reset")?))?;
        let limit = number(limit)?;
        (limit > 0 && window > 0).then_some(Self { limit, remaining, window: window.min(MAX_WINDOW) })
    }

    fn window(&self) -> Duration {
        Duration::from_secs(self.window)
    }

    /// Returns the requests at the end of the quota that are spread over the window.
    fn reserve(&self) -> u64 {
        (self.limit / 10).max(1)
    }
}

/// The use of a quota by this process.
#[derive(Debug, Default)]
pub(super) struct Quota {
    stated: Option<KnownStatement>,
    /// The counted requests that are not answered.
    in_flight: u64,
    last_sent: Option<Instant>,
    /// True once a counted request was answered: before that nothing is known of a quota.
    is_answered: bool,
    /// True if requests other than GETs of manifests get a statement with their answers.
    counts_others: bool,
}

#[derive(Clone, Copy, Debug)]
struct KnownStatement {
    statement: QuotaStatement,
    /// The time of the answer that said how many are left.
    stated_at: Instant,
    /// The time of the last answer that said anything.
    heard_at: Instant,
}

impl Quota {
    /// Returns the last statement.
    pub(super) fn statement(&self) -> Option<QuotaStatement> {
        self.stated.map(|stated| stated.statement)
    }

    /// Takes the statement of the answer to a request that was sent at `sent_at`.
    pub(super) fn learn(&mut self, statement: QuotaStatement, sent_at: Instant, now: Instant) {
        // Requests that are under way together are counted in any order, and their answers overtake each other: the smallest
        // number is the safe one. A request that was sent after it was known is counted after all that it counts.
        let is_smaller = |known: &KnownStatement| {
            let KnownStatement { statement: earlier, stated_at, .. } = known;
            *stated_at > sent_at && earlier.limit == statement.limit && earlier.remaining <= statement.remaining
        };
        let known = self.stated.filter(is_smaller);
        let known = known.unwrap_or(KnownStatement { statement, stated_at: now, heard_at: now });
        self.stated = Some(KnownStatement { heard_at: now, ..known });
    }

    /// Notes the kind of a request whose answer states a quota.
    pub(super) fn note_kind(&mut self, method: &Method, path: &str) {
        self.counts_others |= *method != Method::HEAD && !is_manifest_read(method, path);
    }

    /// Returns true if a request may use up the quota. HEAD never waits: it is what shows that the quota is restored.
    pub(super) fn counts(&self, method: &Method, path: &str) -> bool {
        is_manifest_read(method, path) || (self.counts_others && *method != Method::HEAD)
    }

    /// Returns the wait before the next counted request of this process, one of `processes` that use the quota.
    pub(super) fn wait(&self, processes: u32, now: Instant) -> Duration {
        let Some(KnownStatement { statement, heard_at, .. }) = self.stated else {
            let is_first = !self.is_answered && self.in_flight >= FIRST_AT_ONCE;
            return if is_first { FIRST_ANSWER_SOON } else { Duration::ZERO };
        };
        let restored_at = heard_at + statement.window();
        // A quota that is restored is no larger than before.
        let (remaining, restored_at) = match now >= restored_at {
            true => (statement.limit, now + statement.window()),
            false => (statement.remaining, restored_at),
        };
        let processes = processes.max(1);
        let left = remaining.saturating_sub(self.in_flight.saturating_mul(u64::from(processes)));
        if left > statement.reserve() {
            return Duration::ZERO;
        }
        if left == 0 && self.in_flight > 0 {
            return ANSWER_SOON;
        }
        if left == 0 {
            return restored_at - now;
        }
        let interval = statement.window().div_f64(left as f64).saturating_mul(processes);
        let next = self.last_sent.map_or(now, |sent| sent + interval).min(restored_at);
        next.saturating_duration_since(now)
    }

    /// Counts a request that is sent now.
    pub(super) fn begin(&mut self, now: Instant) {
        self.in_flight += 1;
        self.last_sent = Some(now);
    }

    /// Counts the answer to a request.
    pub(super) fn end(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.is_answered = true;
    }
}

fn is_manifest_read(method: &Method, path: &str) -> bool {
    *method == Method::GET && path.contains("/manifests/")
}

/// Parses the number in front of parameters: `100;w=21600`.
fn number(text: &str) -> Option<u64> {
    text.split([';', ',']).next()?.trim().parse().ok()
}

/// Parses the window among parameters: `100;w=21600`, `100, 100;w=60`.
fn window(text: &str) -> Option<u64> {
    text.split([';', ',']).find_map(|part| part.trim().strip_prefix("w=")?.trim().parse().ok())
}

/// The longest window that counts, in seconds.
const MAX_WINDOW: u64 = 31 * 24 * 3600;
/// The wait while an answer is awaited that states what is left.
const ANSWER_SOON: Duration = Duration::from_millis(50);
/// The counted requests that are sent before the first answer: Docker Hub takes ten an hour without a login.
const FIRST_AT_ONCE: u64 = 8;
/// The wait while the first answer is awaited.
const FIRST_ANSWER_SOON: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn stated(limit: u64, remaining: u64, window: u64) -> QuotaStatement {
        QuotaStatement { limit, remaining, window }
    }

    #[test]
    fn statements_of_a_quota_are_parsed_in_the_forms_that_are_sent() {
        let table = [
            ("100;w=21600", "76;w=21600", "", Some(stated(100, 76, 21600))),
            ("100, 100;w=60", "4", "", Some(stated(100, 4, 60))),
            ("100", "4", "30", Some(stated(100, 4, 30))),
            ("100", "4", "", None),
            ("0;w=60", "0", "", None),
            ("many;w=60", "4", "", None),
            ("100;w=60", "-1", "", None),
            ("100;w=99999999999", "1", "", Some(stated(100, 1, MAX_WINDOW))),
        ];
        for (limit, remaining, reset, expected) in table {
            let mut found = headers(&[("ratelimit-limit", limit), ("ratelimit-remaining", remaining)]);
            if !reset.is_empty() {
                found.extend(headers(&[("ratelimit-reset", reset)]));
            }
            assert_eq!(QuotaStatement::of(&found), expected, "{limit} {remaining} {reset}");
        }
    }

    #[test]
    fn the_last_tenth_of_a_quota_is_spread_and_nothing_goes_beyond_it() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        // limit, remaining, requests in flight, seconds since the last one, processes, wait in seconds
        let table = [
            (100, 11, 0, 0.0, 1, 0.0),
            (100, 10, 0, 0.0, 1, 6.0),
            (100, 10, 0, 5.0, 1, 1.0),
            (100, 10, 0, 7.0, 1, 0.0),
            (100, 10, 0, 0.0, 2, 12.0),
            (100, 12, 2, 0.0, 1, 6.0),
            (100, 19, 2, 0.0, 4, 0.0),
            (100, 18, 2, 0.0, 4, 24.0),
            (100, 2, 2, 0.0, 1, 0.05),
            (100, 0, 0, 30.0, 1, 30.0),
            (100, 0, 0, 60.0, 1, 0.0),
            (100, 0, 100, 60.0, 1, 0.05),
            (1, 1, 0, 0.0, 1, 60.0),
        ];
        for (limit, remaining, in_flight, since, processes, expected) in table {
            let mut quota = Quota::default();
            quota.learn(stated(limit, remaining, 60), start, start);
            quota.begin(start);
            quota.end();
            (0..in_flight).for_each(|_| quota.begin(start));
            let wait = quota.wait(processes, at(since)).as_secs_f64();
            assert!((wait - expected).abs() < 0.001, "{limit} {remaining} {in_flight} {since}: {wait}");
        }
        let mut unknown = Quota::default();
        (0..FIRST_AT_ONCE).for_each(|_| {
            assert_eq!(unknown.wait(1, start), Duration::ZERO, "nothing is stated");
            unknown.begin(start);
        });
        assert_eq!(unknown.wait(1, start), FIRST_ANSWER_SOON, "the first answer may state a quota");
        unknown.end();
        unknown.begin(start);
        assert_eq!(unknown.wait(1, start), Duration::ZERO, "it stated none");
    }

    #[test]
    fn an_answer_that_was_overtaken_never_raises_what_is_left() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut quota = Quota::default();
        quota.learn(stated(100, 40, 60), later, later);
        quota.learn(stated(100, 60, 60), start, later);
        assert_eq!(quota.statement(), Some(stated(100, 40, 60)));
        quota.learn(stated(100, 90, 60), later + Duration::from_secs(1), later);
        assert_eq!(quota.statement(), Some(stated(100, 90, 60)), "a later one is the truth");
    }

    #[test]
    fn requests_under_way_together_are_counted_in_any_order() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut quota = Quota::default();
        quota.learn(stated(100, 40, 60), start, start + 2 * second);
        quota.learn(stated(100, 41, 60), start + second, start + 3 * second);
        assert_eq!(quota.statement(), Some(stated(100, 40, 60)), "the one that was sent later was counted first");
        quota.learn(stated(100, 39, 60), start + second, start + 3 * second);
        assert_eq!(quota.statement(), Some(stated(100, 39, 60)));
    }

    #[test]
    fn requests_that_carry_no_statement_are_not_paced() {
        let mut quota = Quota::default();
        let manifest = "/v2/a/manifests/1";
        assert!(quota.counts(&Method::GET, manifest) && !quota.counts(&Method::HEAD, manifest));
        assert!(!quota.counts(&Method::GET, "/v2/a/blobs/sha256:1"));
        quota.note_kind(&Method::HEAD, manifest);
        assert!(!quota.counts(&Method::PUT, manifest));
        quota.note_kind(&Method::GET, "/v2/a/tags/list");
        assert!(quota.counts(&Method::PUT, manifest) && !quota.counts(&Method::HEAD, manifest));
    }
}

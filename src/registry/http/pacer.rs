//! Paces the requests to one registry and the bytes from and to it: by the limits of its owner, and by the quota that
//! its answers state.
//!
//! Nothing waits where no limit is set and the registry states no quota. With a limit each request, and each piece of a
//! blob, gets the next time in a schedule; limits are those of this process, a part of what the owner allows.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::locked::Locked;
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::http::deadlines::Deadlines;
use crate::registry::http::quota::{Quota, QuotaStatement};
use crate::registry::http::retry;

/// The bounds on the use of one registry by a process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestLimits {
    /// The maximum of blobs that are read, and that are written, at once; as many small requests of each kind besides.
    /// At least 1. While the registry answers 429 or 503, or connections fail, fewer are made.
    pub concurrency: usize,
    /// Requests a second; `None` for any number.
    pub requests_per_second: Option<f64>,
    /// Bytes a second, read and written together; `None` for any number.
    pub bandwidth: Option<f64>,
    /// The processes that share the quota which the registry states.
    pub processes: u32,
}

impl RequestLimits {
    /// Returns the limits of a process that is the only user of a registry; a rate of 0 is any.
    pub fn new(concurrency: u32, requests_per_second: u32, bandwidth: u64) -> Self {
        Self {
            requests_per_second: (requests_per_second > 0).then(|| f64::from(requests_per_second)),
            bandwidth: (bandwidth > 0).then_some(bandwidth as f64),
            ..Self::of_concurrency(concurrency as usize)
        }
    }

    /// Returns the limits of a process that is the only user of a registry, without rates.
    pub fn of_concurrency(concurrency: usize) -> Self {
        Self { concurrency, requests_per_second: None, bandwidth: None, processes: 1 }
    }

    /// Returns the part (0 to 1) of these limits for one of `processes`; at least one request at once.
    #[must_use]
    pub fn part(&self, part: f64, processes: u32) -> Self {
        Self {
            concurrency: ((self.concurrency as f64 * part).round() as usize).max(1),
            requests_per_second: self.requests_per_second.map(|rate| rate * part),
            bandwidth: self.bandwidth.map(|rate| rate * part),
            processes,
        }
    }

    /// Returns the requests at once that do not wait for long for their turn.
    pub(super) fn permits(&self) -> usize {
        let in_time = self.requests_per_second.map_or(usize::MAX, |rate| (rate * LONGEST_TURN.as_secs_f64()) as usize);
        self.concurrency.min(in_time).max(1)
    }
}

/// The schedules of one registry.
pub(crate) struct Pacer(Locked<PacerState>);

struct PacerState {
    limits: RequestLimits,
    requests: RateSchedule,
    bytes: RateSchedule,
    quota: Quota,
    used_at: Option<Instant>,
}

impl Pacer {
    pub(super) fn new(limits: RequestLimits) -> Self {
        let (requests, bytes, quota) = (RateSchedule::default(), RateSchedule::default(), Quota::default());
        Self(Locked::new(PacerState { limits, requests, bytes, quota, used_at: None }))
    }

    /// Changes the limits; what was scheduled stays so.
    pub(super) fn set(&self, limits: RequestLimits) {
        self.0.lock().limits = limits;
    }

    /// Returns true if a request was sent in the last [`IN_USE`].
    pub(crate) fn is_in_use(&self) -> bool {
        self.0.lock().used_at.is_some_and(|at| at.elapsed() < IN_USE)
    }

    /// Returns the last statement of the registry about its quota.
    pub(crate) fn quota(&self) -> Option<QuotaStatement> {
        self.0.lock().quota.statement()
    }

    /// Takes a statement that another process got.
    pub(crate) fn take_quota(&self, statement: QuotaStatement) {
        let now = Instant::now();
        self.0.lock().quota.learn(statement, now, now);
    }

    /// Takes the statement in the headers of an answer, if there is one.
    pub(super) fn learn(&self, method: &Method, path: &str, headers: &HeaderMap, sent_at: Instant) {
        let Some(statement) = QuotaStatement::of(headers) else { return };
        let mut state = self.0.lock();
        state.quota.note_kind(method, path);
        state.quota.learn(statement, sent_at, Instant::now());
    }

    /// Waits until the rate of requests lets one more be sent, with a body of `bytes`.
    pub(super) async fn turn(&self, bytes: usize) {
        let wait = {
            let (mut state, now) = (self.0.lock(), Instant::now());
            state.used_at = Some(now);
            let PacerState { limits, requests, bytes: schedule, .. } = &mut *state;
            let turn = limits.requests_per_second.map_or(Duration::ZERO, |rate| requests.take(1.0, rate, now));
            let paid = limits.bandwidth.map_or(Duration::ZERO, |rate| schedule.take(bytes as f64, rate, now));
            turn.max(paid)
        };
        sleep(wait).await;
    }

    /// Waits until the quota lets a request be sent; it counts until the result is dropped.
    ///
    /// # Errors
    /// `RateLimited` if that takes longer than the longest wait.
    pub(super) async fn within_quota<'a>(
        &'a self,
        (method, path): (&Method, &str),
        operation: &Operation,
        deadlines: &Deadlines,
    ) -> Result<Option<CountedRequest<'a>>, RegistryError> {
        let began = Instant::now();
        loop {
            let (wait, statement) = {
                let (mut state, now) = (self.0.lock(), Instant::now());
                if !state.quota.counts(method, path) {
                    return Ok(None);
                }
                let wait = state.quota.wait(state.limits.processes, now);
                if wait.is_zero() {
                    state.quota.begin(now);
                    return Ok(Some(CountedRequest(self)));
                }
                (wait, state.quota.statement())
            };
            if began.elapsed() + wait > deadlines.max_wait {
                return Err(used_up(statement, wait, operation));
            }
            sleep(wait.min(LOOK_AGAIN)).await;
        }
    }

    /// Counts bytes without a wait; what comes later pays for them.
    pub(crate) fn count(&self, bytes: usize) {
        let mut state = self.0.lock();
        if let Some(rate) = state.limits.bandwidth {
            state.bytes.take(bytes as f64, rate, Instant::now());
        }
    }

    /// Waits until the bandwidth lets `bytes` pass.
    pub(crate) async fn pass(&self, bytes: usize) {
        let wait = {
            let mut state = self.0.lock();
            let rate = state.limits.bandwidth;
            rate.map_or(Duration::ZERO, |rate| state.bytes.take(bytes as f64, rate, Instant::now()))
        };
        sleep(wait).await;
    }
}

/// Returns `pieces` of at most [`MAX_PIECE`] at the pace of the registry that they are sent to.
pub(crate) fn paced<E: Send + 'static>(
    pacer: Arc<Pacer>,
    pieces: futures::stream::BoxStream<'static, Result<bytes::Bytes, E>>,
) -> futures::stream::BoxStream<'static, Result<bytes::Bytes, E>> {
    if pacer.0.lock().limits.bandwidth.is_none() {
        return pieces;
    }
    let pieces = pieces.flat_map(|piece| {
        let mut rest = Some(piece);
        futures::stream::iter(std::iter::from_fn(move || match rest.take()? {
            Ok(mut bytes) if bytes.len() > MAX_PIECE => {
                let first = bytes.split_to(MAX_PIECE);
                rest = Some(Ok(bytes));
                Some(Ok(first))
            }
            other => Some(other),
        }))
    });
    let pieces = pieces.then(move |piece| {
        let pacer = pacer.clone();
        async move {
            if let Ok(bytes) = &piece {
                pacer.pass(bytes.len()).await;
            }
            piece
        }
    });
    pieces.boxed()
}

/// A request that counts for the quota until it is answered.
pub(super) struct CountedRequest<'a>(&'a Pacer);

impl Drop for CountedRequest<'_> {
    fn drop(&mut self) {
        self.0.0.lock().quota.end();
    }
}

/// Times at a rate, handed out in the order of requests.
#[derive(Debug, Default)]
struct RateSchedule {
    /// The time from which the next units may pass.
    next: Option<Instant>,
}

impl RateSchedule {
    /// Takes `units` of a rate per second. Returns the wait until they may pass. A pause earns [`BURST`] at most.
    fn take(&mut self, units: f64, rate: f64, now: Instant) -> Duration {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let start = self.next.map_or(now, |next| next.max(earliest));
        self.next = Some(start + Duration::from_secs_f64((units / rate).min(LONGEST_STEP)));
        start.saturating_duration_since(now)
    }
}

fn used_up(statement: Option<QuotaStatement>, wait: Duration, operation: &Operation) -> RegistryError {
    let QuotaStatement { limit, remaining, window } =
        statement.unwrap_or(QuotaStatement { limit: 0, remaining: 0, window: 0 });
    let detail = format!(
        "{remaining} of {limit} requests in {window} s are left of the quota that the registry states: none is sent \
         until {}",
        retry::until(wait)
    );
    RegistryError { retry_after: Some(wait.min(MAX_PAUSE)), ..operation.error(ErrorKind::RateLimited, detail) }
}

async fn sleep(wait: Duration) {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

/// The time for which a registry counts as used after a request.
const IN_USE: Duration = Duration::from_secs(3);
/// The rate that a pause saves up: timers are late by a millisecond and more.
const BURST: Duration = Duration::from_millis(100);
/// The time that a request may have to wait for those that hold the other permits of its kind.
const LONGEST_TURN: Duration = Duration::from_secs(8);
/// The longest step of a schedule, in seconds.
const LONGEST_STEP: f64 = 3600.0;
/// The interval at which the state of a quota is looked at by a request that waits.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The longest wait that an error asks for: other answers may show earlier that the quota is restored.
const MAX_PAUSE: Duration = Duration::from_secs(600);
/// The largest piece of an upload at a pace.
const MAX_PIECE: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_keeps_the_rate_and_a_pause_earns_little() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut schedule = RateSchedule::default();
        let waits = |schedule: &mut RateSchedule, now| -> Vec<u128> {
            (0..4).map(|_| schedule.take(1.0, 10.0, now).as_millis()).collect()
        };
        assert_eq!(waits(&mut schedule, start), [0, 100, 200, 300]);
        assert_eq!(waits(&mut schedule, at(0.2)), [200, 300, 400, 500]);
        assert_eq!(waits(&mut schedule, at(60.0)), [0, 0, 100, 200], "a pause of a minute earns one request");
    }

    #[test]
    fn parts_of_a_limit_add_up_to_it() {
        let whole =
            RequestLimits { requests_per_second: Some(10.0), bandwidth: Some(1e6), ..RequestLimits::of_concurrency(8) };
        let part = whole.part(0.25, 4);
        assert_eq!((part.concurrency, part.requests_per_second, part.bandwidth), (2, Some(2.5), Some(250_000.0)));
        assert_eq!((whole.part(0.01, 9).concurrency, whole.part(1.0, 1)), (1, whole));
        assert_eq!(whole.part(0.02, 9).permits(), 1, "few requests a second need few at once");
    }

    #[test]
    fn four_users_of_a_schedule_get_its_rate_together() {
        let (start, rate) = (Instant::now(), 50.0);
        let mut schedule = RateSchedule::default();
        let mut users = [start; 4];
        let mut requests = 0;
        while let Some(user) = users.iter_mut().min()
            && *user < start + Duration::from_secs(60)
        {
            // Each sends its request at its turn, waits 30 ms for the answer, and sends the next.
            *user += schedule.take(1.0, rate, *user) + Duration::from_millis(30);
            requests += 1;
        }
        assert!((2970..=3015).contains(&requests), "{requests} in 60 s at 50 a second");
    }
}

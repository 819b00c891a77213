//! The HTTP layer: requests to one registry, to hosts that they may reach, within deadlines and limits.
//!
//! It knows no credentials beyond a finished `Authorization` header, and no API. [`Http`] owns the registry's hosts,
//! its connections, its limiters, and the pause that a 429 asks for.

pub(crate) mod advice;
pub(crate) mod body;
pub(crate) mod counts;
pub(crate) mod deadlines;
pub(crate) mod egress;
mod encoding;
pub(crate) mod hosts;
mod idle;
pub(crate) mod limiter;
pub(crate) mod pacer;
pub(crate) mod quota;
pub(crate) mod request;
mod resolver;
pub(crate) mod response;
pub(crate) mod retry;
pub(crate) mod said;
pub(crate) mod text;
pub(crate) mod transport;
mod trust;
mod warnings;

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderValue, LOCATION};
use http::{Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use crate::registry::error::{AttemptError, ErrorKind, HttpError, Operation, RegistryError};
use crate::registry::http::deadlines::Deadlines;
use crate::registry::http::hosts::{HostTrust, Hosts, is_same_origin};
use crate::registry::http::limiter::{Feedback, Limiter, Load, Permit};
use crate::registry::http::pacer::{CountedRequest, Pacer, RequestLimits};
use crate::registry::http::request::HttpRequest;
use crate::registry::http::response::HttpResponse;
use crate::registry::http::retry::{Pause, Retries};
use crate::registry::http::transport::Transport;

/// The connections, hosts and limits of one registry.
pub(crate) struct Http {
    hosts: Hosts,
    transport: Transport,
    deadlines: Deadlines,
    pause: Pause,
    /// The limiter of GET and HEAD. Writes have one of their own: an upload that holds a permit to write may wait for a
    /// blob that comes through this same client.
    reads: Limiter,
    writes: Limiter,
    pacer: Arc<Pacer>,
}

impl Http {
    /// Goes on with the schedules of `pacer`, that of an earlier client of the same registry, if there is one.
    pub(crate) fn new(
        hosts: Hosts,
        transport: Transport,
        deadlines: Deadlines,
        limits: RequestLimits,
        pacer: Option<Arc<Pacer>>,
    ) -> Self {
        let (reads, writes) = (Limiter::new(limits.permits()), Limiter::new(limits.permits()));
        let pacer = pacer.unwrap_or_else(|| Arc::new(Pacer::new(limits)));
        pacer.set(limits);
        Self { hosts, transport, deadlines, pause: Pause::default(), reads, writes, pacer }
    }

    /// Changes the limits.
    pub(crate) fn set_limits(&self, limits: RequestLimits) {
        self.pacer.set(limits);
        self.reads.set_max(limits.permits());
        self.writes.set_max(limits.permits());
    }

    /// Returns the schedules of requests and bytes.
    pub(crate) fn pacer(&self) -> &Arc<Pacer> {
        &self.pacer
    }

    pub(crate) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// Names an operation on this registry for messages.
    pub(crate) fn operation(&self, name: &'static str, subject: impl Display) -> Operation {
        Operation::new(self.hosts.host(), name, subject)
    }

    /// Waits for a permit to read.
    pub(crate) async fn read_permit(&self, load: Load) -> Permit {
        self.reads.acquire(load).await
    }

    /// Waits for a permit to write.
    pub(crate) async fn write_permit(&self, load: Load) -> Permit {
        self.writes.acquire(load).await
    }

    /// Records that the body of a response broke off, whose request was sent at `sent_at`.
    pub(crate) fn record_broken_read(&self, sent_at: Instant) {
        self.reads.record(sent_at, Feedback::Overloaded);
    }

    /// Makes later requests open new connections, as those in use damaged what they carried.
    pub(crate) fn drop_connections(&self) {
        self.transport.drop_connections();
    }

    /// Starts the attempts of one request.
    pub(crate) fn retries(&self) -> Retries<'_> {
        Retries::new(&self.pause, &self.deadlines)
    }

    /// Waits for the end of the pause that the registry asked for.
    ///
    /// # Errors
    /// `RateLimited` if that is further away than the longest wait.
    pub(crate) async fn wait_for_pause(&self, operation: &Operation) -> Result<(), RegistryError> {
        self.pause.wait(operation, &self.deadlines).await
    }

    /// Sends `request`, and follows redirects of GET and HEAD as far as they may be followed. Another origin gets no
    /// `Authorization`.
    pub(crate) async fn exchange(
        &self,
        request: &HttpRequest,
        authorization: Option<&HeaderValue>,
        operation: &Operation,
    ) -> Result<HttpResponse, AttemptError> {
        let mut url = request.url.clone();
        let mut authorization = authorization;
        let is_read = is_read(&request.method);
        for _ in 0..=MAX_REDIRECTS {
            let _counted = self.admit(request, &url, operation).await?;
            let (outgoing, sent_at) = (request.at(&url, authorization), Instant::now());
            let sent = self.transport.send(outgoing, self.hosts.trust(&url), Some(self.deadlines.headers)).await;
            self.record(&request.method, &url, sent_at, &sent);
            let response = sent.map_err(|error| operation.attempt_error(error))?;
            let location = response.headers().get(LOCATION).filter(|_| is_redirect(response.status()) && is_read);
            let Some(location) = location else {
                let elsewhere = self.hosts.elsewhere(&url);
                return Ok(HttpResponse::new(response, url, elsewhere));
            };
            let target = self.hosts.redirect(&url, &String::from_utf8_lossy(location.as_bytes()));
            let target = target.map_err(|error| operation.attempt_error(error))?;
            if !is_same_origin(&url, &target) {
                authorization = None;
            }
            url = target;
        }
        Err(operation.error(ErrorKind::Rejected, format!("redirects over {MAX_REDIRECTS} times")).into())
    }

    /// Waits for the turn of a request, if it goes to the registry itself.
    async fn admit(
        &self,
        request: &HttpRequest,
        url: &Url,
        operation: &Operation,
    ) -> Result<Option<CountedRequest<'_>>, AttemptError> {
        if !self.hosts.is_own_origin(url) {
            return Ok(None);
        }
        let within = self.pacer.within_quota((&request.method, url.path()), operation, &self.deadlines).await;
        let counted = within.map_err(AttemptError::last)?;
        self.pacer.turn(request.body.as_ref().map_or(0, Bytes::len)).await;
        Ok(counted)
    }

    /// Sends a request whose body is a stream, without a deadline and without following redirects. The caller watches
    /// the stream, and passes the result to [`Http::record`].
    pub(crate) async fn send_stream(&self, request: reqwest::Request) -> Result<reqwest::Response, HttpError> {
        let trust = self.hosts.trust(request.url());
        if self.hosts.is_own_origin(request.url()) {
            self.pacer.turn(0).await;
        }
        self.transport.send(request, trust, None).await
    }

    /// Sends a request to a service beside the registry's API, such as its token service. The limiters do not count it.
    pub(crate) async fn send_to_service(
        &self,
        request: reqwest::Request,
        trust: HostTrust,
    ) -> Result<reqwest::Response, HttpError> {
        self.transport.send(request, trust, Some(self.deadlines.headers)).await
    }

    /// Adapts the limiter to the result of a request, and logs the registry's warnings.
    pub(crate) fn record(
        &self,
        method: &Method,
        url: &Url,
        sent_at: Instant,
        sent: &Result<reqwest::Response, HttpError>,
    ) {
        // The paths of other hosts may hold a signature, and queries do.
        let path = if self.hosts.is_own_origin(url) { url.path() } else { "" };
        let status = sent.as_ref().ok().map(|response| response.status().as_u16());
        counts::count(status, sent_at.elapsed());
        tracing::debug!(%method, host = url.host_str(), path, status, "asked a registry");
        let limiter = if is_read(method) { &self.reads } else { &self.writes };
        match sent {
            Ok(response) => {
                let is_overload = matches!(response.status().as_u16(), 429 | 503);
                limiter.record(sent_at, if is_overload { Feedback::Overloaded } else { Feedback::Answered });
                if self.hosts.is_own_origin(url) {
                    warnings::log(self.hosts.host(), response.headers());
                    self.pacer.learn(method, url.path(), response.headers(), sent_at);
                }
            }
            Err(error) if error.kind == ErrorKind::Unavailable => limiter.record(sent_at, Feedback::Overloaded),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
impl Http {
    pub(crate) fn reads(&self) -> &Limiter {
        &self.reads
    }

    pub(crate) fn writes(&self) -> &Limiter {
        &self.writes
    }
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

const MAX_REDIRECTS: usize = 5;

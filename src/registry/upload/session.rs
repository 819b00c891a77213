//! One upload session at a registry: its location, the requests that go into it, and its cancellation.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION, RANGE};
use http::{HeaderMap, Method, StatusCode};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use url::Url;

use crate::image::Digest;
use crate::registry::auth::Authorization;
use crate::registry::auth::scopes::Scopes;
use crate::registry::content::blobs::BlobStream;
use crate::registry::error::{AttemptError, ErrorKind, Operation, RegistryError};
use crate::registry::http::pacer::paced;
use crate::registry::http::response::{ErrorResponse, HttpResponse};
use crate::registry::session::{RegistryRequest, Session};
use crate::registry::upload::body::{UploadBody, UploadProgress};
use crate::registry::upload::ladder::DescentReason;

/// An upload session, which is cancelled if it is dropped open.
pub(super) struct UploadSession {
    session: Arc<Session>,
    url: Url,
    pub(super) scopes: Scopes,
    operation: Operation,
    /// The smallest chunk that the registry takes, in bytes.
    pub(super) min_chunk: u64,
    is_open: bool,
}

/// The bytes in a request of a session.
pub(super) enum Payload {
    /// A whole blob and its size in bytes; it can be sent once only.
    Whole(BlobStream, u64),
    /// The bytes of a blob from an offset on.
    Chunk(Bytes, u64),
    /// No bytes: the session is complete.
    Nothing,
}

/// The reason why an upload ended early.
#[derive(Debug)]
pub(super) enum UploadError {
    /// The source of the bytes failed.
    Source(RegistryError),
    /// The registry, or something in front of it, does not take uploads on this rung.
    Method { error: RegistryError, reason: DescentReason },
    /// The registry does not know the session.
    SessionLost(AttemptError),
    /// The connection broke, possibly after all bytes were sent.
    Connection { failed: AttemptError, is_all_sent: bool },
    /// The registry refused for good, or for this attempt.
    Refused(AttemptError),
}

impl UploadSession {
    /// Returns the session that `response` to a POST opens.
    pub(super) fn open(
        session: &Arc<Session>,
        response: &HttpResponse,
        scopes: Scopes,
        operation: &Operation,
    ) -> Result<Self, AttemptError> {
        let min_chunk = response.header("oci-chunk-min-length").and_then(|text| text.trim().parse().ok());
        let mut opened = Self {
            session: session.clone(),
            url: response.url.clone(),
            scopes,
            operation: operation.clone(),
            min_chunk: min_chunk.unwrap_or(0),
            is_open: false,
        };
        if !opened.follow(response)? {
            let detail = "the registry opens an upload session, but says not where";
            return Err(operation.error(ErrorKind::InvalidContent, detail).into());
        }
        opened.is_open = true;
        Ok(opened)
    }

    /// Follows the location in `response`; returns false if it has none.
    pub(super) fn follow(&mut self, response: &HttpResponse) -> Result<bool, AttemptError> {
        let Some(location) = response.headers().get(LOCATION) else {
            return Ok(false);
        };
        let location = String::from_utf8_lossy(location.as_bytes());
        let url = self.session.http().hosts().upload(&response.url, &location);
        self.url = url.map_err(|error| self.operation.attempt_error(error))?;
        Ok(true)
    }

    /// Marks the session as completed, or cancelled by the registry.
    pub(super) fn close(&mut self) {
        self.is_open = false;
    }

    /// Sends `payload` with PATCH, or with the PUT that makes a blob `complete` of all that was sent; waits for the
    /// response.
    ///
    /// If the token has expired, a payload that can be repeated is sent again.
    ///
    /// # Errors
    /// `Source`, `Connection`, and `Refused` if the credentials are refused. Any other refusal is a response.
    pub(super) async fn send(&self, payload: Payload, complete: Option<&Digest>) -> Result<HttpResponse, UploadError> {
        let refused = |error: RegistryError| UploadError::Refused(error.into());
        let (http, auth) = (self.session.http(), self.session.auth());
        http.wait_for_pause(&self.operation).await.map_err(refused)?;
        let is_own = http.hosts().is_own_origin(&self.url);
        let mut authorization = if is_own {
            auth.authorize(&self.scopes, &self.operation).await.map_err(refused)?
        } else {
            // A URL on another host carries its authorization in itself.
            Authorization::default()
        };
        let (mut payload, mut has_renewed) = (payload, false);
        loop {
            let again = payload.again();
            let response = self.send_with(&authorization, payload, complete).await?;
            if response.status() != StatusCode::UNAUTHORIZED || !is_own || has_renewed {
                return Ok(response);
            }
            let headers = response.headers().clone();
            let failed = self.read_refusal(response).await.attempt_error(&self.operation);
            match (self.better(&headers, &authorization).await.map_err(refused)?, again) {
                (None, _) => return Err(UploadError::Refused(failed)),
                // The new token is cached: once more, from the start.
                (Some(_), None) => return Err(UploadError::Refused(AttemptError { max_tries: 2, ..failed })),
                (Some(better), Some(again)) => (authorization, payload, has_renewed) = (better, again, true),
            }
        }
    }

    /// Returns the authorization to use instead of `used`; a token is renewed even if the registry does not ask for
    /// that.
    async fn better(&self, headers: &HeaderMap, used: &Authorization) -> Result<Option<Authorization>, RegistryError> {
        let auth = self.session.auth();
        let better = auth.answer_challenge(headers, &self.scopes, used, &self.operation).await?;
        if better.is_some() || !auth.is_bearer() {
            return Ok(better);
        }
        auth.renew(&self.scopes, used, &self.operation).await?;
        auth.authorize(&self.scopes, &self.operation).await.map(Some)
    }

    async fn send_with(
        &self,
        authorization: &Authorization,
        payload: Payload,
        complete: Option<&Digest>,
    ) -> Result<HttpResponse, UploadError> {
        let http = self.session.http();
        let progress = Arc::new(UploadProgress::new(http.deadlines().idle));
        let mut request = self.request(payload, complete, &progress);
        if let Some(header) = authorization.header() {
            request.headers_mut().insert(AUTHORIZATION, header.clone());
        }
        let (method, sent_at) = (request.method().clone(), Instant::now());
        let sent = tokio::select! {
            sent = http.send_stream(request) => Ok(sent),
            stall = progress.stalled(&self.operation) => Err(stall),
        };
        if let Some(error) = progress.take_source_error() {
            return Err(UploadError::Source(error));
        }
        let is_all_sent = progress.is_all_sent();
        let sent = sent.map_err(|stall| UploadError::Connection { failed: stall.into(), is_all_sent })?;
        http.record(&method, &self.url, sent_at, &sent);
        let response = sent.map_err(|error| {
            let is_broken = error.kind == ErrorKind::Unavailable;
            let failed = self.operation.attempt_error(error);
            if is_broken { UploadError::Connection { failed, is_all_sent } } else { UploadError::Refused(failed) }
        })?;
        let response = HttpResponse::new(response, self.url.clone(), http.hosts().elsewhere(&self.url));
        Ok(response.explained_by(|| self.session.auth().remark(&self.scopes)))
    }

    fn request(&self, payload: Payload, complete: Option<&Digest>, progress: &Arc<UploadProgress>) -> reqwest::Request {
        let mut url = self.url.clone();
        let method = match complete {
            Some(digest) => {
                url.query_pairs_mut().append_pair("digest", digest.as_str());
                Method::PUT
            }
            None => Method::PATCH,
        };
        let mut request = reqwest::Request::new(method, url);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if let Payload::Chunk(bytes, first) = &payload {
            // Not the form of RFC 9110: the distribution specification leaves the unit out.
            let range = format!("{first}-{}", (first + bytes.len() as u64).saturating_sub(1));
            let range = HeaderValue::from_str(&range).expect("digits are a header value");
            request.headers_mut().insert(CONTENT_RANGE, range);
        }
        let (source, size) = match payload {
            Payload::Whole(source, size) => (source, size),
            Payload::Chunk(bytes, _) => {
                let size = bytes.len() as u64;
                (slices(bytes), size)
            }
            Payload::Nothing => (futures::stream::empty().boxed(), 0),
        };
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
        *request.body_mut() = Some(match size {
            0 => reqwest::Body::from(""),
            size => {
                let source = paced(self.session.http().pacer().clone(), source);
                let body = UploadBody::new(source, size, progress.clone(), self.operation.clone());
                reqwest::Body::wrap_stream(body.boxed())
            }
        });
        request
    }

    /// Requests the number of bytes that the registry has.
    ///
    /// # Errors
    /// `SessionLost` if it states none.
    pub(super) async fn stored(&mut self) -> Result<u64, UploadError> {
        let http = self.session.http();
        let silent =
            self.operation.error(ErrorKind::Unavailable, "the registry does not say how much of an upload it has");
        if !http.hosts().is_own_origin(&self.url) {
            return Err(UploadError::SessionLost(AttemptError::retried(silent)));
        }
        let request = RegistryRequest::new(Method::GET, self.url.clone(), self.scopes.clone(), &self.operation);
        let called = self.session.call(&request).await;
        let response = called.map_err(|error| UploadError::Refused(AttemptError::last(error)))?;
        if !response.status().is_success() {
            let refused = response.into_error_response(http.deadlines()).await;
            return Err(UploadError::SessionLost(AttemptError::retried(refused.error(&self.operation))));
        }
        self.follow(&response).map_err(UploadError::Refused)?;
        match response.header(RANGE).and_then(received) {
            Some(offset) => Ok(offset),
            None => Err(UploadError::SessionLost(AttemptError::retried(silent))),
        }
    }

    /// Reads the body of a refusal.
    pub(super) async fn read_refusal(&self, response: HttpResponse) -> ErrorResponse {
        response.into_error_response(self.session.http().deadlines()).await
    }

    /// Returns the meaning of a refusal of bytes for the upload.
    pub(super) fn judge(&self, refused: &ErrorResponse) -> UploadError {
        let failed = refused.attempt_error(&self.operation);
        let method = |error, reason| UploadError::Method { error, reason };
        match refused.status.as_u16() {
            404 if refused.has_code(&["NAME_UNKNOWN", "DENIED"]) => UploadError::Refused(failed),
            404 if refused.has_code(&["BLOB_UPLOAD_UNKNOWN"]) => {
                UploadError::SessionLost(AttemptError::retried(failed.error))
            }
            404 | 405 | 416 | 501 => method(failed.error, DescentReason::Refused),
            413 => method(failed.error, DescentReason::TooLarge),
            400 if refused.has_code(&["UNSUPPORTED", "BLOB_UPLOAD_INVALID"]) => {
                method(failed.error, DescentReason::Refused)
            }
            _ => UploadError::Refused(failed),
        }
    }
}

impl Payload {
    /// Returns the same payload, if it can be repeated.
    fn again(&self) -> Option<Self> {
        match self {
            Self::Whole(..) => None,
            Self::Chunk(bytes, first) => Some(Self::Chunk(bytes.clone(), *first)),
            Self::Nothing => Some(Self::Nothing),
        }
    }
}

/// Splits a chunk into the pieces that are written, so that a slow registry differs from one that takes nothing.
fn slices(bytes: Bytes) -> BlobStream {
    let starts = (0..bytes.len()).step_by(SLICE_BYTES);
    futures::stream::iter(starts.map(move |at| Ok(bytes.slice(at..bytes.len().min(at + SLICE_BYTES))))).boxed()
}

/// Parses `0-9` as ten bytes. Registries that have nothing write `0-0`.
fn received(range: &str) -> Option<u64> {
    let (first, last) = range.trim().trim_start_matches("bytes=").split_once('-')?;
    let last: u64 = last.trim().parse().ok().filter(|_| first.trim() == "0")?;
    Some(if last == 0 { 0 } else { last.checked_add(1)? })
}

impl Drop for UploadSession {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if self.is_open && self.session.http().hosts().is_own_origin(&self.url) {
            let cancel = cancel(self.session.clone(), self.url.clone(), self.scopes.clone());
            CANCELLATIONS.spawn_on(cancel, &runtime);
        }
    }
}

/// Waits until every upload that was given up has been cancelled at its registry, at most `deadline`: to be called
/// before a process ends.
pub(crate) async fn uploads_given_up(deadline: Duration) {
    CANCELLATIONS.close();
    let _ = timeout(deadline, CANCELLATIONS.wait()).await;
}

/// Cancels an upload session, if the registry supports that; a failure has no consequence.
async fn cancel(session: Arc<Session>, url: Url, scopes: Scopes) {
    let operation = session.http().operation("giving up an upload", "");
    let request = RegistryRequest::new(Method::DELETE, url, scopes, &operation);
    match timeout(session.http().deadlines().cancel, session.send(&request)).await {
        Ok(Ok(response)) => tracing::debug!(status = response.status().as_u16(), "gave up an upload session"),
        Ok(Err(failed)) => tracing::debug!(error = %failed.error.message, "could not give up an upload session"),
        Err(_) => tracing::debug!("could not give up an upload session in time"),
    }
}

/// The cancellations that are under way.
static CANCELLATIONS: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

const SLICE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_has_is_read_as_registries_write_it() {
        let table = [
            ("0-9", Some(10)),
            ("bytes=0-9", Some(10)),
            ("0-0", Some(0)),
            ("0--1", None),
            ("5-9", None),
            ("0-18446744073709551615", None),
            ("", None),
            ("nonsense", None),
        ];
        for (range, expected) in table {
            assert_eq!(received(range), expected, "{range}");
        }
    }
}

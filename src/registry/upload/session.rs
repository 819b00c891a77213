//! One upload session at a registry: where it is now, the requests that go into it, and how it is given up.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION, RANGE};
use http::{HeaderMap, Method, StatusCode};
use tokio::time::{Instant, timeout};
use url::Url;

use crate::image::Digest;
use crate::registry::auth::Authorization;
use crate::registry::auth::token::Scopes;
use crate::registry::client::BlobStream;
use crate::registry::error::{AttemptError, ErrorKind, MAX_TRIES, Operation, RegistryError};
use crate::registry::http::hosts::canonical_host;
use crate::registry::http::response::{ErrorResponse, HttpResponse};
use crate::registry::session::{Inner, RegistryRequest};
use crate::registry::upload::body::{UploadBody, UploadProgress};
use crate::registry::upload::ladder::DescentReason;

/// An upload session, which is given up when it is dropped open.
pub(super) struct UploadSession {
    inner: Arc<Inner>,
    url: Url,
    pub(super) scopes: Scopes,
    task: Operation,
    /// The smallest chunk that the registry takes, in bytes.
    pub(super) min_chunk: u64,
    is_open: bool,
}

/// What a request into a session carries.
pub(super) enum Payload {
    /// A whole blob of so many bytes; it can be sent once only.
    Whole(BlobStream, u64),
    /// The bytes of a blob from an offset on.
    Chunk(Bytes, u64),
    /// No bytes: the session is complete.
    Nothing,
}

/// Why an upload ended early.
#[derive(Debug)]
pub(super) enum UploadError {
    /// The source failed.
    Source(RegistryError),
    /// The registry, or something in front of it, does not take uploads in this way.
    Method(RegistryError, DescentReason),
    /// The registry does not know the session.
    Lost(AttemptError),
    /// The connection broke; whether all bytes were on their way by then.
    Connection(AttemptError, bool),
    /// The registry refused.
    Refused(AttemptError),
}

impl UploadSession {
    /// The session that `answer` to a POST opens.
    pub(super) fn open(
        inner: &Arc<Inner>,
        answer: &HttpResponse,
        scopes: Scopes,
        task: &Operation,
    ) -> Result<Self, AttemptError> {
        let min_chunk = answer.header("oci-chunk-min-length").and_then(|text| text.trim().parse().ok());
        let mut session = Self {
            inner: inner.clone(),
            url: answer.url.clone(),
            scopes,
            task: task.clone(),
            min_chunk: min_chunk.unwrap_or(0),
            is_open: false,
        };
        if !session.follow(answer)? {
            let detail = "the registry opens an upload session, but says not where";
            return Err(task.error(ErrorKind::InvalidContent, detail).into());
        }
        session.is_open = true;
        Ok(session)
    }

    /// Goes where `answer` says that the session is from now on; whether it says so.
    pub(super) fn follow(&mut self, answer: &HttpResponse) -> Result<bool, AttemptError> {
        let Some(location) = answer.headers().get(LOCATION) else {
            return Ok(false);
        };
        let location = String::from_utf8_lossy(location.as_bytes());
        let url = self.inner.site.upload(&answer.url, &location).map_err(|trouble| self.task.failure(trouble))?;
        self.url = url;
        Ok(true)
    }

    /// The registry has taken the blob, or given the session up itself.
    pub(super) fn close(&mut self) {
        self.is_open = false;
    }

    /// Sends `content` with PATCH, or with the PUT that makes a blob `digest` of all that was sent; waits for the answer.
    ///
    /// When the token has run out, what can be sent again is sent again.
    ///
    /// # Errors
    /// `Source`, `Connection`, and `Refused` where the credentials are refused. Any other refusal is an answer.
    pub(super) async fn send(&self, content: Payload, complete: Option<&Digest>) -> Result<HttpResponse, UploadError> {
        self.inner.pause.wait(&self.task, &self.inner.deadlines).await.map_err(|e| UploadError::Refused(e.into()))?;
        let is_own = self.inner.site.is_own_origin(&self.url);
        let mut login = match is_own {
            true => self.inner.login(&self.scopes, &self.task).await.map_err(|e| UploadError::Refused(e.into()))?,
            // Whatever a URL elsewhere needs is in it.
            false => Authorization::default(),
        };
        let (mut content, mut has_logged_in) = (content, false);
        loop {
            let again = content.again();
            let answer = self.send_as(&login, content, complete).await?;
            if answer.status() != StatusCode::UNAUTHORIZED || !is_own || has_logged_in {
                return Ok(answer);
            }
            let headers = answer.headers().clone();
            let refusal = answer.refusal(&self.inner.deadlines).await.failure(&self.task);
            let better = self.better_login(&headers, &login).await;
            match (better.map_err(|e| UploadError::Refused(e.into()))?, again) {
                (None, _) => return Err(UploadError::Refused(refusal)),
                // The new token is kept: once more, from the start.
                (Some(_), None) => return Err(UploadError::Refused(AttemptError { max_tries: 2, ..refusal })),
                (Some(better), Some(again)) => (login, content, has_logged_in) = (better, again, true),
            }
        }
    }

    /// What to log in with instead of `used`; a token is renewed also where the registry does not ask for that.
    async fn better_login(
        &self,
        headers: &HeaderMap,
        used: &Authorization,
    ) -> Result<Option<Authorization>, RegistryError> {
        let better = self.inner.answer_challenge(headers, &self.scopes, used, &self.task).await?;
        if better.is_some() || !self.inner.auth.is_bearer() {
            return Ok(better);
        }
        self.inner.renew(&self.scopes, used, &self.task).await?;
        self.inner.login(&self.scopes, &self.task).await.map(Some)
    }

    async fn send_as(
        &self,
        login: &Authorization,
        content: Payload,
        complete: Option<&Digest>,
    ) -> Result<HttpResponse, UploadError> {
        let progress = Arc::new(UploadProgress::new(self.inner.deadlines.idle));
        let mut request = self.request(content, complete, &progress);
        if let Some(header) = &login.header {
            request.headers_mut().insert(AUTHORIZATION, header.clone());
        }
        let (method, sent_at) = (request.method().clone(), Instant::now());
        let sent = tokio::select! {
            sent = self.inner.transport.send(request, self.inner.site.is_trusted(&self.url), None) => Ok(sent),
            stall = progress.stalled(&self.task) => Err(stall),
        };
        if let Some(error) = progress.take_source_error() {
            return Err(UploadError::Source(error));
        }
        let is_all_sent = progress.is_all_given();
        let sent = sent.map_err(|stall| UploadError::Connection(stall.into(), is_all_sent))?;
        self.inner.learn(&method, &self.url, sent_at, &sent);
        let response = sent.map_err(|trouble| {
            let is_broken = trouble.kind == ErrorKind::Unavailable;
            let failure = self.task.failure(trouble);
            if is_broken { UploadError::Connection(failure, is_all_sent) } else { UploadError::Refused(failure) }
        })?;
        let elsewhere = (!self.inner.site.is_own_origin(&self.url)).then(|| canonical_host(&self.url));
        Ok(HttpResponse { response, url: self.url.clone(), elsewhere })
    }

    fn request(&self, content: Payload, complete: Option<&Digest>, progress: &Arc<UploadProgress>) -> reqwest::Request {
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
        if let Payload::Chunk(bytes, first) = &content {
            // Not of the form that RFC 9110 knows: the distribution specification leaves the unit out.
            let range = format!("{first}-{}", (first + bytes.len() as u64).saturating_sub(1));
            let range = HeaderValue::from_str(&range).expect("digits are a header value");
            request.headers_mut().insert(CONTENT_RANGE, range);
        }
        let (source, size) = match content {
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
                reqwest::Body::wrap_stream(UploadBody::new(source, size, progress.clone(), self.task.clone()).boxed())
            }
        });
        request
    }

    /// How many bytes the registry has, as it says itself.
    ///
    /// # Errors
    /// `Lost` where it does not say.
    pub(super) async fn ask(&mut self) -> Result<u64, UploadError> {
        let lost = |failure: AttemptError| UploadError::Lost(AttemptError { max_tries: MAX_TRIES, ..failure });
        let silent = self.task.error(ErrorKind::Unavailable, "the registry does not say how much of an upload it has");
        if !self.inner.site.is_own_origin(&self.url) {
            return Err(lost(silent.into()));
        }
        let request = RegistryRequest::new(Method::GET, self.url.clone(), self.scopes.clone(), &self.task);
        let answer = self.inner.call(&request).await.map_err(|error| UploadError::Refused(given_up(error)))?;
        if !answer.status().is_success() {
            return Err(lost(answer.refusal(&self.inner.deadlines).await.failure(&self.task)));
        }
        self.follow(&answer).map_err(UploadError::Refused)?;
        match answer.header(RANGE).and_then(received) {
            Some(offset) => Ok(offset),
            None => Err(lost(silent.into())),
        }
    }

    /// Reads a refusal.
    pub(super) async fn refusal(&self, answer: HttpResponse) -> ErrorResponse {
        answer.refusal(&self.inner.deadlines).await
    }

    /// What a refusal of bytes means to the upload.
    pub(super) fn judge(&self, refusal: &ErrorResponse) -> UploadError {
        let failure = refusal.failure(&self.task);
        let status = refusal.status.as_u16();
        match status {
            404 if refusal.has_code(&["NAME_UNKNOWN", "DENIED"]) => UploadError::Refused(failure),
            404 if refusal.has_code(&["BLOB_UPLOAD_UNKNOWN"]) => {
                UploadError::Lost(AttemptError { max_tries: MAX_TRIES, ..failure })
            }
            404 | 405 | 416 | 501 => UploadError::Method(failure.error, DescentReason::Refused),
            413 => UploadError::Method(failure.error, DescentReason::TooLarge),
            400 if refusal.has_code(&["UNSUPPORTED", "BLOB_UPLOAD_INVALID"]) => {
                UploadError::Method(failure.error, DescentReason::Refused)
            }
            _ => UploadError::Refused(failure),
        }
    }
}

impl Payload {
    /// The same once more, if it can be sent once more.
    fn again(&self) -> Option<Self> {
        match self {
            Self::Whole(..) => None,
            Self::Chunk(bytes, first) => Some(Self::Chunk(bytes.clone(), *first)),
            Self::Nothing => Some(Self::Nothing),
        }
    }
}

/// A failure that has had its tries.
pub(super) fn given_up(error: RegistryError) -> AttemptError {
    AttemptError { error, max_tries: 1 }
}

/// The pieces in which a chunk is written, so that a slow registry can be told from one that takes nothing.
fn slices(bytes: Bytes) -> BlobStream {
    let starts = (0..bytes.len()).step_by(SLICE_BYTES);
    futures::stream::iter(starts.map(move |at| Ok(bytes.slice(at..bytes.len().min(at + SLICE_BYTES))))).boxed()
}

/// Reads `0-9` as ten bytes. `0-0` is how registries write that they have nothing.
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
        if self.is_open && self.inner.site.is_own_origin(&self.url) {
            runtime.spawn(cancel(self.inner.clone(), self.url.clone(), self.scopes.clone()));
        }
    }
}

/// Gives up an upload session, if the registry can do that; nothing depends on it.
async fn cancel(inner: Arc<Inner>, url: Url, scopes: Scopes) {
    let task = inner.task("giving up an upload", "");
    let request = RegistryRequest::new(Method::DELETE, url, scopes, &task);
    match timeout(inner.deadlines.cancel, inner.send(&request)).await {
        Ok(Ok(answer)) => tracing::debug!(status = answer.status().as_u16(), "gave up an upload session"),
        Ok(Err(failure)) => tracing::debug!(error = %failure.error.message, "could not give up an upload session"),
        Err(_) => tracing::debug!("could not give up an upload session in time"),
    }
}

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

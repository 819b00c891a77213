//! Looks blobs up, and streams them: verified on the way, resumed when the connection breaks, never buffered whole.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::Method;
use http::header::{CONTENT_RANGE, HeaderValue, RANGE};
use tokio::time::Instant;

use crate::image::{Descriptor, DigestHasher, RepositoryName};
use crate::registry::auth::scopes::Scopes;
use crate::registry::content::blob_page::{MAX_BEGINNING, beginning_of_page, page_error};
use crate::registry::content::head_verdict::{Absence, HeadVerdict, HeadVerdicts};
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::http::body::{self, MinimumRate};
use crate::registry::http::limiter::{Load, Permit};
use crate::registry::http::response::HttpResponse;
use crate::registry::session::{RegistryRequest, Session};

/// The bytes of a blob as they arrive; fails at its end if the digest or the size differs. The last piece comes out
/// only after both were found right.
pub type BlobStream = BoxStream<'static, Result<Bytes, RegistryError>>;

/// The blobs of one registry.
#[derive(Clone)]
pub(crate) struct Blobs {
    session: Arc<Session>,
    verdicts: Arc<HeadVerdicts>,
}

impl Blobs {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session, verdicts: Arc::default() }
    }

    /// Returns true if the blob exists. If HEAD is refused, or was wrong about an absent blob before, the first byte is
    /// requested.
    ///
    /// # Errors
    /// `InvalidContent` if the registry states another size; anything but success and 404.
    pub(crate) async fn exists(
        &self,
        repository: &RepositoryName,
        blob: &Descriptor,
        absence: Absence,
    ) -> Result<bool, RegistryError> {
        let operation =
            self.session.http().operation("looking for the blob", format_args!("{repository}@{}", blob.digest));
        let _permit = self.session.http().read_permit(Load::Small).await;
        if self.verdicts.get(Instant::now()) == HeadVerdict::Wrong {
            return self.has_first_byte(repository, blob, &operation).await;
        }
        let request = self.request(Method::HEAD, repository, blob, &operation);
        let response = match self.session.call(&request).await {
            Ok(response) => response,
            Err(error) if error.kind == ErrorKind::Unavailable && !self.verdicts.is_away(Instant::now()) => {
                return self.head_failed(repository, blob, &request, &operation).await;
            }
            Err(error) => return Err(error),
        };
        let is_refused = response.elsewhere.is_some() || matches!(response.status().as_u16(), 400 | 403 | 405 | 501);
        if is_refused && !response.status().is_success() {
            return self.has_first_byte(repository, blob, &operation).await;
        }
        let is_found = self.is_found(response, blob, &operation).await?;
        if is_found || absence == Absence::Believed {
            return Ok(is_found);
        }
        let is_found = self.has_first_byte(repository, blob, &operation).await?;
        self.verdicts.note(if is_found { HeadVerdict::Wrong } else { HeadVerdict::Right }, Instant::now());
        Ok(is_found)
    }

    /// Requests the first byte after HEAD failed as if the registry were away. If HEAD fails once more beside a
    /// successful GET, it is not used for blobs of this registry from then on.
    async fn head_failed(
        &self,
        repository: &RepositoryName,
        blob: &Descriptor,
        request: &RegistryRequest<'_>,
        operation: &Operation,
    ) -> Result<bool, RegistryError> {
        let is_found = self.has_first_byte(repository, blob, operation).await;
        let is_away = is_found.as_ref().is_err_and(|error| error.kind == ErrorKind::Unavailable);
        self.verdicts.note_away(is_away, Instant::now());
        let is_found = is_found?;
        if Box::pin(self.session.send(request)).await.is_err_and(|failed| failed.error.kind == ErrorKind::Unavailable) {
            tracing::debug!(registry = self.session.http().hosts().host(), "HEAD fails where GET does not");
            self.verdicts.note(HeadVerdict::Wrong, Instant::now());
        }
        Ok(is_found)
    }

    async fn has_first_byte(
        &self,
        repository: &RepositoryName,
        blob: &Descriptor,
        operation: &Operation,
    ) -> Result<bool, RegistryError> {
        let mut request = self.request(Method::GET, repository, blob, operation);
        if blob.size > 0 {
            request = request.header(RANGE, HeaderValue::from_static("bytes=0-0"));
        }
        self.is_found(self.session.call(&request).await?, blob, operation).await
    }

    /// Streams the bytes of a blob.
    ///
    /// A connection that breaks is resumed up to 3 times: by a range if the registry serves that, else from the start,
    /// without the bytes that came out before.
    ///
    /// # Errors
    /// At once `NotFound` and other refusals; in the stream `Unavailable`, and `InvalidContent` in place of the last
    /// piece if size or digest differ.
    pub(crate) async fn read(
        &self,
        repository: &RepositoryName,
        blob: &Descriptor,
    ) -> Result<BlobStream, RegistryError> {
        self.stream(repository, blob, true).await
    }

    /// Like [`Blobs::read`], after a read gave wrong bytes: over a new connection, and never by a range.
    ///
    /// # Errors
    /// As [`Blobs::read`].
    pub(crate) async fn reread(
        &self,
        repository: &RepositoryName,
        blob: &Descriptor,
    ) -> Result<BlobStream, RegistryError> {
        self.session.http().drop_connections();
        self.stream(repository, blob, false).await
    }

    async fn stream(
        &self,
        repository: &RepositoryName,
        blob: &Descriptor,
        serves_ranges: bool,
    ) -> Result<BlobStream, RegistryError> {
        let http = self.session.http();
        let permit = http.read_permit(Load::of_blob(blob.size)).await;
        let operation = http.operation("reading the blob", format_args!("{repository}@{}", blob.digest));
        let sent_at = Instant::now();
        let response = self.session.call(&self.request(Method::GET, repository, blob, &operation)).await?;
        let response = self.accept(response, blob, &operation).await?;
        let reader = BlobReader {
            blobs: self.clone(),
            repository: repository.clone(),
            blob: blob.clone(),
            operation,
            response: response.response,
            hasher: Some(DigestHasher::new(blob.digest.algorithm())),
            offset: 0,
            skip: 0,
            beginning: Bytes::new(),
            resumes_left: MAX_RESUMES,
            serves_ranges,
            sent_at,
            rate: MinimumRate::default(),
            _permit: permit,
        };
        let pieces = futures::stream::unfold(Some(reader), |reader| async {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(pieces.boxed())
    }

    fn request<'a>(
        &self,
        method: Method,
        repository: &RepositoryName,
        blob: &Descriptor,
        operation: &'a Operation,
    ) -> RegistryRequest<'a> {
        let url = self.session.http().hosts().of(repository, &format!("blobs/{}", blob.digest));
        RegistryRequest::new(method, url, Scopes::pull(repository), operation)
    }

    /// Checks that `response` holds the whole blob.
    async fn accept(
        &self,
        response: HttpResponse,
        blob: &Descriptor,
        operation: &Operation,
    ) -> Result<HttpResponse, RegistryError> {
        if !response.status().is_success() {
            return Err(response.into_error_response(self.session.http().deadlines()).await.error(operation));
        }
        match response.content_length() {
            Some(length) if length != blob.size => Err(self.wrong_length(response, length, blob, operation).await),
            _ => Ok(response),
        }
    }

    /// Returns the error for a response of another length, which is often a web page.
    async fn wrong_length(
        &self,
        response: HttpResponse,
        length: u64,
        blob: &Descriptor,
        operation: &Operation,
    ) -> RegistryError {
        let deadline = self.session.http().deadlines().refusal;
        let beginning = body::read_beginning(response.response, MAX_BEGINNING, deadline).await;
        page_error(&beginning, operation).unwrap_or_else(|| wrong_size(blob, length, operation))
    }

    async fn is_found(
        &self,
        response: HttpResponse,
        blob: &Descriptor,
        operation: &Operation,
    ) -> Result<bool, RegistryError> {
        let stated = match response.status().as_u16() {
            206 => response.header(CONTENT_RANGE).and_then(content_range).and_then(|range| range.total),
            // Some proxies add a length of 0 to a response without a body.
            200..=299 => response.content_length().filter(|length| *length > 0),
            404 => return Ok(false),
            _ => return Err(response.into_error_response(self.session.http().deadlines()).await.error(operation)),
        };
        match stated {
            Some(size) if size != blob.size => Err(wrong_size(blob, size, operation)),
            _ => Ok(true),
        }
    }
}

/// A blob that is being read.
struct BlobReader {
    blobs: Blobs,
    repository: RepositoryName,
    blob: Descriptor,
    operation: Operation,
    response: reqwest::Response,
    /// `None` once the digest has been checked.
    hasher: Option<DigestHasher>,
    /// The number of bytes that came out.
    offset: u64,
    /// The number of bytes ahead that came out before.
    skip: u64,
    /// The beginning of the content, if it may be a web page.
    beginning: Bytes,
    resumes_left: u32,
    serves_ranges: bool,
    /// The time at which the current response was requested.
    sent_at: Instant,
    rate: MinimumRate,
    _permit: Permit,
}

impl BlobReader {
    /// Returns the next piece; `None` at the end, when everything was verified.
    async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            if self.offset == self.blob.size {
                return self.check().map(|()| None);
            }
            let http = self.blobs.session.http();
            let piece = self.rate.next_piece(&mut self.response, http.deadlines()).await;
            if let Ok(Some(piece)) = &piece {
                http.pacer().pass(piece.len()).await;
            }
            match piece {
                Ok(Some(piece)) if piece.len() as u64 <= self.skip => self.skip -= piece.len() as u64,
                Ok(Some(mut piece)) => {
                    piece.advance(std::mem::take(&mut self.skip) as usize);
                    return self.take(piece).await.map(Some);
                }
                Ok(None) => return Err(self.wrong_size(self.offset - self.skip)),
                Err(error) => self.resume(self.operation.attempt_error(error).error).await?,
            }
        }
    }

    /// Adds `piece`. The last one comes out only if everything is right and nothing follows.
    async fn take(&mut self, piece: Bytes) -> Result<Bytes, RegistryError> {
        let length = self.offset + piece.len() as u64;
        if self.offset == 0 {
            self.beginning = beginning_of_page(&piece);
        }
        if length > self.blob.size {
            return Err(self.wrong_size(length));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        self.offset = length;
        if length == self.blob.size {
            self.check()?;
            let more = body::next_piece(&mut self.response, self.blobs.session.http().deadlines()).await;
            if let Ok(Some(more)) = more
                && !more.is_empty()
            {
                return Err(self.wrong_size(length + more.len() as u64));
            }
        }
        Ok(piece)
    }

    fn check(&mut self) -> Result<(), RegistryError> {
        match self.hasher.take().map(DigestHasher::finish) {
            Some(found) if found != self.blob.digest => {
                let error =
                    || self.operation.error(ErrorKind::InvalidContent, format!("the content has the digest {found}"));
                Err(page_error(&self.beginning, &self.operation).unwrap_or_else(error))
            }
            _ => Ok(()),
        }
    }

    fn wrong_size(&self, found: u64) -> RegistryError {
        let error = || wrong_size(&self.blob, found, &self.operation);
        page_error(&self.beginning, &self.operation).unwrap_or_else(error)
    }

    /// Requests the rest, after `error` ended the response: always from the registry, as a URL it has signed expires.
    async fn resume(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.blobs.session.http().record_broken_read(self.sent_at);
        if self.resumes_left == 0 {
            return Err(error);
        }
        self.resumes_left -= 1;
        tracing::debug!(error = %error.message, offset = self.offset, "resuming");
        if self.serves_ranges && self.offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.offset)).expect("digits are a header value");
            let request = self.blobs.request(Method::GET, &self.repository, &self.blob, &self.operation);
            self.sent_at = Instant::now();
            let response = self.blobs.session.call(&request.header(RANGE, range)).await?;
            match response.status().as_u16() {
                206 if self.is_rest(&response) => {
                    self.continue_with(response, 0);
                    return Ok(());
                }
                // registry.k8s.io refuses ranges with 400 now and then, and others get the numbers wrong.
                206 | 400 | 416 => self.serves_ranges = false,
                // The whole blob, from a cache that is still cold or a server that knows no ranges.
                _ => return self.restart_with(response).await,
            }
        }
        let request = self.blobs.request(Method::GET, &self.repository, &self.blob, &self.operation);
        self.sent_at = Instant::now();
        let response = self.blobs.session.call(&request).await?;
        self.restart_with(response).await
    }

    /// Returns true if `response` states to hold exactly the bytes that have not come out yet.
    fn is_rest(&self, response: &HttpResponse) -> bool {
        response.header(CONTENT_RANGE).and_then(content_range).is_some_and(|range| {
            (range.first, range.last.saturating_add(1)) == (self.offset, self.blob.size)
                && range.total.is_none_or(|total| total == self.blob.size)
        })
    }

    /// Reads on in `response`, which holds the whole blob again.
    async fn restart_with(&mut self, response: HttpResponse) -> Result<(), RegistryError> {
        let response = self.blobs.accept(response, &self.blob, &self.operation).await?;
        self.continue_with(response, self.offset);
        Ok(())
    }

    fn continue_with(&mut self, response: HttpResponse, skip: u64) {
        (self.response, self.skip, self.rate) = (response.response, skip, MinimumRate::default());
    }
}

pub(crate) struct ContentRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) total: Option<u64>,
}

/// Parses `bytes 0-0/10` (RFC 9110, 14.4).
pub(crate) fn content_range(text: &str) -> Option<ContentRange> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some(ContentRange { first: first.parse().ok()?, last: last.parse().ok()?, total: total.parse().ok() })
}

fn wrong_size(blob: &Descriptor, found: u64, operation: &Operation) -> RegistryError {
    operation.error(ErrorKind::InvalidContent, format!("it has {found} bytes where {} are stated", blob.size))
}

const MAX_RESUMES: u32 = 3;

#[cfg(test)]
mod tests;

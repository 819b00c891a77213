//! Looks for blobs, and streams them: verified on the way, resumed when the connection breaks, never buffered whole.

use bytes::{Buf, Bytes};
use futures::StreamExt;
use http::Method;
use http::header::{CONTENT_RANGE, HeaderValue, RANGE};
use tokio::time::Instant;

use crate::image::{Descriptor, DigestHasher, RepositoryName};
use crate::registry::auth::token::Scopes;
use crate::registry::client::{BlobStream, Client};
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::http::body;
use crate::registry::http::body::MinimumRate;
use crate::registry::http::limiter::{Feedback, Load, Permit};
use crate::registry::http::response::HttpResponse;
use crate::registry::session::RegistryRequest;

impl Client {
    /// Whether the blob is there; when the registry tells a size that differs, `InvalidContent`.
    ///
    /// Where HEAD is refused, the first byte is asked for.
    ///
    /// # Errors
    /// Anything but success and 404.
    pub async fn has_blob(&self, repository: &RepositoryName, blob: &Descriptor) -> Result<bool, RegistryError> {
        let inner = &self.0;
        let task = inner.task("looking for the blob", format_args!("{repository}@{}", blob.digest));
        let _permit = inner.read_permit().await;
        let answer = inner.call(&self.blob_request(Method::HEAD, repository, blob, &task)).await?;
        let is_refused = answer.elsewhere.is_some() || matches!(answer.status().as_u16(), 400 | 403 | 405 | 501);
        if !is_refused || answer.status().is_success() {
            return is_there(answer, blob, &task, self).await;
        }
        let mut request = self.blob_request(Method::GET, repository, blob, &task);
        if blob.size > 0 {
            request.headers.insert(RANGE, HeaderValue::from_static("bytes=0-0"));
        }
        is_there(inner.call(&request).await?, blob, &task, self).await
    }

    /// The bytes of a blob.
    ///
    /// Where the connection breaks it is taken up again up to 3 times: by a range where the registry serves that, else
    /// from the start, without what came out before.
    ///
    /// # Errors
    /// At once `NotFound` and other refusals; in the stream `Unavailable`, and `InvalidContent` in place of the last
    /// piece when size or digest differ.
    pub async fn blob(&self, repository: &RepositoryName, blob: &Descriptor) -> Result<BlobStream, RegistryError> {
        let inner = &self.0;
        let pass = inner.reads.enter(Load::of_blob(blob.size)).await;
        let task = inner.task("reading the blob", format_args!("{repository}@{}", blob.digest));
        let sent_at = Instant::now();
        let answer = inner.call(&self.blob_request(Method::GET, repository, blob, &task)).await?;
        let answer = self.accept(answer, blob, &task).await?;
        let hasher = DigestHasher::new(blob.digest.algorithm());
        let reading = BlobReader {
            client: self.clone(),
            repository: repository.clone(),
            blob: blob.clone(),
            task,
            response: answer.response,
            hasher: Some(hasher),
            offset: 0,
            skip: 0,
            resumes_left: MAX_RESUMES,
            serves_ranges: true,
            sent_at,
            pace: MinimumRate::default(),
            _pass: pass,
        };
        let pieces = futures::stream::unfold(Some(reading), |reading| async {
            let mut reading = reading?;
            match reading.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(reading))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(pieces.boxed())
    }

    fn blob_request<'a>(
        &self,
        method: Method,
        repository: &RepositoryName,
        blob: &Descriptor,
        task: &'a Operation,
    ) -> RegistryRequest<'a> {
        let url = self.0.site.of(repository, &format!("blobs/{}", blob.digest));
        RegistryRequest::new(method, url, Scopes::pull(repository), task)
    }

    /// Makes sure that `answer` holds the whole blob.
    async fn accept(
        &self,
        answer: HttpResponse,
        blob: &Descriptor,
        task: &Operation,
    ) -> Result<HttpResponse, RegistryError> {
        if !answer.status().is_success() {
            return Err(answer.refusal(&self.0.deadlines).await.error(task));
        }
        match answer.content_length() {
            Some(length) if length != blob.size => Err(wrong_size(blob, length, task)),
            _ => Ok(answer),
        }
    }
}

async fn is_there(
    answer: HttpResponse,
    blob: &Descriptor,
    task: &Operation,
    client: &Client,
) -> Result<bool, RegistryError> {
    let told = match answer.status().as_u16() {
        206 => answer.header(CONTENT_RANGE).and_then(content_range).and_then(|range| range.total),
        // A length of 0 is what some proxies make of an answer without a body.
        200..=299 => answer.content_length().filter(|length| *length > 0),
        404 => return Ok(false),
        _ => return Err(answer.refusal(&client.0.deadlines).await.error(task)),
    };
    match told {
        Some(size) if size != blob.size => Err(wrong_size(blob, size, task)),
        _ => Ok(true),
    }
}

/// A blob on its way.
struct BlobReader {
    client: Client,
    repository: RepositoryName,
    blob: Descriptor,
    task: Operation,
    response: reqwest::Response,
    /// Nothing once the digest has been checked.
    hasher: Option<DigestHasher>,
    /// How many bytes came out.
    offset: u64,
    /// How many of the next bytes came out before.
    skip: u64,
    resumes_left: u32,
    serves_ranges: bool,
    /// When the answer that is being read was asked for.
    sent_at: Instant,
    pace: MinimumRate,
    _pass: Permit,
}

impl BlobReader {
    /// The next piece; nothing at the end, when everything was verified.
    async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            if self.offset == self.blob.size {
                return self.check().map(|()| None);
            }
            match self.pace.next_piece(&mut self.response, &self.client.0.deadlines).await {
                Ok(Some(piece)) if piece.len() as u64 <= self.skip => self.skip -= piece.len() as u64,
                Ok(Some(mut piece)) => {
                    piece.advance(std::mem::take(&mut self.skip) as usize);
                    return self.take(piece).await.map(Some);
                }
                Ok(None) => return Err(wrong_size(&self.blob, self.offset - self.skip, &self.task)),
                Err(trouble) => self.resume(self.task.failure(trouble).error).await?,
            }
        }
    }

    /// Adds `piece`. The last one is let out only if everything is right and nothing follows.
    async fn take(&mut self, piece: Bytes) -> Result<Bytes, RegistryError> {
        let length = self.offset + piece.len() as u64;
        if length > self.blob.size {
            return Err(wrong_size(&self.blob, length, &self.task));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        self.offset = length;
        if length == self.blob.size {
            self.check()?;
            let more = body::next_piece(&mut self.response, &self.client.0.deadlines).await;
            if let Ok(Some(more)) = more
                && !more.is_empty()
            {
                return Err(wrong_size(&self.blob, length + more.len() as u64, &self.task));
            }
        }
        Ok(piece)
    }

    fn check(&mut self) -> Result<(), RegistryError> {
        match self.hasher.take().map(DigestHasher::finish) {
            Some(found) if found != self.blob.digest => {
                Err(self.task.error(ErrorKind::InvalidContent, format!("the content has the digest {found}")))
            }
            _ => Ok(()),
        }
    }

    /// Asks for the rest, after `error` ended the answer: always at the registry, as a URL it has signed runs out.
    async fn resume(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        let inner = &self.client.0;
        inner.reads.note(self.sent_at, Feedback::Overloaded);
        if self.resumes_left == 0 {
            return Err(error);
        }
        self.resumes_left -= 1;
        tracing::debug!(error = %error.message, offset = self.offset, "resuming");
        if self.serves_ranges && self.offset > 0 {
            let mut request = self.client.blob_request(Method::GET, &self.repository, &self.blob, &self.task);
            let range = HeaderValue::from_str(&format!("bytes={}-", self.offset)).expect("digits are a header value");
            request.headers.insert(RANGE, range);
            self.sent_at = Instant::now();
            let answer = inner.call(&request).await?;
            match answer.status().as_u16() {
                206 if self.is_rest(&answer) => return self.go_on(answer, 0),
                // registry.k8s.io refuses ranges with 400 now and then, and others get the numbers wrong.
                206 | 400 | 416 => self.serves_ranges = false,
                // The whole blob, from a cache that is still cold or a server that knows no ranges.
                _ => return self.go_on(self.client.accept(answer, &self.blob, &self.task).await?, self.offset),
            }
        }
        let request = self.client.blob_request(Method::GET, &self.repository, &self.blob, &self.task);
        self.sent_at = Instant::now();
        let answer = inner.call(&request).await?;
        self.go_on(self.client.accept(answer, &self.blob, &self.task).await?, self.offset)
    }

    /// Whether `answer` says that it holds what has not come out yet.
    fn is_rest(&self, answer: &HttpResponse) -> bool {
        answer.header(CONTENT_RANGE).and_then(content_range).is_some_and(|range| {
            (range.first, range.last.saturating_add(1)) == (self.offset, self.blob.size)
                && range.total.is_none_or(|total| total == self.blob.size)
        })
    }

    fn go_on(&mut self, answer: HttpResponse, skip: u64) -> Result<(), RegistryError> {
        (self.response, self.skip, self.pace) = (answer.response, skip, MinimumRate::default());
        Ok(())
    }
}

pub(crate) struct ContentRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) total: Option<u64>,
}

/// Reads `bytes 0-0/10` (RFC 9110, 14.4).
pub(crate) fn content_range(text: &str) -> Option<ContentRange> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some(ContentRange { first: first.parse().ok()?, last: last.parse().ok()?, total: total.parse().ok() })
}

fn wrong_size(blob: &Descriptor, found: u64, task: &Operation) -> RegistryError {
    task.error(ErrorKind::InvalidContent, format!("it has {found} bytes where {} are stated", blob.size))
}

const MAX_RESUMES: u32 = 3;

#[cfg(test)]
mod tests;

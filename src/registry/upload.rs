//! Puts blobs into a repository: by mounting them, or by one streamed PUT into an upload session.

use std::sync::Arc;

use futures::StreamExt;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Method, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::answer::Answer;
use super::error::{Failure, MOST_TRIES, Task};
use super::exchange::{Inner, Outgoing};
use super::feed::{Feed, Progress};
use super::manifests::stated_digest;
use super::site::canonical_host;
use super::token::Scopes;
use super::{BlobStream, Client, ErrorKind, RegistryError, UploadOutcome};
use crate::image::{Descriptor, RepositoryName};

impl Client {
    /// Puts a blob there: POST (with `mount` and `from`) and, unless mounted, PUT of the stream that `open` gives.
    ///
    /// `open` is called again for each of up to 4 tries. The last byte of the stream is sent only after the stream
    /// has ended without an error, so content that turns out to be wrong never becomes a blob.
    ///
    /// # Errors
    /// What `open` or its stream fails with comes out as it is, and is not tried again here.
    pub async fn upload<F, Fut>(
        &self,
        repository: &RepositoryName,
        blob: &Descriptor,
        mount_from: Option<&RepositoryName>,
        open: F,
    ) -> Result<UploadOutcome, RegistryError>
    where
        F: Fn() -> Fut + Send + Sync,
        Fut: Future<Output = Result<BlobStream, RegistryError>> + Send,
    {
        let inner = &self.0;
        let task = inner.task("uploading the blob", format_args!("{repository}@{}", blob.digest));
        let upload = Upload { inner, repository, blob, task: &task };
        let _permit = inner.write_permit().await;
        let mut mount_from = mount_from;
        let mut retries = inner.retries();
        loop {
            let failure = match upload.begin(&mut mount_from).await {
                Ok(None) => return Ok(UploadOutcome::Mounted),
                Ok(Some(session)) => match upload.finish(session, open().await?).await {
                    Ok(()) => return Ok(UploadOutcome::Uploaded),
                    Err(Broken::Source(error)) => return Err(error),
                    Err(Broken::Destination(failure)) => failure,
                },
                Err(failure) => failure,
            };
            retries.again(failure).await?;
        }
    }
}

/// One blob on its way to one repository.
struct Upload<'a> {
    inner: &'a Arc<Inner>,
    repository: &'a RepositoryName,
    blob: &'a Descriptor,
    task: &'a Task,
}

/// Whose fault it is that an upload ended early.
enum Broken {
    Source(RegistryError),
    Destination(Failure),
}

impl Upload<'_> {
    /// Mounts the blob (nothing comes back) or opens a session. A mount that the registry refuses, rather than
    /// answering with a session, is not asked for again.
    async fn begin(&self, mount_from: &mut Option<&RepositoryName>) -> Result<Option<Session>, Failure> {
        if let Some(from) = *mount_from {
            match self.post(Some(from)).await {
                Ok(answer) if answer.status() == StatusCode::CREATED => return Ok(None),
                Ok(answer) if answer.status().is_success() => return self.session(&answer, Some(from)).map(Some),
                Ok(answer) => tracing::debug!(status = answer.status().as_u16(), "the registry refuses to mount"),
                Err(failure) if failure.error.kind.is_transient() => return Err(failure),
                Err(failure) => tracing::debug!(error = %failure.error.message, "the registry refuses to mount"),
            }
            *mount_from = None;
        }
        let answer = self.post(None).await?;
        if answer.status().is_success() {
            return self.session(&answer, None).map(Some);
        }
        Err(answer.refusal(&self.inner.deadlines).await.failure(self.task))
    }

    async fn post(&self, mount_from: Option<&RepositoryName>) -> Result<Answer, Failure> {
        let mut url = self.inner.site.of(self.repository, "blobs/uploads/");
        if let Some(from) = mount_from {
            url.query_pairs_mut().append_pair("mount", self.blob.digest.as_str()).append_pair("from", from.as_str());
        }
        let mut request = Outgoing::new(Method::POST, url, self.scopes(mount_from), self.task);
        request.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        self.inner.send(&request).await
    }

    fn scopes(&self, mount_from: Option<&RepositoryName>) -> Scopes {
        let scopes = Scopes::push(self.repository);
        match mount_from {
            Some(from) if from != self.repository => scopes.and_pull(from),
            _ => scopes,
        }
    }

    fn session(&self, answer: &Answer, mount_from: Option<&RepositoryName>) -> Result<Session, Failure> {
        let location = answer.headers().get(LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let location = location.ok_or_else(|| {
            self.task.error(ErrorKind::InvalidContent, "the registry opens an upload session, but says not where")
        })?;
        let url = self.inner.site.upload(&answer.url, &location).map_err(|trouble| self.task.failure(trouble))?;
        Ok(Session { inner: self.inner.clone(), url, scopes: self.scopes(mount_from), is_open: true })
    }

    /// Streams `source` into `session`.
    async fn finish(&self, mut session: Session, source: BlobStream) -> Result<(), Broken> {
        let is_own = self.inner.site.is_own_origin(&session.url);
        let login = match is_own {
            true => self.inner.login(&session.scopes, self.task).await.map_err(|e| Broken::Destination(e.into()))?,
            false => super::auth::Login::default(),
        };
        let progress = Arc::new(Progress::new(self.inner.deadlines.idle));
        let mut request = self.put(&session.url, source, &progress);
        if let Some(header) = &login.header {
            request.headers_mut().insert(AUTHORIZATION, header.clone());
        }
        let is_trusted = self.inner.site.is_trusted(&session.url);
        let sent = tokio::select! {
            sent = self.inner.transport.send(request, is_trusted, None) => {
                sent.map_err(|trouble| self.task.failure(trouble))
            }
            stall = progress.stalled(self.task) => Err(stall.into()),
        };
        if let Some(error) = progress.take_source_error() {
            return Err(Broken::Source(error));
        }
        let response = sent.map_err(Broken::Destination)?;
        let elsewhere = (!is_own).then(|| canonical_host(&session.url));
        let answer = Answer { response, url: session.url.clone(), elsewhere };
        if answer.status().is_success() {
            session.is_open = false;
            return self.check_digest(&answer).map_err(|error| Broken::Destination(error.into()));
        }
        let status = answer.status();
        let refusal = answer.refusal(&self.inner.deadlines).await;
        let failure = refusal.failure(self.task);
        Err(Broken::Destination(match status.as_u16() {
            // The token ran out since the session was opened: once more, with a new one.
            401 if is_own && self.inner.renew(&session.scopes, &login, self.task).await.is_ok() => {
                Failure { most_tries: 2, ..failure }
            }
            // The session is gone, or the registry counts other bytes than we do: once more, with a new session.
            404 | 416 => Failure { most_tries: MOST_TRIES, ..failure },
            _ => failure,
        }))
    }

    fn put(&self, session: &Url, source: BlobStream, progress: &Arc<Progress>) -> reqwest::Request {
        let mut url = session.clone();
        url.query_pairs_mut().append_pair("digest", self.blob.digest.as_str());
        let mut request = reqwest::Request::new(Method::PUT, url);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(self.blob.size));
        *request.body_mut() = Some(match self.blob.size {
            0 => reqwest::Body::from(""),
            size => reqwest::Body::wrap_stream(Feed::new(source, size, progress.clone(), self.task.clone()).boxed()),
        });
        request
    }

    fn check_digest(&self, answer: &Answer) -> Result<(), RegistryError> {
        match stated_digest(answer.headers()) {
            Some(stated) if stated.algorithm() == self.blob.digest.algorithm() && stated != self.blob.digest => {
                Err(self.task.error(ErrorKind::InvalidContent, format!("the registry took it for {stated}")))
            }
            _ => Ok(()),
        }
    }
}

/// An upload session, which is given up when it is dropped open.
struct Session {
    inner: Arc<Inner>,
    url: Url,
    scopes: Scopes,
    is_open: bool,
}

impl Drop for Session {
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
    let request = Outgoing::new(Method::DELETE, url, scopes, &task);
    match timeout(inner.deadlines.cancel, inner.send(&request)).await {
        Ok(Ok(answer)) => tracing::debug!(status = answer.status().as_u16(), "gave up an upload session"),
        Ok(Err(failure)) => tracing::debug!(error = %failure.error.message, "could not give up an upload session"),
        Err(_) => tracing::debug!("could not give up an upload session in time"),
    }
}

#[cfg(test)]
mod tests;

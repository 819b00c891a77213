//! Puts blobs into a repository: by mounting them, or through an upload session in the way that the registry takes.

mod ahead;
mod body;
mod chunks;
mod ladder;
mod session;
mod source;

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Method, StatusCode};
use tokio::time::Instant;

pub(crate) use self::ladder::{Ladder, UploadProfile};
use crate::image::{Descriptor, RepositoryName};
use crate::registry::auth::token::Scopes;
use crate::registry::client::{BlobStream, Client, UploadOutcome};
use crate::registry::content::manifests::stated_digest;
use crate::registry::error::{AttemptError, ErrorKind, Operation, RegistryError};
use crate::registry::http::limiter::Load;
use crate::registry::http::response::{ErrorResponse, HttpResponse, is_passing};
use crate::registry::session::{Inner, RegistryRequest};
use crate::registry::upload::ahead::{OpenResult, meanwhile};
use crate::registry::upload::ladder::{DescentReason, MAX_CHUNK, Rung};
use crate::registry::upload::session::{Payload, UploadError, UploadSession, given_up};

impl Client {
    /// Puts a blob there: POST (with `mount` and `from`) and, unless mounted, PUT of the stream that `open` gives.
    ///
    /// A registry that does not take that gets the bytes with PATCH, whole or in chunks; what it takes is remembered
    /// for an hour. `open` is called again for each try. The last byte of the stream is sent only after the stream has
    /// ended without an error, so content that turns out to be wrong never becomes a blob.
    ///
    /// # Errors
    /// What `open` or its stream fails with comes out as it is. Only within an upload in chunks it is opened again up
    /// to 3 times, and what the registry has is not sent again.
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
        let upload = Upload { client: self, inner, repository, blob, task: &task };
        let mount_from = mount_from.filter(|_| inner.ladder.may_mount(Instant::now()));
        let is_streamed = inner.ladder.first(blob.size, Instant::now()) != Rung::Chunks;
        // To mount from itself only asks whether it is there; what is small is asked for at the source meanwhile.
        let (asks_first, asks_ahead) = match mount_from {
            Some(from) if from == repository && is_streamed && blob.size <= MAX_PREFETCHED_BLOB => (None, Some(from)),
            mount_from => (mount_from, None),
        };
        let mounted = match asks_first {
            Some(from) => {
                let _place = inner.write_permit().await;
                upload.mount(from).await?
            }
            None => Mounted::No,
        };
        let session = match mounted {
            Mounted::Blob => return Ok(UploadOutcome::Mounted),
            Mounted::UploadSession(session) => Some(session),
            Mounted::No => None,
        };
        // A session without a place for its bytes would be of no use: both wait for the same one.
        let _pass = inner.writes.enter(Load::of_blob(blob.size)).await;
        let (mounted, ahead) = match asks_ahead {
            Some(from) => meanwhile(upload.mount(from), open()).await,
            None => (Ok(Mounted::No), None),
        };
        let session = match mounted? {
            Mounted::Blob => return Ok(UploadOutcome::Mounted),
            Mounted::UploadSession(session) => Some(session),
            Mounted::No => session,
        };
        upload.bring(session, ahead, &open).await.map(|()| UploadOutcome::Uploaded)
    }
}

/// The memory for chunks of a client that writes `concurrency` blobs at once, in KiB.
pub(crate) fn chunk_memory(concurrency: usize) -> usize {
    let bytes = (concurrency as u64).saturating_mul(CHUNK_MEMORY_PER_UPLOAD).clamp(MAX_CHUNK, MAX_CHUNK_MEMORY);
    (bytes / 1024) as usize
}

/// One blob on its way to one repository.
struct Upload<'a> {
    client: &'a Client,
    inner: &'a Arc<Inner>,
    repository: &'a RepositoryName,
    blob: &'a Descriptor,
    task: &'a Operation,
}

/// What comes of asking for a mount.
enum Mounted {
    Blob,
    UploadSession(UploadSession),
    No,
}

/// What comes of completing an upload.
enum Completed {
    Blob,
    Refused(ErrorResponse),
}

impl Upload<'_> {
    /// Asks the registry to take the blob from another repository, or whether it is in its own. Where it opens a session instead,
    /// that is used.
    async fn mount(&self, from: &RepositoryName) -> Result<Mounted, RegistryError> {
        let ladder = &self.inner.ladder;
        let mut retries = self.inner.retries();
        loop {
            match self.post(Some(from), &self.scopes(Some(from))).await {
                Ok(answer) if answer.status() == StatusCode::CREATED => {
                    ladder.mounted();
                    return Ok(Mounted::Blob);
                }
                Ok(answer) if answer.status().is_success() => {
                    // To mount from itself only asks whether it is there.
                    if from != self.repository {
                        ladder.not_mounted(false, Instant::now());
                    }
                    let session = UploadSession::open(self.inner, &answer, self.scopes(Some(from)), self.task);
                    return session.map(Mounted::UploadSession).map_err(|failure| failure.error);
                }
                Ok(answer) => {
                    tracing::debug!(status = answer.status().as_u16(), "the registry refuses to mount");
                    // Other refusals may be about this one repository.
                    let is_unknown = matches!(answer.status().as_u16(), 400 | 405 | 501);
                    ladder.not_mounted(is_unknown, Instant::now());
                    return Ok(Mounted::No);
                }
                Err(failure) if failure.error.kind.is_transient() => retries.again(failure).await?,
                Err(failure) => {
                    tracing::debug!(error = %failure.error.message, "the registry refuses to mount");
                    ladder.not_mounted(false, Instant::now());
                    return Ok(Mounted::No);
                }
            }
        }
    }

    /// Opens a session.
    async fn begin(&self, scopes: &Scopes) -> Result<UploadSession, AttemptError> {
        let answer = self.post(None, scopes).await?;
        if answer.status().is_success() {
            return UploadSession::open(self.inner, &answer, scopes.clone(), self.task);
        }
        Err(answer.refusal(&self.inner.deadlines).await.failure(self.task))
    }

    async fn post(&self, mount_from: Option<&RepositoryName>, scopes: &Scopes) -> Result<HttpResponse, AttemptError> {
        let mut url = self.inner.site.of(self.repository, "blobs/uploads/");
        if let Some(from) = mount_from {
            url.query_pairs_mut().append_pair("mount", self.blob.digest.as_str()).append_pair("from", from.as_str());
        }
        let mut request = RegistryRequest::new(Method::POST, url, scopes.clone(), self.task);
        request.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        Box::pin(self.inner.send(&request)).await
    }

    fn scopes(&self, mount_from: Option<&RepositoryName>) -> Scopes {
        let scopes = Scopes::push(self.repository);
        match mount_from {
            Some(from) if from != self.repository => scopes.and_pull(from),
            _ => scopes,
        }
    }

    /// Brings the bytes there, in `session` or else a new one, on whichever rung the registry takes them. `ahead` is what `open`
    /// gave already.
    async fn bring<F, Fut>(
        &self,
        mut session: Option<UploadSession>,
        mut ahead: Option<OpenResult>,
        open: &F,
    ) -> Result<(), RegistryError>
    where
        F: Fn() -> Fut + Send + Sync,
        Fut: Future<Output = Result<BlobStream, RegistryError>> + Send,
    {
        // A further session needs no other token than the first one.
        let scopes = session.as_ref().map_or_else(|| self.scopes(None), |session| session.scopes.clone());
        let mut retries = self.inner.retries();
        let mut descent = Descent::new(&self.inner.ladder, self.blob.size);
        let mut is_first = true;
        loop {
            let opened = match session.take() {
                Some(session) => Ok(session),
                // The source is asked meanwhile; once only, as a registry that opens no session may not do so for long.
                None if is_first && ahead.is_none() && descent.rung != Rung::Chunks && self.blob.size > 0 => {
                    let (session, stream) = meanwhile(self.begin(&scopes), open()).await;
                    ahead = stream;
                    session.map_err(UploadError::Refused)
                }
                None => self.begin(&scopes).await.map_err(UploadError::Refused),
            };
            is_first = false;
            let ended = match opened {
                Ok(session) => self.fill(session, descent.rung, ahead.take(), open).await,
                Err(broken) => Err(broken),
            };
            ahead = None;
            let (failure, is_all_sent) = match ended {
                Ok(()) => {
                    descent.arrived();
                    return Ok(());
                }
                Err(UploadError::Source(error)) => return Err(error),
                Err(UploadError::Method(error, cause)) => {
                    descent.below(error, cause)?;
                    continue;
                }
                Err(UploadError::Lost(failure)) if descent.is_lost_again() => {
                    descent.below(failure.error, DescentReason::Refused)?;
                    continue;
                }
                Err(UploadError::Connection(failure, is_all_sent)) => {
                    descent.broke(&failure.error);
                    (failure, is_all_sent)
                }
                Err(UploadError::Lost(failure) | UploadError::Refused(failure)) => (failure, false),
            };
            retries.again(failure).await?;
            if is_all_sent && self.has_arrived().await {
                return Ok(());
            }
        }
    }

    async fn fill<F, Fut>(
        &self,
        mut session: UploadSession,
        rung: Rung,
        ahead: Option<OpenResult>,
        open: &F,
    ) -> Result<(), UploadError>
    where
        F: Fn() -> Fut + Send + Sync,
        Fut: Future<Output = Result<BlobStream, RegistryError>> + Send,
    {
        let complete = match rung {
            Rung::Put => Some(&self.blob.digest),
            Rung::Patch => None,
            Rung::Chunks => {
                // The source is opened again for them: what is open holds a place there that they would wait for.
                drop(ahead);
                return chunks::send(self, session, open).await;
            }
        };
        if complete.is_some() || self.blob.size > 0 {
            let opened = match ahead {
                Some(opened) => opened,
                None => open().await,
            };
            let content = Payload::Whole(opened.map_err(UploadError::Source)?, self.blob.size);
            let answer = session.send(content, complete).await?;
            if !answer.status().is_success() {
                let refusal = session.refusal(answer).await;
                return Err(session.judge(&refusal));
            }
            if complete.is_some() {
                return self.take(&mut session, &answer);
            }
            session.follow(&answer).map_err(UploadError::Refused)?;
        }
        match self.complete(&mut session).await? {
            Completed::Blob => Ok(()),
            Completed::Refused(refusal) => Err(session.judge(&refusal)),
        }
    }

    /// Makes a blob of what `session` was sent. This request has tries of its own, as it repeats no bytes.
    async fn complete(&self, session: &mut UploadSession) -> Result<Completed, UploadError> {
        let mut retries = self.inner.retries();
        let mut may_be_done = false;
        loop {
            let failure = match session.send(Payload::Nothing, Some(&self.blob.digest)).await {
                Ok(answer) if answer.status().is_success() => {
                    return self.take(session, &answer).map(|()| Completed::Blob);
                }
                Ok(answer) => {
                    let refusal = session.refusal(answer).await;
                    let failure = refusal.failure(self.task);
                    if !is_passing(refusal.status) && failure.error.kind != ErrorKind::RateLimited {
                        // The session is gone if the registry had done it already when the connection broke.
                        let is_done = may_be_done && refusal.status == StatusCode::NOT_FOUND && self.is_there().await;
                        return Ok(if is_done { Completed::Blob } else { Completed::Refused(refusal) });
                    }
                    failure
                }
                Err(UploadError::Connection(failure, _)) => failure,
                Err(other) => return Err(other),
            };
            may_be_done = true;
            retries.again(failure).await.map_err(|error| UploadError::Refused(given_up(error)))?;
        }
    }

    /// Takes `answer` for success, unless the registry says that it took other bytes.
    fn take(&self, session: &mut UploadSession, answer: &HttpResponse) -> Result<(), UploadError> {
        session.close();
        match stated_digest(answer.headers()) {
            Some(stated) if stated.algorithm() == self.blob.digest.algorithm() && stated != self.blob.digest => {
                let detail = format!("the registry took it for {stated}");
                Err(UploadError::Refused(self.task.error(ErrorKind::InvalidContent, detail).into()))
            }
            _ => Ok(()),
        }
    }

    /// Whether a blob whose last answer got lost is there, if it is large enough to ask before it is sent again.
    async fn has_arrived(&self) -> bool {
        self.blob.size >= MIN_BLOB_TO_CHECK && self.is_there().await
    }

    async fn is_there(&self) -> bool {
        matches!(self.client.has_blob(self.repository, self.blob).await, Ok(true))
    }
}

/// The rungs that one upload goes down.
struct Descent<'a> {
    ladder: &'a Ladder,
    size: u64,
    rung: Rung,
    tried: Vec<Rung>,
    /// Why the last rung did not do.
    cause: Option<DescentReason>,
    lost: u32,
    broken: u32,
    /// What to say if it was a broken connection that led to a rung which does not do either.
    broke_with: Option<RegistryError>,
}

impl<'a> Descent<'a> {
    fn new(ladder: &'a Ladder, size: u64) -> Self {
        let rung = ladder.first(size, Instant::now());
        Self { ladder, size, rung, tried: vec![rung], cause: None, lost: 0, broken: 0, broke_with: None }
    }

    /// Goes to the next rung.
    ///
    /// # Errors
    /// `error`, when there is none.
    fn below(&mut self, error: RegistryError, cause: DescentReason) -> Result<(), RegistryError> {
        if self.tried.len() == 1 && cause != DescentReason::Broke {
            self.ladder.forget();
        }
        let Some(rung) = self.ladder.below(&self.tried, cause) else {
            return Err(self.broke_with.take().unwrap_or(error));
        };
        tracing::debug!(error = %error.message, ?rung, "the registry is to take the upload in another way");
        (self.rung, self.cause) = (rung, Some(cause));
        self.tried.push(rung);
        Ok(())
    }

    /// The registry does not know a session that it has just opened: once that may have been a restart.
    fn is_lost_again(&mut self) -> bool {
        self.lost += 1;
        self.lost == 2 && self.rung != Rung::Chunks
    }

    /// A connection broke. One that does so again may be cut at a certain size or time: chunks can get through.
    fn broke(&mut self, error: &RegistryError) {
        self.broken += 1;
        let is_worth_it = self.broken >= 2 && self.size >= MIN_BLOB_TO_CHECK && self.rung != Rung::Chunks;
        if is_worth_it && self.below(error.clone(), DescentReason::Broke).is_ok() {
            self.broke_with = Some(error.clone());
        }
    }

    /// The upload worked out.
    fn arrived(&self) {
        if let Some(cause) = self.cause {
            self.ladder.worked(self.rung, self.size, cause, Instant::now());
        }
    }
}

/// From this size on a question is worth it before the bytes are sent again, and chunks before they are cut again.
const MIN_BLOB_TO_CHECK: u64 = 1024 * 1024;

/// Up to this size the bytes that come for nothing, where the blob is there after all, are not worth waiting for an answer.
const MAX_PREFETCHED_BLOB: u64 = 1024 * 1024;

const CHUNK_MEMORY_PER_UPLOAD: u64 = 4 * 1024 * 1024;
const MAX_CHUNK_MEMORY: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests;

//! Uploads of blobs: by a mount, or through an upload session on the first rung of the ladder that the registry takes.

mod ahead;
mod blob_upload;
mod body;
mod chunks;
mod descent;
pub(crate) mod ladder;
mod session;
mod source;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::image::{Descriptor, RepositoryName};
use crate::registry::content::blobs::{BlobStream, Blobs};
use crate::registry::error::RegistryError;
use crate::registry::http::limiter::Load;
use crate::registry::session::Session;
use crate::registry::upload::ahead::{OpenResult, open_while};
use crate::registry::upload::blob_upload::{BlobUpload, Completion, Mount};
use crate::registry::upload::descent::Descent;
use crate::registry::upload::ladder::{DescentReason, Ladder, MAX_CHUNK, Rung, UploadProfile};
pub(crate) use crate::registry::upload::session::uploads_given_up;
use crate::registry::upload::session::{Payload, UploadError, UploadSession};

/// The way in which a blob came to the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadOutcome {
    /// The registry had it in another repository: no byte was sent.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

/// The uploads to one registry.
pub(crate) struct Uploads {
    session: Arc<Session>,
    blobs: Blobs,
    ladder: Ladder,
    /// The memory for chunks, in KiB. It is waited for with a permit to write and without one to read, so that its
    /// holder can always proceed.
    chunk_memory: Semaphore,
}

impl Uploads {
    /// `concurrency` is the number of blobs that are written at once.
    pub(crate) fn new(session: Arc<Session>, blobs: Blobs, profile: UploadProfile, concurrency: usize) -> Self {
        let chunk_memory = Semaphore::new(chunk_memory(concurrency));
        Self { session, blobs, ladder: Ladder::new(profile), chunk_memory }
    }

    /// Replaces the profile, and forgets everything learned.
    #[cfg(test)]
    pub(crate) fn set_profile(&mut self, profile: UploadProfile) {
        self.ladder = Ladder::new(profile);
    }

    /// Uploads a blob: POST (with `mount` and `from`) and, unless mounted, PUT of the stream that `open` returns.
    ///
    /// A registry that does not take that gets the bytes with PATCH, whole or in chunks; the rung that it takes is
    /// remembered for an hour. `open` is called again for each attempt. The last byte of the stream is sent only after
    /// the stream has ended without an error, so content that turns out to be wrong never becomes a blob.
    ///
    /// # Errors
    /// Errors of `open` and its stream come out unchanged. Only within an upload in chunks it is opened again, up to
    /// 3 times, and bytes that the registry has are not sent again.
    pub(crate) async fn upload<F, Fut>(
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
        let http = self.session.http();
        let operation = http.operation("uploading the blob", format_args!("{repository}@{}", blob.digest));
        let upload = BlobUpload {
            session: &self.session,
            blobs: &self.blobs,
            ladder: &self.ladder,
            chunk_memory: &self.chunk_memory,
            repository,
            blob,
            operation: &operation,
        };
        let mount_from = mount_from.filter(|_| self.ladder.may_mount(Instant::now()));
        let is_streamed = self.ladder.first(blob.size, Instant::now()) != Rung::Chunks;
        // A mount from the repository itself is an existence check; small blobs are opened at the source meanwhile.
        let (asks_first, asks_ahead) = match mount_from {
            Some(from) if from == repository && is_streamed && blob.size <= MAX_PREFETCHED_BLOB => (None, Some(from)),
            mount_from => (mount_from, None),
        };
        let mounted = match asks_first {
            Some(from) => {
                let _permit = http.write_permit(Load::Small).await;
                upload.mount(from).await?
            }
            None => Mount::None,
        };
        let session = match mounted {
            Mount::Blob => return Ok(UploadOutcome::Mounted),
            Mount::Session(session) => Some(session),
            Mount::None => None,
        };
        // A session is opened under the permit for its bytes: without one, both would wait for the same permit.
        let _permit = http.write_permit(Load::of_blob(blob.size)).await;
        let (mounted, ahead) = match asks_ahead {
            Some(from) => open_while(upload.mount(from), open()).await,
            None => (Ok(Mount::None), None),
        };
        let session = match mounted? {
            Mount::Blob => return Ok(UploadOutcome::Mounted),
            Mount::Session(session) => Some(session),
            Mount::None => session,
        };
        transfer(&upload, session, ahead, &open).await.map(|()| UploadOutcome::Uploaded)
    }
}

/// Sends the bytes, in `session` or else a new one, on the first rung that the registry takes. `ahead` is the source,
/// if it is open already.
async fn transfer<F, Fut>(
    upload: &BlobUpload<'_>,
    mut session: Option<UploadSession>,
    mut ahead: Option<OpenResult>,
    open: &F,
) -> Result<(), RegistryError>
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Result<BlobStream, RegistryError>> + Send,
{
    // A further session needs no other token than the first one.
    let scopes = session.as_ref().map_or_else(|| upload.scopes(None), |session| session.scopes.clone());
    let mut retries = upload.session.http().retries();
    let mut descent = Descent::new(upload.ladder, upload.blob.size);
    let mut is_first = true;
    loop {
        let opened = match session.take() {
            Some(session) => Ok(session),
            // The source is opened meanwhile; once only, as a registry that opens no session may not do so for long.
            None if is_first && ahead.is_none() && descent.rung != Rung::Chunks && upload.blob.size > 0 => {
                let (session, stream) = open_while(upload.begin(&scopes), open()).await;
                ahead = stream;
                session.map_err(UploadError::Refused)
            }
            None => upload.begin(&scopes).await.map_err(UploadError::Refused),
        };
        is_first = false;
        let ended = match opened {
            Ok(session) => fill(upload, session, descent.rung, ahead.take(), open).await,
            Err(error) => Err(error),
        };
        ahead = None;
        let (failed, is_all_sent) = match ended {
            Ok(()) => {
                descent.succeeded();
                return Ok(());
            }
            Err(UploadError::Source(error)) => return Err(error),
            Err(UploadError::Method { error, reason }) => {
                descent.descend(error, reason)?;
                continue;
            }
            Err(UploadError::SessionLost(failed)) if descent.is_lost_again() => {
                descent.descend(failed.error, DescentReason::Refused)?;
                continue;
            }
            Err(UploadError::Connection { failed, is_all_sent }) => {
                descent.connection_broke(&failed.error);
                (failed, is_all_sent)
            }
            Err(UploadError::SessionLost(failed) | UploadError::Refused(failed)) => (failed, false),
        };
        retries.again(failed).await?;
        if is_all_sent && has_arrived(upload).await {
            return Ok(());
        }
    }
}

/// Sends the bytes into `session` on one rung, and completes it.
async fn fill<F, Fut>(
    upload: &BlobUpload<'_>,
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
        Rung::Put => Some(&upload.blob.digest),
        Rung::Patch => None,
        Rung::Chunks => {
            // The source is opened again for chunks: an open one holds a permit there that they would wait for.
            drop(ahead);
            return chunks::send(upload, session, open).await;
        }
    };
    if complete.is_some() || upload.blob.size > 0 {
        let opened = match ahead {
            Some(opened) => opened,
            None => open().await,
        };
        let payload = Payload::Whole(opened.map_err(UploadError::Source)?, upload.blob.size);
        let response = session.send(payload, complete).await?;
        if !response.status().is_success() {
            let refused = session.read_refusal(response).await;
            return Err(session.judge(&refused));
        }
        if complete.is_some() {
            return upload.accept(&mut session, &response);
        }
        session.follow(&response).map_err(UploadError::Refused)?;
    }
    match upload.complete(&mut session).await? {
        Completion::Blob => Ok(()),
        Completion::Refused(refused) => Err(session.judge(&refused)),
    }
}

/// Returns true if a blob whose last response got lost exists; a small one is sent again instead of checked.
async fn has_arrived(upload: &BlobUpload<'_>) -> bool {
    upload.blob.size >= descent::MIN_BLOB_TO_CHECK && upload.exists().await
}

/// Returns the memory for chunks if `concurrency` blobs are written at once, in KiB.
fn chunk_memory(concurrency: usize) -> usize {
    let bytes = (concurrency as u64).saturating_mul(CHUNK_MEMORY_PER_UPLOAD).clamp(MAX_CHUNK, MAX_CHUNK_MEMORY);
    (bytes / 1024) as usize
}

/// Up to this size, bytes that are read in vain, as the blob exists after all, cost less than waiting for that answer.
const MAX_PREFETCHED_BLOB: u64 = 1024 * 1024;

const CHUNK_MEMORY_PER_UPLOAD: u64 = 4 * 1024 * 1024;
const MAX_CHUNK_MEMORY: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests;

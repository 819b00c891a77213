//! Sends a blob into an upload session in chunks; after a failure it continues from the bytes that the registry has.

use crate::registry::content::blobs::BlobStream;
use crate::registry::error::{AttemptError, ErrorKind, RegistryError};
use crate::registry::http::response::{ErrorResponse, is_passing};
use crate::registry::upload::blob_upload::{BlobUpload, Completion};
use crate::registry::upload::ladder::DescentReason;
use crate::registry::upload::session::{Payload, UploadError, UploadSession};
use crate::registry::upload::source::ResumingSource;

/// Sends the blob of `upload` into `session`.
///
/// Holds one chunk in memory, out of the budget of the client.
pub(super) async fn send<F, Fut>(upload: &BlobUpload<'_>, session: UploadSession, open: &F) -> Result<(), UploadError>
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Result<BlobStream, RegistryError>> + Send,
{
    let Some(size) = upload.ladder.chunk(session.min_chunk, tokio::time::Instant::now()) else {
        let detail = format!("the registry takes no chunks of less than {} bytes", session.min_chunk);
        let error = upload.operation.error(ErrorKind::Unsupported, detail);
        return Err(UploadError::Method { error, reason: DescentReason::Refused });
    };
    let kib = u32::try_from(size.div_ceil(1024)).unwrap_or(u32::MAX);
    let _memory = upload.chunk_memory.acquire_many(kib).await.expect("the semaphore is never closed");
    // Twice as long as the source itself waits, so that its own deadline, whose error is more precise, comes first.
    let patience = 2 * upload.session.http().deadlines().idle;
    let source = ResumingSource::new(open, upload.blob, upload.operation, patience);
    let mut sending = ChunkedUpload { upload, session, source, size, offset: 0, corrections: 0 };
    loop {
        while sending.offset < upload.blob.size {
            sending.step().await?;
        }
        if sending.complete().await? {
            return Ok(());
        }
    }
}

struct ChunkedUpload<'a, F> {
    upload: &'a BlobUpload<'a>,
    session: UploadSession,
    source: ResumingSource<'a, F>,
    /// The size of a chunk.
    size: u64,
    /// The number of bytes that the registry has.
    offset: u64,
    /// The number of times that the registry had other bytes than expected.
    corrections: u32,
}

impl<F, Fut> ChunkedUpload<'_, F>
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Result<BlobStream, RegistryError>> + Send,
{
    /// Sends the next chunk, or finds out where to continue.
    async fn step(&mut self) -> Result<(), UploadError> {
        let mut retries = self.upload.session.http().retries();
        let start = self.offset;
        while self.offset == start {
            let chunk = self.source.chunk(self.offset, self.size).await.map_err(UploadError::Source)?;
            let end = start + chunk.len() as u64;
            let failed = match self.session.send(Payload::Chunk(chunk, start), None).await {
                Ok(response) if response.status().is_success() => {
                    self.session.follow(&response).map_err(UploadError::Refused)?;
                    // The header `Range` is ignored: ECR's stays at the first chunk, zot's is that of the last one.
                    self.offset = end;
                    return Ok(());
                }
                Ok(response) => {
                    let refused = self.session.read_refusal(response).await;
                    match self.refused(refused, end).await? {
                        Some(failed) => failed,
                        None => continue,
                    }
                }
                Err(UploadError::Connection { failed, .. }) => failed,
                Err(other) => return Err(other),
            };
            let retried = retries.again(failed).await;
            retried.map_err(|error| UploadError::Refused(AttemptError::last(error)))?;
            let stored = self.session.stored().await?;
            self.continue_from(stored, end)?;
        }
        Ok(())
    }

    /// Draws the conclusion from a refused chunk that ends at `end`. An error in `Ok` is worth a retry as it is.
    async fn refused(&mut self, refused: ErrorResponse, end: u64) -> Result<Option<AttemptError>, UploadError> {
        let failed = refused.attempt_error(self.upload.operation);
        let status = refused.status.as_u16();
        match status {
            _ if is_passing(refused.status) || failed.error.kind == ErrorKind::RateLimited => Ok(Some(failed)),
            413 => {
                let (min, now) = (self.session.min_chunk, tokio::time::Instant::now());
                let smaller = self.upload.ladder.smaller_chunk(end - self.offset, min, now);
                let too_large = UploadError::Method { error: failed.error, reason: DescentReason::TooLarge };
                self.size = smaller.ok_or(too_large)?;
                Ok(None)
            }
            // zot answers 400 to a chunk out of order.
            416 => self.correct(failed, end).await.map(|()| None),
            400 if self.offset > 0 => self.correct(failed, end).await.map(|()| None),
            _ => Err(match self.session.judge(&refused) {
                UploadError::Method { error, reason: DescentReason::Refused } if self.offset > 0 => {
                    UploadError::SessionLost(AttemptError::retried(error))
                }
                error => error,
            }),
        }
    }

    /// Continues from the offset that the registry states, as it does not take the bytes at `self.offset`.
    async fn correct(&mut self, failed: AttemptError, end: u64) -> Result<(), UploadError> {
        let stored = self.session.stored().await?;
        if stored != self.offset {
            return self.continue_from(stored, end);
        }
        Err(match self.offset {
            0 => UploadError::Method { error: failed.error, reason: DescentReason::Refused },
            _ => UploadError::Refused(failed),
        })
    }

    /// Continues from `stored`, after everything up to `end` was sent.
    fn continue_from(&mut self, stored: u64, end: u64) -> Result<(), UploadError> {
        if stored > end {
            let detail = "the registry says that it has more of an upload than was sent";
            let error = self.upload.operation.error(ErrorKind::Unavailable, detail);
            return Err(UploadError::SessionLost(AttemptError::retried(error)));
        }
        if stored != self.offset && stored != end {
            self.corrections += 1;
        }
        if self.corrections > MAX_CORRECTIONS {
            let detail = "the registry loses what was sent again and again";
            let error = self.upload.operation.error(ErrorKind::Unavailable, detail);
            return Err(UploadError::Refused(AttemptError::last(error)));
        }
        self.offset = stored;
        Ok(())
    }

    /// Makes a blob of the bytes that were sent; returns false if the registry lacks some of them.
    async fn complete(&mut self) -> Result<bool, UploadError> {
        let refused = match self.upload.complete(&mut self.session).await? {
            Completion::Blob => return Ok(true),
            Completion::Refused(refused) => refused,
        };
        let failed = refused.attempt_error(self.upload.operation);
        // A registry that misses bytes says so with 416, Distribution with 400 (distribution-spec#590).
        if !matches!(refused.status.as_u16(), 400 | 416) {
            return Err(match self.session.judge(&refused) {
                UploadError::Method { error, .. } => UploadError::SessionLost(AttemptError::retried(error)),
                error => error,
            });
        }
        match self.session.stored().await {
            Ok(stored) if stored < self.offset => self.continue_from(stored, self.offset).map(|()| false),
            Ok(_) | Err(UploadError::SessionLost(_)) => Err(UploadError::Refused(failed)),
            Err(other) => Err(other),
        }
    }
}

/// The corrections of the offset that one session may need.
const MAX_CORRECTIONS: u32 = 8;

#[cfg(test)]
mod tests;

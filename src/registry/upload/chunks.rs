//! Sends a blob into an upload session in chunks; where something breaks, it goes on from what the registry has.

use crate::registry::client::BlobStream;
use crate::registry::error::{AttemptError, ErrorKind, MAX_TRIES, RegistryError};
use crate::registry::http::response::{ErrorResponse, is_passing};
use crate::registry::upload::ladder::DescentReason;
use crate::registry::upload::session::{Payload, UploadError, UploadSession, given_up};
use crate::registry::upload::source::ResumingSource;
use crate::registry::upload::{Completed, Upload};

/// Sends the blob of `upload` into `session`.
///
/// Holds one chunk in memory, out of the budget of the client.
pub(super) async fn send<F, Fut>(upload: &Upload<'_>, session: UploadSession, open: &F) -> Result<(), UploadError>
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Result<BlobStream, RegistryError>> + Send,
{
    let inner = upload.inner;
    let Some(size) = inner.ladder.chunk(session.min_chunk, tokio::time::Instant::now()) else {
        let detail = format!("the registry takes no chunks of less than {} bytes", session.min_chunk);
        return Err(UploadError::Method(upload.task.error(ErrorKind::Unsupported, detail), DescentReason::Refused));
    };
    let kib = u32::try_from(size.div_ceil(1024)).unwrap_or(u32::MAX);
    let _memory = inner.chunk_memory.acquire_many(kib).await.expect("the semaphore is never closed");
    // Twice as long as the source itself waits, so that its own deadline, which knows more, comes first.
    let source = ResumingSource::new(open, upload.blob, upload.task, 2 * inner.deadlines.idle);
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
    upload: &'a Upload<'a>,
    session: UploadSession,
    source: ResumingSource<'a, F>,
    /// The size of a chunk.
    size: u64,
    /// How many bytes the registry has.
    offset: u64,
    /// How often the registry had other bytes than we thought.
    corrections: u32,
}

impl<F, Fut> ChunkedUpload<'_, F>
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Result<BlobStream, RegistryError>> + Send,
{
    /// Sends the next chunk, or finds out where to go on.
    async fn step(&mut self) -> Result<(), UploadError> {
        let mut retries = self.upload.inner.retries();
        let start = self.offset;
        while self.offset == start {
            let chunk = self.source.chunk(self.offset, self.size).await.map_err(UploadError::Source)?;
            let end = start + chunk.len() as u64;
            let failure = match self.session.send(Payload::Chunk(chunk, start), None).await {
                Ok(answer) if answer.status().is_success() => {
                    self.session.follow(&answer).map_err(UploadError::Refused)?;
                    // What `Range` says is not looked at: ECR's stays at the first chunk, zot's is that of the last one.
                    self.offset = end;
                    return Ok(());
                }
                Ok(answer) => {
                    let refusal = self.session.refusal(answer).await;
                    match self.refused(refusal, end).await? {
                        Some(failure) => failure,
                        None => continue,
                    }
                }
                Err(UploadError::Connection(failure, _)) => failure,
                Err(other) => return Err(other),
            };
            retries.again(failure).await.map_err(|error| UploadError::Refused(given_up(error)))?;
            let has = self.session.ask().await?;
            self.go_on_from(has, end)?;
        }
        Ok(())
    }

    /// Draws the conclusion from a refused chunk that ends at `end`: a failure is worth another try as it is.
    async fn refused(&mut self, refusal: ErrorResponse, end: u64) -> Result<Option<AttemptError>, UploadError> {
        let failure = refusal.failure(self.upload.task);
        let status = refusal.status.as_u16();
        match status {
            _ if is_passing(refusal.status) || failure.error.kind == ErrorKind::RateLimited => Ok(Some(failure)),
            413 => {
                let (least, now) = (self.session.min_chunk, tokio::time::Instant::now());
                let smaller = self.upload.inner.ladder.smaller_chunk(end - self.offset, least, now);
                self.size = smaller.ok_or(UploadError::Method(failure.error, DescentReason::TooLarge))?;
                Ok(None)
            }
            // zot answers 400 to a chunk out of order.
            416 => self.correct(failure, end).await.map(|()| None),
            400 if self.offset > 0 => self.correct(failure, end).await.map(|()| None),
            _ => Err(match self.session.judge(&refusal) {
                UploadError::Method(error, DescentReason::Refused) if self.offset > 0 => {
                    UploadError::Lost(AttemptError { error, max_tries: MAX_TRIES })
                }
                broken => broken,
            }),
        }
    }

    /// Goes on from where the registry says that it is, as it does not take what follows `self.offset`.
    async fn correct(&mut self, refused: AttemptError, end: u64) -> Result<(), UploadError> {
        let has = self.session.ask().await?;
        if has != self.offset {
            return self.go_on_from(has, end);
        }
        Err(match self.offset {
            0 => UploadError::Method(refused.error, DescentReason::Refused),
            _ => UploadError::Refused(refused),
        })
    }

    /// Goes on from `has`, when everything up to `end` was sent.
    fn go_on_from(&mut self, has: u64, end: u64) -> Result<(), UploadError> {
        if has > end {
            let detail = "the registry says that it has more of an upload than was sent";
            let error = self.upload.task.error(ErrorKind::Unavailable, detail);
            return Err(UploadError::Lost(AttemptError { error, max_tries: MAX_TRIES }));
        }
        if has != self.offset && has != end {
            self.corrections += 1;
        }
        if self.corrections > MAX_CORRECTIONS {
            let detail = "the registry loses what was sent again and again";
            return Err(UploadError::Refused(given_up(self.upload.task.error(ErrorKind::Unavailable, detail))));
        }
        self.offset = has;
        Ok(())
    }

    /// Makes a blob of what was sent; whether that is all.
    async fn complete(&mut self) -> Result<bool, UploadError> {
        let refusal = match self.upload.complete(&mut self.session).await? {
            Completed::Blob => return Ok(true),
            Completed::Refused(refusal) => refusal,
        };
        let failure = refusal.failure(self.upload.task);
        // A registry that misses bytes says so with 416, Distribution with 400 (distribution-spec#590).
        if !matches!(refusal.status.as_u16(), 400 | 416) {
            return Err(match self.session.judge(&refusal) {
                UploadError::Method(error, _) => UploadError::Lost(AttemptError { error, max_tries: MAX_TRIES }),
                broken => broken,
            });
        }
        match self.session.ask().await {
            Ok(has) if has < self.offset => self.go_on_from(has, self.offset).map(|()| false),
            Ok(_) | Err(UploadError::Lost(_)) => Err(UploadError::Refused(failure)),
            Err(other) => Err(other),
        }
    }
}

/// How often one session may turn out to be at another offset than we thought.
const MAX_CORRECTIONS: u32 = 8;

#[cfg(test)]
mod tests;

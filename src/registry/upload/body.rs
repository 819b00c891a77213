//! The body of an upload: counts its bytes, holds the last ones back until the source has ended well, detects stalls.

use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::time::Instant;

use crate::locked::Locked;
use crate::registry::content::blobs::BlobStream;
use crate::registry::error::{ErrorKind, Operation, RegistryError};

/// Bytes from a source, on the way into a request.
pub(super) struct UploadBody {
    source: BlobStream,
    /// The number of bytes that the source still owes.
    owed: u64,
    /// The piece that would complete the request.
    last: Option<Bytes>,
    is_ended: bool,
    progress: Arc<UploadProgress>,
    operation: Operation,
}

impl UploadBody {
    /// `size` is the number of bytes that the request announces; at least one.
    pub(super) fn new(source: BlobStream, size: u64, progress: Arc<UploadProgress>, operation: Operation) -> Self {
        Self { source, owed: size, last: None, is_ended: false, progress, operation }
    }

    /// Ends the request because of the source.
    fn fail(&mut self, error: RegistryError) -> Poll<Option<Result<Bytes, SourceError>>> {
        self.is_ended = true;
        self.progress.state().source_error = Some(error);
        Poll::Ready(Some(Err(SourceError)))
    }

    fn fail_size(&mut self, what: &str) -> Poll<Option<Result<Bytes, SourceError>>> {
        let error =
            self.operation.error(ErrorKind::InvalidContent, format!("the source gave {what} bytes than stated"));
        self.fail(error)
    }
}

impl Stream for UploadBody {
    type Item = Result<Bytes, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        loop {
            self.progress.moved(true);
            let next = ready!(self.source.poll_next_unpin(context));
            self.progress.moved(false);
            match next {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) if piece.len() as u64 > self.owed => return self.fail_size("more"),
                Some(Ok(piece)) => {
                    self.owed -= piece.len() as u64;
                    if self.owed > 0 {
                        return Poll::Ready(Some(Ok(piece)));
                    }
                    self.last = Some(piece);
                }
                Some(Err(error)) => return self.fail(error),
                None if self.owed > 0 => return self.fail_size("fewer"),
                None => {
                    self.is_ended = true;
                    self.progress.state().is_all_sent = true;
                    return Poll::Ready(self.last.take().map(Ok));
                }
            }
        }
    }
}

/// Ends the body of a request whose source failed; [`UploadProgress`] keeps the error of the source.
#[derive(Debug, thiserror::Error)]
#[error("the source of the upload failed")]
pub(super) struct SourceError;

/// The progress of an upload, shared by its body and the sender of the request.
pub(super) struct UploadProgress {
    idle: Duration,
    state: Locked<UploadBodyState>,
}

struct UploadBodyState {
    last_move: Instant,
    is_waiting_for_source: bool,
    is_all_sent: bool,
    source_error: Option<RegistryError>,
}

impl UploadProgress {
    /// `idle` is the longest time without progress.
    pub(super) fn new(idle: Duration) -> Self {
        let (last_move, is_waiting_for_source, is_all_sent) = (Instant::now(), false, false);
        let state = UploadBodyState { last_move, is_waiting_for_source, is_all_sent, source_error: None };
        Self { idle, state: Locked::new(state) }
    }

    /// Waits until there is no progress for too long, and returns the error. A source has twice the time, so that its
    /// own deadline, whose error is more precise, comes first; if none comes, the source counts as failed.
    pub(super) async fn stalled(&self, operation: &Operation) -> RegistryError {
        loop {
            let end = {
                let mut state = self.state();
                let allowed = if state.is_waiting_for_source { 2 * self.idle } else { self.idle };
                let end = state.last_move + allowed;
                if Instant::now() >= end {
                    let what = if state.is_waiting_for_source { "the source gave" } else { "the registry took" };
                    let error = operation.error(ErrorKind::Unavailable, format!("{what} nothing for {allowed:?}"));
                    if state.is_waiting_for_source {
                        state.source_error = Some(error.clone());
                    }
                    return error;
                }
                end
            };
            tokio::time::sleep_until(end).await;
        }
    }

    /// Returns the failure of the source, if that ended the upload.
    pub(super) fn take_source_error(&self) -> Option<RegistryError> {
        self.state().source_error.take()
    }

    /// Returns true if the connection was given all bytes.
    pub(super) fn is_all_sent(&self) -> bool {
        self.state().is_all_sent
    }

    fn moved(&self, is_waiting_for_source: bool) {
        let mut state = self.state();
        if !(is_waiting_for_source && state.is_waiting_for_source) {
            state.last_move = Instant::now();
        }
        state.is_waiting_for_source = is_waiting_for_source;
    }

    fn state(&self) -> MutexGuard<'_, UploadBodyState> {
        self.state.lock()
    }
}

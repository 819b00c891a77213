//! The body of an upload: counts its bytes, keeps the last ones back until the source has ended well, sees stalls.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::registry::client::BlobStream;
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::time::Instant;

/// Bytes from a source, on the way into a request.
pub(super) struct UploadBody {
    source: BlobStream,
    /// How many bytes the source still owes.
    owed: u64,
    /// The piece that would complete the request.
    last: Option<Bytes>,
    is_ended: bool,
    progress: Arc<UploadProgress>,
    task: Operation,
}

impl UploadBody {
    /// `size` is how many bytes the request announces; at least one.
    pub(super) fn new(source: BlobStream, size: u64, progress: Arc<UploadProgress>, task: Operation) -> Self {
        Self { source, owed: size, last: None, is_ended: false, progress, task }
    }

    /// Ends the request for a reason that lies in the source.
    fn fail(&mut self, error: RegistryError) -> Poll<Option<Result<Bytes, SourceError>>> {
        self.is_ended = true;
        self.progress.state().source_error = Some(error);
        Poll::Ready(Some(Err(SourceError)))
    }

    fn fail_size(&mut self, what: &str) -> Poll<Option<Result<Bytes, SourceError>>> {
        let error = self.task.error(ErrorKind::InvalidContent, format!("the source gave {what} bytes than stated"));
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
                    self.progress.state().is_all_given = true;
                    return Poll::Ready(self.last.take().map(Ok));
                }
            }
        }
    }
}

/// What the body of a request ends with when its source failed; the reason itself is kept in [`UploadProgress`].
#[derive(Debug, thiserror::Error)]
#[error("the source of the upload failed")]
pub(super) struct SourceError;

/// How an upload gets on, seen from both ends.
pub(super) struct UploadProgress {
    idle: Duration,
    state: Mutex<UploadState>,
}

struct UploadState {
    last_move: Instant,
    is_waiting_for_source: bool,
    is_all_given: bool,
    source_error: Option<RegistryError>,
}

impl UploadProgress {
    /// `idle` is how long nothing may move.
    pub(super) fn new(idle: Duration) -> Self {
        let (last_move, is_waiting_for_source, is_all_given) = (Instant::now(), false, false);
        let state = UploadState { last_move, is_waiting_for_source, is_all_given, source_error: None };
        Self { idle, state: Mutex::new(state) }
    }

    /// Waits until nothing has moved for too long; says so in words. A source that is waited for has twice the time,
    /// so that its own deadline, which knows more, comes first; if none comes, it is the source that has failed.
    pub(super) async fn stalled(&self, task: &Operation) -> RegistryError {
        loop {
            let end = {
                let mut state = self.state();
                let allowed = if state.is_waiting_for_source { 2 * self.idle } else { self.idle };
                let end = state.last_move + allowed;
                if Instant::now() >= end {
                    let what = if state.is_waiting_for_source { "the source gave" } else { "the registry took" };
                    let error = task.error(ErrorKind::Unavailable, format!("{what} nothing for {allowed:?}"));
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

    /// The failure of the source, if that is what ended the upload.
    pub(super) fn take_source_error(&self) -> Option<RegistryError> {
        self.state().source_error.take()
    }

    /// Whether the connection was given all bytes.
    pub(super) fn is_all_given(&self) -> bool {
        self.state().is_all_given
    }

    fn moved(&self, is_waiting_for_source: bool) {
        let mut state = self.state();
        if !(is_waiting_for_source && state.is_waiting_for_source) {
            state.last_move = Instant::now();
        }
        state.is_waiting_for_source = is_waiting_for_source;
    }

    fn state(&self) -> MutexGuard<'_, UploadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

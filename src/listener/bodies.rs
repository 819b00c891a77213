//! Reads the bodies of requests within bounds of size, time and bytes in flight.

use std::ops::Deref;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use futures::StreamExt;

use super::room::{Place, Room};

/// The bodies of one port that are read or in use at once.
#[derive(Clone)]
pub(crate) struct Bodies {
    room: Room,
    /// In bytes.
    max_body: usize,
    /// The time for a body, and the time that it waits for room.
    within: Duration,
}

/// A body; it takes room until it is dropped.
pub(crate) struct HeldBody {
    bytes: Bytes,
    _place: Place,
}

/// The cause for which a body is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is larger than the port takes.
    #[error("the body is too large")]
    TooLarge,
    /// It did not arrive in time, or broke off.
    #[error("the body did not arrive in time")]
    Late,
    /// Others take all the room.
    #[error("too many bodies are being read: try again")]
    Full,
}

impl Bodies {
    /// Bounds each body to `max_body` bytes, at most half of [`MAX_IN_FLIGHT`], which bounds all of them together.
    pub(crate) fn new(max_body: usize) -> Self {
        Self::within(BODY_TIMEOUT, max_body)
    }

    /// Bounds the time of a body too.
    pub(super) fn within(within: Duration, max_body: usize) -> Self {
        Self { room: Room::new(MAX_IN_FLIGHT / 1024), max_body, within }
    }

    /// Reads a body of `sender`; to be called once that is known. A sender leaves as much room as it takes.
    ///
    /// # Errors
    /// [`BodyError`].
    pub(crate) async fn read(&self, sender: &str, body: Body) -> Result<HeldBody, BodyError> {
        let stated = body.size_hint().exact().unwrap_or(self.max_body as u64);
        if stated > self.max_body as u64 {
            discard(body, self.max_body, self.within).await;
            return Err(BodyError::TooLarge);
        }
        let kibibytes = usize::try_from(stated.div_ceil(1024)).map_err(|_| BodyError::TooLarge)?;
        let place = tokio::time::timeout(self.within, self.room.take(sender, kibibytes)).await;
        let Ok(Some(place)) = place else { return Err(BodyError::Full) };
        match tokio::time::timeout(self.within, axum::body::to_bytes(body, self.max_body)).await {
            Ok(Ok(bytes)) => Ok(HeldBody { bytes, _place: place }),
            // A body without a length may turn out to be larger.
            Ok(Err(error)) if is_length_limit(&error) => Err(BodyError::TooLarge),
            Ok(Err(_)) | Err(_) => Err(BodyError::Late),
        }
    }
}

/// Reads the beginning of a stranger's body and keeps nothing of it: the end of a connection with unread bytes may
/// overtake the answer.
pub(crate) async fn discard_stranger(body: Body) {
    discard(body, STRANGERS_BODY, STRANGERS_TIME).await;
}

async fn discard(body: Body, limit: usize, within: Duration) {
    let (mut frames, mut read) = (body.into_data_stream(), 0);
    let reading = async {
        while let Some(Ok(frame)) = frames.next().await {
            read += frame.len();
            if read > limit {
                return;
            }
        }
    };
    // Late or not, the answer is the same.
    let _ = tokio::time::timeout(within, reading).await;
}

impl Deref for HeldBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl BodyError {
    /// Returns the status of the answer.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

/// The bytes of a stranger's body that are read, and the time for them.
const STRANGERS_BODY: usize = 64 * 1024;
const STRANGERS_TIME: Duration = Duration::from_secs(1);
/// The bytes of all bodies of a port that are read or in use.
const MAX_IN_FLIGHT: usize = 8 * 1024 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

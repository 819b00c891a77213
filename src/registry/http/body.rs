//! Reads bodies of responses, within bounds and deadlines.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout, timeout_at};

use crate::registry::error::{ErrorKind, HttpError};
use crate::registry::http::deadlines::Deadlines;
use crate::registry::http::encoding;
use crate::registry::http::transport::root_cause;

/// Reads the whole body of `response` into memory.
///
/// # Errors
/// `TooLarge` over `limit` bytes, decoded or not; `Unavailable` if the body breaks, stalls, or drips past the deadline;
/// `InvalidContent` if it is encoded in a way that is not known.
pub(crate) async fn read(response: reqwest::Response, limit: usize, deadlines: &Deadlines) -> Result<Bytes, HttpError> {
    let whole = deadlines.whole_body;
    match timeout(whole, collect(response, limit, deadlines)).await {
        Ok(result) => result,
        Err(_) => Err(stalled(format!("the answer did not end within {whole:?}"))),
    }
}

/// Reads the body of `response` as far as it comes within `limit` bytes and `deadline`; never fails.
pub(crate) async fn read_beginning(mut response: reqwest::Response, limit: usize, deadline: Duration) -> Bytes {
    let ends_at = Instant::now() + deadline;
    let mut body = BytesMut::new();
    while let Ok(Ok(Some(piece))) = timeout_at(ends_at, response.chunk()).await {
        body.extend_from_slice(&piece[..piece.len().min(limit - body.len())]);
        if body.len() == limit {
            break;
        }
    }
    encoding::decoded_beginning(response.headers(), body.freeze(), limit)
}

/// Reads the next piece of the body of `response`; `None` at its end.
///
/// # Errors
/// `Unavailable` if the body breaks or stalls.
pub(crate) async fn next_piece(
    response: &mut reqwest::Response,
    deadlines: &Deadlines,
) -> Result<Option<Bytes>, HttpError> {
    match timeout(deadlines.idle, response.chunk()).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) => Err(stalled(format!("the answer broke off: {}", root_cause(&error)))),
        Err(_) => Err(stalled(format!("the answer stalled for {:?}", deadlines.idle))),
    }
}

/// Enforces a minimum rate on a body: the deadline of each piece alone is met by one byte a minute.
#[derive(Default)]
pub(crate) struct MinimumRate {
    /// The time spent waiting for the body; the time in which the caller did not read does not count.
    waited: Duration,
    bytes: usize,
}

impl MinimumRate {
    /// Like [`next_piece`]; `Unavailable` also if fewer than [`MIN_BYTES`] arrive in `idle` of waiting.
    pub(crate) async fn next_piece(
        &mut self,
        response: &mut reqwest::Response,
        deadlines: &Deadlines,
    ) -> Result<Option<Bytes>, HttpError> {
        let asked_at = Instant::now();
        let Some(piece) = next_piece(response, deadlines).await? else { return Ok(None) };
        self.waited += asked_at.elapsed();
        self.bytes += piece.len();
        if self.waited >= deadlines.idle {
            let came = std::mem::take(self).bytes;
            if came < MIN_BYTES {
                return Err(stalled(format!("the answer drips: {came} bytes in {:?}", deadlines.idle)));
            }
        }
        Ok(Some(piece))
    }
}

async fn collect(mut response: reqwest::Response, limit: usize, deadlines: &Deadlines) -> Result<Bytes, HttpError> {
    let too_large = || HttpError::new(ErrorKind::TooLarge, format!("the answer is over {limit} bytes"));
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    while let Some(piece) = next_piece(&mut response, deadlines).await? {
        if body.len() + piece.len() > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    encoding::decoded(response.headers(), body.freeze(), limit)
}

fn stalled(detail: String) -> HttpError {
    HttpError::new(ErrorKind::Unavailable, detail)
}

/// About 1 KiB a second, at the default deadlines.
const MIN_BYTES: usize = 64 * 1024;

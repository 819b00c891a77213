//! Reads a blob in chunks from streams that may break, and makes sure that all that was read is the one right blob.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::{Duration, timeout};

use crate::image::{Descriptor, Digest, DigestHasher};
use crate::registry::client::BlobStream;
use crate::registry::error::{ErrorKind, Operation, RegistryError};

/// A blob that is read chunk by chunk.
///
/// A stream that breaks is opened anew, and what it gives again is passed over. As that may come from another server,
/// it is compared with what was read before by its digest, so that no mixture of two contents comes out whole.
pub(super) struct ResumingSource<'a, F> {
    open: &'a F,
    blob: &'a Descriptor,
    task: &'a Operation,
    /// How long a stream may give nothing.
    patience: Duration,
    stream: Option<OpenStream>,
    /// What was read in earlier streams: its length and its digest.
    earlier: Vec<(u64, Digest)>,
    reopens_left: u32,
    /// The last chunk that came out, and the offset of its first byte.
    held: (u64, Bytes),
}

struct OpenStream {
    stream: BlobStream,
    /// What was taken from the stream and not asked for yet.
    rest: Bytes,
    /// The offset of the first byte of `rest`.
    at: u64,
    hasher: DigestHasher,
}

impl<'a, F, Fut> ResumingSource<'a, F>
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Result<BlobStream, RegistryError>> + Send,
{
    pub(super) fn new(open: &'a F, blob: &'a Descriptor, task: &'a Operation, patience: Duration) -> Self {
        let (earlier, held) = (Vec::new(), (0, Bytes::new()));
        Self { open, blob, task, patience, stream: None, earlier, reopens_left: MAX_REOPENS, held }
    }

    /// The bytes from `from` on, which is not after the end of the last chunk: `length` of them, or all there are. The last ones come out only
    /// after the source has ended well and all bytes were found right.
    ///
    /// # Errors
    /// What the source fails with; `InvalidContent` when size or digest are not those of the blob.
    pub(super) async fn chunk(&mut self, from: u64, length: u64) -> Result<Bytes, RegistryError> {
        let length = length.min(self.blob.size - from);
        let (held_from, held) = &self.held;
        let held_end = held_from + held.len() as u64;
        let mut start = Bytes::new();
        if (*held_from..held_end).contains(&from) {
            let at = (from - held_from) as usize;
            start = held.slice(at..held.len().min(at + length as usize));
        }
        if start.len() as u64 == length {
            return Ok(start);
        }
        self.held = (from, Bytes::new());
        let mut chunk = BytesMut::with_capacity(length as usize);
        chunk.extend_from_slice(&start);
        drop(start);
        while (chunk.len() as u64) < length {
            let at = from + chunk.len() as u64;
            let piece = self.piece(at, length - chunk.len() as u64).await?;
            chunk.extend_from_slice(&piece);
        }
        if from + length == self.blob.size {
            self.check().await?;
        }
        self.held = (from, chunk.freeze());
        Ok(self.held.1.clone())
    }

    /// Some bytes from `at` on, at most `most`.
    async fn piece(&mut self, at: u64, most: u64) -> Result<Bytes, RegistryError> {
        loop {
            if self.stream.as_ref().is_none_or(|reading| reading.at > at) {
                self.reopen().await?;
            }
            let wanted = match &self.stream {
                Some(reading) if reading.at < at => at - reading.at,
                _ => most,
            };
            match self.take(wanted).await {
                Ok((start, piece)) if start == at => return Ok(piece),
                Ok(_) => {}
                Err(error) if error.kind.is_transient() && self.reopens_left > 0 => {
                    tracing::debug!(error = %error.message, at, "the source broke");
                    self.set_aside();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next bytes of the stream, at most `most`, and their offset; hashed.
    async fn take(&mut self, most: u64) -> Result<(u64, Bytes), RegistryError> {
        let reading = self.stream.as_mut().expect("a stream was opened");
        while reading.rest.is_empty() {
            reading.rest = match next(&mut reading.stream, self.patience, self.task).await? {
                Some(piece) => piece,
                None => return Err(wrong(self.task, "fewer bytes than stated")),
            };
        }
        // No piece reaches over a place where an earlier stream ended.
        let places = self.earlier.iter().map(|(end, _)| *end).filter(|end| *end > reading.at);
        let most = places.map(|end| end - reading.at).min().unwrap_or(most).min(most);
        let start = reading.at;
        let piece = reading.rest.split_to(reading.rest.len().min(most as usize));
        reading.hasher.update(&piece);
        reading.at += piece.len() as u64;
        let at = reading.at;
        if let Some((_, expected)) = self.earlier.iter().find(|(end, _)| *end == at)
            && reading.hasher.clone().finish() != *expected
        {
            return Err(wrong(self.task, "other bytes than before"));
        }
        Ok((start, piece))
    }

    async fn reopen(&mut self) -> Result<(), RegistryError> {
        if self.stream.is_some() || !self.earlier.is_empty() {
            self.set_aside();
            if self.reopens_left == 0 {
                return Err(self.task.error(ErrorKind::Unavailable, "the source has to be read too often"));
            }
            self.reopens_left -= 1;
        }
        let hasher = DigestHasher::new(self.blob.digest.algorithm());
        self.stream = Some(OpenStream { stream: (self.open)().await?, rest: Bytes::new(), at: 0, hasher });
        Ok(())
    }

    /// Closes the stream, and keeps the digest of what came out of it.
    fn set_aside(&mut self) {
        if let Some(reading) = self.stream.take() {
            self.earlier.push((reading.at, reading.hasher.finish()));
        }
    }

    /// Makes sure, at the end of the blob, that everything is right.
    async fn check(&mut self) -> Result<(), RegistryError> {
        let Some(mut reading) = self.stream.take() else {
            return Ok(());
        };
        let is_over = reading.rest.is_empty() && next(&mut reading.stream, self.patience, self.task).await?.is_none();
        if !is_over {
            return Err(wrong(self.task, "more bytes than stated"));
        }
        let found = reading.hasher.finish();
        if found != self.blob.digest {
            return Err(wrong(self.task, &format!("content with the digest {found}")));
        }
        self.earlier.push((self.blob.size, found));
        Ok(())
    }
}

/// The next piece of `stream` that is not empty.
async fn next(stream: &mut BlobStream, patience: Duration, task: &Operation) -> Result<Option<Bytes>, RegistryError> {
    loop {
        match timeout(patience, stream.next()).await {
            Ok(Some(Ok(piece))) if piece.is_empty() => {}
            Ok(Some(piece)) => return piece.map(Some),
            Ok(None) => return Ok(None),
            Err(_) => {
                return Err(task.error(ErrorKind::Unavailable, format!("the source gave nothing for {patience:?}")));
            }
        }
    }
}

fn wrong(task: &Operation, what: &str) -> RegistryError {
    task.error(ErrorKind::InvalidContent, format!("the source gave {what}"))
}

/// How often a source is opened again within one session.
const MAX_REOPENS: u32 = 3;

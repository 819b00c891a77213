//! Reads a blob in chunks from streams that may break, and checks that all chunks belong to the one right blob.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::{Duration, timeout};

use crate::image::{Descriptor, Digest, DigestHasher};
use crate::registry::content::blobs::BlobStream;
use crate::registry::error::{ErrorKind, Operation, RegistryError};

/// A blob that is read chunk by chunk.
///
/// A stream that breaks is opened again, and the bytes that were read before are skipped. As they may come from another
/// server, their digest is compared with that of the earlier read, so that no mixture of two contents comes out whole.
pub(super) struct ResumingSource<'a, F> {
    open: &'a F,
    blob: &'a Descriptor,
    operation: &'a Operation,
    /// The longest time without bytes from the stream.
    patience: Duration,
    stream: Option<OpenStream>,
    /// The length and the digest of the bytes that earlier streams gave.
    earlier: Vec<(u64, Digest)>,
    reopens_left: u32,
    /// The last chunk that came out, and the offset of its first byte.
    held: (u64, Bytes),
}

struct OpenStream {
    stream: BlobStream,
    /// The bytes that were taken from the stream and not yet returned.
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
    pub(super) fn new(open: &'a F, blob: &'a Descriptor, operation: &'a Operation, patience: Duration) -> Self {
        let (earlier, held) = (Vec::new(), (0, Bytes::new()));
        Self { open, blob, operation, patience, stream: None, earlier, reopens_left: MAX_REOPENS, held }
    }

    /// Returns `length` bytes from `from` on, or as many as exist. `from` is not after the end of the last chunk. The
    /// last bytes come out only after the source has ended well and all bytes were found right.
    ///
    /// # Errors
    /// The error of the source; `InvalidContent` if size or digest are not those of the blob.
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

    /// Returns some bytes from `at` on, at most `max`.
    async fn piece(&mut self, at: u64, max: u64) -> Result<Bytes, RegistryError> {
        loop {
            if self.stream.as_ref().is_none_or(|stream| stream.at > at) {
                self.reopen().await?;
            }
            let wanted = match &self.stream {
                Some(stream) if stream.at < at => at - stream.at,
                _ => max,
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

    /// Returns the next bytes of the stream, at most `max`, and their offset; hashes them.
    async fn take(&mut self, max: u64) -> Result<(u64, Bytes), RegistryError> {
        let stream = self.stream.as_mut().expect("a stream was opened");
        while stream.rest.is_empty() {
            stream.rest = match next(&mut stream.stream, self.patience, self.operation).await? {
                Some(piece) => piece,
                None => return Err(wrong(self.operation, "fewer bytes than stated")),
            };
        }
        // No piece reaches beyond the end of an earlier stream, where the digest is compared.
        let ends = self.earlier.iter().map(|(end, _)| *end).filter(|end| *end > stream.at);
        let max = ends.map(|end| end - stream.at).min().unwrap_or(max).min(max);
        let start = stream.at;
        let piece = stream.rest.split_to(stream.rest.len().min(max as usize));
        stream.hasher.update(&piece);
        stream.at += piece.len() as u64;
        let at = stream.at;
        if let Some((_, expected)) = self.earlier.iter().find(|(end, _)| *end == at)
            && stream.hasher.clone().finish() != *expected
        {
            return Err(wrong(self.operation, "other bytes than before"));
        }
        Ok((start, piece))
    }

    async fn reopen(&mut self) -> Result<(), RegistryError> {
        if self.stream.is_some() || !self.earlier.is_empty() {
            self.set_aside();
            if self.reopens_left == 0 {
                return Err(self.operation.error(ErrorKind::Unavailable, "the source has to be read too often"));
            }
            self.reopens_left -= 1;
        }
        let hasher = DigestHasher::new(self.blob.digest.algorithm());
        self.stream = Some(OpenStream { stream: (self.open)().await?, rest: Bytes::new(), at: 0, hasher });
        Ok(())
    }

    /// Closes the stream, and keeps the digest of the bytes that it gave.
    fn set_aside(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.earlier.push((stream.at, stream.hasher.finish()));
        }
    }

    /// Checks size and digest at the end of the blob.
    async fn check(&mut self) -> Result<(), RegistryError> {
        let Some(mut stream) = self.stream.take() else {
            return Ok(());
        };
        let is_over =
            stream.rest.is_empty() && next(&mut stream.stream, self.patience, self.operation).await?.is_none();
        if !is_over {
            return Err(wrong(self.operation, "more bytes than stated"));
        }
        let found = stream.hasher.finish();
        if found != self.blob.digest {
            return Err(wrong(self.operation, &format!("content with the digest {found}")));
        }
        self.earlier.push((self.blob.size, found));
        Ok(())
    }
}

/// Returns the next piece of `stream` that is not empty.
async fn next(
    stream: &mut BlobStream,
    patience: Duration,
    operation: &Operation,
) -> Result<Option<Bytes>, RegistryError> {
    loop {
        match timeout(patience, stream.next()).await {
            Ok(Some(Ok(piece))) if piece.is_empty() => {}
            Ok(Some(piece)) => return piece.map(Some),
            Ok(None) => return Ok(None),
            Err(_) => {
                return Err(
                    operation.error(ErrorKind::Unavailable, format!("the source gave nothing for {patience:?}"))
                );
            }
        }
    }
}

fn wrong(operation: &Operation, what: &str) -> RegistryError {
    operation.error(ErrorKind::InvalidContent, format!("the source gave {what}"))
}

/// The times that a source is opened again within one session.
const MAX_REOPENS: u32 = 3;

//! Copies one image: the order of its steps.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};

use super::authority::Effect;
use super::closure::Closure;
use super::tables::{ContentKey, Tables};
use super::task::{Copied, CopyError, ImageCopy};
use crate::image::Digest;
use crate::registry::ErrorKind;

/// Copies images. One a process, cheap to clone: what it remembers of destinations is shared by everything that it copies.
///
/// How many images are copied at once is the caller's to decide. Nothing is started that outlives the futures of its methods,
/// but for the request by which [`crate::registry`] gives up an upload session that was cut off.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

/// How much an engine does at once, and remembers.
#[derive(Clone, Copy, Debug)]
pub struct EngineLimits {
    /// Most blobs of one image under way at once; 0 counts as 1.
    pub blobs: usize,
    /// Most entries of each table of what is at destinations: an entry takes about 300 bytes, one that was forgotten costs a
    /// request.
    pub remembered: usize,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self { blobs: 8, remembered: 50_000 }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new(EngineLimits::default())
    }
}

struct Inner {
    limits: EngineLimits,
    tables: Tables,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub fn new(limits: EngineLimits) -> Self {
        let limits = EngineLimits { blobs: limits.blobs.max(1), ..limits };
        Self(Arc::new(Inner { limits, tables: Tables::new(limits.remembered) }))
    }

    /// Copies the image and reads it back: tag, manifests and blobs, each looked at after the tag was written. Dropping the
    /// future stops everything.
    ///
    /// A tag that is at the digest already, and whole, is left alone; one whose content is not whole is repaired.
    ///
    /// # Errors
    /// [`CopyError`] tells the source's failures from the destination's. What was copied until then stays and is found again.
    pub async fn copy(&self, task: &ImageCopy<'_>) -> Result<Copied, CopyError> {
        let began = Instant::now();
        task.permit(Effect::Upload { repository: task.destination_repository }).await?;
        let read = async {
            let read = Closure::read(task.source, task.source_repository, task.digest).await;
            read.map_err(|unread| unread.of_source())
        };
        let (present, closure) = futures::try_join!(task.tag_at_destination(), read)?;
        let (size, foreign_layers) = (closure.size(), closure.foreign_layers());
        if present.as_ref() == Some(task.digest) {
            if self.is_complete(task, &closure, began).await? {
                return Ok(Copied { size, moved: 0, already_there: true, foreign_layers });
            }
            self.forget(task, &closure);
        }
        let moved = self.push_until_taken(task, &closure, (present, began)).await?;
        self.read_back(task, &closure, Instant::now()).await?;
        Ok(Copied { size, moved, already_there: false, foreign_layers })
    }

    /// Pushes the image; once more, from the start, where the registry misses what it was believed to have.
    async fn push_until_taken(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        seen: (Option<Digest>, Instant),
    ) -> Result<u64, CopyError> {
        let mut is_new = seen.0.is_none() && self.is_repository_new(task).await?;
        let moved = AtomicU64::new(0);
        let mut pauses = PAUSES.iter();
        loop {
            let pushed = self.push(task, closure, &seen, is_new, &moved).await;
            match (pushed, pauses.next()) {
                (Err(CopyError::Destination(error)), Some(pause)) if error.kind == ErrorKind::ContentMissing => {
                    tracing::debug!(error = %error.message, "pushing again");
                    self.forget(task, closure);
                    is_new = false;
                    tokio::time::sleep(*pause).await;
                }
                (pushed, _) => return pushed.map(|()| moved.into_inner()),
            }
        }
    }

    async fn push(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        seen: &(Option<Digest>, Instant),
        is_new: bool,
        moved: &AtomicU64,
    ) -> Result<(), CopyError> {
        let blobs = futures::stream::iter(&closure.blobs).map(Ok);
        blobs.try_for_each_concurrent(self.0.limits.blobs, |blob| self.ensure_blob(task, blob, is_new, moved)).await?;
        self.push_children(task, closure).await?;
        self.write_tag(task, closure, seen).await
    }

    /// Whether the destination repository is absent, and there is consent to bring it into being.
    async fn is_repository_new(&self, task: &ImageCopy<'_>) -> Result<bool, CopyError> {
        let key = task.repository_key();
        let exists = match self.tables().repository_exists(&key) {
            Some(exists) => exists,
            None => {
                let _turn = self.tables().repository_turns.at(key.clone()).await;
                match self.tables().repository_exists(&key) {
                    Some(exists) => exists,
                    None => {
                        let asked = task.destination.repository_exists(task.destination_repository).await;
                        let exists = asked.map_err(CopyError::Destination)?;
                        self.tables().note_repository(key, exists);
                        exists
                    }
                }
            }
        };
        if !exists {
            task.permit(Effect::CreateRepository { repository: task.destination_repository }).await?;
        }
        Ok(!exists)
    }

    /// Forgets everything about the content of the image: what the registry says next is believed.
    pub(super) fn forget(&self, task: &ImageCopy<'_>, closure: &Closure) {
        let manifests = closure.manifests.iter().map(|manifest| ContentKey::manifest(task, manifest));
        let blobs = closure.blobs.iter().map(|blob| ContentKey::blob(task, blob));
        for key in manifests.chain(blobs) {
            self.tables().present.forget(&key);
            self.tables().verified.forget(&key);
        }
        for blob in &closure.blobs {
            let crossing = task.crossing_key(blob);
            if self.tables().mountable.recall(&crossing).as_ref() == Some(task.destination_repository) {
                self.tables().mountable.forget(&crossing);
            }
        }
    }

    pub(super) fn tables(&self) -> &Tables {
        &self.0.tables
    }
}

/// What is waited for before an image is pushed again that the registry did not take.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(1_000)];

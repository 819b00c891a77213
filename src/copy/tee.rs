//! Reads a blob of a source once for all destinations that need it at about the same time.

mod shared_read;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::shared_read::{BlobSource, Branch, MAX_AHEAD, SharedRead};
use super::memo::Memo;
use super::task::{ImageCopy, RepositoryKey};
use crate::image::{Descriptor, Digest};
use crate::locked::Locked;
use crate::registry::{BlobStream, ClientId, RegistryError};

/// The copies that are under way, and the blobs that are read for several of them.
///
/// Copies of one image to several destinations read its blobs together: the first one starts a read, which goes as fast
/// as the slowest copy that has joined, and not beyond the first half MiB before the others have come. No copy is
/// waited for long: a destination that keeps others waiting reads by itself from then on. The kept bytes are bounded by
/// [`MAX_KEPT`].
pub(super) struct Tee {
    state: Locked<TeeState>,
    /// Destinations that were waited for in vain, and the time of that.
    late: Arc<Memo<ClientId, Instant>>,
}

#[derive(Default)]
struct TeeState {
    copies: HashMap<ImageKey, HashMap<RepositoryKey, DestinationCopies>>,
    /// Each with the image whose copies read the blob.
    reads: HashMap<BlobKey, (Digest, Arc<SharedRead>)>,
}

/// An image of a source repository.
type ImageKey = (RepositoryKey, Digest);
/// A blob of a source repository. Keyed by the client: what one credential may read says nothing to another.
type BlobKey = (RepositoryKey, Digest, u64);

/// Copies of one image to one destination repository, under one or several tags.
#[derive(Default)]
struct DestinationCopies {
    count: usize,
    /// The blobs that the destination has.
    done: HashSet<Digest>,
}

/// A copy that is under way until this is dropped.
pub struct ActiveCopy<'a> {
    tee: &'a Tee,
    image: ImageKey,
    destination: RepositoryKey,
}

impl Default for Tee {
    fn default() -> Self {
        Self { state: Locked::default(), late: Arc::new(Memo::new(MAX_LATE)) }
    }
}

impl Tee {
    /// Notes that `task` is carried out, until the result is dropped: copies of the same image wait for it with their
    /// reads.
    pub(super) fn begin(&self, task: &ImageCopy<'_>) -> ActiveCopy<'_> {
        let (image, destination) = (image_key(task), task.repository_key());
        let mut state = self.state.lock();
        state.copies.entry(image.clone()).or_default().entry(destination.clone()).or_default().count += 1;
        ActiveCopy { tee: self, image, destination }
    }

    /// Returns the bytes of a blob as [`Client::blob`](crate::registry::Client::blob) does, read together with other
    /// copies that are known to need it, or alone.
    ///
    /// # Errors
    /// As that.
    pub(super) async fn open(&self, task: &ImageCopy<'_>, blob: &Descriptor) -> Result<BlobStream, RegistryError> {
        match self.join(task, blob) {
            Some(branch) => branch.open().await,
            None => task.source.blob(task.source_repository, blob).await,
        }
    }

    /// Notes that `task` does not need the blob any more.
    pub(super) fn done(&self, task: &ImageCopy<'_>, blob: &Descriptor) {
        let (key, destination) = (blob_key(task, blob), task.repository_key());
        let mut state = self.state.lock();
        if let Some(copy) = state.copies.get_mut(&image_key(task)).and_then(|copies| copies.get_mut(&destination)) {
            copy.done.insert(blob.digest.clone());
        }
        if state.reads.get(&key).is_some_and(|(_, read)| !read.needs_not(&destination)) {
            state.reads.remove(&key);
        }
    }

    fn join(&self, task: &ImageCopy<'_>, blob: &Descriptor) -> Option<Branch> {
        let (key, destination) = (blob_key(task, blob), task.repository_key());
        let mut state = self.state.lock();
        if let Some((_, read)) = state.reads.get(&key).cloned() {
            let (branch, is_awaited) = read.join(&destination);
            if !is_awaited {
                state.reads.remove(&key);
            }
            return branch;
        }
        let awaited = self.awaited(&state, task, blob);
        let kept: u64 = state.reads.keys().map(|(_, _, size)| *size.min(&MAX_AHEAD)).sum();
        if awaited.is_empty() || kept + blob.size.min(MAX_AHEAD) > MAX_KEPT {
            return None;
        }
        let read = SharedRead::start(BlobSource::of(task, blob), awaited, self.late.clone());
        state.reads.insert(key, (task.digest.clone(), read.clone()));
        read.join(&destination).0
    }

    /// Returns the other destinations that the image is copied to and that may need the blob.
    fn awaited(&self, state: &TeeState, task: &ImageCopy<'_>, blob: &Descriptor) -> HashSet<RepositoryKey> {
        let own = task.repository_key();
        let others = state.copies.get(&image_key(task)).into_iter().flatten();
        let others = others.filter(|(destination, copy)| **destination != own && !copy.done.contains(&blob.digest));
        let is_late = |(client, _): &RepositoryKey| self.late.recall(client).is_some_and(|at| at.elapsed() < LATE_FOR);
        others.map(|(destination, _)| destination.clone()).filter(|destination| !is_late(destination)).collect()
    }
}

impl Drop for ActiveCopy<'_> {
    fn drop(&mut self) {
        let mut state = self.tee.state.lock();
        let Some(copies) = state.copies.get_mut(&self.image) else { return };
        if let Some(copy) = copies.get_mut(&self.destination) {
            copy.count -= 1;
            if copy.count > 0 {
                return;
            }
        }
        copies.remove(&self.destination);
        if copies.is_empty() {
            state.copies.remove(&self.image);
        }
        let (of, image) = &self.image;
        state.reads.retain(|(source, _, _), (read_as, read)| {
            source != of || read_as != image || read.needs_not(&self.destination)
        });
    }
}

fn image_key(task: &ImageCopy<'_>) -> ImageKey {
    (task.source_key(), task.digest.clone())
}

fn blob_key(task: &ImageCopy<'_>, blob: &Descriptor) -> BlobKey {
    (task.source_key(), blob.digest.clone(), blob.size)
}

/// Bytes that are kept for copies that have not come yet.
const MAX_KEPT: u64 = 8 * 1024 * 1024;
/// The time for which a destination that was waited for in vain is not waited for again.
const LATE_FOR: Duration = Duration::from_secs(60);
const MAX_LATE: usize = 1_000;

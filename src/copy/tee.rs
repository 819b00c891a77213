//! Reads a blob of a source once for all destinations that need it at about the same time.

mod reading;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::reading::{Reader, Reading, WINDOW};
use super::memo::Memo;
use super::task::{ImageCopy, RepositoryKey};
use crate::image::{Descriptor, Digest};
use crate::registry::{BlobStream, ClientId, RegistryError};

/// The copies that are under way, and what is read for several of them.
///
/// Copies of one image to several destinations read its blobs together: who comes first reads, as fast as the slowest of those
/// who have joined, and not beyond the first half MiB before the others have come. Nobody is waited for long: a destination that
/// keeps others waiting reads by itself from then on. What is kept at all is bounded by [`MOST_KEPT`].
pub(super) struct Tee {
    state: Mutex<State>,
    /// Destinations that were waited for in vain, and when.
    late: Arc<Memo<ClientId, Instant>>,
}

#[derive(Default)]
struct State {
    copies: HashMap<ImageKey, HashMap<RepositoryKey, Copy>>,
    /// With the image as whose copies the blob is read.
    readings: HashMap<BlobKey, (Digest, Arc<Reading>)>,
}

/// An image of a source repository.
type ImageKey = (RepositoryKey, Digest);
/// A blob of a source repository. Keyed by the client: what one credential may read says nothing to another.
type BlobKey = (RepositoryKey, Digest, u64);

/// Copies of one image to one destination repository, under one or several tags.
#[derive(Default)]
struct Copy {
    count: usize,
    /// The blobs that are there.
    done: HashSet<Digest>,
}

/// A copy, until this is dropped.
pub(super) struct ActiveCopy<'a> {
    tee: &'a Tee,
    image: ImageKey,
    destination: RepositoryKey,
}

impl Default for Tee {
    fn default() -> Self {
        Self { state: Mutex::default(), late: Arc::new(Memo::new(MOST_LATE)) }
    }
}

impl Tee {
    /// Notes that `task` is carried out: others that copy the same image wait for it with what they read.
    pub(super) fn begin(&self, task: &ImageCopy<'_>) -> ActiveCopy<'_> {
        let (image, destination) = (image_key(task), task.repository_key());
        let mut state = self.lock();
        state.copies.entry(image.clone()).or_default().entry(destination.clone()).or_default().count += 1;
        ActiveCopy { tee: self, image, destination }
    }

    /// The bytes of a blob, as [`Client::blob`](crate::registry::Client::blob) gives them: read together with others that are known to
    /// need it, or alone.
    ///
    /// # Errors
    /// As that.
    pub(super) async fn open(&self, task: &ImageCopy<'_>, blob: &Descriptor) -> Result<BlobStream, RegistryError> {
        match self.join(task, blob) {
            Some(reader) => reader.open().await,
            None => task.source.blob(task.source_repository, blob).await,
        }
    }

    /// Notes that `task` needs the blob no more.
    pub(super) fn done(&self, task: &ImageCopy<'_>, blob: &Descriptor) {
        let (key, destination) = (blob_key(task, blob), task.repository_key());
        let mut state = self.lock();
        if let Some(copy) = state.copies.get_mut(&image_key(task)).and_then(|copies| copies.get_mut(&destination)) {
            copy.done.insert(blob.digest.clone());
        }
        if state.readings.get(&key).is_some_and(|(_, reading)| !reading.needs_not(&destination)) {
            state.readings.remove(&key);
        }
    }

    fn join(&self, task: &ImageCopy<'_>, blob: &Descriptor) -> Option<Reader> {
        let (key, destination) = (blob_key(task, blob), task.repository_key());
        let mut state = self.lock();
        if let Some((_, reading)) = state.readings.get(&key).cloned() {
            let (reader, is_awaited) = reading.join(&destination);
            if !is_awaited {
                state.readings.remove(&key);
            }
            return reader;
        }
        let awaited = self.awaited(&state, task, blob);
        let kept: u64 = state.readings.keys().map(|(_, _, size)| *size.min(&WINDOW)).sum();
        if awaited.is_empty() || kept + blob.size.min(WINDOW) > MOST_KEPT {
            return None;
        }
        let reading = Reading::start((task.source, task.source_repository, blob), awaited, self.late.clone());
        state.readings.insert(key, (task.digest.clone(), reading.clone()));
        reading.join(&destination).0
    }

    /// The other destinations that the image is copied to and that may need the blob.
    fn awaited(&self, state: &State, task: &ImageCopy<'_>, blob: &Descriptor) -> HashSet<RepositoryKey> {
        let own = task.repository_key();
        let others = state.copies.get(&image_key(task)).into_iter().flatten();
        let others = others.filter(|(destination, copy)| **destination != own && !copy.done.contains(&blob.digest));
        let is_late = |(client, _): &RepositoryKey| self.late.recall(client).is_some_and(|at| at.elapsed() < LATE_FOR);
        others.map(|(destination, _)| destination.clone()).filter(|destination| !is_late(destination)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ActiveCopy<'_> {
    fn drop(&mut self) {
        let mut state = self.tee.lock();
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
        state.readings.retain(|(source, _, _), (read_as, reading)| {
            source != of || read_as != image || reading.needs_not(&self.destination)
        });
    }
}

fn image_key(task: &ImageCopy<'_>) -> ImageKey {
    (task.source_key(), task.digest.clone())
}

fn blob_key(task: &ImageCopy<'_>, blob: &Descriptor) -> BlobKey {
    (task.source_key(), blob.digest.clone(), blob.size)
}

/// The bytes that are kept for those who have not come yet, at most.
const MOST_KEPT: u64 = 8 * 1024 * 1024;
/// For how long a destination that was waited for in vain is not waited for.
const LATE_FOR: Duration = Duration::from_secs(60);
const MOST_LATE: usize = 1_000;

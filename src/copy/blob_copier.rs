//! Brings one blob to a destination repository: found there, mounted, or streamed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;

use super::authority::Mutation;
use super::closure::Closure;
use super::known_content::{ContentKey, KnownContent};
use super::known_repositories::KnownRepositories;
use super::memo::Memo;
use super::task::{CopyError, ImageCopy, MountScope};
use super::tee::{ActiveCopy, Tee};
use super::turns::Turns;
use crate::image::{Descriptor, Digest, RepositoryName};
use crate::registry::{ClientId, ErrorKind, UploadOutcome};

/// Copies blobs, each once however many images need it.
pub(super) struct BlobCopier {
    contents: Arc<KnownContent>,
    repositories: Arc<KnownRepositories>,
    tee: Tee,
    /// One owner per blob of a destination within a scope: later repositories mount the blob from the first one.
    crossing_turns: Turns<CrossingKey>,
    /// A repository of a scope that has a blob.
    mountable: Memo<CrossingKey, RepositoryName>,
    /// Blobs whose bytes a source has served to this process.
    served: Memo<(ClientId, Digest), ()>,
    /// Blobs that are sent although the registry says that it has them.
    doubted: Memo<ContentKey, ()>,
}

/// A blob of a destination within a scope.
type CrossingKey = (ClientId, MountScope, Digest);

impl BlobCopier {
    /// Knows nothing yet, and later remembers at most `capacity` entries of each kind.
    pub(super) fn new(contents: Arc<KnownContent>, repositories: Arc<KnownRepositories>, capacity: usize) -> Self {
        Self {
            contents,
            repositories,
            tee: Tee::default(),
            crossing_turns: Turns::default(),
            mountable: Memo::new(capacity),
            served: Memo::new(capacity),
            doubted: Memo::new(capacity),
        }
    }

    /// Announces a copy until the result is dropped: copies of the same image wait for it with their reads.
    pub(super) fn begin(&self, task: &ImageCopy<'_>) -> ActiveCopy<'_> {
        self.tee.begin(task)
    }

    /// Makes sure that the blob is in the destination repository, and adds the bytes that were uploaded for it to
    /// `moved`. However many images need it, one of them does the work and the others wait for it.
    ///
    /// # Errors
    /// [`CopyError::Source`] or [`CopyError::Destination`] by the side that failed; [`CopyError::Denied`].
    pub(super) async fn ensure(
        &self,
        task: &ImageCopy<'_>,
        blob: &Descriptor,
        moved: &AtomicU64,
    ) -> Result<(), CopyError> {
        let bring = self.find_or_bring(task, blob);
        if let Some(bytes) = self.contents.once(task, ContentKey::blob(task, blob), bring).await? {
            moved.fetch_add(bytes, Ordering::Relaxed);
        }
        self.tee.done(task, blob);
        Ok(())
    }

    /// Notes that the image's blobs can be mounted from the destination repository.
    pub(super) fn note_mountable(&self, task: &ImageCopy<'_>, closure: &Closure) {
        for blob in &closure.blobs {
            self.mountable.note(crossing_key(task, blob), task.destination_repository.clone());
        }
    }

    /// Sends the image's blobs by the next push, whatever the registry says that it has.
    pub(super) fn doubt(&self, task: &ImageCopy<'_>, closure: &Closure) {
        closure.blobs.iter().for_each(|blob| self.doubted.note(ContentKey::blob(task, blob), ()));
    }

    /// Mounts the image's blobs from the destination repository no more.
    pub(super) fn forget_mountable(&self, task: &ImageCopy<'_>, closure: &Closure) {
        for blob in &closure.blobs {
            let crossing = crossing_key(task, blob);
            if self.mountable.recall(&crossing).as_ref() == Some(task.destination_repository) {
                self.mountable.forget(&crossing);
            }
        }
    }

    /// Returns the bytes that were uploaded.
    async fn find_or_bring(&self, task: &ImageCopy<'_>, blob: &Descriptor) -> Result<u64, CopyError> {
        let crossing = crossing_key(task, blob);
        let key = ContentKey::blob(task, blob);
        if self.doubted.recall(&key).is_some() {
            Box::pin(self.bring(task, blob, None)).await?;
            self.doubted.forget(&key);
            return Ok(blob.size);
        }
        let began_empty = self.repositories.began_empty(&task.repository_key());
        let looked = Instant::now();
        if !began_empty
            && task.destination.has_blob(task.destination_repository, blob).await.map_err(CopyError::Destination)?
        {
            self.contents.note_verified(key, looked);
            self.note_mountable_first(task, crossing);
            return Ok(0);
        }
        // A blob that is on its way to another repository is mounted from there once it has arrived. An owner that
        // takes too long is not waited for.
        let turn = match self.mount_source(task, blob) {
            Some(_) => None,
            None => tokio::time::timeout(MAX_WAIT, self.crossing_turns.at(crossing.clone())).await.ok(),
        };
        let mount_from = self.mount_source(task, blob);
        let _turn = turn.filter(|_| mount_from.is_none());
        // A repository counts as absent until it has a tag, so it may still have what an interrupted copy left: a mount
        // from itself finds that, and opens the upload where there is nothing.
        let itself = began_empty.then(|| task.destination_repository.clone());
        match Box::pin(self.bring(task, blob, mount_from.or(itself).as_ref())).await? {
            UploadOutcome::Mounted => {
                self.note_mountable_first(task, crossing);
                Ok(0)
            }
            UploadOutcome::Uploaded => {
                self.served.note((task.source.id(), blob.digest.clone()), ());
                self.mountable.note(crossing, task.destination_repository.clone());
                Ok(blob.size)
            }
        }
    }

    /// Notes the destination repository as the one to mount from, unless there is one already.
    fn note_mountable_first(&self, task: &ImageCopy<'_>, crossing: CrossingKey) {
        if self.mountable.recall(&crossing).is_none() {
            self.mountable.note(crossing, task.destination_repository.clone());
        }
    }

    /// Mounts or uploads the blob. Bytes that were damaged on their way are read and sent again, twice at most. Callers
    /// box it: it is large, and every image waits for most of its blobs without it.
    async fn bring(
        &self,
        task: &ImageCopy<'_>,
        blob: &Descriptor,
        mount_from: Option<&RepositoryName>,
    ) -> Result<UploadOutcome, CopyError> {
        let mut rereads = 0;
        loop {
            match self.try_bring(task, blob, mount_from, rereads > 0).await {
                Err(CopyError::Source(error) | CopyError::Destination(error))
                    if error.kind == ErrorKind::InvalidContent && rereads < MAX_REREADS =>
                {
                    tracing::debug!(error = %error.message, "reading the blob again");
                    rereads += 1;
                }
                brought => return brought,
            }
        }
    }

    /// Makes one attempt to mount or upload the blob. `is_reread` if the bytes of an earlier one were damaged: then they
    /// are not read together with others.
    async fn try_bring(
        &self,
        task: &ImageCopy<'_>,
        blob: &Descriptor,
        mount_from: Option<&RepositoryName>,
        is_reread: bool,
    ) -> Result<UploadOutcome, CopyError> {
        let source_failed = Arc::new(AtomicBool::new(false));
        let open = || {
            let (source_failed, progress) = (source_failed.clone(), task.counter.clone());
            async move {
                let opened = match is_reread {
                    true => task.source.reread_blob(task.source_repository, blob).await,
                    false => self.tee.open(task, blob).await,
                };
                source_failed.store(opened.is_err(), Ordering::Relaxed);
                let watched = opened?.inspect(move |piece| match piece {
                    Ok(bytes) => progress.add(bytes.len()),
                    Err(_) => source_failed.store(true, Ordering::Relaxed),
                });
                Ok(watched.boxed())
            }
        };
        let upload = task.destination.upload(task.destination_repository, blob, mount_from, open);
        let mutation = Mutation::Upload { repository: task.destination_repository };
        task.under_consent(mutation, Box::pin(upload)).await?.map_err(|error| {
            if source_failed.load(Ordering::Relaxed) { CopyError::Source(error) } else { CopyError::Destination(error) }
        })
    }

    /// Returns a repository that the blob may be mounted from: one that this configuration writes to, or that it reads
    /// from the same registry; and into another owner's registry only a blob that the source has proved to have.
    fn mount_source(&self, task: &ImageCopy<'_>, blob: &Descriptor) -> Option<RepositoryName> {
        if task.across_owners && self.served.recall(&(task.source.id(), blob.digest.clone())).is_none() {
            return None;
        }
        let written = self.mountable.recall(&crossing_key(task, blob));
        let is_one_registry = task.source.host() == task.destination.host();
        let read = || is_one_registry.then(|| task.source_repository.clone());
        written.filter(|repository| repository != task.destination_repository).or_else(read)
    }
}

fn crossing_key(task: &ImageCopy<'_>, blob: &Descriptor) -> CrossingKey {
    (task.destination.id(), task.scope.clone(), blob.digest.clone())
}

/// The times that a blob is read again whose bytes were damaged.
const MAX_REREADS: u32 = 2;
/// The wait for a blob on its way to another repository.
const MAX_WAIT: Duration = Duration::from_secs(60);

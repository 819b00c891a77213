//! Copies one image without its referrers: look at both ends, push, write the tag, read back.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};

use super::authority::Mutation;
use super::blob_copier::BlobCopier;
use super::closure::{Closure, ManifestSource};
use super::known_content::KnownContent;
use super::known_repositories::{DestinationTag, KnownRepositories};
use super::manifest_cache::ManifestCache;
use super::manifest_copier::ManifestCopier;
use super::task::{CopyError, ImageCopy};
use super::tee::ActiveCopy;
use super::verifier::Verifier;
use crate::registry::{ErrorKind, RegistryError};

/// Copies images without their referrers, step by step.
pub(super) struct ImageCopier {
    /// Blobs of one image at a time.
    max_blobs: usize,
    cache: Arc<ManifestCache>,
    contents: Arc<KnownContent>,
    repositories: Arc<KnownRepositories>,
    blobs: Arc<BlobCopier>,
    manifests: ManifestCopier,
    pub(super) verifier: Verifier,
}

impl ImageCopier {
    /// Copies `max_blobs` blobs of an image at a time, and remembers at most `capacity` entries of each kind.
    pub(super) fn new(
        max_blobs: usize,
        capacity: usize,
        repositories: Arc<KnownRepositories>,
        cache: Arc<ManifestCache>,
    ) -> Self {
        let contents = Arc::new(KnownContent::new(capacity));
        let blobs = Arc::new(BlobCopier::new(contents.clone(), repositories.clone(), capacity));
        let manifests =
            ManifestCopier { contents: contents.clone(), repositories: repositories.clone(), blobs: blobs.clone() };
        let verifier = Verifier { contents: contents.clone() };
        Self { max_blobs, cache, contents, repositories, blobs, manifests, verifier }
    }

    /// Announces a copy until the result is dropped: copies of the same image wait for it with their reads.
    pub(super) fn begin(&self, task: &ImageCopy<'_>) -> ActiveCopy<'_> {
        self.blobs.begin(task)
    }

    /// Does all the steps.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(super) async fn copy(&self, task: &ImageCopy<'_>, moved: &AtomicU64) -> Result<(), CopyError> {
        let _active = self.begin(task);
        let (before, closure) = self.look_at_ends(task).await?;
        if self.write(task, &before, &closure, moved).await? {
            return Ok(());
        }
        self.read_back(task, &closure).await
    }

    /// Looks at the tag of the destination and at the image of the source.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(super) async fn look_at_ends(&self, task: &ImageCopy<'_>) -> Result<(DestinationTag, Closure), CopyError> {
        task.permit(Mutation::Upload { repository: task.destination_repository }).await?;
        let read = async {
            let source =
                ManifestSource { client: task.source, repository: task.source_repository, cache: Some(&self.cache) };
            Closure::read(source, task.digest, task.options).await.map_err(CopyError::from)
        };
        futures::try_join!(self.repositories.look_at_tag(task), read)
    }

    /// Makes sure that the image is there under its tag. Returns true if it was there before, whole.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(super) async fn write(
        &self,
        task: &ImageCopy<'_>,
        before: &DestinationTag,
        closure: &Closure,
        moved: &AtomicU64,
    ) -> Result<bool, CopyError> {
        if before.digest.as_ref().is_some_and(|digest| closure.root().has_digest(digest)) {
            if self.verifier.is_complete(task, closure, before.at).await? {
                return Ok(true);
            }
            self.forget(task, closure);
        } else if let Some(there) = &before.digest {
            task.may_replace(there)?;
        }
        self.push_until_taken(task, closure, before, moved).await?;
        Ok(false)
    }

    /// Reads the tag that was written just now and everything below it back.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(super) async fn read_back(&self, task: &ImageCopy<'_>, closure: &Closure) -> Result<(), CopyError> {
        self.verifier.read_back(task, closure, Instant::now()).await
    }

    /// Pushes the image without a tag.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(super) async fn push_untagged(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        moved: &AtomicU64,
    ) -> Result<(), CopyError> {
        self.push_content(task, closure, moved).await?;
        self.manifests.ensure(task, closure, closure.root()).await
    }

    /// Forgets everything about the content of the image: what the registry says next is believed.
    pub(super) fn forget(&self, task: &ImageCopy<'_>, closure: &Closure) {
        self.contents.forget(task, closure);
        self.repositories.forget_beginning(&task.repository_key());
        self.blobs.forget_mountable(task, closure);
    }

    /// Pushes the image; once more, from the start, where the registry misses content that it was believed to have, and
    /// in the end without asking for what it has.
    async fn push_until_taken(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        before: &DestinationTag,
        moved: &AtomicU64,
    ) -> Result<(), CopyError> {
        if !before.has_repository {
            let creation = Mutation::CreateRepository { repository: task.destination_repository };
            task.permit(creation).await.map_err(|denied| match before.refused.clone() {
                // The repository may be there.
                Some(RegistryError { kind, message, retry_after }) => {
                    let message = format!("{message}; if the repository does not exist: {denied}");
                    CopyError::Destination(RegistryError { kind, message, retry_after })
                }
                None => denied,
            })?;
            if task.destination.has_template(task.destination_repository) {
                self.repositories.create(task, creation).await?;
            }
        }
        let mut pauses = PAUSES.iter();
        loop {
            let pushed = self.push(task, closure, before, moved).await;
            match (pushed, pauses.next()) {
                (Err(CopyError::Destination(error) | CopyError::SparseIndexRefused(error)), Some(pause))
                    if error.kind == ErrorKind::ContentMissing =>
                {
                    tracing::debug!(error = %error.message, "pushing again");
                    self.forget(task, closure);
                    if pauses.len() == 0 {
                        self.blobs.doubt(task, closure);
                    }
                    tokio::time::sleep(*pause).await;
                }
                (Err(CopyError::Destination(error)), None) if error.kind == ErrorKind::ContentMissing => {
                    let pushes = PAUSES.len() + 1;
                    let message = format!("{error}: it was pushed {pushes} times, in the end with all of its blobs");
                    return Err(CopyError::VerificationFailed(message));
                }
                (pushed, _) => return pushed,
            }
        }
    }

    async fn push(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        before: &DestinationTag,
        moved: &AtomicU64,
    ) -> Result<(), CopyError> {
        self.push_content(task, closure, moved).await?;
        self.manifests.write_tag(task, closure, before).await
    }

    /// Pushes everything below the root manifest.
    async fn push_content(&self, task: &ImageCopy<'_>, closure: &Closure, moved: &AtomicU64) -> Result<(), CopyError> {
        let blobs = futures::stream::iter(&closure.blobs).map(Ok);
        blobs.try_for_each_concurrent(self.max_blobs, |blob| self.blobs.ensure(task, blob, moved)).await?;
        self.manifests.push_children(task, closure).await
    }
}

/// The pauses before an image is pushed again that the registry did not take.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(1_000)];

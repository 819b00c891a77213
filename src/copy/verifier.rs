//! Reads back the content of destination repositories.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};

use super::closure::Closure;
use super::known_content::{ContentKey, KnownContent};
use super::task::{CopyError, ImageCopy};
use crate::image::{Descriptor, Manifest};
use crate::registry::Reference;

/// Looks for the content of images at their destinations.
pub(super) struct Verifier {
    pub(super) contents: Arc<KnownContent>,
}

impl Verifier {
    /// Returns true if everything below the tag is there, checked after `not_before`; nothing is written.
    ///
    /// # Errors
    /// [`CopyError::Destination`].
    pub(super) async fn is_complete(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        not_before: Instant,
    ) -> Result<bool, CopyError> {
        is_true(self.verify_content(task, closure, not_before).await)
    }

    /// Returns true if the root manifest and everything below it are there, checked after `not_before`; tags are not
    /// looked at.
    ///
    /// # Errors
    /// [`CopyError::Destination`].
    pub(super) async fn is_whole(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        not_before: Instant,
    ) -> Result<bool, CopyError> {
        let all = futures::future::try_join(
            self.verify_manifest(task, closure.root(), not_before),
            self.verify_content(task, closure, not_before),
        );
        is_true(all.await.map(|_| ()))
    }

    /// Reads the tag and everything below it back, after `written`; content that another copy has seen shortly before
    /// is not looked at again. Absent content has a moment to appear: some registries serve what they took a little
    /// later.
    ///
    /// # Errors
    /// [`CopyError::VerificationFailed`], or [`CopyError::Destination`].
    pub(super) async fn read_back(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        written: Instant,
    ) -> Result<(), CopyError> {
        let mut pauses = PAUSES.iter();
        loop {
            match (self.look_back(task, closure, written).await, pauses.next()) {
                (Err(CopyError::VerificationFailed(_)), Some(pause)) => tokio::time::sleep(*pause).await,
                (looked, _) => return looked,
            }
        }
    }

    async fn look_back(&self, task: &ImageCopy<'_>, closure: &Closure, written: Instant) -> Result<(), CopyError> {
        let wanted = &closure.root().digest;
        let not_before = written.checked_sub(SHARED_FOR).unwrap_or(written);
        let (tag, ()) = futures::try_join!(task.tag_at_destination(), self.verify_content(task, closure, not_before))?;
        match tag {
            Some(digest) if closure.root().has_digest(&digest) => Ok(()),
            Some(digest) => Err(CopyError::VerificationFailed(format!(
                "{} points at {digest} after {wanted} was written: another writer moves this tag",
                task.tag
            ))),
            None => Err(CopyError::VerificationFailed(format!("{} is not there after it was written", task.tag))),
        }
    }

    async fn verify_content(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        not_before: Instant,
    ) -> Result<(), CopyError> {
        let children = closure.children().iter().map(ContentRef::Manifest);
        let content: Vec<ContentRef<'_>> = children.chain(closure.blobs.iter().map(ContentRef::Blob)).collect();
        self.verify_at_once(task, &content, not_before).await;
        let content = futures::stream::iter(content).map(Ok);
        content.try_for_each_concurrent(CHECKS_AT_ONCE, |one| self.verify_one(task, one, not_before)).await
    }

    /// Looks for the blobs by few calls, where the destination has such a call; blobs that they do not find are looked
    /// for one by one.
    async fn verify_at_once(&self, task: &ImageCopy<'_>, content: &[ContentRef<'_>], not_before: Instant) {
        let blobs = content.iter().filter_map(|one| match one {
            ContentRef::Blob(blob) if !self.contents.is_verified(&ContentKey::blob(task, blob), not_before) => {
                Some(*blob)
            }
            _ => None,
        });
        let blobs: Vec<&Descriptor> = blobs.collect();
        let began = Instant::now();
        let found = task.destination.blobs_at_once(task.destination_repository, &blobs).await;
        for blob in blobs.into_iter().filter(|blob| found.contains(&blob.digest)) {
            self.contents.note_verified(ContentKey::blob(task, blob), began);
        }
    }

    async fn verify_one(
        &self,
        task: &ImageCopy<'_>,
        content: ContentRef<'_>,
        not_before: Instant,
    ) -> Result<(), CopyError> {
        match content {
            ContentRef::Manifest(manifest) => self.verify_manifest(task, manifest, not_before).await,
            ContentRef::Blob(blob) => self.verify_blob(task, blob, not_before).await,
        }
    }

    async fn verify_manifest(
        &self,
        task: &ImageCopy<'_>,
        manifest: &Manifest,
        not_before: Instant,
    ) -> Result<(), CopyError> {
        let reference = Reference::Digest(&manifest.digest);
        let look = async {
            let head = task.destination.head_manifest(task.destination_repository, reference).await;
            Ok(head.map_err(CopyError::Destination)?.is_some_and(|head| head.digest == manifest.digest))
        };
        let name = format!("manifest {}", manifest.digest);
        self.contents.check(ContentKey::manifest(task, manifest), not_before, Box::pin(look), &name).await
    }

    async fn verify_blob(&self, task: &ImageCopy<'_>, blob: &Descriptor, not_before: Instant) -> Result<(), CopyError> {
        let look = async {
            task.destination.confirm_blob(task.destination_repository, blob).await.map_err(CopyError::Destination)
        };
        let name = format!("blob {}", blob.digest);
        self.contents.check(ContentKey::blob(task, blob), not_before, Box::pin(look), &name).await
    }
}

/// A manifest or blob of an image.
enum ContentRef<'a> {
    Manifest(&'a Manifest),
    Blob(&'a Descriptor),
}

fn is_true(verified: Result<(), CopyError>) -> Result<bool, CopyError> {
    match verified {
        Ok(()) => Ok(true),
        Err(CopyError::VerificationFailed(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The age up to which a check by another image counts for one that is written now: images that share layers are copied
/// side by side.
const SHARED_FOR: Duration = Duration::from_secs(10);
const CHECKS_AT_ONCE: usize = 8;
/// The pauses before content that was just written is looked for again.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(1_000)];

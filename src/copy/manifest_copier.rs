//! Brings manifests to a destination repository: children by digest, the root under its tag.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::authority::Mutation;
use super::blob_copier::BlobCopier;
use super::closure::Closure;
use super::known_content::{ContentKey, KnownContent};
use super::known_repositories::{DestinationTag, KnownRepositories};
use super::task::{CONSENT_LASTS, CopyError, ImageCopy};
use crate::image::{Manifest, ManifestKind};
use crate::registry::{ErrorKind, Reference, RegistryError};

/// Copies manifests whose content is at the destination.
pub(super) struct ManifestCopier {
    pub(super) contents: Arc<KnownContent>,
    pub(super) repositories: Arc<KnownRepositories>,
    pub(super) blobs: Arc<BlobCopier>,
}

impl ManifestCopier {
    /// Makes sure that the child manifests are in the destination repository, each after everything that it names.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(super) async fn push_children(&self, task: &ImageCopy<'_>, closure: &Closure) -> Result<(), CopyError> {
        // Images name no other manifest; the few indexes go one by one, in the order that the closure gives.
        let (images, indexes): (Vec<_>, Vec<_>) =
            closure.children().iter().partition(|manifest| matches!(manifest.kind, ManifestKind::Image { .. }));
        let images = futures::stream::iter(images).map(Ok);
        images.try_for_each_concurrent(MANIFESTS_AT_ONCE, |image| self.ensure(task, closure, image)).await?;
        for index in indexes {
            self.ensure(task, closure, index).await?;
        }
        Ok(())
    }

    /// Points the tag at the root manifest, all of whose content is there. `before` is the tag as it was seen before
    /// the push.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(super) async fn write_tag(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        before: &DestinationTag,
    ) -> Result<(), CopyError> {
        // A copy may have taken long: the consent to overwrite is about the digest that is there now.
        let is_known = before.refused.is_none() && before.at.elapsed() < CONSENT_LASTS;
        let replaces = if is_known { before.digest.clone() } else { task.tag_before_copy().await? };
        let replaces = replaces.as_ref().filter(|digest| !closure.root().has_digest(digest));
        replaces.map_or(Ok(()), |there| task.may_replace(there))?;
        let (repository, tag, digest) = (task.destination_repository, task.tag, &closure.root().digest);
        let mutation = Mutation::WriteTag { repository, tag, digest, replaces };
        self.repositories.note_written_tag(task);
        let written = self.put(task, mutation, Reference::Tag(task.tag), closure, closure.root()).await;
        if let Err(error) = self.disguise(task, closure, written).await {
            check_refusal(task, closure, error).await?;
        }
        self.blobs.note_mountable(task, closure);
        Ok(())
    }

    /// Puts the registry's own refusal in the place of the one that another configuration writes there. Who may not write
    /// to the repository does not learn of that: the same manifest is pushed by its digest, which moves no tag.
    async fn disguise(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        written: Result<(), CopyError>,
    ) -> Result<(), CopyError> {
        let Err(CopyError::Denied(denied)) = written else { return written };
        if denied.is_taken() {
            let (root, mutation) = (closure.root(), Mutation::Upload { repository: task.destination_repository });
            self.put(task, mutation, Reference::Digest(&root.digest), closure, root).await.map_err(|mut error| {
                if let CopyError::Destination(refused) = &mut error {
                    let (by_digest, by_tag) = (Reference::Digest(&root.digest), Reference::Tag(task.tag));
                    refused.message = refused.message.replace(&by_digest.suffix(), &by_tag.suffix());
                }
                error
            })?;
        }
        Err(CopyError::Denied(denied))
    }

    /// Makes sure that a manifest of `closure` is there under its digest.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(super) async fn ensure(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        manifest: &Manifest,
    ) -> Result<(), CopyError> {
        // No HEAD before it: a PUT costs as much, and makes the registry look at what the manifest names.
        let mutation = Mutation::Upload { repository: task.destination_repository };
        let put = self.put(task, mutation, Reference::Digest(&manifest.digest), closure, manifest);
        self.contents.once(task, ContentKey::manifest(task, manifest), put).await.map(|_| ())
    }

    async fn put(
        &self,
        task: &ImageCopy<'_>,
        mutation: Mutation<'_>,
        reference: Reference<'_>,
        closure: &Closure,
        manifest: &Manifest,
    ) -> Result<(), CopyError> {
        let put = task.destination.put_manifest(task.destination_repository, reference, manifest);
        if let Err(error) = task.under_consent(mutation, Box::pin(put)).await? {
            return Err(refusal(task, closure, manifest, error).await);
        }
        self.repositories.note_exists(task.repository_key());
        Ok(())
    }
}

/// Returns the error for a manifest that the destination did not take. A registry that answers otherwise, and fails for
/// an index of blobs as if it were away, does not take it: some have no better answer.
async fn refusal(task: &ImageCopy<'_>, closure: &Closure, manifest: &Manifest, error: RegistryError) -> CopyError {
    let is_refused = matches!(error.kind, ErrorKind::ContentMissing | ErrorKind::ManifestInvalid);
    if is_refused && closure.sparse.contains(&manifest.digest) {
        return CopyError::SparseIndexRefused(error);
    }
    let Some(media_type) = closure.of_blobs.get(&manifest.digest) else { return CopyError::Destination(error) };
    if is_refused || (error.kind == ErrorKind::Unavailable && task.destination.ping().await.is_ok()) {
        return CopyError::Destination(refused_for_blobs(&error, media_type));
    }
    CopyError::Destination(error)
}

/// Returns the error of a registry that takes no index of blobs: pushing it again cannot help.
fn refused_for_blobs(error: &RegistryError, media_type: &str) -> RegistryError {
    let cause =
        format!("the index names blobs ({media_type}), as a cache of BuildKit does, and it takes only manifests");
    let remedy = "export the cache with image-manifest=true";
    RegistryError::new(ErrorKind::Rejected, format!("{error}: {cause}: {remedy}"))
}

/// Checks that the tag is where it should be, although writing it was refused with `error`. Where tags are immutable, a
/// registry also refuses to write what is there, which may come of a request whose answer got lost, or from another
/// writer.
async fn check_refusal(task: &ImageCopy<'_>, closure: &Closure, error: CopyError) -> Result<(), CopyError> {
    let CopyError::Destination(RegistryError { kind, message, .. }) = &error else { return Err(error) };
    if !matches!(kind, ErrorKind::Rejected | ErrorKind::Denied | ErrorKind::Unsupported) {
        return Err(error);
    }
    match task.tag_at_destination().await {
        Ok(Some(there)) if closure.root().has_digest(&there) => Ok(()),
        Ok(Some(there)) if says_immutable(message) => Err(CopyError::TagImmutable(format!(
            "the destination has {there} under the tag, the source {}, and the tag does not move there: {message}",
            task.digest
        ))),
        _ => Err(error),
    }
}

/// Returns true if a registry says by `message` that a tag does not move: each one has words of its own.
fn says_immutable(message: &str) -> bool {
    let message = message.to_lowercase();
    ["immutab", "cannot be overwritten", "cannot overwrite"].iter().any(|words| message.contains(words))
}

const MANIFESTS_AT_ONCE: usize = 8;

//! Brings child manifests to a destination repository, by digest.

use std::time::Instant;

use super::authority::Effect;
use super::engine::{CopyError, Engine, ImageCopy};
use crate::image::Manifest;
use crate::registry::Reference;

impl Engine {
    /// Makes sure that the manifest is in the destination repository. Its blobs and children are there already.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(super) async fn ensure_manifest(&self, task: &ImageCopy<'_>, manifest: &Manifest) -> Result<(), CopyError> {
        let key = task.content(&manifest.digest);
        if self.0.present.recall(&key).is_some() {
            return Ok(());
        }
        let _turn = self.0.content_turns.at(key.clone()).await;
        if self.0.present.recall(&key).is_some() {
            return Ok(());
        }
        task.permit(Effect::Upload { repository: task.destination_repository }).await?;
        let reference = Reference::Digest(&manifest.digest);
        task.destination
            .put_manifest(task.destination_repository, reference, manifest)
            .await
            .map_err(CopyError::Destination)?;
        self.0.present.note(key, ());
        Ok(())
    }

    /// Reads back whether the manifest is there, with its digest.
    ///
    /// # Errors
    /// [`CopyError::VerificationFailed`] if it is not.
    pub(super) async fn verify_manifest(&self, task: &ImageCopy<'_>, manifest: &Manifest) -> Result<(), CopyError> {
        let key = task.content(&manifest.digest);
        if self.is_verified(&key) {
            return Ok(());
        }
        let reference = Reference::Digest(&manifest.digest);
        let head = task
            .destination
            .head_manifest(task.destination_repository, reference)
            .await
            .map_err(CopyError::Destination)?;
        if head.is_none_or(|head| head.digest != manifest.digest) {
            self.0.present.forget(&key);
            return Err(CopyError::VerificationFailed(format!(
                "manifest {} is not at the destination",
                manifest.digest
            )));
        }
        self.0.verified.note(key, Instant::now());
        Ok(())
    }
}

//! Brings one blob to a destination repository: found there, mounted, or streamed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;

use super::authority::Effect;
use super::engine::{CopyError, Engine, ImageCopy};
use crate::image::{Descriptor, RepositoryName};
use crate::registry::UploadOutcome;

impl Engine {
    /// Makes sure that the blob is in the destination repository. However many images need it, one of them does the work and the
    /// others wait for it. `is_new`: the repository was just found to be absent, so there is nothing to look for.
    ///
    /// # Errors
    /// [`CopyError`], told apart by side.
    pub(super) async fn ensure_blob(
        &self,
        task: &ImageCopy<'_>,
        blob: &Descriptor,
        is_new: bool,
    ) -> Result<(), CopyError> {
        let key = task.content(&blob.digest);
        if self.0.present.recall(&key).is_some() {
            return Ok(());
        }
        let _turn = self.0.content_turns.at(key.clone()).await;
        if self.0.present.recall(&key).is_some() {
            return Ok(());
        }
        let crossing = (task.destination.id(), task.scope, blob.digest.clone());
        if !is_new
            && task.destination.has_blob(task.destination_repository, blob).await.map_err(CopyError::Destination)?
        {
            self.0.verified.note(key.clone(), Instant::now());
        } else {
            // A blob that is on its way to another repository is mounted from there once it has arrived. Whoever takes too long
            // is not waited for.
            let turn = tokio::time::timeout(LONGEST_WAIT, self.0.crossing_turns.at(crossing.clone())).await;
            self.bring(task, blob).await?;
            drop(turn);
        }
        self.0.mountable.note(crossing, task.destination_repository.clone());
        self.0.present.note(key, ());
        Ok(())
    }

    /// Reads back whether the blob is there, with its size.
    ///
    /// # Errors
    /// [`CopyError::VerificationFailed`] if it is not.
    pub(super) async fn verify_blob(&self, task: &ImageCopy<'_>, blob: &Descriptor) -> Result<(), CopyError> {
        let key = task.content(&blob.digest);
        if self.is_verified(&key) {
            return Ok(());
        }
        if !task.destination.has_blob(task.destination_repository, blob).await.map_err(CopyError::Destination)? {
            self.0.present.forget(&key);
            return Err(CopyError::VerificationFailed(format!("blob {} is not at the destination", blob.digest)));
        }
        self.0.verified.note(key, Instant::now());
        Ok(())
    }

    async fn bring(&self, task: &ImageCopy<'_>, blob: &Descriptor) -> Result<(), CopyError> {
        task.permit(Effect::Upload { repository: task.destination_repository }).await?;
        let mount_from = self.mount_source(task, blob);
        let source_failed = Arc::new(AtomicBool::new(false));
        let open = || {
            let source_failed = source_failed.clone();
            async move {
                let opened = task.source.blob(task.source_repository, blob).await;
                source_failed.store(opened.is_err(), Ordering::Relaxed);
                let stream = opened?.inspect(move |piece| source_failed.store(piece.is_err(), Ordering::Relaxed));
                Ok(stream.boxed())
            }
        };
        let uploaded = task.destination.upload(task.destination_repository, blob, mount_from.as_ref(), open).await;
        match uploaded {
            Ok(UploadOutcome::Mounted) => Ok(()),
            Ok(UploadOutcome::Uploaded) => {
                self.0.served.note((task.source.id(), blob.digest.clone()), ());
                task.progress.add(usize::try_from(blob.size).unwrap_or(usize::MAX));
                Ok(())
            }
            Err(error) if source_failed.load(Ordering::Relaxed) => Err(CopyError::Source(error)),
            Err(error) => Err(CopyError::Destination(error)),
        }
    }

    /// A repository that the blob may be mounted from: one that this configuration writes to; and into another owner's registry
    /// only what the source has proved to have.
    fn mount_source(&self, task: &ImageCopy<'_>, blob: &Descriptor) -> Option<RepositoryName> {
        if task.across_owners && self.0.served.recall(&(task.source.id(), blob.digest.clone())).is_none() {
            return None;
        }
        let key = (task.destination.id(), task.scope, blob.digest.clone());
        self.0.mountable.recall(&key).filter(|repository| repository != task.destination_repository)
    }
}

const LONGEST_WAIT: Duration = Duration::from_secs(60);

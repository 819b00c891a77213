//! Brings one blob to a destination repository: found there, mounted, or streamed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;

use super::authority::Effect;
use super::engine::Engine;
use super::tables::{ContentKey, Shared};
use super::task::{CopyError, ImageCopy};
use crate::image::{Descriptor, RepositoryName};
use crate::registry::UploadOutcome;

impl Engine {
    /// Makes sure that the blob is in the destination repository, and adds to `moved` how many bytes that took. However many images
    /// need it, one of them does the work and the others wait for it.
    ///
    /// # Errors
    /// [`CopyError`], told apart by side.
    pub(super) async fn ensure_blob(
        &self,
        task: &ImageCopy<'_>,
        blob: &Descriptor,
        moved: &AtomicU64,
    ) -> Result<(), CopyError> {
        let bring = self.find_or_bring(task, blob);
        if let Some(bytes) = self.once(task, ContentKey::blob(task, blob), bring).await? {
            moved.fetch_add(bytes, Ordering::Relaxed);
        }
        self.tee().done(task, blob);
        Ok(())
    }

    /// Does `bring` unless the content is known to be there, one at a time for the same content; `None` if it was there. Those
    /// who wait share a failure that they would meet too.
    pub(super) async fn once<T>(
        &self,
        task: &ImageCopy<'_>,
        key: ContentKey,
        bring: impl Future<Output = Result<T, CopyError>>,
    ) -> Result<Option<T>, CopyError> {
        let tables = self.tables();
        if tables.present.recall(&key).is_some() {
            return Ok(None);
        }
        let mut turn = tables.content_turns.at(key.clone()).await;
        if tables.present.recall(&key).is_some() {
            return Ok(None);
        }
        if let Some(error) = turn.inherited().and_then(|failure| failure.for_task(task)) {
            return Err(error);
        }
        match bring.await {
            Ok(brought) => {
                tables.present.note(key, ());
                Ok(Some(brought))
            }
            Err(error) => {
                if let Some(failure) = Shared::of(task, &error) {
                    turn.fail(failure);
                }
                Err(error)
            }
        }
    }

    async fn find_or_bring(&self, task: &ImageCopy<'_>, blob: &Descriptor) -> Result<u64, CopyError> {
        let tables = self.tables();
        let crossing = task.crossing_key(blob);
        let key = ContentKey::blob(task, blob);
        if tables.doubted.recall(&key).is_some() {
            Box::pin(self.bring(task, blob, None)).await?;
            tables.doubted.forget(&key);
            return Ok(blob.size);
        }
        let began_empty = tables.began_empty.recall(&task.repository_key()).is_some();
        let looked = Instant::now();
        if !began_empty
            && task.destination.has_blob(task.destination_repository, blob).await.map_err(CopyError::Destination)?
        {
            tables.verified.note(ContentKey::blob(task, blob), looked);
            if tables.mountable.recall(&crossing).is_none() {
                tables.mountable.note(crossing, task.destination_repository.clone());
            }
            return Ok(0);
        }
        // A blob that is on its way to another repository is mounted from there once it has arrived. Whoever takes too long is
        // not waited for.
        let turn = match self.mount_source(task, blob) {
            Some(_) => None,
            None => tokio::time::timeout(LONGEST_WAIT, tables.crossing_turns.at(crossing.clone())).await.ok(),
        };
        let mount_from = self.mount_source(task, blob);
        let _turn = turn.filter(|_| mount_from.is_none());
        // A repository counts as absent until it has a tag, so it may still have what an interrupted copy left: to mount from
        // itself finds that, and opens the upload where there is nothing.
        let itself = began_empty.then(|| task.destination_repository.clone());
        match Box::pin(self.bring(task, blob, mount_from.or(itself).as_ref())).await? {
            UploadOutcome::Mounted => {
                if tables.mountable.recall(&crossing).is_none() {
                    tables.mountable.note(crossing, task.destination_repository.clone());
                }
                Ok(0)
            }
            UploadOutcome::Uploaded => {
                tables.served.note((task.source.id(), blob.digest.clone()), ());
                tables.mountable.note(crossing, task.destination_repository.clone());
                Ok(blob.size)
            }
        }
    }

    /// To be boxed: it is large, and every image waits for most of its blobs without it.
    async fn bring(
        &self,
        task: &ImageCopy<'_>,
        blob: &Descriptor,
        mount_from: Option<&RepositoryName>,
    ) -> Result<UploadOutcome, CopyError> {
        let source_failed = Arc::new(AtomicBool::new(false));
        let open = || {
            let (source_failed, progress) = (source_failed.clone(), task.progress.clone());
            async move {
                let opened = self.tee().open(task, blob).await;
                source_failed.store(opened.is_err(), Ordering::Relaxed);
                let watched = opened?.inspect(move |piece| match piece {
                    Ok(bytes) => progress.add(bytes.len()),
                    Err(_) => source_failed.store(true, Ordering::Relaxed),
                });
                Ok(watched.boxed())
            }
        };
        let upload = task.destination.upload(task.destination_repository, blob, mount_from, open);
        let effect = Effect::Upload { repository: task.destination_repository };
        task.under_consent(effect, Box::pin(upload)).await?.map_err(|error| {
            match source_failed.load(Ordering::Relaxed) {
                true => CopyError::Source(error),
                false => CopyError::Destination(error),
            }
        })
    }

    /// A repository that the blob may be mounted from: one that this configuration writes to; and into another owner's registry
    /// only what the source has proved to have.
    fn mount_source(&self, task: &ImageCopy<'_>, blob: &Descriptor) -> Option<RepositoryName> {
        let tables = self.tables();
        if task.across_owners && tables.served.recall(&(task.source.id(), blob.digest.clone())).is_none() {
            return None;
        }
        let repository = tables.mountable.recall(&task.crossing_key(blob))?;
        (repository != *task.destination_repository).then_some(repository)
    }
}

const LONGEST_WAIT: Duration = Duration::from_secs(60);

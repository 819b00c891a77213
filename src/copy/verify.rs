//! Reads back what is at a destination.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};

use super::authority::Effect;
use super::closure::Closure;
use super::engine::Engine;
use super::tables::ContentKey;
use super::task::{CopyError, ImageCopy};
use crate::image::{Descriptor, Digest, Manifest};
use crate::registry::{ErrorKind, Reference};

impl Engine {
    /// Whether the tag is at `digest` and all of its content that the options choose is at the destination; nothing is written, and
    /// the source is not asked. Manifests are read and hashed, of blobs the presence and the size are asked. `digest` is the one at
    /// the destination, [`Copied::destination_digest`](super::Copied::destination_digest) where there is one.
    ///
    /// # Errors
    /// [`CopyError::Refused`] without consent to [`Effect::Upload`]; [`CopyError::Destination`] where the destination fails, or
    /// serves a manifest whose bytes do not have its digest, which [`Engine::copy`] cannot repair.
    pub async fn verify(&self, task: &ImageCopy<'_>, digest: &Digest) -> Result<bool, CopyError> {
        let began = Instant::now();
        task.permit(Effect::Upload { repository: task.destination_repository }).await?;
        if task.tag_at_destination().await?.as_ref() != Some(digest) {
            return Ok(false);
        }
        let read = Closure::read((task.destination, task.destination_repository, None), digest, task.options).await;
        let closure = match read.map_err(|unread| unread.of_destination()) {
            Err(CopyError::Destination(error)) if error.kind == ErrorKind::NotFound => return Ok(false),
            read => read?,
        };
        if closure.root().digest != *digest {
            return Ok(false); // It has more platforms than are wanted.
        }
        let complete = is_true(self.verify_blobs(task, &closure, began).await)?;
        if !complete {
            self.forget(task, &closure);
        }
        Ok(complete)
    }

    /// Whether everything below the tag is there, looked at after `not_before`; nothing is written.
    pub(super) async fn is_complete(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        not_before: Instant,
    ) -> Result<bool, CopyError> {
        is_true(self.verify_content(task, closure, not_before).await)
    }

    /// Whether the root manifest and everything below it are there, looked at after `not_before`, whatever tags there are.
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

    /// Reads the tag and everything below it back, after `written`; content that somebody saw shortly before is not looked at
    /// again. What is not there yet has a moment to appear: some registries serve what they took a little later.
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
                "{} points at {digest} after {wanted} was written: somebody else writes this tag",
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
        let children = closure.children().iter().map(Content::Manifest);
        let all: Vec<Content<'_>> = children.chain(closure.blobs.iter().map(Content::Blob)).collect();
        self.verify_each(task, all, not_before).await
    }

    async fn verify_blobs(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        not_before: Instant,
    ) -> Result<(), CopyError> {
        self.verify_each(task, closure.blobs.iter().map(Content::Blob).collect(), not_before).await
    }

    async fn verify_each(
        &self,
        task: &ImageCopy<'_>,
        content: Vec<Content<'_>>,
        not_before: Instant,
    ) -> Result<(), CopyError> {
        self.verify_at_once(task, &content, not_before).await;
        let content = futures::stream::iter(content).map(Ok);
        content.try_for_each_concurrent(CHECKS_AT_ONCE, |one| self.verify_one(task, one, not_before)).await
    }

    /// Looks for the blobs by few calls, where the destination has such a call; what is not found by it is looked for one by one.
    async fn verify_at_once(&self, task: &ImageCopy<'_>, content: &[Content<'_>], not_before: Instant) {
        let tables = self.tables();
        let blobs = content.iter().filter_map(|one| match one {
            Content::Blob(blob) if !tables.is_verified(&ContentKey::blob(task, blob), not_before) => Some(*blob),
            _ => None,
        });
        let blobs: Vec<&Descriptor> = blobs.collect();
        let began = Instant::now();
        let found = task.destination.blobs_at_once(task.destination_repository, &blobs).await;
        for blob in blobs.into_iter().filter(|blob| found.contains(&blob.digest)) {
            tables.verified.note(ContentKey::blob(task, blob), began);
        }
    }

    async fn verify_one(
        &self,
        task: &ImageCopy<'_>,
        content: Content<'_>,
        not_before: Instant,
    ) -> Result<(), CopyError> {
        match content {
            Content::Manifest(manifest) => self.verify_manifest(task, manifest, not_before).await,
            Content::Blob(blob) => self.verify_blob(task, blob, not_before).await,
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
        let what = format!("manifest {}", manifest.digest);
        self.check(ContentKey::manifest(task, manifest), not_before, Box::pin(look), &what).await
    }

    async fn verify_blob(&self, task: &ImageCopy<'_>, blob: &Descriptor, not_before: Instant) -> Result<(), CopyError> {
        let look = async {
            task.destination.has_blob(task.destination_repository, blob).await.map_err(CopyError::Destination)
        };
        let what = format!("blob {}", blob.digest);
        self.check(ContentKey::blob(task, blob), not_before, Box::pin(look), &what).await
    }

    /// Looks for content, unless somebody has done so after `not_before`: whoever waits for a look that began later than his
    /// own tag was written shares its outcome.
    async fn check(
        &self,
        key: ContentKey,
        not_before: Instant,
        look: impl Future<Output = Result<bool, CopyError>>,
        what: &str,
    ) -> Result<(), CopyError> {
        let tables = self.tables();
        if tables.is_verified(&key, not_before) {
            return Ok(());
        }
        let _turn = tables.check_turns.at(key.clone()).await;
        if tables.is_verified(&key, not_before) {
            return Ok(());
        }
        let began = Instant::now();
        if look.await? {
            tables.verified.note(key, began);
            return Ok(());
        }
        tables.present.forget(&key);
        Err(CopyError::VerificationFailed(format!("{what} is not at the destination")))
    }
}

/// A piece of an image.
enum Content<'a> {
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

/// What another image's reading back saw counts for an image that is written so shortly after it: images that share layers are
/// copied side by side.
const SHARED_FOR: Duration = Duration::from_secs(10);
const CHECKS_AT_ONCE: usize = 8;
/// What is waited for before what was just written is looked for again.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(1_000)];

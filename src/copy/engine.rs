//! Copies one image: the order of its steps, and what is remembered between images.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};

use super::authority::{Authority, Effect, Refusal};
use super::closure::Closure;
use super::memo::Memo;
use super::turns::Turns;
use crate::image::{Digest, RepositoryName, Tag};
use crate::registry::{Client, ClientId, ErrorKind, Reference, RegistryError};

/// Copies images. One a process: what it remembers of destinations is shared by everything that the process copies.
#[derive(Clone, Default)]
pub struct Engine(pub(super) Arc<Tables>);

/// One image to copy to one tag.
pub struct ImageCopy<'a> {
    /// The registry that the image is read from.
    pub source: &'a Client,
    /// Its repository there.
    pub source_repository: &'a RepositoryName,
    /// The registry that it is written to.
    pub destination: &'a Client,
    /// Its repository there.
    pub destination_repository: &'a RepositoryName,
    /// The tag at the destination.
    pub tag: &'a Tag,
    /// What is copied, pinned when it was planned.
    pub digest: &'a Digest,
    /// The configuration: blobs are mounted only from repositories that it writes to itself.
    pub scope: MountScope,
    /// The destination belongs to another owner: only blobs whose bytes the source has served to this process are mounted, since
    /// anybody can claim to have a digest.
    pub across_owners: bool,
    /// Gives or refuses consent to each effect.
    pub authority: &'a dyn Authority,
    /// Counts while the copy runs.
    pub progress: &'a Progress,
}

/// Tells configurations apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MountScope(u64);

impl MountScope {
    /// The scope of the configuration with this uid.
    pub fn new(uid: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        uid.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// How much a copy has moved so far.
#[derive(Debug, Default)]
pub struct Progress(AtomicU64);

impl Progress {
    /// Bytes of blobs that were read from the source.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// An image that is at its destination, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The bytes of its manifests and blobs, each counted once.
    pub size: u64,
    /// Whether it was there before, whole.
    pub already_there: bool,
}

/// Why an image was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The destination failed.
    #[error("{0}")]
    Destination(RegistryError),
    /// The image is larger than any sensible one.
    #[error("{0}")]
    LimitExceeded(String),
    /// Consent was refused.
    #[error("{0}")]
    Refused(Refusal),
    /// The source failed.
    #[error("{0}")]
    Source(RegistryError),
    /// The digest is not at the source any more.
    #[error("the image is not at the source any more")]
    SourceChanged,
    /// What was read back is not what was written.
    #[error("{0}")]
    VerificationFailed(String),
}

/// What is known of destinations. Keyed by client, never by host: what one credential may see says nothing to another.
pub(super) struct Tables {
    /// One owner per content of a repository, however many tags need it.
    pub(super) content_turns: Turns<ContentKey>,
    /// One owner per blob of a destination within a scope: later repositories mount what the first one has.
    pub(super) crossing_turns: Turns<(ClientId, MountScope, Digest)>,
    pub(super) repository_turns: Turns<(ClientId, RepositoryName)>,
    /// Content that is there.
    pub(super) present: Memo<ContentKey, ()>,
    /// When content was last read back.
    pub(super) verified: Memo<ContentKey, Instant>,
    /// A repository of a scope that has a blob.
    pub(super) mountable: Memo<(ClientId, MountScope, Digest), RepositoryName>,
    /// Blobs whose bytes a source has served to this process.
    pub(super) served: Memo<(ClientId, Digest), ()>,
    /// Repositories that exist.
    pub(super) repositories: Memo<(ClientId, RepositoryName), ()>,
}

/// Content of one repository at one registry.
pub(super) type ContentKey = (ClientId, RepositoryName, Digest);

impl Default for Tables {
    fn default() -> Self {
        Self {
            content_turns: Turns::default(),
            crossing_turns: Turns::default(),
            repository_turns: Turns::default(),
            present: Memo::new(REMEMBERED),
            verified: Memo::new(REMEMBERED),
            mountable: Memo::new(REMEMBERED),
            served: Memo::new(REMEMBERED),
            repositories: Memo::new(REMEMBERED),
        }
    }
}

impl Engine {
    /// Copies the image and reads it back: tag, manifests and blobs. Dropping the future stops everything.
    ///
    /// # Errors
    /// [`CopyError`] tells the source's failures from the destination's. What was copied until then stays and is found again.
    pub async fn copy(&self, task: &ImageCopy<'_>) -> Result<Copied, CopyError> {
        task.permit(Effect::Upload { repository: task.destination_repository }).await?;
        let present = task.tag_at_destination().await?;
        let closure = Closure::read(task).await?;
        let size = closure.size();
        if present.as_ref() == Some(task.digest) && self.is_complete(task, &closure).await? {
            return Ok(Copied { size, already_there: true });
        }
        let is_new = present.is_none() && self.create_repository(task).await?;
        let mut attempt = 1;
        loop {
            match self.push(task, &closure, present.as_ref(), is_new && attempt == 1).await {
                // The registry lost what it said it had, or we believed too much: forget it and push again without asking.
                Err(CopyError::Destination(error))
                    if error.kind == ErrorKind::ContentMissing && attempt < MOST_PUSHES =>
                {
                    self.forget(task, &closure);
                    attempt += 1;
                }
                result => break result?,
            }
        }
        self.read_back(task, &closure).await?;
        Ok(Copied { size, already_there: false })
    }

    async fn push(
        &self,
        task: &ImageCopy<'_>,
        closure: &Closure,
        replaces: Option<&Digest>,
        is_new: bool,
    ) -> Result<(), CopyError> {
        let blobs = futures::stream::iter(&closure.blobs).map(Ok);
        blobs.try_for_each_concurrent(BLOBS_AT_ONCE, |blob| self.ensure_blob(task, blob, is_new)).await?;
        for child in closure.children() {
            self.ensure_manifest(task, child).await?;
        }
        let effect = Effect::WriteTag {
            repository: task.destination_repository,
            tag: task.tag,
            digest: task.digest,
            replaces: replaces.filter(|digest| *digest != task.digest),
        };
        task.permit(effect).await?;
        let root = closure.root();
        task.destination
            .put_manifest(task.destination_repository, Reference::Tag(task.tag), root)
            .await
            .map_err(CopyError::Destination)
    }

    /// Whether the tag's closure is whole at the destination; nothing is written.
    async fn is_complete(&self, task: &ImageCopy<'_>, closure: &Closure) -> Result<bool, CopyError> {
        match self.verify_content(task, closure).await {
            Ok(()) => Ok(true),
            Err(CopyError::VerificationFailed(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn read_back(&self, task: &ImageCopy<'_>, closure: &Closure) -> Result<(), CopyError> {
        match task.tag_at_destination().await? {
            Some(digest) if digest == *task.digest => self.verify_content(task, closure).await,
            Some(digest) => Err(CopyError::VerificationFailed(format!(
                "{} points at {digest} after {} was written: somebody else writes this tag",
                task.tag, task.digest
            ))),
            None => Err(CopyError::VerificationFailed(format!("{} is not there after it was written", task.tag))),
        }
    }

    async fn verify_content(&self, task: &ImageCopy<'_>, closure: &Closure) -> Result<(), CopyError> {
        let children = futures::stream::iter(closure.children()).map(Ok);
        children.try_for_each_concurrent(CHECKS_AT_ONCE, |child| self.verify_manifest(task, child)).await?;
        let blobs = futures::stream::iter(&closure.blobs).map(Ok);
        blobs.try_for_each_concurrent(CHECKS_AT_ONCE, |blob| self.verify_blob(task, blob)).await
    }

    fn forget(&self, task: &ImageCopy<'_>, closure: &Closure) {
        let manifests = closure.manifests.iter().map(|manifest| &manifest.digest);
        for digest in manifests.chain(closure.blobs.iter().map(|blob| &blob.digest)) {
            let key = task.content(digest);
            self.0.present.forget(&key);
            self.0.verified.forget(&key);
            self.0.mountable.forget(&(task.destination.id(), task.scope, digest.clone()));
        }
    }

    /// Makes sure that the repository exists or may come into being. Answers whether it is new, and so holds nothing.
    async fn create_repository(&self, task: &ImageCopy<'_>) -> Result<bool, CopyError> {
        let key = (task.destination.id(), task.destination_repository.clone());
        if self.0.repositories.recall(&key).is_some() {
            return Ok(false);
        }
        let _turn = self.0.repository_turns.at(key.clone()).await;
        if self.0.repositories.recall(&key).is_some() {
            return Ok(false);
        }
        let exists =
            task.destination.repository_exists(task.destination_repository).await.map_err(CopyError::Destination)?;
        if !exists {
            task.permit(Effect::CreateRepository { repository: task.destination_repository }).await?;
        }
        self.0.repositories.note(key, ());
        Ok(!exists)
    }

    /// Whether content was read back so lately that it need not be again: content is named by its digest, so writing other
    /// tags does not change it.
    pub(super) fn is_verified(&self, key: &ContentKey) -> bool {
        self.0.verified.recall(key).is_some_and(|at| at.elapsed() < VERIFIED_FOR)
    }
}

impl ImageCopy<'_> {
    pub(super) async fn permit(&self, effect: Effect<'_>) -> Result<(), CopyError> {
        self.authority.permit(effect).await.map_err(CopyError::Refused)
    }

    pub(super) fn content(&self, digest: &Digest) -> ContentKey {
        (self.destination.id(), self.destination_repository.clone(), digest.clone())
    }

    async fn tag_at_destination(&self) -> Result<Option<Digest>, CopyError> {
        let head = self.destination.head_manifest(self.destination_repository, Reference::Tag(self.tag)).await;
        Ok(head.map_err(CopyError::Destination)?.map(|head| head.digest))
    }
}

const BLOBS_AT_ONCE: usize = 8;
const CHECKS_AT_ONCE: usize = 8;
const MOST_PUSHES: u32 = 3;
const REMEMBERED: usize = 50_000;
const VERIFIED_FOR: Duration = Duration::from_secs(60);

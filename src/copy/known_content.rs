//! The manifests and blobs that destination repositories are known to have.

use std::time::Instant;

use super::closure::Closure;
use super::memo::Memo;
use super::task::{CopyError, ImageCopy, RepositoryKey};
use super::turns::Turns;
use crate::image::{Descriptor, Digest, Manifest};

/// The content of destination repositories, as far as this process has pushed or seen it. Whatever needs the same
/// content at the same time waits for one owner of the work.
pub(super) struct KnownContent {
    push_turns: Turns<ContentKey, SharedFailure>,
    check_turns: Turns<ContentKey>,
    present: Memo<ContentKey, ()>,
    /// The beginning of the last check that found the content.
    verified: Memo<ContentKey, Instant>,
}

/// Content of one repository at one registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ContentKey(RepositoryKey, ContentId);

/// A blob is no manifest, even where their bytes are the same. A blob of another size than the one that was seen is
/// another one: a manifest that lies about sizes does not profit from one that is right.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ContentId {
    Blob(Digest, u64),
    Manifest(Digest),
}

/// A failure that other copies share if they need the same content.
#[derive(Clone, Debug)]
struct SharedFailure {
    error: CopyError,
    source: RepositoryKey,
}

impl KnownContent {
    /// Knows nothing yet, and later remembers at most `capacity` entries of each kind.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            push_turns: Turns::default(),
            check_turns: Turns::default(),
            present: Memo::new(capacity),
            verified: Memo::new(capacity),
        }
    }

    /// Does `bring` unless the content is known to be there, one at a time for the same content; `None` if it was
    /// there. Callers that wait share a failure that they would meet too.
    ///
    /// # Errors
    /// The error of `bring`, or of the one that was waited for.
    pub(super) async fn once<T>(
        &self,
        task: &ImageCopy<'_>,
        key: ContentKey,
        bring: impl Future<Output = Result<T, CopyError>>,
    ) -> Result<Option<T>, CopyError> {
        if self.present.recall(&key).is_some() {
            return Ok(None);
        }
        let mut turn = self.push_turns.at(key.clone()).await;
        if self.present.recall(&key).is_some() {
            return Ok(None);
        }
        if let Some(error) = turn.inherited().and_then(|failure| failure.for_task(task)) {
            return Err(error);
        }
        match bring.await {
            Ok(brought) => {
                self.present.note(key, ());
                Ok(Some(brought))
            }
            Err(error) => {
                if let Some(failure) = SharedFailure::of(task, &error) {
                    turn.fail(failure);
                }
                Err(error)
            }
        }
    }

    /// Looks for content, unless a check that began at `not_before` or later has found it. A caller that waits for such
    /// a check shares its outcome. `name` is the content in a message.
    ///
    /// # Errors
    /// The error of `look`; [`CopyError::VerificationFailed`] if the content is absent.
    pub(super) async fn check(
        &self,
        key: ContentKey,
        not_before: Instant,
        look: impl Future<Output = Result<bool, CopyError>>,
        name: &str,
    ) -> Result<(), CopyError> {
        if self.is_verified(&key, not_before) {
            return Ok(());
        }
        let _turn = self.check_turns.at(key.clone()).await;
        if self.is_verified(&key, not_before) {
            return Ok(());
        }
        let began = Instant::now();
        if look.await? {
            self.note_verified(key, began);
            return Ok(());
        }
        self.present.forget(&key);
        Err(CopyError::VerificationFailed(format!("{name} is not at the destination")))
    }

    /// Returns true if a check that began at `not_before` or later has found the content.
    pub(super) fn is_verified(&self, key: &ContentKey, not_before: Instant) -> bool {
        self.verified.recall(key).is_some_and(|began| began >= not_before)
    }

    /// Notes a check that found the content.
    pub(super) fn note_verified(&self, key: ContentKey, began: Instant) {
        self.verified.note(key, began);
    }

    /// Forgets the content of the image.
    pub(super) fn forget(&self, task: &ImageCopy<'_>, closure: &Closure) {
        let manifests = closure.manifests.iter().map(|manifest| ContentKey::manifest(task, manifest));
        let blobs = closure.blobs.iter().map(|blob| ContentKey::blob(task, blob));
        for key in manifests.chain(blobs) {
            self.present.forget(&key);
            self.verified.forget(&key);
        }
    }
}

impl ContentKey {
    /// Returns the key of a blob in the destination repository.
    pub(super) fn blob(task: &ImageCopy<'_>, blob: &Descriptor) -> Self {
        Self(task.repository_key(), ContentId::Blob(blob.digest.clone(), blob.size))
    }

    /// Returns the key of a manifest in the destination repository.
    pub(super) fn manifest(task: &ImageCopy<'_>, manifest: &Manifest) -> Self {
        Self(task.repository_key(), ContentId::Manifest(manifest.digest.clone()))
    }
}

impl SharedFailure {
    /// Returns the failure, if it may be shared: a refusal by one authority says nothing about another.
    fn of(task: &ImageCopy<'_>, error: &CopyError) -> Option<Self> {
        let is_shared = matches!(error, CopyError::Source(_) | CopyError::Destination(_));
        is_shared.then(|| Self { error: error.clone(), source: task.source_key() })
    }

    /// Returns the error, for a copy that would meet the same: the destination's failures, and those of the same
    /// source.
    fn for_task(self, task: &ImageCopy<'_>) -> Option<CopyError> {
        let applies = matches!(self.error, CopyError::Destination(_)) || self.source == task.source_key();
        applies.then_some(self.error)
    }
}

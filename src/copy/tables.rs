//! What the process knows of destinations, shared by everything that it copies.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::memo::Memo;
use super::task::{CONSENT_LASTS, CopyError, ImageCopy, MountScope};
use super::turns::Turns;
use crate::image::{Descriptor, Digest, Manifest, RepositoryName, Tag};
use crate::registry::{ClientId, FirstTags, RegistryError};

/// What is known of destinations. Keyed by client, never by host: what one credential may see says nothing to another.
pub(super) struct Tables {
    /// One owner per content of a repository, however many tags need it.
    pub(super) content_turns: Turns<ContentKey, Shared>,
    /// One owner per blob of a destination within a scope: later repositories mount what the first one has.
    pub(super) crossing_turns: Turns<CrossingKey>,
    /// One question at a time whether a repository exists.
    pub(super) repository_turns: Turns<RepositoryKey, RegistryError>,
    /// One reading back at a time of the same content.
    pub(super) check_turns: Turns<ContentKey>,
    /// Content that is there.
    pub(super) present: Memo<ContentKey, ()>,
    /// Blobs that are to be sent, whatever the registry says of them.
    pub(super) doubted: Memo<ContentKey, ()>,
    /// When the last reading back of content that went well began.
    pub(super) verified: Memo<ContentKey, Instant>,
    /// A repository of a scope that has a blob.
    pub(super) mountable: Memo<CrossingKey, RepositoryName>,
    /// Blobs whose bytes a source has served to this process.
    pub(super) served: Memo<(ClientId, Digest), ()>,
    /// One writer at a time of the index under a fallback tag.
    pub(super) fallback_turns: Turns<(RepositoryKey, Tag)>,
    /// The tags of a source repository that stand for referrers, and when they were listed.
    pub(super) referrer_tags: Memo<RepositoryKey, (Arc<BTreeSet<Tag>>, Instant)>,
    /// What was read of a source under the fallback tag of referrers, and when.
    pub(super) seen_lists: Memo<(RepositoryKey, Tag), (Digest, Instant)>,
    /// Repositories that were absent when this process first looked: what is in them is known here.
    pub(super) began_empty: Memo<RepositoryKey, ()>,
    /// Tags that this process has written: an earlier look does not know them.
    pub(super) written_tags: Memo<(RepositoryKey, Tag), ()>,
    looks: Memo<RepositoryKey, Arc<Look>>,
    repositories: Memo<RepositoryKey, (bool, Instant)>,
}

/// A repository of one registry.
pub(super) type RepositoryKey = (ClientId, RepositoryName);

/// A blob of a destination within a scope.
pub(super) type CrossingKey = (ClientId, MountScope, Digest);

/// Content of one repository at one registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ContentKey(RepositoryKey, Content);

/// A blob is no manifest, even where their bytes are the same. A blob of another size than the one that was seen is another
/// one: a manifest that lies about sizes is not to profit from one that does not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Content {
    Blob(Digest, u64),
    Manifest(Digest),
}

/// What a destination repository had at some instant.
pub(super) struct Look {
    /// Its tags, as far as they are on the first page; `None` if there is no such repository.
    pub(super) found: Option<FirstTags>,
    /// When it was looked at.
    pub(super) at: Instant,
}

/// A failure that others who need the same content may share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    error: CopyError,
    source: RepositoryKey,
}

impl Tables {
    /// Empty tables of at most `remembered` entries each.
    pub(super) fn new(remembered: usize) -> Self {
        Self {
            content_turns: Turns::default(),
            crossing_turns: Turns::default(),
            repository_turns: Turns::default(),
            check_turns: Turns::default(),
            present: Memo::new(remembered),
            doubted: Memo::new(remembered),
            verified: Memo::new(remembered),
            mountable: Memo::new(remembered),
            served: Memo::new(remembered),
            fallback_turns: Turns::default(),
            referrer_tags: Memo::new(REPOSITORIES_REMEMBERED.min(remembered)),
            seen_lists: Memo::new(remembered),
            began_empty: Memo::new(remembered),
            written_tags: Memo::new(remembered),
            looks: Memo::new(REPOSITORIES_REMEMBERED.min(remembered)),
            repositories: Memo::new(remembered),
        }
    }

    /// Whether content was read back, beginning at `not_before` or later.
    pub(super) fn is_verified(&self, key: &ContentKey, not_before: Instant) -> bool {
        self.verified.recall(key).is_some_and(|began| began >= not_before)
    }

    /// Whether a repository exists, if that was seen lately: within the last minute, or the last second where it was absent,
    /// since whoever is asked to create it does so any moment.
    pub(super) fn repository_exists(&self, key: &RepositoryKey) -> Option<bool> {
        let (exists, seen) = self.repositories.recall(key)?;
        let seen_for = if exists { REPOSITORY_SEEN_FOR } else { REPOSITORY_MISSED_FOR };
        (seen.elapsed() < seen_for).then_some(exists)
    }

    /// What a repository had a moment ago, no longer than consent lasts.
    pub(super) fn look(&self, key: &RepositoryKey) -> Option<Arc<Look>> {
        self.looks.recall(key).filter(|look| look.at.elapsed() < CONSENT_LASTS)
    }

    /// Notes what a repository has.
    pub(super) fn note_look(&self, key: RepositoryKey, look: Look) -> Arc<Look> {
        let look = Arc::new(look);
        if look.found.is_none() {
            self.began_empty.note(key.clone(), ());
        }
        self.repositories.note(key.clone(), (look.found.is_some(), look.at));
        self.looks.note(key, look.clone());
        look
    }

    /// Notes whether a repository exists.
    pub(super) fn note_repository(&self, key: RepositoryKey, exists: bool) {
        self.repositories.note(key, (exists, Instant::now()));
    }
}

impl ContentKey {
    /// Of a blob in the destination repository.
    pub(super) fn blob(task: &ImageCopy<'_>, blob: &Descriptor) -> Self {
        Self(task.repository_key(), Content::Blob(blob.digest.clone(), blob.size))
    }

    /// Of a manifest in the destination repository.
    pub(super) fn manifest(task: &ImageCopy<'_>, manifest: &Manifest) -> Self {
        Self(task.repository_key(), Content::Manifest(manifest.digest.clone()))
    }
}

impl Shared {
    /// The failure, if it may be shared: what one authority refuses says nothing of another.
    pub(super) fn of(task: &ImageCopy<'_>, error: &CopyError) -> Option<Self> {
        let is_shared = matches!(error, CopyError::Source(_) | CopyError::Destination(_));
        is_shared.then(|| Self { error: error.clone(), source: task.source_key() })
    }

    /// The error, for a copy that would meet the same: the destination's failures, and those of the same source.
    pub(super) fn for_task(self, task: &ImageCopy<'_>) -> Option<CopyError> {
        let applies = matches!(self.error, CopyError::Destination(_)) || self.source == task.source_key();
        applies.then_some(self.error)
    }
}

/// Lists of tags are larger than other entries.
const REPOSITORIES_REMEMBERED: usize = 64;
/// Whoever deletes a repository is not to see it made again without consent much later than this.
const REPOSITORY_SEEN_FOR: Duration = Duration::from_secs(60);
const REPOSITORY_MISSED_FOR: Duration = Duration::from_secs(1);

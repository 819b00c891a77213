//! The destination repositories as this process last saw them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::authority::Mutation;
use super::memo::Memo;
use super::task::{CONSENT_LASTS, CopyError, ImageCopy, RepositoryKey};
use super::turns::Turns;
use crate::image::{Digest, RepositoryName, Tag};
use crate::registry::{Client, ErrorKind, FirstTags, RegistryError};

/// The memory of destination repositories. Keyed by client, never by host: the view of one credential says nothing
/// about that of another.
pub(super) struct KnownRepositories {
    /// One listing at a time of the same repository; those that waited share its failure.
    turns: Turns<RepositoryKey, RegistryError>,
    listings: Memo<RepositoryKey, Arc<SeenRepository>>,
    existence: Memo<RepositoryKey, Existence>,
    /// Repositories that were absent when this process first looked: their whole content is known here.
    began_empty: Memo<RepositoryKey, ()>,
    /// One creation at a time of the same repository; those that waited share its failure.
    creation_turns: Turns<RepositoryKey, RegistryError>,
    /// Repositories that this process has created by their template, or found there then.
    created: Memo<RepositoryKey, Instant>,
    /// Tags that this process has written: an earlier listing does not have them.
    written_tags: Memo<(RepositoryKey, Tag), ()>,
}

/// A destination tag and its repository before an image is copied.
pub(super) struct DestinationTag {
    /// The digest that the tag pointed at; `None` if it was absent.
    pub(super) digest: Option<Digest>,
    /// The instant before the request that found this.
    pub(super) at: Instant,
    /// True if the repository was there.
    pub(super) has_repository: bool,
    /// The refusal to look, although the credentials are good: Quay and others answer so for repositories that do not
    /// exist and that the credentials may create. The tag has to be looked at before it is written.
    pub(super) refused: Option<RegistryError>,
}

/// The first page of a repository's tags at some instant.
struct SeenRepository {
    /// `None` if there was no such repository.
    tags: Option<FirstTags>,
    at: Instant,
}

#[derive(Clone, Copy)]
struct Existence {
    exists: bool,
    at: Instant,
}

impl KnownRepositories {
    /// Knows nothing yet, and later remembers at most `capacity` entries of each kind.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            turns: Turns::default(),
            listings: Memo::new(MAX_LISTINGS.min(capacity)),
            existence: Memo::new(capacity),
            began_empty: Memo::new(capacity),
            creation_turns: Turns::default(),
            created: Memo::new(capacity),
            written_tags: Memo::new(capacity),
        }
    }

    /// Returns the present state of the destination tag. An unknown repository is listed, which answers for all of its
    /// absent tags at once.
    ///
    /// # Errors
    /// [`CopyError::Destination`].
    pub(super) async fn look_at_tag(&self, task: &ImageCopy<'_>) -> Result<DestinationTag, CopyError> {
        let key = task.repository_key();
        let seen = match self.recent_listing(&key) {
            Some(seen) => Some(seen),
            None if self.exists(&key) == Some(true) => None,
            None if task.was_there => {
                let at = Instant::now();
                if let Some(digest) = task.tag_at_destination().await? {
                    self.note_exists(key);
                    return Ok(DestinationTag::seen(Some(digest), at, true));
                }
                let listed = self.list(task.destination, task.destination_repository).await;
                Some(listed.map_err(|(_, error)| CopyError::Destination(error))?)
            }
            None => match self.list(task.destination, task.destination_repository).await {
                Ok(seen) => Some(seen),
                Err((at, error)) => return self.look_without_list(task, at, error).await,
            },
        };
        let is_written = self.written_tags.recall(&(task.repository_key(), task.tag.clone())).is_some();
        match seen.as_ref().map(|seen| (seen.tags.as_ref(), seen.at)) {
            Some((None, at)) if !is_written => Ok(DestinationTag::seen(None, at, false)),
            Some((Some(tags), at)) if tags.is_all && !tags.tags.contains(task.tag) && !is_written => {
                Ok(DestinationTag::seen(None, at, true))
            }
            seen => {
                let is_listed = seen.and_then(|(tags, _)| tags).is_some_and(|tags| tags.tags.contains(task.tag));
                let at = Instant::now();
                let digest = if is_listed || is_written {
                    task.tag_at_destination().await?
                } else {
                    task.tag_before_copy().await?
                };
                Ok(DestinationTag::seen(digest, at, true))
            }
        }
    }

    /// Lists a repository that images are about to be copied to, and remembers the answer for them.
    ///
    /// # Errors
    /// As [`Client::first_tags`].
    pub(super) async fn look_ahead(&self, client: &Client, repository: &RepositoryName) -> Result<(), RegistryError> {
        self.list(client, repository).await.map(|_| ()).map_err(|(_, error)| error)
    }

    /// Returns true if the repository was absent when this process first looked.
    pub(super) fn began_empty(&self, key: &RepositoryKey) -> bool {
        self.began_empty.recall(key).is_some()
    }

    /// Believes the registry about the content of the repository from now on.
    pub(super) fn forget_beginning(&self, key: &RepositoryKey) {
        self.began_empty.forget(key);
    }

    /// Creates the destination repository by its template, once for all images that find it absent: none is pushed
    /// before the repository has its settings.
    ///
    /// # Errors
    /// [`CopyError::Destination`], and those of consent.
    pub(super) async fn create(&self, task: &ImageCopy<'_>, creation: Mutation<'_>) -> Result<(), CopyError> {
        let key = task.repository_key();
        let mut turn = self.creation_turns.at(key.clone()).await;
        if self.created.recall(&key).is_some_and(|at| at.elapsed() < SEEN_FOR) {
            return Ok(());
        }
        if let Some(error) = turn.inherited() {
            return Err(CopyError::Destination(error));
        }
        let created = task.destination.create_repository(task.destination_repository);
        match task.under_consent(creation, created).await? {
            Ok(()) => {
                self.created.note(key, Instant::now());
                Ok(())
            }
            Err(error) => {
                turn.fail(error.clone());
                Err(CopyError::Destination(error))
            }
        }
    }

    /// Notes that the repository exists now.
    pub(super) fn note_exists(&self, key: RepositoryKey) {
        self.existence.note(key, Existence { exists: true, at: Instant::now() });
    }

    /// Notes that the tag is about to be written.
    pub(super) fn note_written_tag(&self, task: &ImageCopy<'_>) {
        self.written_tags.note((task.repository_key(), task.tag.clone()), ());
    }

    /// Returns the first tags of a repository from one request for all callers, or the failure with the instant before
    /// it.
    async fn list(
        &self,
        client: &Client,
        repository: &RepositoryName,
    ) -> Result<Arc<SeenRepository>, (Instant, RegistryError)> {
        let key = (client.id(), repository.clone());
        let mut turn = self.turns.at(key.clone()).await;
        if let Some(seen) = self.recent_listing(&key) {
            return Ok(seen);
        }
        let at = Instant::now();
        if let Some(error) = turn.inherited() {
            return Err((at, error));
        }
        match client.first_tags(repository).await {
            Ok(tags) => Ok(self.note_listing(key, SeenRepository { tags, at })),
            Err(error) => {
                turn.fail(error.clone());
                Err((at, error))
            }
        }
    }

    /// Returns a listing that is no older than a consent may be.
    fn recent_listing(&self, key: &RepositoryKey) -> Option<Arc<SeenRepository>> {
        self.listings.recall(key).filter(|seen| seen.at.elapsed() < CONSENT_LASTS)
    }

    fn note_listing(&self, key: RepositoryKey, seen: SeenRepository) -> Arc<SeenRepository> {
        let seen = Arc::new(seen);
        if seen.tags.is_none() {
            self.began_empty.note(key.clone(), ());
        }
        self.existence.note(key.clone(), Existence { exists: seen.tags.is_some(), at: seen.at });
        self.listings.note(key, seen.clone());
        seen
    }

    /// Returns the existence of a repository if it was seen lately: within [`SEEN_FOR`], or within [`MISSED_FOR`] where
    /// it was absent, since its owner may create it at any moment.
    fn exists(&self, key: &RepositoryKey) -> Option<bool> {
        let Existence { exists, at } = self.existence.recall(key)?;
        (at.elapsed() < if exists { SEEN_FOR } else { MISSED_FOR }).then_some(exists)
    }

    /// Looks at the tag alone, for credentials that may push but not list: a tag that is there proves the repository.
    async fn look_without_list(
        &self,
        task: &ImageCopy<'_>,
        at: Instant,
        error: RegistryError,
    ) -> Result<DestinationTag, CopyError> {
        if error.kind.is_transient() {
            return Err(CopyError::Destination(error));
        }
        match task.tag_at_destination().await {
            Ok(Some(digest)) => Ok(DestinationTag::seen(Some(digest), at, true)),
            Ok(None) => Err(CopyError::Destination(error)),
            // The credentials are good in themselves: they may be those of a repository that does not exist yet.
            Err(CopyError::Destination(error))
                if matches!(error.kind, ErrorKind::Unauthorized | ErrorKind::Denied)
                    && task.destination.ping().await.is_ok() =>
            {
                self.began_empty.note(task.repository_key(), ());
                Ok(DestinationTag { refused: Some(error), ..DestinationTag::seen(None, at, false) })
            }
            Err(error) => Err(error),
        }
    }
}

impl DestinationTag {
    fn seen(digest: Option<Digest>, at: Instant, has_repository: bool) -> Self {
        Self { digest, at, has_repository, refused: None }
    }
}

/// Listings are larger than other entries.
const MAX_LISTINGS: usize = 64;
/// A repository that was deleted is not created again without consent much later than this.
const SEEN_FOR: Duration = Duration::from_secs(60);
const MISSED_FOR: Duration = Duration::from_secs(1);

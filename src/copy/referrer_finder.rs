//! Finds what refers to an image at its source: signatures, SBOMs and attestations.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};

use super::closure::Closure;
use super::fallback_index::TypesView;
use super::manifest_cache::ManifestCache;
use super::memo::Memo;
use super::task::{CopyError, ImageCopy, RepositoryKey};
use super::turns::Turns;
use crate::image::{Digest, Manifest, Tag, cosign_tags, fallback_tag, is_referrer_tag};
use crate::plan::list_fingerprint;
use crate::registry::{ErrorKind, FallbackTag, Reference, ReferrerList, RegistryError};

/// Looks for referrers at sources.
pub(super) struct ReferrerFinder {
    cache: Arc<ManifestCache>,
    /// One listing at a time of the tags of a source repository.
    listing_turns: Turns<RepositoryKey, RegistryError>,
    /// The tags of a source repository that stand for referrers, and the time of their listing.
    referrer_tags: Memo<RepositoryKey, (Arc<BTreeSet<Tag>>, Instant)>,
    /// The digest that was read under the fallback tag of referrers, and the time of the read.
    seen_lists: Memo<(RepositoryKey, Tag), (Digest, Instant)>,
}

/// The referrers of an image at the source, as far as they were looked for.
pub(super) struct FoundReferrers {
    /// The tags of the source repository that stand for referrers.
    pub(super) known: Arc<BTreeSet<Tag>>,
    /// Manifests whose referrers were looked for.
    pub(super) seen: HashSet<Digest>,
    pub(super) attached: Vec<Attached>,
}

/// The referrers of one manifest at the source.
pub(super) struct Attached {
    pub(super) subject: Digest,
    /// Manifests that name it as their subject.
    pub(super) listed: Vec<Digest>,
    /// True if these are all that the referrers API lists, and no others.
    is_of_api: bool,
    /// Tags of cosign.
    pub(super) tags: Vec<Tag>,
}

impl FoundReferrers {
    /// Returns the fingerprint of the list of the referrers API for `subject`; `None` if it is empty or other referrers
    /// were looked for.
    pub(super) fn fingerprint(&self, subject: &Digest) -> Option<String> {
        let of_subject = self.attached.iter().find(|attached| attached.is_of_api && attached.subject == *subject);
        list_fingerprint(&of_subject?.listed)
    }
}

impl ReferrerFinder {
    /// Knows nothing yet, and later remembers at most `capacity` entries of each kind.
    pub(super) fn new(cache: Arc<ManifestCache>, capacity: usize) -> Self {
        Self {
            cache,
            listing_turns: Turns::default(),
            referrer_tags: Memo::new(MAX_LISTINGS.min(capacity)),
            seen_lists: Memo::new(capacity),
        }
    }

    /// Looks for the referrers of the manifests of `closure`.
    ///
    /// # Errors
    /// [`CopyError`]. That something could not be read never counts as nothing.
    pub(super) async fn find(&self, task: &ImageCopy<'_>, closure: &Closure) -> Result<FoundReferrers, CopyError> {
        let known = self.referrer_tags(task).await?;
        let subjects: Vec<Digest> = closure.manifests.iter().map(|manifest| manifest.digest.clone()).collect();
        let seen = subjects.iter().cloned().collect();
        let attached = self.find_each(task, subjects, &known).await?;
        Ok(FoundReferrers { known, seen, attached })
    }

    /// Looks for the referrers of `subjects`; `known` are the tags of the source repository that stand for referrers.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(super) async fn find_each(
        &self,
        task: &ImageCopy<'_>,
        subjects: Vec<Digest>,
        known: &BTreeSet<Tag>,
    ) -> Result<Vec<Attached>, CopyError> {
        let finds = futures::stream::iter(subjects).map(|subject| self.find_of(task, subject, known));
        finds.buffered(SUBJECTS_AT_ONCE).try_collect().await
    }

    /// Notes that `digest` was read just now under `tag`, the fallback tag of referrers.
    pub(super) fn note_list(&self, repository: RepositoryKey, tag: &Tag, digest: &Digest) {
        self.seen_lists.note((repository, tag.clone()), (digest.clone(), Instant::now()));
    }

    /// Returns the tags of the source repository that stand for referrers: as the caller knows them, or by a listing.
    async fn referrer_tags(&self, task: &ImageCopy<'_>) -> Result<Arc<BTreeSet<Tag>>, CopyError> {
        if let Some(known) = &task.referrer_tags {
            return Ok(known.clone());
        }
        let key = task.source_key();
        let mut turn = self.listing_turns.at(key.clone()).await;
        if let Some((known, seen)) = self.referrer_tags.recall(&key)
            && seen.elapsed() < TAGS_SEEN_FOR
        {
            return Ok(known);
        }
        if let Some(error) = turn.inherited() {
            return Err(CopyError::Source(error));
        }
        let listed = match task.source.tags_and_digests(task.source_repository, &is_referrer_tag).await {
            Ok(listed) => listed,
            Err(error) => {
                turn.fail(error.clone());
                return Err(CopyError::Source(error));
            }
        };
        let known = Arc::new(listed.map(|listing| listing.tags).unwrap_or_default());
        self.referrer_tags.note(key, (known.clone(), Instant::now()));
        Ok(known)
    }

    /// Looks for the referrers of `subject` of the types that are copied.
    async fn find_of(
        &self,
        task: &ImageCopy<'_>,
        subject: Digest,
        known: &BTreeSet<Tag>,
    ) -> Result<Attached, CopyError> {
        let fallback = if known.contains(&fallback_tag(&subject)) {
            self.seen_list(task, &subject).map_or(FallbackTag::Present, FallbackTag::Read)
        } else {
            FallbackTag::Absent
        };
        let types = task.options.referrer_artifact_types.as_slice();
        let (listed, is_of_api) = if types.is_empty() {
            let is_untagged = matches!(fallback, FallbackTag::Absent);
            let found = task.source.referrers(task.source_repository, &subject, fallback).await;
            let ReferrerList { digests, by_api } = found.map_err(CopyError::Source)?;
            (digests, by_api && is_untagged)
        } else {
            (listed_of_types(task, &subject, fallback).await?, false)
        };
        let mut tags = Vec::new();
        for tag in cosign_tags(&subject).into_iter().filter(|tag| known.contains(tag)) {
            let is_wanted = types.is_empty() || is_of_types(task, Reference::Tag(&tag), types).await?;
            tags.extend(Some(tag).filter(|_| is_wanted));
        }
        Ok(Attached { subject, listed, is_of_api, tags })
    }

    /// Lists the referrers of `subject` anew, of all types; `known` are the tags that stand for
    /// referrers.
    ///
    /// # Errors
    /// [`CopyError::Source`].
    pub(super) async fn list_again(
        &self,
        task: &ImageCopy<'_>,
        subject: &Digest,
        known: &BTreeSet<Tag>,
    ) -> Result<HashSet<Digest>, CopyError> {
        let is_tagged = known.contains(&fallback_tag(subject));
        let fallback = if is_tagged { FallbackTag::Present } else { FallbackTag::Absent };
        let listed = task.source.referrers_of_types(task.source_repository, subject, fallback, &[]).await;
        Ok(listed.map_err(CopyError::Source)?.into_iter().map(|referrer| referrer.digest).collect())
    }

    /// Returns the index that was read lately under the fallback tag of `subject`.
    fn seen_list(&self, task: &ImageCopy<'_>, subject: &Digest) -> Option<Manifest> {
        let (digest, at) = self.seen_lists.recall(&(task.source_key(), fallback_tag(subject)))?;
        let is_new = at.elapsed() < TAGS_SEEN_FOR && digest != *subject;
        self.cache.recall(&(task.source.id(), task.source_repository.clone(), digest)).filter(|_| is_new)
    }
}

/// Lists the referrers of `subject` of the types that are copied, as the list or their manifest states them.
async fn listed_of_types(
    task: &ImageCopy<'_>,
    subject: &Digest,
    fallback: FallbackTag,
) -> Result<Vec<Digest>, CopyError> {
    let types = task.options.referrer_artifact_types.as_slice();
    let found = task.source.referrers_of_types(task.source_repository, subject, fallback, types).await;
    let mut listed = Vec::new();
    for referrer in found.map_err(CopyError::Source)? {
        let is_wanted =
            referrer.artifact_type.is_some() || is_of_types(task, Reference::Digest(&referrer.digest), types).await?;
        listed.extend(Some(referrer.digest).filter(|_| is_wanted));
    }
    Ok(listed)
}

/// Returns true if a manifest of the source says that it is of one of `types`; an absent manifest may be of any.
async fn is_of_types(task: &ImageCopy<'_>, reference: Reference<'_>, types: &[String]) -> Result<bool, CopyError> {
    let manifest = match task.source.manifest(task.source_repository, reference).await {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(true),
        manifest => manifest.map_err(CopyError::Source)?,
    };
    let document: TypesView<'_> = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    let is_wanted = |found: &String| types.contains(found);
    Ok(match reference {
        Reference::Digest(_) => document.artifact_type().is_some_and(is_wanted),
        // The tags of cosign are older than artifact types: the type of such an artifact stands with its layers.
        Reference::Tag(_) => {
            let layers = document.layers.iter().flatten().map(|layer| &layer.media_type);
            document.artifact_type().into_iter().chain(layers).any(is_wanted)
        }
    })
}

const SUBJECTS_AT_ONCE: usize = 8;
const TAGS_SEEN_FOR: Duration = Duration::from_secs(60);
/// Listings are larger than other entries.
const MAX_LISTINGS: usize = 64;

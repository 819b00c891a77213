//! Brings what refers to an image to the destination, so that it is found there.
//!
//! It goes after the image: a manifest by its digest, then the index under the fallback tag where the destination has
//! no referrers API, then the tags that cosign uses. Referrers of referrers are brought as well.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::authority::Mutation;
use super::closure::{Closure, ManifestSource};
use super::fallback_index::merge;
use super::image_copier::ImageCopier;
use super::known_repositories::KnownRepositories;
use super::referrer_finder::{Attached, FoundReferrers, ReferrerFinder};
use super::task::{CopyError, ImageCopy, RepositoryKey};
use super::turns::Turns;
use crate::image::{Digest, Manifest, ManifestKind, Tag, fallback_tag};
use crate::plan::CopyOptions;
use crate::registry::{FallbackTag, Reference};

/// Copies the referrers of images that are at the destination.
pub(super) struct ReferrerCopier {
    images: Arc<ImageCopier>,
    finder: Arc<ReferrerFinder>,
    repositories: Arc<KnownRepositories>,
    /// One writer at a time of the index under a fallback tag.
    fallback_turns: Turns<(RepositoryKey, Tag)>,
}

/// The referrers of a manifest that a destination lists.
struct ListedReferrers {
    digests: HashSet<Digest>,
    by_api: bool,
    /// The content of the fallback tag, where there is no API.
    index: Option<Manifest>,
    /// The instant before the request.
    at: Instant,
}

/// The referrers of a manifest after an attempt to bring them.
#[derive(Default)]
struct Brought {
    /// Those that are at the destination, and have a manifest of their own.
    digests: Vec<Digest>,
    /// Those that the source lists and does not have, by tag or digest.
    missing: Vec<String>,
}

impl ReferrerCopier {
    /// Copies by `images`, and finds the referrers of referrers by `finder`.
    pub(super) fn new(
        images: Arc<ImageCopier>,
        finder: Arc<ReferrerFinder>,
        repositories: Arc<KnownRepositories>,
    ) -> Self {
        Self { images, finder, repositories, fallback_turns: Turns::default() }
    }

    /// Brings the referrers that were `found`, and their referrers in turn, and reads them back. Returns their number.
    ///
    /// # Errors
    /// [`CopyError`]; of `ReferrerNotFound` once all others were brought.
    pub(super) async fn bring(
        &self,
        task: &ImageCopy<'_>,
        found: FoundReferrers,
        moved: &AtomicU64,
    ) -> Result<usize, CopyError> {
        let FoundReferrers { known, mut seen, mut attached } = found;
        let (mut count, mut missing) = (0, Vec::new());
        for _ in 0..MAX_DEPTH {
            let mut subjects = Vec::new();
            for attached in attached {
                count += attached.listed.len() + attached.tags.len();
                if count > MAX_REFERRERS {
                    return Err(CopyError::LimitExceeded(format!("over {MAX_REFERRERS} manifests refer to the image")));
                }
                let Brought { digests, missing: absent } = self.bring_attached(task, attached, &known, moved).await?;
                missing.extend(absent);
                subjects.extend(digests.into_iter().filter(|digest| seen.insert(digest.clone())));
            }
            if subjects.is_empty() {
                return all_there(task, &missing).map(|()| count);
            }
            attached = self.finder.find_each(task, subjects, &known).await?;
        }
        Err(CopyError::LimitExceeded(format!("referrers of the image are nested deeper than {MAX_DEPTH}")))
    }

    /// Brings the referrers of one manifest, all but those that are gone. Whatever is gone, and a second list still
    /// has, is missing.
    async fn bring_attached(
        &self,
        task: &ImageCopy<'_>,
        attached: Attached,
        known: &BTreeSet<Tag>,
        moved: &AtomicU64,
    ) -> Result<Brought, CopyError> {
        let mut brought = self.bring_listed(task, &attached, known, moved).await?;
        let mut gone = Vec::new();
        for tag in attached.tags {
            let head = task.source.head_manifest(task.source_repository, Reference::Tag(&tag)).await;
            let Some(head) = head.map_err(CopyError::Source)? else {
                gone.push(tag);
                continue;
            };
            let whole = CopyOptions::default();
            let artifact = ImageCopy { tag: &tag, digest: &head.digest, options: &whole, ..task.clone() };
            Box::pin(self.images.copy(&artifact, moved)).await?;
            brought.digests.push(head.digest);
        }
        if !gone.is_empty() {
            let listed = task.source.tags_and_digests(task.source_repository, &|tag| gone.contains(tag)).await;
            let listed = listed.map_err(CopyError::Source)?.unwrap_or_default().tags;
            brought.missing.extend(listed.iter().map(|tag| format!("the tag {tag}")));
        }
        Ok(brought)
    }

    async fn bring_listed(
        &self,
        task: &ImageCopy<'_>,
        attached: &Attached,
        known: &BTreeSet<Tag>,
        moved: &AtomicU64,
    ) -> Result<Brought, CopyError> {
        let Attached { subject, listed, .. } = attached;
        if listed.is_empty() {
            return Ok(Brought::default());
        }
        // A repository that was absent lists nothing.
        let there = if self.repositories.began_empty(&task.repository_key()) {
            HashSet::new()
        } else {
            self.listed_at_destination(task, subject).await?.digests
        };
        let (mut brought, mut gone): (Vec<Manifest>, Vec<&Digest>) = (Vec::new(), Vec::new());
        for digest in listed {
            match self.bring_manifest(task, digest, there.contains(digest), moved).await? {
                Some(manifest) => brought.push(manifest),
                None => gone.push(digest),
            }
        }
        self.have_listed(task, subject, &brought).await?;
        let mut missing = Vec::new();
        if !gone.is_empty() {
            let again = self.finder.list_again(task, subject, known).await?;
            missing.extend(gone.into_iter().filter(|digest| again.contains(digest)).map(ToString::to_string));
        }
        Ok(Brought { digests: brought.into_iter().map(|manifest| manifest.digest).collect(), missing })
    }

    /// Brings one referrer; `None` if it is gone from the source.
    async fn bring_manifest(
        &self,
        task: &ImageCopy<'_>,
        digest: &Digest,
        is_listed: bool,
        moved: &AtomicU64,
    ) -> Result<Option<Manifest>, CopyError> {
        let began = Instant::now();
        let source = ManifestSource { client: task.source, repository: task.source_repository, cache: None };
        let closure = match Closure::read(source, digest, &CopyOptions::default()).await.map_err(CopyError::from) {
            Err(CopyError::SourceChanged) => return Ok(None),
            closure => closure?,
        };
        if !(is_listed && self.images.verifier.is_whole(task, &closure, began).await?) {
            if is_listed {
                self.images.forget(task, &closure);
            }
            self.images.push_untagged(task, &closure, moved).await?;
            if !self.images.verifier.is_whole(task, &closure, began).await? {
                let message = format!("the referrer {digest} is not at the destination after it was written");
                return Err(CopyError::VerificationFailed(message));
            }
        }
        Ok(Some(closure.root().clone()))
    }

    /// Makes sure that the destination lists `referrers`: by its API, which needs a moment in some registries, or by
    /// the index under the fallback tag, which clients have to keep themselves.
    async fn have_listed(
        &self,
        task: &ImageCopy<'_>,
        subject: &Digest,
        referrers: &[Manifest],
    ) -> Result<(), CopyError> {
        let mut pauses = PAUSES.iter();
        let tag = fallback_tag(subject);
        let _turn = self.fallback_turns.at((task.repository_key(), tag.clone())).await;
        loop {
            let there = self.listed_at_destination(task, subject).await?;
            let missing: Vec<&Manifest> = referrers.iter().filter(|one| !there.digests.contains(&one.digest)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            let Some(pause) = pauses.next() else {
                let message = format!("the destination does not list {} as a referrer of {subject}", missing[0].digest);
                return Err(CopyError::VerificationFailed(message));
            };
            if there.by_api {
                tokio::time::sleep(*pause).await;
            } else {
                merge_fallback(task, subject, &missing, there).await?;
            }
        }
    }

    async fn listed_at_destination(
        &self,
        task: &ImageCopy<'_>,
        subject: &Digest,
    ) -> Result<ListedReferrers, CopyError> {
        task.permit(Mutation::Upload { repository: task.destination_repository }).await?;
        let (destination, repository) = (task.destination, task.destination_repository);
        let at = Instant::now();
        let listed =
            destination.referrers(repository, subject, FallbackTag::Absent).await.map_err(CopyError::Destination)?;
        if listed.by_api {
            return Ok(ListedReferrers {
                digests: listed.digests.into_iter().collect(),
                by_api: true,
                index: None,
                at,
            });
        }
        let index = destination.fallback_index(repository, subject).await.map_err(CopyError::Destination)?;
        let digests = match index.as_ref().map(|index| &index.kind) {
            Some(ManifestKind::Index { children }) => children.iter().map(|child| child.digest.clone()).collect(),
            _ => HashSet::new(),
        };
        Ok(ListedReferrers { digests, by_api: false, index, at })
    }
}

/// Makes sure that no referrer is missing at the source.
fn all_there(task: &ImageCopy<'_>, missing: &[String]) -> Result<(), CopyError> {
    let Some(first) = missing.first() else { return Ok(()) };
    let more = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
    Err(CopyError::ReferrerNotFound(format!(
        "{} lists {first}{more} in {} among the referrers of the image and has no manifest for it (404): the image is \
         copied without it; push it again, or delete it from the list",
        task.source.host(),
        task.source_repository
    )))
}

/// Adds `missing` to the index that is `there` under the fallback tag of `subject`. Does nothing if another writer has
/// changed it meanwhile: the caller looks again.
async fn merge_fallback(
    task: &ImageCopy<'_>,
    subject: &Digest,
    missing: &[&Manifest],
    there: ListedReferrers,
) -> Result<(), CopyError> {
    let (destination, repository) = (task.destination, task.destination_repository);
    let merged = merge(there.index.as_ref(), missing)?;
    let tag = fallback_tag(subject);
    // Nothing that the index lists is lost, so that nothing is overwritten.
    let mutation = Mutation::WriteTag { repository, tag: &tag, digest: &merged.digest, replaces: None };
    let write = async {
        if there.at.elapsed() > INDEX_SEEN_FOR {
            let now = destination.probe_manifest(repository, Reference::Tag(&tag)).await?.map(|head| head.digest);
            // GitLab answers with the subject itself where there is no such tag.
            if now.filter(|digest| digest != subject) != there.index.map(|index| index.digest) {
                return Ok(());
            }
        }
        destination.put_manifest(repository, Reference::Tag(&tag), &merged).await.map(drop)
    };
    task.under_consent(mutation, Box::pin(write)).await?.map_err(CopyError::Destination)
}

const MAX_DEPTH: usize = 4;
const MAX_REFERRERS: usize = 1_000;
/// An index that was seen longer ago is looked at again before it is replaced.
const INDEX_SEEN_FOR: Duration = Duration::from_millis(500);
/// The pauses until a registry lists the referrers that it has just taken.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_secs(1), Duration::from_secs(3)];

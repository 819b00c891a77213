//! Brings what refers to an image: signatures, SBOMs and attestations, so that they are found at the destination.
//!
//! It goes after the image: a manifest by its digest, then the index under the fallback tag where the destination has no
//! referrers API, then the tags that cosign uses. What refers to a referrer is brought as well.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};

use super::authority::Effect;
use super::closure::Closure;
use super::engine::Engine;
use super::fallback_index::{TypesView, merge};
use super::task::{CopyError, ImageCopy};
use crate::image::{Digest, Manifest, ManifestKind, Tag, cosign_tags, fallback_tag, is_referrer_tag};
use crate::plan::CopyOptions;
use crate::registry::{ErrorKind, Reference};

/// What refers to one manifest at the source.
struct Attached {
    subject: Digest,
    /// Manifests that name it as their subject.
    listed: Vec<Digest>,
    /// Tags of cosign.
    tags: Vec<Tag>,
}

/// What refers to an image at the source, as far as it was looked at.
pub(super) struct Found {
    /// The tags of the source repository that stand for referrers.
    known: Arc<BTreeSet<Tag>>,
    /// Manifests that were looked at.
    seen: HashSet<Digest>,
    attached: Vec<Attached>,
}

impl Engine {
    /// Looks at the source for what refers to the manifests of `closure`.
    ///
    /// # Errors
    /// [`CopyError`]. That something could not be read never counts as nothing.
    pub(super) async fn look_for_referrers(&self, task: &ImageCopy<'_>, closure: &Closure) -> Result<Found, CopyError> {
        let known = self.referrer_tags(task).await?;
        let subjects: Vec<Digest> = closure.manifests.iter().map(|manifest| manifest.digest.clone()).collect();
        let seen = subjects.iter().cloned().collect();
        let attached = look_at_all(self, task, subjects, &known).await?;
        Ok(Found { known, seen, attached })
    }

    /// Brings what was `found`, and what refers to it in turn, reads it back, and answers how many referrers there are.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(super) async fn bring_referrers(
        &self,
        task: &ImageCopy<'_>,
        found: Found,
        moved: &AtomicU64,
    ) -> Result<usize, CopyError> {
        let Found { known, mut seen, mut attached } = found;
        let mut count = 0;
        for _ in 0..MAX_DEPTH {
            let mut subjects = Vec::new();
            for attached in attached {
                count += attached.listed.len() + attached.tags.len();
                if count > MAX_REFERRERS {
                    return Err(CopyError::LimitExceeded(format!("over {MAX_REFERRERS} manifests refer to the image")));
                }
                let brought = self.bring_attached(task, attached, moved).await?;
                subjects.extend(brought.into_iter().filter(|digest| seen.insert(digest.clone())));
            }
            if subjects.is_empty() {
                return Ok(count);
            }
            attached = look_at_all(self, task, subjects, &known).await?;
        }
        Err(CopyError::LimitExceeded(format!("referrers of the image are nested deeper than {MAX_DEPTH}")))
    }

    /// The tags of the source repository that stand for referrers: as the caller knows them, or by a listing.
    async fn referrer_tags(&self, task: &ImageCopy<'_>) -> Result<Arc<BTreeSet<Tag>>, CopyError> {
        if let Some(known) = &task.referrer_tags {
            return Ok(known.clone());
        }
        let (tables, key) = (self.tables(), task.source_key());
        let mut turn = tables.repository_turns.at(key.clone()).await;
        if let Some((known, seen)) = tables.referrer_tags.recall(&key)
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
        tables.referrer_tags.note(key, (known.clone(), Instant::now()));
        Ok(known)
    }

    /// Brings what refers to one manifest; answers the digests of the referrers that have a manifest of their own.
    async fn bring_attached(
        &self,
        task: &ImageCopy<'_>,
        attached: Attached,
        moved: &AtomicU64,
    ) -> Result<Vec<Digest>, CopyError> {
        let mut brought = self.bring_listed(task, &attached, moved).await?;
        for tag in &attached.tags {
            let head = task.source.head_manifest(task.source_repository, Reference::Tag(tag)).await;
            // Gone since it was listed.
            let Some(head) = head.map_err(CopyError::Source)? else { continue };
            let whole = CopyOptions::default();
            let artifact = ImageCopy { tag, digest: &head.digest, options: &whole, ..task.clone() };
            Box::pin(self.copy_alone(&artifact, moved)).await?;
            brought.push(head.digest);
        }
        Ok(brought)
    }

    async fn bring_listed(
        &self,
        task: &ImageCopy<'_>,
        attached: &Attached,
        moved: &AtomicU64,
    ) -> Result<Vec<Digest>, CopyError> {
        let Attached { subject, listed, .. } = attached;
        if listed.is_empty() {
            return Ok(Vec::new());
        }
        // A repository that was absent lists nothing.
        let there = match self.tables().began_empty.recall(&task.repository_key()) {
            Some(()) => HashSet::new(),
            None => self.listed_at_destination(task, subject).await?.digests,
        };
        let mut brought: Vec<Manifest> = Vec::new();
        for digest in listed {
            let began = Instant::now();
            let closure =
                match Closure::read((task.source, task.source_repository, None), digest, &CopyOptions::default()).await
                {
                    Ok(closure) => closure,
                    Err(unread) => match unread.of_source() {
                        // An index under a fallback tag may name what was deleted.
                        CopyError::SourceChanged => continue,
                        error => return Err(error),
                    },
                };
            let is_listed = there.contains(digest);
            if !(is_listed && self.is_whole(task, &closure, began).await?) {
                if is_listed {
                    self.forget(task, &closure);
                }
                self.push_content(task, &closure, moved).await?;
                self.ensure_manifest(task, &closure, closure.root()).await?;
                if !self.is_whole(task, &closure, began).await? {
                    let message = format!("the referrer {digest} is not at the destination after it was written");
                    return Err(CopyError::VerificationFailed(message));
                }
            }
            brought.extend(closure.manifests.last().cloned());
        }
        self.have_listed(task, subject, &brought).await?;
        Ok(brought.into_iter().map(|manifest| manifest.digest).collect())
    }

    /// Makes sure that the destination lists `referrers`: by its API, which needs a moment in some registries, or by the index
    /// under the fallback tag, which is ours to keep.
    async fn have_listed(
        &self,
        task: &ImageCopy<'_>,
        subject: &Digest,
        referrers: &[Manifest],
    ) -> Result<(), CopyError> {
        let mut pauses = PAUSES.iter();
        let tag = fallback_tag(subject);
        let _turn = self.tables().fallback_turns.at((task.repository_key(), tag.clone())).await;
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
                self.merge_fallback(task, (subject, &tag), &missing, there).await?;
            }
        }
    }

    /// Adds `missing` to the index that is `there` under the fallback tag of a subject, unless somebody else changes it meanwhile:
    /// whoever calls looks again.
    async fn merge_fallback(
        &self,
        task: &ImageCopy<'_>,
        (subject, tag): (&Digest, &Tag),
        missing: &[&Manifest],
        there: Listed,
    ) -> Result<(), CopyError> {
        let (destination, repository) = (task.destination, task.destination_repository);
        let merged = merge(there.index.as_ref(), missing)?;
        // Nothing that the index lists is lost, so that nothing is overwritten.
        let effect = Effect::WriteTag { repository, tag, digest: &merged.digest, replaces: None };
        let write = async {
            if there.at.elapsed() > INDEX_SEEN_FOR {
                let now = destination.head_manifest(repository, Reference::Tag(tag)).await?.map(|head| head.digest);
                // GitLab answers with the subject itself where there is no such tag.
                if now.filter(|digest| digest != subject) != there.index.map(|index| index.digest) {
                    return Ok(());
                }
            }
            destination.put_manifest(repository, Reference::Tag(tag), &merged).await.map(drop)
        };
        task.under_consent(effect, Box::pin(write)).await?.map_err(CopyError::Destination)
    }

    async fn listed_at_destination(&self, task: &ImageCopy<'_>, subject: &Digest) -> Result<Listed, CopyError> {
        task.permit(Effect::Upload { repository: task.destination_repository }).await?;
        let (destination, repository) = (task.destination, task.destination_repository);
        let at = Instant::now();
        let listed = destination.referrers(repository, subject, Some(false)).await.map_err(CopyError::Destination)?;
        if listed.by_api {
            return Ok(Listed { digests: listed.digests.into_iter().collect(), by_api: true, index: None, at });
        }
        let index = destination.fallback_index(repository, subject).await.map_err(CopyError::Destination)?;
        let digests = match index.as_ref().map(|index| &index.kind) {
            Some(ManifestKind::Index { children }) => children.iter().map(|child| child.digest.clone()).collect(),
            _ => HashSet::new(),
        };
        Ok(Listed { digests, by_api: false, index, at })
    }

    /// What was read lately under the fallback tag of `subject` at the source.
    fn seen_list(&self, task: &ImageCopy<'_>, subject: &Digest) -> Option<Manifest> {
        let (digest, at) = self.tables().seen_lists.recall(&(task.source_key(), fallback_tag(subject)))?;
        let is_new = at.elapsed() < TAGS_SEEN_FOR && digest != *subject;
        self.manifests().recall(&(task.source.id(), task.source_repository.clone(), digest)).filter(|_| is_new)
    }
}

/// What a destination lists as referrers of a manifest.
struct Listed {
    digests: HashSet<Digest>,
    by_api: bool,
    /// What is under the fallback tag, where there is no API.
    index: Option<Manifest>,
    /// When it was asked for.
    at: Instant,
}

async fn look_at_all(
    engine: &Engine,
    task: &ImageCopy<'_>,
    subjects: Vec<Digest>,
    known: &BTreeSet<Tag>,
) -> Result<Vec<Attached>, CopyError> {
    let looks = futures::stream::iter(subjects).map(|subject| look(engine, task, subject, known));
    looks.buffered(LOOKS_AT_ONCE).try_collect().await
}

/// What refers to `subject` and is of the types that go along.
async fn look(
    engine: &Engine,
    task: &ImageCopy<'_>,
    subject: Digest,
    known: &BTreeSet<Tag>,
) -> Result<Attached, CopyError> {
    let has_fallback = known.contains(&fallback_tag(&subject));
    let read = if has_fallback { engine.seen_list(task, &subject) } else { None };
    let types = task.options.referrer_artifact_types.as_slice();
    let found = task.source.referrers_of_types(task.source_repository, &subject, (has_fallback, read), types).await;
    let mut listed = Vec::new();
    for referrer in found.map_err(CopyError::Source)? {
        let is_wanted = match types.is_empty() || referrer.artifact_type.is_some() {
            true => true,
            false => is_of_types(task, Reference::Digest(&referrer.digest), types).await?,
        };
        listed.extend(Some(referrer.digest).filter(|_| is_wanted));
    }
    let mut tags = Vec::new();
    for tag in cosign_tags(&subject).into_iter().filter(|tag| known.contains(tag)) {
        let is_wanted = types.is_empty() || is_of_types(task, Reference::Tag(&tag), types).await?;
        tags.extend(Some(tag).filter(|_| is_wanted));
    }
    Ok(Attached { subject, listed, tags })
}

/// Whether a manifest of the source says that it is of one of `types`; one that is gone is of none.
async fn is_of_types(task: &ImageCopy<'_>, reference: Reference<'_>, types: &[String]) -> Result<bool, CopyError> {
    let manifest = match task.source.manifest(task.source_repository, reference).await {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(false),
        manifest => manifest.map_err(CopyError::Source)?,
    };
    let document: TypesView<'_> = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    let is_wanted = |found: &String| types.contains(found);
    Ok(match reference {
        Reference::Digest(_) => document.artifact_type().is_some_and(is_wanted),
        // The tags of cosign are older than artifact types: what they are stands with their layers.
        Reference::Tag(_) => {
            let layers = document.layers.iter().flatten().map(|layer| &layer.media_type);
            document.artifact_type().into_iter().chain(layers).any(is_wanted)
        }
    })
}

const MAX_DEPTH: usize = 4;
const MAX_REFERRERS: usize = 1_000;
const LOOKS_AT_ONCE: usize = 8;
const TAGS_SEEN_FOR: Duration = Duration::from_secs(60);
/// An index that was seen longer ago is looked at again before it is replaced.
const INDEX_SEEN_FOR: Duration = Duration::from_millis(500);
/// What is waited for until a registry lists what it has just taken.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_secs(1), Duration::from_secs(3)];

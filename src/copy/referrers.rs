//! Brings what refers to an image: signatures, SBOMs and attestations, so that they are found at the destination.
//!
//! It goes after the image: a manifest by its digest, then the index under the fallback tag where the destination has no
//! referrers API, then the tags that cosign uses. What refers to a referrer is brought as well.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Map, Value, json};

use super::authority::Effect;
use super::closure::Closure;
use super::engine::Engine;
use super::task::{CopyError, ImageCopy};
use crate::image::{
    Digest, MAX_DESCRIPTORS, Manifest, ManifestKind, Tag, cosign_tags, fallback_tag, is_referrer_tag, media_type,
};
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
        let attached = look_at_all(task, subjects, &known).await?;
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
            attached = look_at_all(task, subjects, &known).await?;
        }
        Err(CopyError::LimitExceeded(format!("referrers of the image are nested deeper than {MAX_DEPTH}")))
    }

    /// The tags of the source repository that stand for referrers: as the caller knows them, or by a listing.
    async fn referrer_tags(&self, task: &ImageCopy<'_>) -> Result<Arc<BTreeSet<Tag>>, CopyError> {
        if let Some(known) = &task.referrer_tags {
            return Ok(known.clone());
        }
        let (tables, key) = (self.tables(), task.source_key());
        let _turn = tables.repository_turns.at(key.clone()).await;
        if let Some((known, seen)) = tables.referrer_tags.recall(&key)
            && seen.elapsed() < TAGS_SEEN_FOR
        {
            return Ok(known);
        }
        let listed = task.source.tags_and_digests(task.source_repository, &is_referrer_tag).await;
        let listed = listed.map_err(CopyError::Source)?;
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
        let there = self.listed_at_destination(task, subject).await?.0;
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
        loop {
            let (there, by_api) = self.listed_at_destination(task, subject).await?;
            let missing: Vec<&Manifest> = referrers.iter().filter(|one| !there.contains(&one.digest)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            let Some(pause) = pauses.next() else {
                let message = format!("the destination does not list {} as a referrer of {subject}", missing[0].digest);
                return Err(CopyError::VerificationFailed(message));
            };
            if by_api {
                tokio::time::sleep(*pause).await;
            } else {
                self.merge_fallback(task, subject, &missing).await?;
            }
        }
    }

    /// Adds `missing` to the index under the fallback tag of `subject`, unless somebody else changes it meanwhile: whoever calls
    /// looks again.
    async fn merge_fallback(
        &self,
        task: &ImageCopy<'_>,
        subject: &Digest,
        missing: &[&Manifest],
    ) -> Result<(), CopyError> {
        let tag = fallback_tag(subject);
        let (destination, repository) = (task.destination, task.destination_repository);
        let _turn = self.tables().fallback_turns.at((task.repository_key(), tag.clone())).await;
        let present = destination.fallback_index(repository, subject).await.map_err(CopyError::Destination)?;
        let merged = merge(present.as_ref(), missing)?;
        // Nothing that the index lists is lost, so that nothing is overwritten.
        let effect = Effect::WriteTag { repository, tag: &tag, digest: &merged.digest, replaces: None };
        let write = async {
            let now = destination.head_manifest(repository, Reference::Tag(&tag)).await?.map(|head| head.digest);
            // GitLab answers with the subject itself where there is no such tag.
            let now = now.filter(|digest| digest != subject);
            if now == present.map(|index| index.digest) {
                destination.put_manifest(repository, Reference::Tag(&tag), &merged).await?;
            }
            Ok(())
        };
        task.under_consent(effect, write).await?.map_err(CopyError::Destination)
    }

    async fn listed_at_destination(
        &self,
        task: &ImageCopy<'_>,
        subject: &Digest,
    ) -> Result<(HashSet<Digest>, bool), CopyError> {
        task.permit(Effect::Upload { repository: task.destination_repository }).await?;
        let listed = task.destination.referrers(task.destination_repository, subject, None).await;
        let listed = listed.map_err(CopyError::Destination)?;
        Ok((listed.digests.into_iter().collect(), listed.by_api))
    }
}

async fn look_at_all(
    task: &ImageCopy<'_>,
    subjects: Vec<Digest>,
    known: &BTreeSet<Tag>,
) -> Result<Vec<Attached>, CopyError> {
    let looks = futures::stream::iter(subjects).map(|subject| look(task, subject, known));
    looks.buffered(LOOKS_AT_ONCE).try_collect().await
}

async fn look(task: &ImageCopy<'_>, subject: Digest, known: &BTreeSet<Tag>) -> Result<Attached, CopyError> {
    let has_fallback = known.contains(&fallback_tag(&subject));
    let listed = task.source.referrers(task.source_repository, &subject, Some(has_fallback)).await;
    let listed = listed.map_err(CopyError::Source)?.digests;
    let tags = cosign_tags(&subject).into_iter().filter(|tag| known.contains(tag)).collect();
    Ok(Attached { subject, listed, tags })
}

/// The index `present` with descriptors of `missing` at its end; everything else in it stays.
fn merge(present: Option<&Manifest>, missing: &[&Manifest]) -> Result<Manifest, CopyError> {
    let unusable = |what: &str| {
        let detail = format!("the destination has {what} under the tag of a referrers index: remove that tag there");
        CopyError::Destination(crate::registry::RegistryError::new(ErrorKind::Rejected, detail))
    };
    let mut index = match present {
        None => Map::new(),
        Some(index) if matches!(index.kind, ManifestKind::Index { .. }) => {
            serde_json::from_slice(&index.bytes).map_err(|_| unusable("something that is no index"))?
        }
        Some(_) => return Err(unusable("an image")),
    };
    index.entry("schemaVersion").or_insert(json!(2));
    index.entry("mediaType").or_insert(json!(media_type::OCI_INDEX));
    let listed = index.entry("manifests").or_insert_with(|| json!([]));
    let listed = listed.as_array_mut().ok_or_else(|| unusable("something that is no index"))?;
    listed.extend(missing.iter().map(|manifest| descriptor(manifest)));
    if listed.len() > MAX_DESCRIPTORS {
        return Err(CopyError::LimitExceeded(format!("over {MAX_DESCRIPTORS} referrers of one manifest")));
    }
    let bytes = Bytes::from(Value::Object(index).to_string());
    Manifest::parse(Some(media_type::OCI_INDEX), bytes).map_err(|_| unusable("an index that cannot be extended"))
}

/// How an index lists a referrer: with its annotations, and its artifact type or else that of its configuration (distribution
/// specification 1.1, "Pushing Manifests with Subject").
fn descriptor(manifest: &Manifest) -> Value {
    let document: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    let mut descriptor = json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.bytes.len(),
    });
    let artifact_type = [&document["artifactType"], &document["config"]["mediaType"]];
    if let Some(artifact_type) = artifact_type.into_iter().find(|value| value.as_str().is_some_and(|t| !t.is_empty())) {
        descriptor["artifactType"] = artifact_type.clone();
    }
    if document["annotations"].is_object() {
        descriptor["annotations"] = document["annotations"].clone();
    }
    descriptor
}

const MAX_DEPTH: usize = 4;
const MAX_REFERRERS: usize = 1_000;
const LOOKS_AT_ONCE: usize = 8;
const TAGS_SEEN_FOR: Duration = Duration::from_secs(60);
/// What is waited for until a registry lists what it has just taken.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_secs(1), Duration::from_secs(3)];

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(document: Value) -> Manifest {
        Manifest::parse(None, Bytes::from(document.to_string())).unwrap()
    }

    fn signature(layer: &str) -> Manifest {
        let blob =
            |content: &str| json!({"mediaType": "text/x", "digest": Digest::sha256(content.as_bytes()), "size": 1});
        manifest(json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "example/signature",
            "config": blob("config"), "layers": [blob(layer)], "annotations": {"key": layer}}))
    }

    #[test]
    fn an_index_of_referrers_keeps_what_it_lists_and_describes_what_is_new() {
        let (one, two) = (signature("1"), signature("2"));
        let first = merge(None, &[&one]).unwrap();
        let both = merge(Some(&first), &[&two]).unwrap();
        let document: Value = serde_json::from_slice(&both.bytes).unwrap();
        assert_eq!(document["manifests"].as_array().unwrap().len(), 2);
        let last = &document["manifests"][1];
        assert_eq!(last["artifactType"], "example/signature");
        assert_eq!((&last["annotations"]["key"], &last["digest"]), (&json!("2"), &json!(two.digest)));
        assert_eq!(document["manifests"][0]["digest"], json!(one.digest));
    }

    #[test]
    fn what_is_no_index_is_not_overwritten() {
        let error = merge(Some(&signature("1")), &[&signature("2")]).unwrap_err();
        assert!(error.to_string().contains("remove that tag"), "{error}");
    }
}

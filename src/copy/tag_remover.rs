//! Deletes one image at a destination: the tag alone, or a manifest that no other tag needs.

use std::collections::{BTreeMap, HashSet};

use futures::StreamExt;

use super::authority::Mutation;
use super::task::{CopyError, ImageCopy};
use crate::image::{Digest, Manifest, ManifestKind, Tag};
use crate::plan::{LeavingTag, Removal};
use crate::registry::{DeletionAnswer, ErrorKind, Reference, RegistryError};

/// Deletes the tag of `task` at its destination, if that has the recorded digest there and the source lacks the tag, or
/// the tag is outside of the newest that the rules take. `leaving` are the tags that are to be deleted, this one
/// included. A registry that deletes only manifests loses the manifest, unless a tag needs it that is not leaving, has
/// another digest there than is recorded, or is at the source again.
///
/// # Errors
/// [`CopyError`], by side; the tag may be gone nevertheless if the destination did not answer.
pub async fn remove_tag(task: &ImageCopy<'_>, leaving: &BTreeMap<Tag, LeavingTag>) -> Result<Removal, CopyError> {
    let Some(recorded) = task.written else { return Ok(Removal::Absent) };
    task.permit(Mutation::DeleteTag { tag: task.tag }).await?;
    let is_outside = leaving.get(task.tag).is_some_and(|tag| tag.is_outside);
    if !is_outside && is_at_source(task, task.tag).await? {
        return Ok(Removal::AtSource);
    }
    match task.tag_at_destination().await? {
        None => return Ok(Removal::Absent),
        Some(there) if there != *recorded => return Ok(Removal::Changed(there)),
        Some(_) => {}
    }
    let (client, repository) = (task.destination, task.destination_repository);
    let refused = match delete(task, client.delete_tag(repository, task.tag, recorded)).await? {
        DeletionAnswer::Unsupported(refused) => refused,
        DeletionAnswer::Done | DeletionAnswer::Absent if task.tag_at_destination().await?.is_none() => {
            return Ok(Removal::Done);
        }
        DeletionAnswer::Done => return Err(still_there(task)),
        DeletionAnswer::Absent => RegistryError::new(ErrorKind::Unsupported, "it does not find the tag that it has"),
    };
    if let Some(needing) = tag_in_need(task, recorded, leaving).await? {
        let message = format!(
            "{refused}: it deletes manifests only, and tag {needing} needs that of {}: delete the tag there, or both at \
             the source",
            task.tag
        );
        return Err(CopyError::Destination(RegistryError { message, ..refused }));
    }
    match delete(task, client.delete_manifest(repository, Reference::Digest(recorded))).await? {
        DeletionAnswer::Unsupported(refused) => Err(CopyError::Destination(refused)),
        _ if task.tag_at_destination().await?.is_some() => Err(still_there(task)),
        _ => Ok(Removal::Done),
    }
}

async fn is_at_source(task: &ImageCopy<'_>, tag: &Tag) -> Result<bool, CopyError> {
    let head = task.source.head_manifest(task.source_repository, Reference::Tag(tag)).await;
    Ok(head.map_err(CopyError::Source)?.is_some())
}

async fn delete(
    task: &ImageCopy<'_>,
    request: impl Future<Output = Result<DeletionAnswer, RegistryError>>,
) -> Result<DeletionAnswer, CopyError> {
    task.under_consent(Mutation::DeleteTag { tag: task.tag }, request).await?.map_err(CopyError::Destination)
}

fn still_there(task: &ImageCopy<'_>) -> CopyError {
    let (host, repository, tag) = (task.destination.host(), task.destination_repository, task.tag);
    CopyError::VerificationFailed(format!("{host} has deleted {repository}:{tag}, and still has it"))
}

/// Returns another tag of the destination that stays, and whose image is or contains the manifest.
async fn tag_in_need(
    task: &ImageCopy<'_>,
    manifest: &Digest,
    leaving: &BTreeMap<Tag, LeavingTag>,
) -> Result<Option<Tag>, CopyError> {
    let (client, repository) = (task.destination, task.destination_repository);
    let others = |tag: &Tag| tag != task.tag;
    let listed = client.tags_and_digests(repository, &others).await.map_err(CopyError::Destination)?;
    let tags = listed.map(|listing| listing.tags).unwrap_or_default();
    if tags.len() > MAX_TAGS {
        let message = format!(
            "{} deletes manifests only, and {repository} has more than {MAX_TAGS} tags that might need that of {}",
            client.host(),
            task.tag
        );
        return Err(CopyError::LimitExceeded(message));
    }
    let looked = futures::stream::iter(tags).map(|tag| async move {
        let is_needed =
            contains(task, Reference::Tag(&tag), manifest).await? && !leaves_too(task, &tag, leaving).await?;
        Ok::<_, CopyError>(is_needed.then_some(tag))
    });
    let mut looked = std::pin::pin!(looked.buffered(LOOKS_AT_ONCE));
    while let Some(needing) = looked.next().await {
        if let Some(tag) = needing? {
            return Ok(Some(tag));
        }
    }
    Ok(None)
}

/// Returns true if a tag may be deleted as it was decided.
async fn leaves_too(task: &ImageCopy<'_>, tag: &Tag, leaving: &BTreeMap<Tag, LeavingTag>) -> Result<bool, CopyError> {
    let Some(LeavingTag { recorded, is_outside }) = leaving.get(tag) else { return Ok(false) };
    let there = task.destination.probe_manifest(task.destination_repository, Reference::Tag(tag)).await;
    let there = there.map_err(CopyError::Destination)?;
    let is_recorded = there.is_none_or(|head| head.digest == *recorded);
    Ok(is_recorded && (*is_outside || !is_at_source(task, tag).await?))
}

/// Returns true if an image is the manifest, or an index that names it at some level.
async fn contains(task: &ImageCopy<'_>, root: Reference<'_>, manifest: &Digest) -> Result<bool, CopyError> {
    let root = match read(task, root).await {
        Ok(root) => root,
        // It was deleted since it was listed.
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(CopyError::Destination(error)),
    };
    if root.has_digest(manifest) {
        return Ok(true);
    }
    let (mut waiting, mut seen) = (vec![root], HashSet::new());
    while let Some(index) = waiting.pop() {
        let ManifestKind::Index { children } = &index.kind else { continue };
        if children.iter().any(|child| child.digest == *manifest) {
            return Ok(true);
        }
        for child in children.iter().filter(|child| child.is_index()) {
            if seen.len() == MAX_INDEXES {
                return Err(CopyError::LimitExceeded("an index of another tag is nested too deeply".to_owned()));
            }
            if seen.insert(child.digest.clone()) {
                match read(task, Reference::Digest(&child.digest)).await {
                    Ok(nested) => waiting.push(nested),
                    // An index may be sparse.
                    Err(error) if error.kind == ErrorKind::NotFound => {}
                    Err(error) => return Err(CopyError::Destination(error)),
                }
            }
        }
    }
    Ok(false)
}

async fn read(task: &ImageCopy<'_>, reference: Reference<'_>) -> Result<Manifest, RegistryError> {
    task.destination.manifest(task.destination_repository, reference).await
}

/// The tags of a repository that are looked at before a manifest is deleted.
const MAX_TAGS: usize = 1_000;
const MAX_INDEXES: usize = 100;
const LOOKS_AT_ONCE: usize = 8;

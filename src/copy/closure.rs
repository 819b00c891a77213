//! Everything that an image consists of: its manifests, children before parents, and its blobs.

use std::collections::HashSet;

use futures::StreamExt;

use super::engine::{CopyError, ImageCopy};
use crate::image::{Descriptor, Digest, Manifest, ManifestKind};
use crate::registry::{ErrorKind, Reference};

/// What an image consists of, as its source has it.
#[derive(Debug)]
pub struct Closure {
    /// Every manifest, each once, children before parents, the root last.
    pub manifests: Vec<Manifest>,
    /// Every blob, each once. The largest first: what takes longest starts first.
    pub blobs: Vec<Descriptor>,
}

impl Closure {
    /// Reads the manifests of the image from its source.
    ///
    /// # Errors
    /// [`CopyError`] if a manifest is not there or cannot be read, or the image exceeds [`MAX_MANIFESTS`], [`MAX_BLOBS`],
    /// [`MAX_DEPTH`] or [`MAX_BYTES`].
    pub async fn read(task: &ImageCopy<'_>) -> Result<Self, CopyError> {
        let mut levels: Vec<Vec<Manifest>> = Vec::new();
        let mut seen = HashSet::from([task.digest.clone()]);
        let (mut wanted, mut count, mut bytes) = (vec![task.digest.clone()], 0, 0);
        while !wanted.is_empty() {
            if levels.len() == MAX_DEPTH {
                return Err(CopyError::LimitExceeded(format!("the index is nested deeper than {MAX_DEPTH}")));
            }
            let level = fetch(task, wanted).await?;
            count += level.len();
            bytes += level.iter().map(|manifest| manifest.bytes.len()).sum::<usize>();
            if count > MAX_MANIFESTS || bytes > MAX_BYTES {
                return Err(CopyError::LimitExceeded(format!(
                    "the image has more than {MAX_MANIFESTS} manifests, or more than {MAX_BYTES} bytes of them"
                )));
            }
            let children = level.iter().flat_map(|manifest| match &manifest.kind {
                ManifestKind::Index { children } => children.as_slice(),
                ManifestKind::Image { .. } => &[],
            });
            wanted = children.map(|child| child.digest.clone()).filter(|digest| seen.insert(digest.clone())).collect();
            levels.push(level);
        }
        Self::of(levels)
    }

    /// The root manifest: the one that the tag points at.
    pub fn root(&self) -> &Manifest {
        self.manifests.last().expect("a closure has its root")
    }

    /// The manifests below the root, children before parents.
    pub fn children(&self) -> &[Manifest] {
        &self.manifests[..self.manifests.len() - 1]
    }

    /// The bytes of all manifests and blobs.
    pub fn size(&self) -> u64 {
        let manifests = self.manifests.iter().map(|manifest| manifest.bytes.len() as u64);
        manifests.chain(self.blobs.iter().map(|blob| blob.size)).fold(0, u64::saturating_add)
    }

    fn of(levels: Vec<Vec<Manifest>>) -> Result<Self, CopyError> {
        let mut manifests: Vec<Manifest> = levels.into_iter().flatten().collect();
        order_children_first(&mut manifests);
        let mut seen = HashSet::new();
        let mut blobs: Vec<Descriptor> = Vec::new();
        for manifest in &manifests {
            if let ManifestKind::Image { blobs: own, .. } = &manifest.kind {
                blobs.extend(own.iter().filter(|blob| seen.insert(blob.digest.clone())).cloned());
            }
        }
        if blobs.len() > MAX_BLOBS {
            return Err(CopyError::LimitExceeded(format!("the image has more than {MAX_BLOBS} blobs")));
        }
        blobs.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.digest.cmp(&b.digest)));
        Ok(Self { manifests, blobs })
    }
}

async fn fetch(task: &ImageCopy<'_>, digests: Vec<Digest>) -> Result<Vec<Manifest>, CopyError> {
    let fetched = futures::stream::iter(digests).map(|digest| async move {
        let manifest = task.source.manifest(task.source_repository, Reference::Digest(&digest)).await;
        manifest.map_err(|error| match error.kind {
            ErrorKind::NotFound if digest == *task.digest => CopyError::SourceChanged,
            _ => CopyError::Source(error),
        })
    });
    let mut fetched = std::pin::pin!(fetched.buffered(FETCHES_AT_ONCE));
    let mut manifests = Vec::new();
    while let Some(manifest) = fetched.next().await {
        manifests.push(manifest?);
    }
    Ok(manifests)
}

/// An index may name a manifest that another of its children names too, so levels alone do not order them: a manifest goes
/// after everything that it names. The first manifest is the root.
fn order_children_first(manifests: &mut Vec<Manifest>) {
    let mut waiting: Vec<Option<Manifest>> = std::mem::take(manifests).into_iter().map(Some).collect();
    let index_of: std::collections::HashMap<Digest, usize> =
        waiting.iter().flatten().enumerate().map(|(i, manifest)| (manifest.digest.clone(), i)).collect();
    // Depth first without recursion: a manifest is left once all its children were.
    let mut stack = vec![(0, false)];
    while let Some((index, children_done)) = stack.pop() {
        let Some(manifest) = &waiting[index] else { continue };
        if children_done {
            manifests.extend(waiting[index].take());
            continue;
        }
        stack.push((index, true));
        if let ManifestKind::Index { children } = &manifest.kind {
            stack.extend(children.iter().filter_map(|child| index_of.get(&child.digest)).map(|child| (*child, false)));
        }
    }
}

const MAX_DEPTH: usize = 8;
const MAX_MANIFESTS: usize = 1_000;
const MAX_BLOBS: usize = 20_000;
const MAX_BYTES: usize = 64 * 1024 * 1024;
const FETCHES_AT_ONCE: usize = 8;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn manifest(document: String) -> Manifest {
        Manifest::parse(None, Bytes::from(document)).unwrap()
    }

    fn descriptor(digest: &Digest) -> String {
        format!(r#"{{"mediaType":"x","digest":"{digest}","size":1}}"#)
    }

    fn index(children: &[&Manifest]) -> Manifest {
        let children: Vec<_> = children.iter().map(|child| descriptor(&child.digest)).collect();
        manifest(format!(r#"{{"manifests":[{}]}}"#, children.join(",")))
    }

    fn image(content: u8) -> Manifest {
        manifest(format!(r#"{{"config":{}}}"#, descriptor(&Digest::sha256(&[content]))))
    }

    proptest! {
        #[test]
        fn the_push_order_respects_every_descriptor(picks in prop::collection::vec(prop::collection::vec(0_usize..8, 1..4), 1..8)) {
            let mut all = vec![image(0), image(1)];
            for pick in picks {
                let children: Vec<_> = pick.iter().map(|i| &all[i % all.len()]).collect();
                let next = index(&children);
                all.push(next);
            }
            all.reverse(); // The root first, as they are fetched.
            let mut seen = HashSet::new();
            all.retain(|manifest| seen.insert(manifest.digest.clone()));
            let root = all[0].digest.clone();
            let closure = Closure::of(vec![all]).unwrap();
            let mut pushed = HashSet::new();
            for manifest in &closure.manifests {
                if let ManifestKind::Index { children } = &manifest.kind {
                    prop_assert!(children.iter().all(|child| pushed.contains(&child.digest)));
                }
                pushed.insert(manifest.digest.clone());
            }
            prop_assert_eq!(&closure.root().digest, &root);
        }
    }

    #[test]
    fn blobs_are_named_once_and_the_largest_first() {
        let blob = |content: u8, size: u64| {
            format!(r#"{{"mediaType":"x","digest":"{}","size":{size}}}"#, Digest::sha256(&[content]))
        };
        let one = manifest(format!(r#"{{"config":{},"layers":[{},{}]}}"#, blob(1, 5), blob(2, 100), blob(3, 50)));
        let two = manifest(format!(r#"{{"config":{},"layers":[{}]}}"#, blob(4, 6), blob(2, 100)));
        let root = index(&[&one, &two]);
        let closure = Closure::of(vec![vec![root], vec![one, two]]).unwrap();
        assert_eq!(closure.blobs.iter().map(|blob| blob.size).collect::<Vec<_>>(), [100, 50, 6, 5]);
    }
}

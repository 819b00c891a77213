//! Manifests that were read from sources lately, so that aliases, shared children and further destinations do not read them again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::turns::Turns;
use crate::image::{Digest, Manifest, RepositoryName, Tag, is_referrer_tag};
use crate::registry::{Client, ClientId, ErrorKind, Reference, RegistryError};

/// Manifests by client, repository and digest; the oldest make room. Keyed by client: what one credential may read says nothing
/// to another.
#[derive(Default)]
pub(super) struct ManifestCache {
    kept: Mutex<Kept>,
    /// One request at a time for the same manifest.
    turns: Turns<Key, RegistryError>,
}

#[derive(Default)]
struct Kept {
    manifests: HashMap<Key, (Instant, Manifest)>,
    order: VecDeque<Key>,
    bytes: usize,
}

type Key = (ClientId, RepositoryName, Digest);

impl ManifestCache {
    /// The manifest, from memory if it was read within [`KEPT_FOR`], else from the registry. Who waits for another's request
    /// shares what it fails with.
    ///
    /// # Errors
    /// As [`Client::manifest`].
    pub(super) async fn read(
        &self,
        client: &Client,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Manifest, RegistryError> {
        let key = (client.id(), repository.clone(), digest.clone());
        if let Some(manifest) = self.recall(&key) {
            return Ok(manifest);
        }
        let mut turn = self.turns.at(key.clone()).await;
        if let Some(manifest) = self.recall(&key) {
            return Ok(manifest);
        }
        if let Some(error) = turn.inherited() {
            return Err(error);
        }
        match client.manifest(repository, Reference::Digest(digest)).await {
            Ok(manifest) => {
                self.keep(key, manifest.clone());
                Ok(manifest)
            }
            Err(error) => {
                turn.fail(error.clone());
                Err(error)
            }
        }
    }

    /// The manifest, if it is kept.
    pub(super) fn recall(&self, key: &Key) -> Option<Manifest> {
        let kept = self.lock();
        kept.manifests.get(key).filter(|(read, _)| read.elapsed() < KEPT_FOR).map(|(_, manifest)| manifest.clone())
    }

    fn keep(&self, key: Key, manifest: Manifest) {
        let mut kept = self.lock();
        let size = size_of(&manifest);
        if size > MOST_BYTES {
            return;
        }
        if let Some((_, earlier)) = kept.manifests.insert(key.clone(), (Instant::now(), manifest)) {
            kept.bytes -= size_of(&earlier);
        } else {
            kept.order.push_back(key);
        }
        kept.bytes += size;
        while kept.bytes > MOST_BYTES {
            let Some(oldest) = kept.order.pop_front() else { break };
            if let Some((_, manifest)) = kept.manifests.remove(&oldest) {
                kept.bytes -= size_of(&manifest);
            }
        }
    }

    fn has_room(&self) -> bool {
        self.lock().bytes < MOST_BYTES / 2
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// What a tag of a source points at, that is about to be copied or lists referrers of what is; `None` if it is gone. As long as there is room the manifest
    /// is read at once, and kept for [`Engine::copy`]: one request instead of two.
    ///
    /// # Errors
    /// As [`Client::head_manifest`]. A manifest that cannot be read as one is no error here: its copy tells of it.
    pub async fn observe(
        &self,
        source: &Client,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<Option<Digest>, RegistryError> {
        if self.manifests().has_room() {
            match source.manifest(repository, Reference::Tag(tag)).await {
                Ok(manifest) => {
                    let digest = manifest.digest.clone();
                    self.manifests().keep((source.id(), repository.clone(), digest.clone()), manifest);
                    if is_referrer_tag(tag) {
                        let key = ((source.id(), repository.clone()), tag.clone());
                        self.tables().seen_lists.note(key, (digest.clone(), Instant::now()));
                    }
                    return Ok(Some(digest));
                }
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
                Err(error) if matches!(error.kind, ErrorKind::InvalidContent | ErrorKind::TooLarge) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(source.head_manifest(repository, Reference::Tag(tag)).await?.map(|head| head.digest))
    }
}

/// About what a manifest takes in memory: its bytes, and what was read out of them.
fn size_of(manifest: &Manifest) -> usize {
    2 * manifest.bytes.len() + 512
}

/// A manifest never changes, but whether its source still serves it may.
const KEPT_FOR: Duration = Duration::from_secs(300);
const MOST_BYTES: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_makes_room() {
        let (cache, repository): (_, RepositoryName) = (ManifestCache::default(), "app".parse().unwrap());
        let key = |manifest: &Manifest| (ClientId::of_test(1), repository.clone(), manifest.digest.clone());
        let manifest = |i: usize| {
            let text = format!(r#"{{"manifests":[],"annotations":{{"a":"{i}{}"}}}}"#, " ".repeat(1024 * 1024));
            Manifest::parse(None, Bytes::from(text)).unwrap()
        };
        let manifests: Vec<_> = (0..6).map(manifest).collect();
        for one in manifests.iter().chain(&manifests[4..]) {
            cache.keep(key(one), one.clone());
            assert!(cache.lock().bytes <= MOST_BYTES);
        }
        assert!(cache.recall(&key(&manifests[0])).is_none() && cache.recall(&key(&manifests[5])).is_some());
        assert!(!cache.has_room());
        let kept = cache.lock();
        assert_eq!(kept.bytes, kept.manifests.values().map(|(_, manifest)| size_of(manifest)).sum::<usize>());
        assert_eq!(kept.order.len(), kept.manifests.len());
    }
}

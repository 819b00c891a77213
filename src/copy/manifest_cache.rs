//! Manifests that were read from sources lately, so that aliases, shared children and further destinations do not read
//! them again.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::turns::Turns;
use crate::image::{Digest, Manifest, RepositoryName};
use crate::locked::Locked;
use crate::registry::{Client, ClientId, Reference, RegistryError};

/// Manifests by client, repository and digest; the oldest make room. Keyed by client: what one credential may read says
/// nothing to another.
#[derive(Default)]
pub(super) struct ManifestCache {
    kept: Locked<CachedManifests>,
    /// One request at a time for the same manifest.
    turns: Turns<ManifestKey, RegistryError>,
}

#[derive(Default)]
struct CachedManifests {
    manifests: HashMap<ManifestKey, (Instant, Manifest)>,
    order: VecDeque<ManifestKey>,
    bytes: usize,
}

type ManifestKey = (ClientId, RepositoryName, Digest);

impl ManifestCache {
    /// Returns the manifest, from memory if it was read within [`KEPT_FOR`], else from the registry. Callers that wait
    /// for the same request share its failure.
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

    /// Returns the manifest if it is kept.
    pub(super) fn recall(&self, key: &ManifestKey) -> Option<Manifest> {
        let kept = self.kept.lock();
        kept.manifests.get(key).filter(|(read, _)| read.elapsed() < KEPT_FOR).map(|(_, manifest)| manifest.clone())
    }

    /// Keeps a manifest that was read just now; the oldest make room.
    pub(super) fn keep(&self, key: ManifestKey, manifest: Manifest) {
        let mut kept = self.kept.lock();
        let size = size_of(&manifest);
        if size > MAX_BYTES {
            return;
        }
        if let Some((_, earlier)) = kept.manifests.insert(key.clone(), (Instant::now(), manifest)) {
            kept.bytes -= size_of(&earlier);
        } else {
            kept.order.push_back(key);
        }
        kept.bytes += size;
        while kept.bytes > MAX_BYTES {
            let Some(oldest) = kept.order.pop_front() else { break };
            if let Some((_, manifest)) = kept.manifests.remove(&oldest) {
                kept.bytes -= size_of(&manifest);
            }
        }
    }

    /// Returns true if at least half of the room is free.
    pub(super) fn has_room(&self) -> bool {
        self.kept.lock().bytes < MAX_BYTES / 2
    }
}

/// Returns about the memory that a manifest takes: its bytes, and the values that were parsed from them.
fn size_of(manifest: &Manifest) -> usize {
    2 * manifest.bytes.len() + 512
}

/// A manifest never changes, but whether its source still serves it may.
const KEPT_FOR: Duration = Duration::from_secs(300);
const MAX_BYTES: usize = 8 * 1024 * 1024;

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
            assert!(cache.kept.lock().bytes <= MAX_BYTES);
        }
        assert!(cache.recall(&key(&manifests[0])).is_none() && cache.recall(&key(&manifests[5])).is_some());
        assert!(!cache.has_room());
        let kept = cache.kept.lock();
        assert_eq!(kept.bytes, kept.manifests.values().map(|(_, manifest)| size_of(manifest)).sum::<usize>());
        assert_eq!(kept.order.len(), kept.manifests.len());
    }
}

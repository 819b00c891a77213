//! The content of a scripted registry: blobs, manifests, tags and upload sessions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use bytes::Bytes;
use serde_json::Value;

/// Everything.
#[derive(Default)]
pub(super) struct RegistryStore {
    /// Each content once, by each digest it was pushed under.
    pub(super) contents: HashMap<String, Bytes>,
    pub(super) repositories: BTreeMap<String, StoredRepository>,
    pub(super) uploads: HashMap<String, StoredUpload>,
    pub(super) begun: u64,
    /// The settings of repositories, or projects, that were created by an API of the registry.
    pub(super) settings: BTreeMap<String, Value>,
    /// The GETs of manifests that a quota counts.
    manifest_gets: VecDeque<Instant>,
    /// The URLs of the other origin that were signed, and how often each may still be used.
    signatures: HashMap<u64, u32>,
}

impl RegistryStore {
    /// Counts a GET of a manifest, if `counts`, unless there were `most` in the last `window` seconds. Returns the number
    /// that is left, or `None` if it was not counted for that.
    pub(super) fn count_manifest_get(&mut self, counts: bool, most: u32, window: u64) -> Option<u32> {
        self.manifest_gets.retain(|at| at.elapsed() < Duration::from_secs(window));
        let left = most.saturating_sub(u32::try_from(self.manifest_gets.len()).unwrap_or(u32::MAX));
        if !counts {
            return Some(left);
        }
        self.manifest_gets.push_back(Instant::now());
        left.checked_sub(1)
    }

    /// Returns a signature that is good for so many requests.
    pub(super) fn sign(&mut self, uses: u32) -> u64 {
        let next = self.signatures.len() as u64 + 1;
        self.signatures.insert(next, uses);
        next
    }

    /// Returns true if the signature is still good.
    pub(super) fn use_signature(&mut self, signature: u64) -> bool {
        let left = self.signatures.get_mut(&signature).filter(|left| **left > 0);
        left.map(|left| *left -= 1).is_some()
    }

    pub(super) fn put_blob(&mut self, repository: &str, digest: &str, bytes: Bytes) {
        self.contents.insert(digest.to_owned(), bytes);
        let repository = self.repositories.entry(repository.to_owned()).or_default();
        if !repository.blobs.insert(digest.to_owned()) {
            repository.twice.insert(digest.to_owned());
        }
    }

    pub(super) fn put_manifest(&mut self, repository: &str, digest: &str, media_type: &str, bytes: Bytes) {
        let view = serde_json::from_slice(&bytes).expect("a manifest is JSON");
        let manifest = StoredManifest { media_type: media_type.to_owned(), bytes, view };
        let repository = self.repositories.entry(repository.to_owned()).or_default();
        if let Some(subject) = manifest.subject() {
            repository.referring.entry(subject.to_owned()).or_default().insert(digest.to_owned());
        }
        repository.manifests.insert(digest.to_owned(), manifest);
    }

    /// Removes the blobs that no manifest of their repository names.
    pub(super) fn collect_garbage(&mut self) {
        for repository in self.repositories.values_mut() {
            let named: HashSet<String> =
                repository.manifests.values().flat_map(StoredManifest::blobs).map(str::to_owned).collect();
            repository.blobs.retain(|blob| named.contains(blob));
        }
    }

    /// Returns the digests of everything below a tag or digest, all of which must be there and right.
    pub(super) fn tree(&self, name: &str, reference: &str) -> BTreeSet<String> {
        let repository = self.repositories.get(name).unwrap_or_else(|| panic!("there is no {name}"));
        let (digest, manifest) =
            repository.find(reference).unwrap_or_else(|| panic!("{name}: {reference} is named and not there"));
        assert!(verifies(digest, &manifest.bytes), "{name}@{digest} is not what its digest says");
        let mut digests = BTreeSet::from([digest.to_owned()]);
        for blob in manifest.blobs() {
            assert!(repository.blobs.contains(blob), "{name}: {blob} is named and not there");
            assert!(verifies(blob, &self.contents[blob]), "{name}@{blob} is not what its digest says");
            digests.insert(blob.to_owned());
        }
        for child in manifest.children() {
            digests.extend(self.tree(name, child));
        }
        digests
    }
}

/// One repository.
#[derive(Default, Clone)]
pub(super) struct StoredRepository {
    pub(super) blobs: BTreeSet<String>,
    pub(super) manifests: BTreeMap<String, StoredManifest>,
    /// The digests of manifests by their subject; some of them may be gone.
    pub(super) referring: HashMap<String, BTreeSet<String>>,
    pub(super) tags: BTreeMap<String, String>,
    /// Every tag that was ever set, with its digest, in order.
    pub(super) moves: Vec<(String, String)>,
    /// The number of further tags that are listed and not kept: `build-0000000` and so on.
    pub(super) crowd: usize,
    /// Blobs that were committed while they were there already, until a manifest names them.
    pub(super) twice: HashSet<String>,
}

/// A manifest and what of it is looked at.
#[derive(Clone)]
pub(super) struct StoredManifest {
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
    pub(super) view: Value,
}

/// An upload session.
#[derive(Default, Clone)]
pub(super) struct StoredUpload {
    pub(super) repository: String,
    pub(super) bytes: Vec<u8>,
    pub(super) patches: u32,
    /// The last byte of the first PATCH.
    pub(super) first_end: u64,
}

impl StoredManifest {
    pub(super) fn subject(&self) -> Option<&str> {
        self.view["subject"]["digest"].as_str()
    }

    /// Returns the blobs that must be there: configuration and layers, but for those that are not distributed.
    pub(super) fn blobs(&self) -> Vec<&str> {
        let layers = self.view["layers"].as_array().into_iter().flatten();
        let is_own = |layer: &&Value| {
            let media_type = layer["mediaType"].as_str().unwrap_or_default();
            !media_type.contains(".nondistributable.") && !media_type.contains(".foreign.")
        };
        let named = std::iter::once(&self.view["config"]).chain(layers.filter(is_own));
        named.filter_map(|descriptor| descriptor["digest"].as_str()).collect()
    }

    pub(super) fn children(&self) -> Vec<&str> {
        let children = self.view["manifests"].as_array().into_iter().flatten();
        children.filter_map(|descriptor| descriptor["digest"].as_str()).collect()
    }

    /// Returns its entry in the referrers API.
    pub(super) fn descriptor(&self, digest: &str) -> Value {
        let mut descriptor =
            serde_json::json!({ "mediaType": self.media_type, "digest": digest, "size": self.bytes.len() });
        let stated = self.view["artifactType"].as_str().filter(|text| !text.is_empty());
        if let Some(artifact_type) = stated.or_else(|| self.view["config"]["mediaType"].as_str()) {
            descriptor["artifactType"] = artifact_type.into();
        }
        if !self.view["annotations"].is_null() {
            descriptor["annotations"] = self.view["annotations"].clone();
        }
        descriptor
    }
}

impl StoredRepository {
    pub(super) fn tag(&mut self, tag: &str, digest: &str) {
        self.tags.insert(tag.to_owned(), digest.to_owned());
        self.moves.push((tag.to_owned(), digest.to_owned()));
    }

    /// Returns the manifest that a tag or digest names, with its digest.
    pub(super) fn find(&self, reference: &str) -> Option<(&str, &StoredManifest)> {
        let digest = if reference.contains(':') { reference } else { self.tags.get(reference)? };
        self.manifests.get_key_value(digest).map(|(digest, manifest)| (digest.as_str(), manifest))
    }
}

/// Returns true if `bytes` have this digest, which may be one of SHA-256 or SHA-512.
pub(super) fn verifies(stated: &str, bytes: &[u8]) -> bool {
    digest_of(stated, bytes).is_some_and(|found| found == stated)
}

/// Returns true if this is the form of a digest that a registry takes.
pub(super) fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let length = match algorithm {
        "sha256" => 64,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == length && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn digest_of(like: &str, bytes: &[u8]) -> Option<String> {
    let (algorithm, _) = like.split_once(':')?;
    let found = match algorithm {
        "sha256" => digest(&SHA256, bytes),
        "sha512" => digest(&SHA512, bytes),
        _ => return None,
    };
    let hex: String = found.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{algorithm}:{hex}"))
}

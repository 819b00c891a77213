//! Generated images: the same seed gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde_json::{Value, json};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const OCI_PLAIN_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Returns the digest of some bytes, as registries write it.
pub fn sha256(bytes: &[u8]) -> String {
    let hex: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A layer, a configuration, or some other content that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    pub media_type: String,
    pub digest: String,
    /// Shared by all images of which it is a part.
    pub bytes: Bytes,
}

impl Blob {
    /// Returns a blob with this content.
    pub fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        Self { media_type: media_type.to_owned(), digest: sha256(&bytes), bytes: bytes.into() }
    }

    /// Returns a layer of random bytes behind the first bytes of a gzip file: nothing compresses or unpacks it, nothing
    /// needs to.
    pub fn layer(seed: u64, size: usize) -> Self {
        let mut bytes = vec![0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0xff];
        let mut state = seed;
        while bytes.len() < size {
            bytes.extend_from_slice(&split_mix(&mut state).to_le_bytes());
        }
        bytes.truncate(size);
        Self::new(OCI_LAYER, bytes)
    }

    /// Returns a layer that is not compressed: a tar of one file of text.
    pub fn plain_layer(seed: u64, size: usize) -> Self {
        const BLOCK: usize = 512;
        let mut state = seed;
        let mut text = String::with_capacity(size);
        while text.len() < size {
            text.push_str(&format!("{:020}\n", split_mix(&mut state)));
        }
        let mut header = [0; BLOCK];
        let mut set = |at: usize, value: &str| header[at..at + value.len()].copy_from_slice(value.as_bytes());
        set(0, &format!("file-{seed}"));
        set(100, "0000644");
        set(124, &format!("{:011o}", text.len()));
        set(136, "00000000000");
        set(148, "        "); // the checksum counts as spaces in itself
        set(156, "0");
        set(257, "ustar\u{0}00");
        let checksum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{checksum:06o}\0").as_bytes());
        let padding = text.len().next_multiple_of(BLOCK) - text.len() + 2 * BLOCK;
        let bytes = header.into_iter().chain(text.into_bytes()).chain(std::iter::repeat_n(0, padding)).collect();
        Self::new(OCI_PLAIN_LAYER, bytes)
    }

    pub fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// Returns the next number of the SplitMix64 generator.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A manifest with everything below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub media_type: String,
    pub bytes: Vec<u8>,
    pub blobs: Vec<Blob>,
    pub children: Vec<Image>,
    /// Such as `linux/arm64` or `linux/arm/v7`: what an index says of it.
    pub platform: Option<String>,
    /// The annotations that an index puts on its descriptor.
    pub descriptor_annotations: BTreeMap<String, String>,
}

impl Image {
    /// Returns an image for `linux/amd64` in OCI format with this many layers of this size.
    pub fn single(seed: u64, layers: u64, size: usize) -> Self {
        Self::with_layers(seed, "linux/amd64", random_layers(seed, layers, size))
    }

    /// Returns an OCI image of these layers, which other images may share.
    pub fn with_layers(seed: u64, platform: &str, layers: Vec<Blob>) -> Self {
        Self::of_format(seed, platform, layers, OCI_MANIFEST, OCI_CONFIG)
    }

    /// Returns the image with a date of creation in its configuration.
    pub fn created_at(self, date: &str) -> Self {
        let mut config: Value = serde_json::from_slice(&self.blobs[0].bytes).unwrap();
        config["created"] = json!(date);
        let config = Blob::new(&self.blobs[0].media_type, config.to_string().into_bytes());
        let mut manifest: Value = serde_json::from_slice(&self.bytes).unwrap();
        manifest["config"] = config.descriptor();
        let blobs = std::iter::once(config).chain(self.blobs.into_iter().skip(1)).collect();
        Self { bytes: manifest.to_string().into_bytes(), blobs, ..self }
    }

    /// Returns an image in the format of Docker's second schema.
    pub fn docker(seed: u64, layers: u64, size: usize) -> Self {
        let mut layers = random_layers(seed, layers, size);
        layers.iter_mut().for_each(|layer| DOCKER_LAYER.clone_into(&mut layer.media_type));
        Self::of_format(seed, "linux/amd64", layers, DOCKER_MANIFEST, DOCKER_CONFIG)
    }

    fn of_format(seed: u64, platform: &str, layers: Vec<Blob>, media_type: &str, config_type: &str) -> Self {
        let mut config = platform_value(platform);
        config["config"] = json!({ "Labels": { "seed": seed.to_string() } });
        config["rootfs"] =
            json!({ "type": "layers", "diff_ids": layers.iter().map(|layer| &layer.digest).collect::<Vec<_>>() });
        let config = Blob::new(config_type, config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let blobs = std::iter::once(config).chain(layers).collect();
        Self { platform: Some(platform.to_owned()), ..Self::of(media_type, &manifest, blobs, Vec::new()) }
    }

    /// Returns an OCI index over images for amd64, arm64 and arm/v7, each with an attestation as image builders add
    /// them, with two layers of `size` an image, the first of which all share.
    pub fn multi_platform(seed: u64, size: usize) -> Self {
        let shared = Blob::layer(seed, size);
        let mut children = Vec::new();
        for (platform, seed) in ["linux/amd64", "linux/arm64", "linux/arm/v7"].into_iter().zip(seed + 1..) {
            children.push(Self::with_layers(seed, platform, vec![shared.clone(), Blob::layer(seed, size)]));
        }
        let attestations: Vec<Self> = children.iter().map(Self::attestation_of).collect();
        children.extend(attestations);
        Self::index(children)
    }

    /// Returns an OCI index over these images or indexes.
    pub fn index(children: Vec<Self>) -> Self {
        Self::list_of(OCI_INDEX, children)
    }

    /// Returns a Docker manifest list over these images.
    pub fn docker_list(children: Vec<Self>) -> Self {
        Self::list_of(DOCKER_LIST, children)
    }

    /// Returns an index whose second child is an index in turn.
    pub fn nested_index(seed: u64, size: usize) -> Self {
        let inner = Self::index(vec![Self::with_layers(seed + 1, "linux/arm64", random_layers(seed + 1, 1, size))]);
        Self::index(vec![Self::single(seed, 1, size), inner])
    }

    fn list_of(media_type: &str, children: Vec<Self>) -> Self {
        let manifests: Vec<Value> = children.iter().map(Self::descriptor).collect();
        let list = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
        Self::of(media_type, &list, Vec::new(), children)
    }

    /// Returns an artifact that is no image, such as a chart or a signature, with one layer; it may have a subject.
    pub fn artifact(seed: u64, artifact_type: &str, size: usize, subject: Option<&Self>) -> Self {
        let empty = Blob::new(OCI_EMPTY, b"{}".to_vec());
        let layer = Blob { media_type: "application/octet-stream".to_owned(), ..Blob::layer(seed, size) };
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": empty.descriptor(),
            "layers": [layer.descriptor()],
        });
        if let Some(subject) = subject {
            manifest["subject"] = json!({
                "mediaType": subject.media_type, "digest": subject.digest(), "size": subject.bytes.len(),
            });
        }
        Self::of(OCI_MANIFEST, &manifest, vec![empty, layer], Vec::new())
    }

    fn attestation_of(image: &Self) -> Self {
        let statement = json!({ "_type": "https://in-toto.io/Statement/v0.1", "subject": [image.digest()] });
        let layer = Blob::new("application/vnd.in-toto+json", statement.to_string().into_bytes());
        let mut attestation = Self::with_layers(0, "unknown/unknown", vec![layer]);
        attestation.descriptor_annotations = BTreeMap::from([
            ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
            ("vnd.docker.reference.digest".to_owned(), image.digest()),
        ]);
        attestation
    }

    /// Returns an artifact with this manifest, in OCI format, of these blobs.
    pub fn of_manifest(manifest: &Value, blobs: Vec<Blob>) -> Self {
        Self::of(OCI_MANIFEST, manifest, blobs, Vec::new())
    }

    fn of(media_type: &str, manifest: &Value, blobs: Vec<Blob>, children: Vec<Self>) -> Self {
        Self {
            media_type: media_type.to_owned(),
            bytes: manifest.to_string().into_bytes(),
            blobs,
            children,
            platform: None,
            descriptor_annotations: BTreeMap::new(),
        }
    }

    /// Returns the digest of the manifest.
    pub fn digest(&self) -> String {
        sha256(&self.bytes)
    }

    /// Returns its entry in an index.
    pub fn descriptor(&self) -> Value {
        let mut descriptor = json!({ "mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len() });
        if let Some(platform) = &self.platform {
            descriptor["platform"] = platform_value(platform);
        }
        if !self.descriptor_annotations.is_empty() {
            descriptor["annotations"] = json!(self.descriptor_annotations);
        }
        descriptor
    }

    /// Returns the digests of this manifest, of all below it, and of every blob they name.
    pub fn tree_digests(&self) -> BTreeSet<String> {
        let mut digests: BTreeSet<String> = self.blobs.iter().map(|blob| blob.digest.clone()).collect();
        digests.insert(self.digest());
        for child in &self.children {
            digests.extend(child.tree_digests());
        }
        digests
    }
}

fn random_layers(seed: u64, layers: u64, size: usize) -> Vec<Blob> {
    (0..layers).map(|number| Blob::layer(seed.wrapping_mul(1009).wrapping_add(number), size)).collect()
}

fn platform_value(platform: &str) -> Value {
    let mut parts = platform.split('/');
    let mut value = json!({ "os": parts.next(), "architecture": parts.next() });
    if let Some(variant) = parts.next() {
        value["variant"] = json!(variant);
    }
    value
}

//! The vocabulary of container images: digests, repository names, tags, media types and views over manifests.
//!
//! Nothing here does I/O. Values are parsed once, at the edge, and are valid from then on.

mod digest;
mod fields;
mod index;
mod manifest;
mod name;
mod platform;
mod referrer_tag;

pub use digest::{Algorithm, Digest, DigestHasher, InvalidDigest};
pub use index::{EntryRole, IndexEntry, cut_index, keep_chosen};
pub use manifest::{
    Descriptor, InvalidManifest, MANIFEST_ACCEPT, MAX_DESCRIPTORS, MAX_MANIFEST_BYTES, Manifest, ManifestKind,
    media_type,
};
pub use name::{InvalidName, RepositoryName, Tag};
pub use platform::Platform;
pub use referrer_tag::{cosign_tags, fallback_tag, is_referrer_tag};

//! The vocabulary of container images: digests, repository names, tags, media types and views over manifests.
//!
//! Nothing here does I/O. Values are parsed once, at the edge, and are valid from then on.

mod digest;
mod fields;
mod index;
mod invalid_names;
mod manifest;
pub mod media_type;
mod name;
mod platform;
mod referrer_tag;

pub use digest::{Algorithm, Digest, DigestError, DigestHasher, hex};
pub use fields::MAX_DESCRIPTORS;
pub use index::{EntryRole, IndexEntry, cut_index, keep_chosen};
pub use invalid_names::InvalidNames;
pub use manifest::{Descriptor, MAX_MANIFEST_BYTES, Manifest, ManifestError, ManifestKind};
pub use media_type::{MANIFEST_ACCEPT, is_of_blob};
pub use name::{NameError, RepositoryName, Tag};
pub use platform::Platform;
pub use referrer_tag::{base_of_referrer_tag, cosign_tags, fallback_tag, is_referrer_tag};

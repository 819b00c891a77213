//! Copies images between registries, byte for byte, and reads them back; knows nothing of Kubernetes.
//!
//! One image goes in this order: consent, the destination's present state, the manifests of the source, blobs, child
//! manifests, the root manifest under its tag, reading back. At every instant a tag that is written here resolves to a
//! manifest whose content is all there.

mod authority;
mod blob_copier;
mod closure;
mod engine;
mod failure;
mod fallback_index;
mod image_copier;
mod image_dates;
mod known_content;
mod known_repositories;
mod manifest_cache;
mod manifest_copier;
mod memo;
mod platforms;
mod public_key;
mod referrer_copier;
mod referrer_finder;
mod signatures;
mod small_blob;
mod tag_remover;
mod task;
mod tee;
mod turns;
mod verifier;

pub use authority::{Authority, Denied, Mutation};
pub use engine::{Engine, EngineLimits};
pub(crate) use signatures::check_signatures;
pub use tag_remover::remove_tag;
pub use task::{ByteCounter, CONSENT_LASTS, Copied, CopyError, Ends, ImageCopy, MountScope};
pub use tee::ActiveCopy;

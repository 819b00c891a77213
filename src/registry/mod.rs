//! Speaks the OCI distribution API to one registry: authentication, manifests, blobs, uploads, and the egress guard.

mod auth;
mod client;
mod content;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod lists;
mod session;
mod upload;
mod vendors;

#[cfg(test)]
mod testing;

pub use self::http::egress::{EgressPolicy, HostPort};
pub use self::http::hosts::canonical_host;
pub use auth::docker_config::{DockerConfig, DockerConfigError};
pub use client::{BlobStream, Client, ClientId, Credentials, ManifestHead, Reference, RegistryOptions, UploadOutcome};
pub use error::{ErrorKind, RegistryError};
pub use lists::referrers::{Referrer, ReferrerList};
pub use lists::tags::FirstTags;
pub use vendors::ecr::EcrApi;
pub use vendors::tag_digests::Listing;

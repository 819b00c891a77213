//! Speaks the OCI distribution API to one registry: authentication, manifests, blobs, uploads, and the egress guard.

mod answer;
mod auth;
mod batches;
mod blobs;
mod body;
mod challenge;
mod client;
mod digest_apis;
mod docker_config;
mod ecr;
mod egress;
mod error;
mod exchange;
mod feed;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod harbor;
mod listing;
mod manifests;
mod page;
mod referrers;
mod resolver;
mod retry;
mod sigv4;
mod site;
mod tag_digests;
mod token;
mod transport;
mod upload;
mod warnings;
mod window;

#[cfg(test)]
mod testing;

pub use client::{BlobStream, Client, ClientId, Credentials, ManifestHead, Reference, RegistryOptions, UploadOutcome};
pub use docker_config::{DockerConfig, InvalidDockerConfig};
pub use ecr::EcrApi;
pub use egress::{EgressPolicy, HostPort};
pub use error::{ErrorKind, RegistryError};
pub use listing::FirstTags;
pub use referrers::{Referrer, Referrers};
pub use site::canonical_host;
pub use tag_digests::Listing;

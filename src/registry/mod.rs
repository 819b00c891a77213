//! Speaks the OCI distribution API to one registry: authentication, manifests, blobs, uploads, and the egress guard.
//!
//! The layers import only from those below them:
//!
//! - `client`: puts the layers together
//! - `vendors`: APIs that some registries have besides, and known traits of public registries
//! - `upload`, `lists`, `content`: the distribution API
//! - `session`: one request with authentication and retries
//! - `auth`: credentials, challenges and tokens
//! - `http`: one request on the wire, to hosts that it may reach
//! - `error`: the errors of all layers

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

pub(crate) use self::http::counts::{ANSWER_CLASSES, request_counts};
pub use self::http::egress::{EgressPolicy, HostPort, HostPortError, RefusedAddresses, RefusedSet};
pub use self::http::hosts::{canonical_host, credential_host};
pub use self::http::pacer::RequestLimits;
pub use self::http::quota::QuotaStatement;
pub use auth::credentials::Credentials;
pub use auth::docker_config::{DockerConfig, DockerConfigError};
pub use auth::logins::{Logins, PathLogin};
pub use client::{Client, ClientId, RegistryOptions};
pub use content::blobs::BlobStream;
pub use content::manifests::{DeletionAnswer, ManifestHead, Reference};
pub use error::{ErrorKind, RegistryError};
pub use lists::catalog::RepositoryList;
pub use lists::referrer_page::Referrer;
pub use lists::referrers::{FallbackTag, ReferrerList};
pub use lists::tags::FirstTags;
pub use upload::UploadOutcome;
pub(crate) use upload::uploads_given_up;
pub use vendors::Listing;
pub use vendors::ecr::EcrApi;

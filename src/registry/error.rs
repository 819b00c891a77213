//! What can go wrong when talking to a registry, with the class that decides about a retry.

use std::time::Duration;

/// A request to a registry that failed for good, after the retries inside the client.
///
/// Displays as one sentence that names the registry and its answer; holds no credential, token or signed URL, and at
/// most 300 characters of what the registry said.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RegistryError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// One sentence for people.
    pub message: String,
    /// How long the registry asked to wait, if it did.
    pub retry_after: Option<Duration>,
}

/// The kinds of failures, as far as anything is decided by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The credentials were refused (401 after one renewal of the token).
    Unauthorized,
    /// The credentials are good, but not for this (403).
    Denied,
    /// The repository, manifest or blob is not there (404).
    NotFound,
    /// The registry does not offer this at all (405, or 404/401/403 for a catalog).
    Unsupported,
    /// 429.
    RateLimited,
    /// 5xx, a connection that broke or could not be made, or a deadline that passed.
    Unavailable,
    /// The host name does not resolve.
    HostUnknown,
    /// The certificate was refused, or it is no TLS at all.
    TlsRefused,
    /// The egress guard refuses the address.
    EgressRefused,
    /// Content does not have the digest, size, or form that it must have.
    InvalidContent,
    /// The registry says that content which a manifest names is missing (`MANIFEST_BLOB_UNKNOWN`, `BLOB_UNKNOWN`).
    ContentMissing,
    /// A bound was exceeded: a body, a list, a number of pages.
    TooLarge,
    /// Any other 4xx: trying again unchanged cannot help.
    Rejected,
    /// The options themselves cannot be used (a CA bundle without a certificate …).
    Configuration,
}

impl ErrorKind {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable | Self::HostUnknown | Self::ContentMissing)
    }
}

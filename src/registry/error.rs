//! What can go wrong when talking to a registry, with the class that decides about a retry.

use std::fmt::Display;
use std::time::Duration;

/// A request to a registry that failed for good, after the retries inside the client.
///
/// Displays as one sentence that names the registry and its answer; holds no credential, token or signed URL, and at
/// most 300 characters of what the registry said.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct RegistryError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// One sentence for people.
    pub message: String,
    /// How long the registry asked to wait, if it did; at most one hour.
    pub retry_after: Option<Duration>,
}

impl RegistryError {
    /// A failure of `kind` that asks for no wait.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
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
    /// The registry does not take a manifest as it is (400 `MANIFEST_INVALID`).
    ManifestInvalid,
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

    /// How often a request that fails in this way is tried in all, when nothing more is known about the failure.
    fn max_tries(self) -> u32 {
        match self {
            Self::RateLimited | Self::Unavailable => MAX_TRIES,
            Self::HostUnknown => MAX_TRIES_TO_CONNECT,
            _ => 1,
        }
    }
}

/// What is being done, to which registry: the front of every message.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    host: String,
    operation: &'static str,
    subject: String,
}

impl Operation {
    /// `operation` reads like "reading the manifest"; `subject` like `team/app:v1`, or is empty.
    pub(crate) fn new(host: &str, operation: &'static str, subject: impl Display) -> Self {
        Self { host: host.to_owned(), operation, subject: subject.to_string() }
    }

    /// The error for `detail`, with this task in front.
    pub(crate) fn error(&self, kind: ErrorKind, detail: impl Display) -> RegistryError {
        let of = if self.subject.is_empty() { "" } else { " of " };
        RegistryError::new(kind, format!("{}: {}{of}{}: {detail}", self.host, self.operation, self.subject))
    }

    /// The failure that `trouble` is to this task.
    pub(crate) fn failure(&self, trouble: HttpError) -> AttemptError {
        AttemptError { error: self.error(trouble.kind, trouble.detail), max_tries: trouble.max_tries }
    }
}

/// Something went wrong below the level that knows what is being done.
#[derive(Debug)]
pub(crate) struct HttpError {
    pub(crate) kind: ErrorKind,
    pub(crate) detail: String,
    /// How often such a request is tried in all.
    pub(crate) max_tries: u32,
}

impl HttpError {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), max_tries: kind.max_tries() }
    }

    /// No connection could be made: worth fewer tries than a connection that broke.
    pub(crate) fn connecting(detail: impl Into<String>) -> Self {
        Self { max_tries: MAX_TRIES_TO_CONNECT, ..Self::new(ErrorKind::Unavailable, detail) }
    }
}

/// One attempt that failed, and whether another one is worth it.
#[derive(Debug)]
pub(crate) struct AttemptError {
    pub(crate) error: RegistryError,
    /// How often such a request is tried in all.
    pub(crate) max_tries: u32,
}

impl From<RegistryError> for AttemptError {
    fn from(error: RegistryError) -> Self {
        Self { max_tries: error.kind.max_tries(), error }
    }
}

/// The tries of a request that meets transient failures, the first one included.
pub(crate) const MAX_TRIES: u32 = 4;

/// The tries where no connection can be made at all.
const MAX_TRIES_TO_CONNECT: u32 = 2;

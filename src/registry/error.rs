//! The errors of registries, with the class that decides about retries.
//!
//! An [`HttpError`] becomes an [`AttemptError`] once the [`Operation`] is known, and a [`RegistryError`] once no
//! further attempt is made.

use std::fmt::Display;
use std::time::Duration;

/// A request to a registry that failed for good, after the retries inside the client.
///
/// Displays as one sentence that names the registry and its answer; holds no credential, token or signed URL, and of the
/// registry's own text at most three errors of 300 characters each.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct RegistryError {
    /// The class of the failure.
    pub kind: ErrorKind,
    /// One sentence for people.
    pub message: String,
    /// The wait that the registry asked for, if any; at most one hour.
    pub retry_after: Option<Duration>,
}

impl RegistryError {
    /// Creates an error without a requested wait.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}

/// The class of a failure; every decision about a failure is made by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The credentials were refused (401 after one renewal of the token).
    Unauthorized,
    /// The credentials are valid, but do not permit this (403).
    Denied,
    /// The repository, manifest or blob does not exist (404).
    NotFound,
    /// The registry does not offer this at all (405, or 404/401/403 for a catalog).
    Unsupported,
    /// The registry limits the rate of requests (429).
    RateLimited,
    /// 5xx, a connection that broke or could not be made, or a deadline that passed.
    Unavailable,
    /// The host name does not resolve.
    HostUnknown,
    /// The certificate was refused, or the server does not speak TLS.
    TlsRefused,
    /// The egress guard refuses the address.
    EgressRefused,
    /// Content does not have the digest, size, or form that it must have.
    InvalidContent,
    /// The registry says that content which a manifest names is missing (`MANIFEST_BLOB_UNKNOWN`, `BLOB_UNKNOWN`).
    ContentMissing,
    /// The registry does not accept a manifest as it is (400 `MANIFEST_INVALID`).
    ManifestInvalid,
    /// A bound was exceeded: a body, a list, a number of pages.
    TooLarge,
    /// The thing that was to be created exists.
    AlreadyExists,
    /// Any other 4xx: an unchanged retry cannot help.
    Rejected,
    /// The options themselves cannot be used (a CA bundle without a certificate …).
    Configuration,
}

impl ErrorKind {
    /// Returns true if the same request may succeed later without any change by people.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable | Self::HostUnknown | Self::ContentMissing)
    }

    /// Returns the default number of attempts, the first included, for requests that fail in this way.
    fn max_tries(self) -> u32 {
        match self {
            Self::RateLimited | Self::Unavailable => MAX_TRIES,
            Self::HostUnknown => MAX_TRIES_TO_CONNECT,
            _ => 1,
        }
    }
}

/// An operation on a registry, named at the front of every message about it.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    host: String,
    name: &'static str,
    subject: String,
}

impl Operation {
    /// `name` reads like "reading the manifest"; `subject` like `team/app:v1`, or is empty.
    pub(crate) fn new(host: &str, name: &'static str, subject: impl Display) -> Self {
        Self { host: host.to_owned(), name, subject: subject.to_string() }
    }

    /// Returns the canonical host of the registry.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the repository of the subject; empty if it has none.
    pub(crate) fn repository(&self) -> &str {
        self.subject.split([':', '@']).next().unwrap_or_default()
    }

    /// Returns the error for `detail`, with this operation in front.
    pub(crate) fn error(&self, kind: ErrorKind, detail: impl Display) -> RegistryError {
        let of = if self.subject.is_empty() { "" } else { " of " };
        RegistryError::new(kind, format!("{}: {}{of}{}: {detail}", self.host, self.name, self.subject))
    }

    /// Returns the failure of one attempt of this operation that `error` ended.
    pub(crate) fn attempt_error(&self, error: HttpError) -> AttemptError {
        AttemptError { error: self.error(error.kind, error.detail), max_tries: error.max_tries }
    }
}

/// A failure below the level that knows the operation.
#[derive(Debug)]
pub(crate) struct HttpError {
    pub(crate) kind: ErrorKind,
    pub(crate) detail: String,
    /// The attempts that such a request is worth in all.
    pub(crate) max_tries: u32,
}

impl HttpError {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), max_tries: kind.max_tries() }
    }

    /// Creates the error for an answer that breaks the protocol.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidContent, detail)
    }

    /// Creates the error for a connection that could not be made: worth fewer attempts than one that broke.
    pub(crate) fn connecting(detail: impl Into<String>) -> Self {
        Self { max_tries: MAX_TRIES_TO_CONNECT, ..Self::new(ErrorKind::Unavailable, detail) }
    }
}

/// One attempt that failed, and the number of attempts it is worth.
#[derive(Debug)]
pub(crate) struct AttemptError {
    pub(crate) error: RegistryError,
    /// The attempts that such a request is worth in all.
    pub(crate) max_tries: u32,
}

impl AttemptError {
    /// Returns an error that no further attempt is worth.
    pub(crate) fn last(error: RegistryError) -> Self {
        Self { error, max_tries: 1 }
    }

    /// Returns an error that is retried like a broken connection, whatever its kind.
    pub(crate) fn retried(error: RegistryError) -> Self {
        Self { error, max_tries: MAX_TRIES }
    }
}

impl From<RegistryError> for AttemptError {
    fn from(error: RegistryError) -> Self {
        Self { max_tries: error.kind.max_tries(), error }
    }
}

/// The attempts of a request that meets transient failures, the first one included.
const MAX_TRIES: u32 = 4;

/// The attempts if no connection can be made at all.
const MAX_TRIES_TO_CONNECT: u32 = 2;

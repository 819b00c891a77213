//! The closed set of causes for which an image is not replicated.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why an image could not be replicated: a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum FailureCode {
    /// The destination registry refuses the credentials, or they do not permit a push.
    DestinationDenied,
    /// The destination registry refuses the image: an immutable tag, a format it does not take, a quota.
    DestinationRejected,
    /// The destination registry does not answer, or is overloaded.
    DestinationUnavailable,
    /// The image vanished from the source, or its tag moved, while it was copied. The next comparison decides.
    ImageNotFound,
    /// Content at the source does not have the digest, size or form that it must have.
    InvalidContent,
    /// The image is larger than any sensible one: too many manifests, blobs or bytes of manifest.
    LimitExceeded,
    /// The copy was under way when a RegistryPermissionPolicy was changed or deleted: it was broken off.
    PolicyRevoked,
    /// The image is of several platforms, none of which is among the rule's `platforms`. The message names those that it has.
    PlatformNotFound,
    /// A RegistryPermissionPolicy denies it, or none allows it.
    RegistryPermissionDenied,
    /// The destination's Registry is absent or not ready.
    RegistryNotReady,
    /// The destination repository does not exist and `createRepositories` is `Never`.
    RepositoryNotFound,
    /// The source registry refuses the credentials, or they do not permit a pull.
    SourceDenied,
    /// The source registry does not answer, or is overloaded.
    SourceUnavailable,
    /// The destination registry does not take an index of which platforms are left out: the rule needs `platformIndex: Rewrite`.
    SparseIndexRefused,
    /// What was read back from the destination is not what was written.
    VerificationFailed,
    /// The pods that were to copy it ended first: out of memory, evicted, their node gone. The message tells the last cause.
    WorkerFailed,
}
